import json

import pytest
import tiny
from sentence_transformers import SentenceTransformer

from bgetune.models import layout


@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken", ("cls", "mean")])
def test_pooling_is_read_from_either_layout(tmp_path, pooling):
    folder = tiny.save_sentence_transformer(tmp_path / "model", pooling=pooling)
    expected = pooling if isinstance(pooling, str) else None
    assert layout.pooling(folder) == expected
    layout.make_classic(folder, max_length=32, lower_case=False)
    assert layout.pooling(folder) == expected
    [loaded] = [module for module in SentenceTransformer(str(folder), device="cpu") if hasattr(module, "pooling_mode")]
    assert loaded.pooling_mode == pooling


def test_folders_without_modules_are_bge_s(tmp_path):
    assert layout.pooling(tiny.save_bert(tmp_path / "plain")) == "cls"


def test_other_modules_have_no_pooling_of_their_own(tmp_path):
    folder = tiny.save_sentence_transformer(tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    assert layout.pooling(folder) is None
