import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from bgetune.training.save import model_card, save


@pytest.mark.parametrize("with_normalisation", [True, False])
def test_all_readers_give_the_same_vectors(base, readers, tmp_path, with_normalisation):
    model = SentenceTransformer(str(base), device="cpu")
    if not with_normalisation:
        model = SentenceTransformer(modules=list(model)[:2], device="cpu")
    save(model, tmp_path / "model", "请问", "# card")
    found = readers(tmp_path / "model")
    for reader, (documents, queries) in found.items():
        np.testing.assert_allclose(documents, found["bgetune"][0], atol=1e-5, err_msg=reader)
        np.testing.assert_allclose(queries, found["bgetune"][1], atol=1e-5, err_msg=reader)
        np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-5)
    assert np.abs(found["bgetune"][0] - found["bgetune"][1]).max() > 0.01


def test_what_is_written(base, tmp_path):
    save(SentenceTransformer(str(base), device="cpu"), tmp_path / "model", "请问", "# card")
    files = {file.name for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert {"model.safetensors", "modules.json", "config_sentence_transformers.json", "tokenizer.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    config = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text("utf-8"))
    assert config["prompts"] == {"query": "请问", "document": ""}
    assert (tmp_path / "model" / "README.md").read_text("utf-8") == "# card"


def test_card_escapes_what_the_team_wrote():
    card = model_card("<b>x</b>", {"groups": 3}, {"query_instruction": "a|b\n<script>"}, {"auc": (0.5, 0.75)})
    assert "# &lt;b&gt;x&lt;/b&gt;, fine-tuned" in card
    assert "| query_instruction | a\\|b &lt;script&gt; |" in card
    assert "| auc | 0.5000 | 0.7500 |" in card
    assert "| groups | 3 |" in card
