"""Models that are not what their parameter needs are named before anything is computed with them."""

import json
import shutil

import pytest
import tiny
from augment.conftest import make_m2m100, make_marian

from bgetune.errors import InputError
from bgetune.models import hub
from bgetune.models.check import check_model, unknown_tokens

TEXTS = ["支付密码忘记了怎么办", "登录密码", "转账"]


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One of each kind that is used: BGE, a plain BERT, E5, XLM-R's cross-encoder, Marian, M2M100."""
    root = tmp_path_factory.mktemp("models")
    return {
        "bge": tiny.save_sentence_transformer(root / "bge"),
        "plain": tiny.save_bert(root / "plain"),
        "e5": tiny.save_sentence_transformer(root / "e5", pooling="mean"),
        "m3": tiny.save_xlm_roberta(root / "m3"),
        "reranker": tiny.save_xlm_roberta(root / "reranker", labels=1),
        "bert reranker": tiny.save_bert(root / "bert-reranker", labels=1),
        "two": tiny.save_bert(root / "two", labels=2),
        "marian": make_marian(root / "marian"),
        "m2m100": make_m2m100(root / "m2m100"),
    }


GOOD = {
    "bge": "encoder",
    "plain": "encoder",
    "e5": "encoder",
    "m3": "encoder",
    "reranker": "reranker",
    "bert reranker": "reranker",
    "two": "reranker",
    "marian": "translator",
    "m2m100": "translator",
}


@pytest.mark.parametrize("name", GOOD)
def test_models_of_every_kind_pass_in_their_role_alone(models, name):
    texts = None if GOOD[name] == "translator" else TEXTS
    check_model(models[name], "model", GOOD[name], texts)
    for role in {"encoder", "reranker", "translator"} - {GOOD[name]}:
        message(models[name], role, "what is needed is")


def message(folder, role, *parts, texts=None):
    """The one line that refuses a model."""
    with pytest.raises(InputError) as caught:
        check_model(folder, "01_positives.model", role, texts)
    line = str(caught.value)
    assert "\n" not in line
    for part in ("01_positives.model", str(folder), *parts):
        assert part in line
    return line


@pytest.fixture
def changed(models, tmp_path):
    """A function: a copy of a model, to be damaged."""

    def copy(name):
        return shutil.copytree(models[name], tmp_path / "changed")

    return copy


def rewrite(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), "utf-8")


def reweigh(folder, change):
    """Change the dictionary of a folder's weights."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_missing_weights_are_not_made_up(changed):
    folder = changed("bert reranker")
    reweigh(folder, lambda weights: weights.pop("classifier.weight"))
    message(folder, "reranker", "classifier.weight", "random")


def test_an_encoder_that_calls_itself_a_reranker_lacks_the_head(changed):
    folder = changed("plain")
    rewrite(folder / "config.json", architectures=["BertForSequenceClassification"], id2label={"0": "LABEL_0"})
    message(folder, "reranker", "classifier.bias")


def test_an_encoder_needs_no_pooler_and_may_have_a_head(changed):
    folder = changed("plain")

    def without_pooler(weights):
        for key in [key for key in weights if key.startswith("pooler")]:
            del weights[key]
        weights["cls.predictions.bias"] = weights["embeddings.LayerNorm.bias"].clone()

    reweigh(folder, without_pooler)
    rewrite(folder / "config.json", architectures=["BertForMaskedLM"])
    check_model(folder, "model", "encoder")


def test_layers_that_the_configuration_leaves_out(changed):
    folder = changed("bge")
    rewrite(folder / "config.json", num_hidden_layers=1)
    message(folder, "encoder", "encoder.layer.1.", "config.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(changed, value):
    folder = changed("bge")
    reweigh(folder, lambda weights: weights["encoder.layer.1.output.dense.weight"].__setitem__((0, 0), value))
    message(folder, "encoder", "encoder.layer.1.output.dense.weight", "not finite")


def test_a_folder_without_tokenizer(changed):
    folder = changed("bge")
    (folder / "tokenizer.json").unlink()
    message(folder, "encoder", "no tokenizer", "tokenizer.json, vocab.txt", "copy the tokenizer of")


def test_a_tokenizer_of_another_model(changed, models):
    folder = changed("bge")
    shutil.copyfile(models["m3"] / "tokenizer.json", folder / "tokenizer.json")
    shutil.copyfile(models["m3"] / "tokenizer_config.json", folder / "tokenizer_config.json")
    message(folder, "encoder", "two models")


def test_texts_that_the_model_cannot_read(models):
    message(models["bge"], "encoder", "100% of the tokens", "language", texts=["привет мир", "добрый день"])


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json"]
)
@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\x00"])
def test_a_broken_file_is_named(changed, name, content):
    folder = changed("bge")
    (folder / name).write_bytes(content)
    message(folder, "encoder", f"{folder / name} is broken")


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_broken_weights_are_named(changed, content):
    folder = changed("bge")
    (folder / "model.safetensors").write_bytes(content)
    message(folder, "encoder")


def test_truncated_weights_are_named(changed):
    folder = changed("reranker")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    message(folder, "reranker", "cannot be loaded")


def test_weights_of_another_shape(changed):
    folder = changed("bge")
    rewrite(folder / "config.json", intermediate_size=128)
    message(folder, "encoder", "cannot be loaded")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_models_own_code_is_refused_before_any_load(changed, name, monkeypatch):
    folder = changed("bge")
    rewrite(folder / name, auto_map={"AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]})
    (folder / "evil.py").write_text("raise SystemExit('the code was run')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    message(folder, "encoder", "auto_map", "never")
    with pytest.raises(InputError, match=r"guide: .*auto_map"):
        hub.fetch(folder, "guide")


def test_what_passed_is_not_loaded_again_until_it_changes(changed, monkeypatch):
    folder = changed("bge")
    check_model(folder, "model", "encoder", TEXTS)
    with monkeypatch.context() as patch:
        patch.setattr("bgetune.models.check._check_weights", lambda *_: pytest.fail("loaded again"))
        check_model(folder, "model", "encoder", TEXTS)
    rewrite(folder / "config.json", num_hidden_layers=1)
    message(folder, "encoder", "encoder.layer.1.")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_devices_that_are_there(device):
    hub.check_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "gpu", "", "meta", "cpu:9", "cuda:x"])
def test_a_device_that_is_not_there_is_named(device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(InputError, match=rf"^04_train\.device: there is no device {device} on .* auto or cpu$"):
        hub.check_device(device, "04_train.device")


def test_one_gpu_is_number_zero(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    hub.check_device("cuda:0")
    with pytest.raises(InputError, match=r"device: there is no device cuda:1 .* auto or cuda or cpu"):
        hub.check_device("cuda:1")


def test_the_texts_that_a_model_cannot_read_are_counted(models):
    said = unknown_tokens(models["bge"], ["支付密码", "ሰላም", "支付密码ሰ"])
    assert said.startswith("2 of 3 texts hold tokens that the model does not know")
