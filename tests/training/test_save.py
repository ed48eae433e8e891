import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from bgetune import locale
from bgetune.config.sources import GeneralSource
from bgetune.config.stages import Train
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import NO_PROMPTS, Prompts
from bgetune.scoring import stores
from bgetune.training import save as save_module
from bgetune.training.save import agreement, model_card, save


@pytest.mark.parametrize("with_normalisation", [True, False])
def test_all_readers_give_the_same_vectors(base, readers, tmp_path, with_normalisation):
    model = SentenceTransformer(str(base), device="cpu")
    if not with_normalisation:
        model = SentenceTransformer(modules=list(model)[:2], device="cpu")
    save(model, tmp_path / "model", Prompts("请问"))
    found = readers(tmp_path / "model")
    for reader, (documents, queries) in found.items():
        np.testing.assert_allclose(documents, found["bgetune"][0], atol=1e-5, err_msg=reader)
        np.testing.assert_allclose(queries, found["bgetune"][1], atol=1e-5, err_msg=reader)
        np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-5)
    assert np.abs(found["bgetune"][0] - found["bgetune"][1]).max() > 0.01


@pytest.mark.parametrize(("dtype", "loss"), [("float16", 1e-4), ("bfloat16", 1e-2)])
def test_shorter_weights_are_measured_and_leave_the_model_alone(base, tmp_path, dtype, loss):
    texts = ["怎么查询密码", "如何修改我的订单", "我想取消贷款"]
    model = SentenceTransformer(str(base), device="cpu")
    before = model.encode(texts)
    save(model, tmp_path / "full")
    save(model, tmp_path / "short", dtype=dtype)
    np.testing.assert_array_equal(model.encode(texts), before)
    full, short = (agreement(tmp_path / name, model, texts) for name in ("full", "short"))
    assert full["min_cosine"] > 1 - 1e-6
    assert 1 - loss < short["min_cosine"] < 1 - 1e-9
    assert short["mib"] < 0.6 * full["mib"]
    weights = load_file(tmp_path / "short" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {getattr(torch, dtype)}
    assert {weight.dtype for weight in load_file(tmp_path / "full" / "model.safetensors").values()} == {torch.float32}


def test_what_is_written(base, tmp_path):
    save(SentenceTransformer(str(base), device="cpu"), tmp_path / "model", Prompts("请问"))
    files = {file.name for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert {"model.safetensors", "modules.json", "config_sentence_transformers.json", "tokenizer.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    config = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text("utf-8"))
    assert config["prompts"] == {"query": "请问", "document": ""}


@pytest.fixture
def result():
    return pd.DataFrame({"before": [0.5, 0.9], "tuned": [0.8, 0.7], "merged": [0.75, 0.85]}, ["auc", "general_auc"])


@pytest.fixture
def saved(base, tmp_path):
    """A function: a model saved with some prompts and pooling."""

    def make(prompts, pooling="cls"):
        model = SentenceTransformer(str(base), device="cpu")
        model[1].pooling_mode = pooling
        save(model, tmp_path / "model", prompts)
        return tmp_path / "model"

    return make


def test_card_says_what_was_done_and_where_the_thresholds_are(result, saved):
    options = Train(
        model="BAAI/bge-small-zh-v1.5", epochs=3, merge_weight=0.5, matryoshka=[64], query_instruction="请问"
    )
    card = model_card(
        saved(Prompts("请问")),
        options.model,
        parameters={"epochs": 3} | options.model_dump(exclude_defaults=True),
        counts={"groups": 3},
        result=result,
        run_name="shop",
        matryoshka=[64],
    )
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == "BAAI/bge-small-zh-v1.5"
    assert front["library_name"] == "sentence-transformers"
    assert "license" not in front  # the base's card is not here to name one
    (index,) = front["model-index"]
    measured = {one["type"]: one["value"] for one in index["results"][0]["metrics"]}
    assert measured["general_auc"] == 0.85
    assert "# BAAI/bge-small-zh-v1.5, fine-tuned" in card
    assert "| groups | 3 |" in card
    assert "| merge_weight | 0.5 |" in card
    assert "| epochs | 3 |" in card
    assert "| measure | before | tuned | merged |" in card
    assert "| general_auc | 0.9000 | 0.7000 | 0.8500 |" in card
    assert "`runs/shop/05_calibrate/scoring.json`" in card
    assert 'Scorer.load("runs/shop")' in card
    assert "truncate_dim=64" in card
    assert "请问" in card


@pytest.mark.parametrize(
    ("card", "licence"),
    [("---\nlicense: mit\n---\ntext", "mit"), ("no front", None), ("---\n[1\n---\n", None), ("---\na\n---\n", None)],
)
def test_card_has_the_licence_of_its_base(result, saved, tmp_path, card, licence):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/README.md").write_text(card, "utf-8")
    made = model_card(
        saved(Prompts("")), str(tmp_path / "base"), parameters={}, counts={}, result=result, run_name="shop"
    )
    assert yaml.safe_load(made.split("---")[1]).get("license") == licence


@pytest.mark.parametrize("location", ["BAAI/bge-small-zh-v1.5", "modelscope://BAAI/bge-small-zh-v1.5"])
def test_card_names_the_base_of_a_hub_and_its_licence(result, saved, tmp_path, monkeypatch, location):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n", "utf-8")
    monkeypatch.setattr(save_module, "download", lambda name: tmp_path)
    card = model_card(saved(Prompts("")), location, parameters={}, counts={}, result=result, run_name="shop")
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == "BAAI/bge-small-zh-v1.5"
    assert front["license"] == "mit"


def test_card_is_in_the_language_in_use_and_takes_thresholds_in_any(result, saved):
    folder = saved(Prompts("请问"))
    with locale.using("zh"):
        card = model_card(folder, "x/y", parameters={}, counts={"groups": 3}, result=result, run_name="shop")
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "x/y"
    prose = re.sub(r"```.*?```|`[^`]*`|\|.*|---.*?---", "", card, flags=re.DOTALL)
    assert not re.search(r"[a-z]+ [a-z]+ [a-z]+", prose), prose
    assert "FlagModel(" in card
    assert "## 阈值\n\n校准用的文本对无法保证任何精确率" not in card
    with locale.using("zh"):
        assert "校准用的文本对无法保证任何精确率" in stores.complete(card, [])
    with locale.using("en"):
        assert "guarantee no precision" in stores.complete(card, []), "the language changed after training"


def test_card_escapes_what_the_team_wrote_and_tells_no_places(result, saved, tmp_path):
    general = GeneralSource(url="postgres://reader:${PGPASSWORD}@db.internal/pairs", table="pairs")
    options = Train(model=str(tmp_path / "<b>x"), general=general, push_to_hub="team/secret")
    card = model_card(
        saved(Prompts("a|b\n<script>```")),
        options.model,
        parameters=options.model_dump(exclude_defaults=True),
        counts={"groups": 3},
        result=result,
        run_name="<i>run</i>",
    )
    assert "# &lt;b&gt;x, fine-tuned" in card
    assert '| a query that searches documents | "a\\|b\\n&lt;script&gt;' in card
    assert not [text for text in ("<script>", "<i>", "db.internal", str(tmp_path), "team/secret") if text in card]
    assert card.count("```") == 5  # two blocks of code, and the row of the table
    assert "base_model" not in (yaml.safe_load(card.split("---")[1]))


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
@pytest.mark.parametrize("prompts", [NO_PROMPTS, Prompts("请问"), Prompts("请问", "我", "请问")])
def test_the_calls_of_the_card_give_our_vectors(result, saved, pooling, prompts):
    """The code is executed as it stands in the card."""
    folder = saved(prompts, pooling)
    card = model_card(folder, "x/y", parameters={}, counts={}, result=result, run_name="shop")
    ours = Encoder(folder, device="cpu", cache_dir=None)
    text = ["怎么查询密码"]
    expected = {"queries": prompts.query, "documents": prompts.document, "questions": prompts.symmetric, "vectors": ""}
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == (1 if pooling == "max" else 2)
    for block in blocks:
        names = {}
        exec(block.replace("path/to/this/folder", str(folder)).replace('["..."]', repr(text)), names)
        found = names.keys() & expected.keys()
        assert found
        for name in found:
            np.testing.assert_allclose(names[name], ours.encode(text, prompt=expected[name]), atol=1e-5, err_msg=name)
    assert {"cls": "CLS pooling", "mean": "mean pooling", "max": "base model's pooling"}[pooling] in card
