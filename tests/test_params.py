import json
import re

import pytest
import yaml

from bgetune import params
from bgetune.errors import InputError


def load(tmp_path, text, *overrides):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return params.load_profile(file, overrides)


def test_value_comes_from_notebook_then_section_then_top_then_default(tmp_path):
    profile = load(tmp_path, "seed: 1\nmax_length: 64\n01_positives: {seed: 2}\n")
    assert profile.name == "mine"
    first, origins = params.resolve("01_positives", profile, {"sample_fraction": 0.5, "seed": None, "other": 3})
    assert (first.seed, first.max_length, first.sample_fraction) == (2, 64, 0.5)
    assert origins["seed"] == "profile"
    assert origins["max_length"] == "profile (shared)"
    assert origins["sample_fraction"] == "notebook"
    assert origins["device"] == "default"
    assert params.resolve("03_hard_negatives", profile)[0].seed == 1


def test_override_replaces_a_value_and_is_typed_as_yaml(tmp_path):
    profile = load(tmp_path, "seed: 1\n", "01_positives.sample_fraction=0.25", "reranker=null")
    values, _ = params.resolve("01_positives", profile)
    assert values.sample_fraction == 0.25
    assert values.reranker is None


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("sede: 3\n", [], r"mine.yaml, line 1: unknown key sede; did you mean seed\?"),
        ("seed: 3\nsample_fraction: 1\n", [], "line 2: unknown key sample_fraction; it belongs in the section 01_pos"),
        ("\n01_positives:\n  sample_fracton: 1\n", [], "line 3: unknown key 01_positives.sample_fracton; did you mean"),
        (
            "01_positives:\n  sources:\n    qa:\n    - pth: a\n",
            [],
            r"line 4: unknown key .*qa.0.pth; did you mean path",
        ),
        ("seed: many\n", [], 'line 1: seed: Input should be a valid integer.*, not "many"'),
        ("01_positives: {sample_fraction: 2}\n", [], "line 1: 01_positives.sample_fraction: .*less than or equal to 1"),
        ("01_positives: 3\n", [], "line 1: 01_positives"),
        ("seed: 1\nseed: 2\n", [], r"line 2: seed is given twice \(first in line 1\)"),
        ("seed: [1\n", [], "line 2: not YAML"),
        ("- seed\n", [], "a profile is a mapping"),
        ("", [], "a profile is a mapping"),
        ("name: ../up\n", [], "name must be a plain folder name"),
        ("seed: 1\n", ["seed"], "--set seed: write --set section.parameter=value"),
        ("seed: 1\n", ["seed.x=1"], "--set seed.x=1: seed is not a section"),
        ("seed: 1\n", ["sed=1"], "unknown key sed; did you mean seed"),
    ],
)
def test_bad_profile_is_one_message_with_line_and_remedy(tmp_path, text, overrides, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, text, *overrides)


def test_profile_that_is_not_utf8_or_not_there(tmp_path):
    file = tmp_path / "gb.yaml"
    file.write_bytes("name: 中文".encode("gb18030"))
    with pytest.raises(InputError, match="not UTF-8"):
        params.load_profile(file)
    with pytest.raises(InputError, match="no such file"):
        params.load_profile(tmp_path / "none.yaml")


def test_bad_notebook_argument_is_named():
    profile = params.Profile("x", None, {})
    with pytest.raises(InputError, match=r"01_positives: sample_fraction: .*greater than 0"):
        params.resolve("01_positives", profile, {"sample_fraction": 0})


def test_generated_files_are_those_of_the_models():
    assert (params.ROOT / "params/template.yaml").read_text("utf-8") == params.template(), "python -m bgetune.params"
    assert (params.ROOT / "params/schema.json").read_text("utf-8") == params.schema(), "python -m bgetune.params"


def test_template_is_a_valid_profile_with_every_default(tmp_path):
    profile = load(tmp_path, params.template())
    for stage, model in params.STAGES.items():
        values, _ = params.resolve(stage, profile)
        assert values == model()


def test_template_names_every_parameter_with_its_help():
    text = params.template()
    for model in params.STAGES.values():
        for name, field in model.model_fields.items():
            assert re.search(rf"^\s*#?[ -]*{name}:", text, re.MULTILINE), name
            assert field.description, f"{model.__name__}.{name} has no description"


def test_schema_knows_the_sections():
    properties = json.loads(params.schema())["properties"]
    assert {*params.STAGES, "seed", "model", "name"} <= set(properties)


@pytest.mark.parametrize("file", sorted((params.ROOT / "params").glob("*.yaml")), ids=lambda file: file.name)
def test_shipped_profiles_are_valid(file):
    for profile in params.load_profiles(file):
        for stage in params.STAGES:
            params.resolve(stage, profile)
    assert yaml.safe_load(file.read_text("utf-8"))


def test_model_locations_finds_optional_and_nested_models_once():
    values = {stage: model() for stage, model in params.STAGES.items()}
    found = dict(params.model_locations(values))
    assert found["demo://standard/encoder"] == "model"
    assert found["demo://standard/reranker"] == "reranker"
    assert len(found) == len(params.model_locations(values))
