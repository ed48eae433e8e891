import json
import re
import textwrap

import pytest
import yaml

from bgetune import locale, paths
from bgetune.config import generate
from bgetune.config.profile import Profile, load_profile, load_profiles, model_locations, resolve
from bgetune.config.stages import STAGES
from bgetune.errors import InputError


def load(tmp_path, text, *overrides):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return load_profile(file, overrides)


def test_value_comes_from_notebook_then_section_then_top_then_default(tmp_path):
    profile = load(tmp_path, "seed: 1\nmax_length: 64\n01_positives: {seed: 2}\n")
    assert profile.name == "mine"
    first, origins = resolve("01_positives", profile, {"sample_fraction": 0.5, "seed": None, "other": 3})
    assert (first.seed, first.max_length, first.sample_fraction) == (2, 64, 0.5)
    assert origins["seed"] == "profile"
    assert origins["max_length"] == "profile (shared)"
    assert origins["sample_fraction"] == "notebook"
    assert origins["device"] == "default"
    assert resolve("03_hard_negatives", profile)[0].seed == 1


def test_override_replaces_a_value_and_is_typed_as_yaml(tmp_path):
    profile = load(tmp_path, "seed: 1\n", "01_positives.sample_fraction=0.25", "reranker=null")
    values, _ = resolve("01_positives", profile)
    assert values.sample_fraction == 0.25
    assert values.reranker is None


BAD = [
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
    (
        "model: BAAI/bge-m3\nreranker: modelscope://bge-reranker-base\n",
        [],
        "line 2: reranker: modelscope://bge-reranker-base is no address at ModelScope; it is modelscope://OWNER/NAME",
    ),
    ("04_train: {guide: 'modelscope://a/b/c'}\n", [], "04_train.guide: .* it is modelscope://OWNER/NAME, such as"),
    ("seed: 1\nseed: 2\n", [], r"line 2: seed is given twice \(first in line 1\)"),
    ("seed: [1\n", [], "line 2: not YAML"),
    ("- seed\n", [], "a profile is a mapping"),
    ("", [], "a profile is a mapping"),
    ("name: ../up\n", [], "name must be a plain folder name"),
    ("name: a//b\n", [], "name must be a plain folder name"),
    (
        "seed: 1\n",
        ["base=params/demo.yaml"],
        "--set base=params/demo.yaml: the base of a profile is given in its file",
    ),
    (
        "02_backtranslate:\n  pivots:\n    - {language: en, to_pivot: a/b}\n",
        [],
        "line 3: 02_backtranslate.pivots.0: give either to_pivot and from_pivot .* or service",
    ),
    (
        "02_backtranslate: {pivots: [{to_pivot: a/b, from_pivot: b/a, service: {name: deepl}}]}\n",
        [],
        "02_backtranslate.pivots.0: give either to_pivot and from_pivot .* or service",
    ),
    (
        "02_backtranslate: {pivots: [{text_code: ZH, service: {name: deepl}}]}\n",
        [],
        "02_backtranslate.pivots.0: with service, give text_code and pivot_code",
    ),
    (
        "02_backtranslate: {pivots: [{service: {name: openai, base_url: 'https://x/v1'}}]}\n",
        [],
        "02_backtranslate.pivots.0.service: openai needs base_url .* and model",
    ),
    (
        "02_backtranslate: {pivots: [{service: {name: libretranslate}}]}\n",
        [],
        "02_backtranslate.pivots.0.service: libretranslate needs base_url",
    ),
    ("02_backtranslate: {pivots: [{service: {nam: deepl}}]}\n", [], "pivots.0.service.nam; did you mean name"),
    (
        "02_backtranslate: {pivots: [{service: {name: bing}}]}\n",
        [],
        "02_backtranslate.pivots.0.service.name: .*'deepl'.*not \"bing\"",
    ),
    ("seed: 1\n", ["seed"], "--set seed: write --set section.parameter=value"),
    ("seed: 1\n", ["seed.x=1"], "--set seed.x=1: seed is not a section"),
    ("seed: 1\n", ["sed=1"], "unknown key sed; did you mean seed"),
    ("seed: 1\n", ["03.margin=0.1"], r"unknown key 03; did you mean 03_hard_negatives\?"),
    ("04_train:\n  epochs: 2\n", ["04_train.epochs=x"], '^--set: 04_train.epochs: .*not "x"'),
    ("seed: 1\n", ["04_train.scale=[10, -1]"], "^--set: 04_train.scale: .*not -1"),
]
"""Text of a profile, overrides, and a pattern of what is said."""


@pytest.mark.parametrize(("text", "overrides", "message"), BAD)
def test_bad_profile_is_one_message_with_line_and_remedy(tmp_path, text, overrides, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, text, *overrides)


def variants(tmp_path, text, *overrides):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return load_profiles(file, overrides)


def test_a_profile_lies_over_its_base(tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text(
        "name: other\nseed: 1\nmax_length: 64\n04_train: {epochs: 2, scale: 50}\n05_calibrate: {recalls: [0.8, 0.9]}\n"
    )
    profile = load(tmp_path, f"base: {base}\nseed: 2\n04_train: {{epochs: 3}}\n05_calibrate: {{recalls: [0.7]}}\n")
    assert profile.name == "mine", "the base's name is the base's"
    assert "base" not in profile.values, "what is written into the run's folder stands alone"
    train, _ = resolve("04_train", profile)
    assert (train.seed, train.max_length, train.epochs, train.scale) == (2, 64, 3, 50)
    assert resolve("05_calibrate", profile)[0].recalls == [0.7], "a list replaces the base's"


@pytest.mark.parametrize(
    ("base", "text", "message"),
    [
        ("\n\nsede: 1\n", "seed: 1\n", r"base\.yaml, line 3: unknown key sede; did you mean seed\?"),
        ("04_train:\n  epochs: 1\n", "\n\n04_train:\n  epochs: 0\n", "mine.yaml, line 5: 04_train.epochs: .*not 0"),
        (
            "02_backtranslate: {gate: {length_ratio: [0.5, 2]}}\n",
            "\n02_backtranslate: {gate: {length_ratio: [0.5]}}\n",
            "mine.yaml, line 3: 02_backtranslate.gate.length_ratio.1: Field required",
        ),
        ("base: {file}\n", "", "base.yaml, line 1: base: .*mine.yaml is based on this file itself"),
    ],
)
def test_an_error_names_the_file_of_the_two_that_it_is_in(tmp_path, base, text, message):
    (tmp_path / "base.yaml").write_text(base.replace("{file}", str(tmp_path / "mine.yaml")))
    with pytest.raises(InputError, match=message):
        load(tmp_path, f"base: {tmp_path / 'base.yaml'}\n{text}")


@pytest.mark.parametrize(("base", "message"), [("nowhere.yaml", "base: nowhere.yaml: no such file"), ("[a]", "base: ")])
def test_a_base_that_is_none_is_named_with_its_line(tmp_path, base, message):
    with pytest.raises(InputError, match=f"mine.yaml, line 2: {message}"):
        load(tmp_path, f"seed: 1\nbase: {base}\n")


def test_a_study_is_a_run_for_each_combination(tmp_path):
    text = "seed: 3\n04_train: {scale: 5, epochs: 2}\nstudy:\n  04_train.scale: [10, 20]\n  rounds: [1, 2]\n"
    profiles = variants(tmp_path, text)
    assert [profile.name for profile in profiles] == [
        f"mine/scale={scale},rounds={rounds}" for scale in (10, 20) for rounds in (1, 2)
    ]
    found = [(resolve("04_train", profile)[0], profile.rounds) for profile in profiles]
    assert [(train.scale, rounds) for train, rounds in found] == [(10, 1), (10, 2), (20, 1), (20, 2)]
    assert {(train.seed, train.epochs) for train, _ in found} == {(3, 2)}
    assert all("study" not in profile.values for profile in profiles)


def test_a_run_of_a_study_can_be_read_back_from_its_folder(tmp_path):
    profile = variants(tmp_path, "study: {04_train.scale: [10, 20]}\n")[1]
    again = load(tmp_path, yaml.safe_dump(profile.values | {"name": profile.name}))
    assert again.name == "mine/scale=20"
    assert resolve("04_train", again)[0].scale == 20


@pytest.mark.parametrize(
    ("override", "tried"),
    [
        ("04_train.scale=[10, 20]", [10, 20]),
        ("04_train.matryoshka=[[], [8, 16]]", [[], [8, 16]]),
        ("05_calibrate.precisions=[[0.9], [0.9, 0.95]]", [[0.9], [0.9, 0.95]]),
        ("02_backtranslate.gate.min_change=[0.1, null]", [0.1, None]),
        ("02_backtranslate.gate.similarity=[null, [0.5, 1.0]]", [None, (0.5, 1.0)]),
        ("reranker=[null, demo://small/reranker]", [None, "demo://small/reranker"]),
    ],
)
def test_a_list_for_a_single_value_is_a_study(tmp_path, override, tried):
    key = override.partition("=")[0]
    profiles = variants(tmp_path, "seed: 1\n", override)
    stage, *steps = key.split(".") if "." in key else ("01_positives", key)
    found = [resolve(stage, profile)[0] for profile in profiles]
    for step in steps:
        found = [getattr(values, step) for values in found]
    assert found == tried


@pytest.mark.parametrize(
    "override", ["04_train.matryoshka=[8, 16]", "04_train.matryoshka=[]", "02_backtranslate.gate.similarity=[0.5, 1]"]
)
def test_a_list_for_a_parameter_that_takes_one_is_its_value(tmp_path, override):
    (profile,) = variants(tmp_path, "seed: 1\n", override)
    assert profile.name == "mine"


def test_set_adds_to_a_study_or_replaces_what_it_tries(tmp_path):
    text = "study: {04_train.scale: [10, 20], 04_train.loss: [ranking, gist]}\n"
    assert len(variants(tmp_path, text, "seed=[1, 2, 3]")) == 12
    assert {p.name for p in variants(tmp_path, text, "04_train.scale=30")} == {"mine/loss=ranking", "mine/loss=gist"}
    assert {p.name for p in variants(tmp_path, text, "04_train.scale=[30]", "04_train.loss=gist")} == {"mine/scale=30"}


def test_names_of_a_study_are_safe_folder_names_and_differ(tmp_path):
    long = "x" * 60
    text = f"study: {{model: [../../up, /a/b, '{long}1', '{long}2'], 01_positives.seed: [1], 04_train.seed: [2]}}\n"
    names = [profile.name.removeprefix("mine/") for profile in variants(tmp_path, text)]
    assert len(set(names)) == 4
    assert names[0] == "model=up,01_positives.seed=1,04_train.seed=2"
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_.+=,-]+", name)
        assert not name.startswith(".")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study:\n  04_train.scal: [1]\n", r"line 2: unknown key 04_train.scal; did you mean scale\?"),
        ("study:\n  04_trane.scale: [1]\n", "line 2: unknown key 04_trane; did you mean 04_train"),
        ("study:\n  seed: [1]\n  04_train.scale: [1, many]\n", 'line 3: 04_train.scale: .*valid number.*not "many"'),
        ("study:\n  04_train.scale: 1\n", "line 2: study.04_train.scale: .*valid list, not 1"),
        ("study:\n  04_train.scale: []\n", "line 2: study.04_train.scale: .*at least 1 item"),
        ("study:\n  seed.x: [1]\nseed: 1\n", "line 2: study: seed.x: seed is not a section"),
        ("study:\n  name: [a, b]\n", "line 2: study: name is no parameter"),
        ("study: [1]\n", "line 1: study: .*valid dictionary"),
        ("rounds: 0\n", "line 1: rounds: .*greater than or equal to 1"),
    ],
)
def test_bad_study_is_one_message_with_line_and_remedy(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        variants(tmp_path, text)


def test_a_notebook_is_given_one_run_of_a_study(tmp_path):
    with pytest.raises(InputError, match=r"study of 2 runs.*runs/mine/scale=10/profile\.yaml"):
        load(tmp_path, "study: {04_train.scale: [10, 20]}\n")


def test_profile_that_is_not_utf8_or_not_there(tmp_path):
    file = tmp_path / "gb.yaml"
    file.write_bytes("name: 中文".encode("gb18030"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_profile(file)
    with pytest.raises(InputError, match="no such file"):
        load_profile(tmp_path / "none.yaml")


def test_bad_notebook_argument_is_named():
    profile = Profile("x", None, {})
    with pytest.raises(InputError, match=r"01_positives: sample_fraction: .*greater than 0"):
        resolve("01_positives", profile, {"sample_fraction": 0})


def test_generated_files_are_those_of_the_models():
    for language, file in generate.TEMPLATES.items():
        with locale.using(language):
            assert (paths.ROOT / file).read_text("utf-8") == generate.template(), "python -m bgetune.config.generate"
    assert (paths.ROOT / "params/schema.json").read_text("utf-8") == generate.schema(), (
        "python -m bgetune.config.generate"
    )


@pytest.mark.parametrize("language", locale.LANGUAGES)
def test_template_is_a_valid_profile_with_every_default(tmp_path, language):
    with locale.using(language):
        profile = load(tmp_path, generate.template())
    for stage, model in STAGES.items():
        values, _ = resolve(stage, profile)
        assert values == model()


def test_nothing_of_the_demo_is_in_a_profile_that_does_not_ask_for_it():
    """A forgotten model must not train the demo's miniature, judged by the demo's reranker."""
    for model in STAGES.values():
        assert "demo://" not in model().model_dump_json()
    for name in ("bge_small_zh", "bge_small_en"):
        profile = load_profile(paths.ROOT / "params" / f"{name}.yaml")
        for stage in STAGES:
            values, _ = resolve(stage, profile)
            assert "demo://" not in values.model_dump_json()
            assert getattr(values, "truth", None) is None


def test_comments_are_wrapped_at_the_width_of_their_letters():
    lines = generate._wrapped("这里是一段很长的说明，`bge-small-zh-v1.5` 不会断开。" * 5)
    assert len(lines) > 2
    assert all(54 <= len(line) <= generate.WIDTH for line in lines[:-1])
    assert not [line for line in lines if line[0] in "，。"]
    assert "".join(lines).count("bge-small-zh-v1.5") == 5
    words = "one two " * 40
    assert generate._wrapped(words) == textwrap.wrap(words, generate.WIDTH)


def test_template_names_every_parameter_with_its_help():
    text = generate.template()
    for model in STAGES.values():
        for name, field in model.model_fields.items():
            assert re.search(rf"^\s*#?[ -]*{name}:", text, re.MULTILINE), name
            assert field.description, f"{model.__name__}.{name} has no description"


def test_schema_knows_the_sections():
    properties = json.loads(generate.schema())["properties"]
    assert {*STAGES, "seed", "model", "name"} <= set(properties)


@pytest.mark.parametrize("file", sorted((paths.ROOT / "params").glob("*.yaml")), ids=lambda file: file.name)
def test_shipped_profiles_are_valid(file):
    for profile in load_profiles(file):
        for stage in STAGES:
            resolve(stage, profile)
    assert yaml.safe_load(file.read_text("utf-8"))


def test_model_locations_finds_optional_and_nested_models_once():
    named = {"model": "demo://standard/encoder", "reranker": "demo://standard/reranker"}
    values = {
        stage: model(**{name: location for name, location in named.items() if name in model.model_fields})
        for stage, model in STAGES.items()
    }
    found = dict(model_locations(values))
    assert found["demo://standard/encoder"] == "model"
    assert found["demo://standard/reranker"] == "reranker"
    assert len(found) == len(model_locations(values))


@pytest.mark.parametrize(
    "text",
    ["05_calibrate:\n  positive_grade: 0.5\n", "01_positives: {sources: {graded: [{path: a, positive_grade: 0.5}]}}\n"],
)
def test_the_grade_threshold_says_where_it_is_now(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=r"give (it|positive_grade) at the top of the profile"):
        load_profiles(tmp_path / "mine.yaml")


def test_the_language_is_of_the_run_and_no_parameter_of_a_stage(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("model: a/b\nlanguage: zh\n")
    profile = load_profile(file)
    assert profile.language == "zh"
    assert all("language" not in type(resolve(stage, profile)[0]).model_fields for stage in STAGES)
    file.write_text("model: a/b\nlanguage: de\n")
    with pytest.raises(InputError, match="language"):
        load_profile(file)


def test_an_old_name_works_with_a_warning(tmp_path):
    text = "seed: 1\n04_train:\n  epochs: 2\n  spread: 0.25\n"
    with pytest.warns(FutureWarning, match=r"mine.yaml, line 4: 04_train.spread is now called 04_train.orthogonality"):
        profile = load(tmp_path, text)
    assert resolve("04_train", profile)[0].orthogonality_weight == 0.25
    with pytest.warns(FutureWarning, match="--set"):
        profile = load(tmp_path, "seed: 1\n", "04_train.spread=2")
    assert resolve("04_train", profile)[0].orthogonality_weight == 2
    file = tmp_path / "study.yaml"
    file.write_text("study: {04_train.spread: [0.5, 1]}\n", encoding="utf-8")
    with pytest.warns(FutureWarning):
        weights = [resolve("04_train", run)[0].orthogonality_weight for run in load_profiles(file)]
    assert weights == [0.5, 1]
    with pytest.warns(FutureWarning), pytest.raises(InputError, match=r"line 2: 04_train\.orthogonality_weight"):
        load(tmp_path, "04_train:\n  spread: much\n")


def test_old_values_of_a_renamed_parameter_work_too(tmp_path):
    with pytest.warns(FutureWarning, match=r"mine.yaml, line 2: 04_train.compare is now .*batch is across_queries"):
        profile = load(tmp_path, "04_train:\n  compare: batch\n")
    assert resolve("04_train", profile)[0].loss_scope == "across_queries"
    with pytest.warns(FutureWarning, match="--set"):
        profile = load(tmp_path, "seed: 1\n", "04_train.compare=query")
    assert resolve("04_train", profile)[0].loss_scope == "per_query"
    file = tmp_path / "study.yaml"
    file.write_text("study: {04_train.compare: [query, batch]}\n", encoding="utf-8")
    with pytest.warns(FutureWarning):
        scopes = [resolve("04_train", run)[0].loss_scope for run in load_profiles(file)]
    assert scopes == ["per_query", "across_queries"]
    with pytest.raises(InputError, match="loss_scope"):
        load(tmp_path, "04_train:\n  loss_scope: batch\n")
