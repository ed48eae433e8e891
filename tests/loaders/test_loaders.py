"""The short form of `matrix.py`: the files that servers of embedding models parse, and the loaders that are at hand."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import matrix
import tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=list(matrix.KINDS))
def model(request, tmp_path_factory):
    """The folder of a model of each kind, and its pooling and prompts."""
    pooling, prompts = matrix.KINDS[request.param]
    work = tmp_path_factory.mktemp("model")
    folder = matrix.make(tiny.save_sentence_transformer(work / "base", pooling=pooling), work, prompts)
    return folder, pooling, prompts


def read(folder, name):
    return json.loads((folder / name).read_text("utf-8"))


def test_the_classic_layout(model):
    folder, pooling, prompts = model
    types = [module["type"] for module in read(folder, "modules.json")]
    assert types == [f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")]
    flags = read(folder, "1_Pooling/config.json")
    assert [name for name, value in flags.items() if value is True and name != "include_prompt"] == [
        {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}[pooling]
    ]
    assert read(folder, "sentence_bert_config.json") == {"max_seq_length": 32, "do_lower_case": False}
    saved = read(folder, "config_sentence_transformers.json")
    assert saved["prompts"] == {"query": prompts.query, "document": prompts.document}
    assert saved["similarity_fn_name"] == "cosine"


def test_what_text_embeddings_inference_parses(model):
    """Its `PoolConfig`, `STConfig` and `ModelConfig` (router/src/lib.rs): fields without a default, and their types."""
    folder = model[0]
    flags = read(folder, "1_Pooling/config.json")  # at this very path
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    assert all(type(flags[f"pooling_mode_{name}"]) is bool for name in names)
    assert flags["pooling_mode_cls_token"] or flags["pooling_mode_mean_tokens"]  # else it refuses the model
    length = read(folder, "sentence_bert_config.json")["max_seq_length"]
    assert type(length) is int
    assert length > 0
    config = read(folder, "config.json")
    assert config["architectures"] == ["BertModel"]
    assert type(config["max_position_embeddings"]) is int
    assert type(config["pad_token_id"]) is int
    assert (folder / "tokenizer.json").is_file()
    assert (folder / "model.safetensors").is_file()


def test_what_vllm_parses(model):
    """`get_pooling_config` and `get_sentence_transformer_tokenizer_config` (vllm/transformers_utils/config.py)."""
    folder, pooling, _ = model
    modules = {module["type"]: module["path"] for module in read(folder, "modules.json")}
    assert "sentence_transformers.models.Normalize" in modules  # compared with the whole type
    flags = read(folder, f"{modules['sentence_transformers.models.Pooling']}/config.json")
    first = next(name for name, value in flags.items() if value is True)  # earlier versions take no other
    assert first.removeprefix("pooling_mode_").split("_")[0] == pooling
    assert read(folder, "sentence_bert_config.json").keys() == {"max_seq_length", "do_lower_case"}


@pytest.mark.parametrize("loader", ["sentence-transformers", "transformers", "FlagModel", "ONNX Runtime"])
def test_installed_loaders_give_our_vectors(model, loader):
    assert matrix.difference(model[0], loader) <= matrix.ENOUGH


@pytest.mark.parametrize("version", list(matrix.VERSIONS))
@pytest.mark.parametrize("loader", ["sentence-transformers", "transformers"])
def test_other_versions_give_our_vectors(model, loader, version):
    if not matrix.packages(version).is_dir():
        pytest.skip(f"sentence-transformers {version} is not there; python tests/loaders/matrix.py installs it")
    assert matrix.difference(model[0], loader, version) <= matrix.ENOUGH


def test_infinity_gives_our_vectors(model):
    if not matrix.packages(matrix.INFINITY).is_dir():
        pytest.skip("Infinity is not there; python tests/loaders/matrix.py installs it")
    assert matrix.difference(model[0], "Infinity", matrix.INFINITY) <= matrix.ENOUGH
