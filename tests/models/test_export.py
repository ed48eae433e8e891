"""ONNX files of a model, and the encoder that computes by them."""

import importlib.util

import numpy as np
import pytest
import tiny

from bgetune.errors import InputError
from bgetune.models import export
from bgetune.models.encoder import Encoder

TEXTS = ["支付密码忘记了怎么办", "登录密码", "余额退款到", "a"]


@pytest.fixture(scope="module", params=["cls", "mean"])
def folder(request, tmp_path_factory):
    return tiny.save_sentence_transformer(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("onnx")
    export.write(Encoder(folder, cache_dir=None, device="cpu").model, target, ["float32", "int8"], max_length=16)
    return target


def test_graphs_give_the_models_vectors(folder, written):
    vectors = Encoder(folder, max_length=16, cache_dir=None, device="cpu").encode(TEXTS)
    found = export.agreement(written, ["float32", "int8"], TEXTS, vectors)
    assert found["float32"]["min_cosine"] > 1 - 1e-5
    assert found["int8"]["min_cosine"] > 0.9
    assert max(row["norm_error"] for row in found.values()) < 1e-4
    assert found["int8"]["mib"] < found["float32"]["mib"]


def test_only_the_wanted_graphs_are_left(folder, tmp_path):
    export.write(Encoder(folder, cache_dir=None, device="cpu").model, tmp_path, ["int8"])
    assert not list(tmp_path.glob("float32.onnx*"))
    assert "int8.onnx" in (tmp_path / "README.md").read_text("utf-8")


def test_the_encoder_computes_in_int8_and_keeps_its_graph(folder, tmp_path):
    exact = Encoder(folder, cache_dir=None, device="cpu").encode(TEXTS)
    first = Encoder(folder, precision="int8", cache_dir=tmp_path).encode(TEXTS)
    (graph,) = (tmp_path / "graphs").iterdir()
    made = (graph / "int8.onnx").stat().st_mtime_ns
    again = Encoder(folder, precision="int8", cache_dir=tmp_path).encode([*TEXTS, "转账"])
    np.testing.assert_array_equal(first, again[:4])
    assert (graph / "int8.onnx").stat().st_mtime_ns == made
    assert (first * exact).sum(axis=1).min() > 0.9
    assert not np.array_equal(first, exact)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnx" else importlib.util.find_spec(name))
    with pytest.raises(InputError, match=r"onnx\).*pip install 'bgetune\[onnx\]'"):
        export.require()
