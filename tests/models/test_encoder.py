import json
import shutil

import numpy as np
import pytest
import tiny

from bgetune.errors import InputError
from bgetune.models import bert, hub
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import Prompts

TEXTS = ["支付密码忘记了怎么办", "登录密码", "转账", "支付密码忘记了怎么办", "订单取消，退款到余额"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_sentence_transformer(tmp_path_factory.mktemp("models") / "st")


def test_vectors_are_those_of_sentence_transformers(folder, tmp_path):
    from sentence_transformers import SentenceTransformer

    vectors = Encoder(folder, cache_dir=tmp_path).encode(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.05  # the model does tell texts apart


LENGTHS = [text * n for n in (1, 2, 9, 40) for text in TEXTS] + ["", "A b C é"]
"""Texts of many lengths, some longer than the model takes: batches with and without padding."""


def test_bert_on_a_cpu_needs_no_sentence_transformers(folder, monkeypatch):
    theirs = {name: _by_sentence_transformers(folder, name, monkeypatch) for name in ("float32", "bfloat16")}
    monkeypatch.setattr("bgetune.models.encoder._load", lambda *_: pytest.fail("sentence-transformers was asked"))
    monkeypatch.setattr("bgetune.models.tokens.CPU_TOKENS", 256)
    ours = Encoder(folder, cache_dir=None).encode(LENGTHS)
    np.testing.assert_allclose(ours, theirs["float32"], atol=2e-6)
    if hub.precision("auto", "cpu") == "bfloat16":
        half = Encoder(folder, cache_dir=None, precision="bfloat16").encode(LENGTHS)
        nearness = [(vectors * ours).sum(axis=1).min() for vectors in (half, theirs["bfloat16"])]
        assert nearness[0] > nearness[1] - 0.002


def test_settings_of_sentence_transformers_hold(folder, tmp_path):
    """Lower case before a tokenizer that keeps upper case, and a maximum length below the model's."""
    from sentence_transformers import SentenceTransformer

    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    tokenizer = json.loads((changed / "tokenizer.json").read_text("utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    (changed / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    for name, values in (
        ("sentence_bert_config.json", {"do_lower_case": True, "max_seq_length": 8}),
        ("tokenizer_config.json", {"do_lower_case": False}),
    ):
        settings = json.loads((changed / name).read_text("utf-8"))
        (changed / name).write_text(json.dumps(settings | values), "utf-8")
    texts = ["A B C", "a b c", *LENGTHS]
    vectors = Encoder(changed, cache_dir=None).encode(texts)
    expected = SentenceTransformer(str(changed), device="cpu").encode(texts)
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.abs(vectors - Encoder(folder, cache_dir=None).encode(texts)).max() > 0.05


def _by_sentence_transformers(folder, precision, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("bgetune.models.bert.supports", lambda *_: False)
        return Encoder(folder, cache_dir=None, precision=precision).encode(LENGTHS)


def test_other_models_give_the_vectors_of_sentence_transformers(folder, monkeypatch):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(folder), device="cpu").encode(LENGTHS)
    np.testing.assert_allclose(_by_sentence_transformers(folder, "float32", monkeypatch), expected, atol=2e-6)


def test_other_models_are_left_to_sentence_transformers(folder, tmp_path):
    """Any difference from a BERT with CLS pooling is one that `Bert` does not compute."""
    assert bert.supports(folder, "cpu", "float32")
    assert bert.supports(folder.with_name("st-bert"), "cpu", "float32")
    assert not bert.supports(folder, "cpu", "float16")
    assert not bert.supports(folder, "cuda", "float32")
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    for file, key, value in (
        ("config.json", "hidden_act", "gelu_new"),
        ("config.json", "model_type", "roberta"),
        ("config.json", "position_embedding_type", "relative_key"),
        ("1_Pooling/config.json", "pooling_mode", "mean"),
    ):
        original = (changed / file).read_text("utf-8")
        (changed / file).write_text(json.dumps(json.loads(original) | {key: value}), "utf-8")
        assert not bert.supports(changed, "cpu", "float32"), key
        (changed / file).write_text(original, "utf-8")
    assert bert.supports(changed, "cpu", "float32")


def test_plain_bert_gets_cls_pooling(folder, tmp_path):
    plain = Encoder(folder.with_name("st-bert"), cache_dir=tmp_path)
    expected = Encoder(folder, cache_dir=tmp_path).encode(TEXTS)
    np.testing.assert_allclose(plain.encode(TEXTS), expected, atol=1e-6)
    mean = tiny.save_sentence_transformer(tmp_path / "mean", pooling="mean")
    assert np.abs(Encoder(mean, cache_dir=None).encode(TEXTS) - expected).max() > 0.05


def test_cache_answers_without_loading_the_model(folder, tmp_path, monkeypatch):
    vectors = Encoder(folder, cache_dir=tmp_path).encode(TEXTS)
    monkeypatch.setattr("bgetune.models.encoder._load", lambda *_: pytest.fail("the model was loaded"))
    np.testing.assert_array_equal(Encoder(folder, cache_dir=tmp_path).encode(TEXTS[::-1]), vectors[::-1])


def test_cache_misses_after_training(folder, tmp_path):
    """The same folder, other weights: sentence-transformers' own cache serves the old vectors here."""
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    before = Encoder(model, cache_dir=tmp_path / "cache").encode(TEXTS)
    other = tiny.save_bert(tmp_path / "other", seed=1)
    shutil.copyfile(other / "model.safetensors", model / "model.safetensors")
    after = Encoder(model, cache_dir=tmp_path / "cache").encode(TEXTS)
    assert np.abs(after - before).max() > 0.05


@pytest.mark.parametrize("change", [{"max_length": 8}, {"precision": "bfloat16"}])
def test_cache_is_keyed_on_settings(folder, tmp_path, change):
    first, second = Encoder(folder, cache_dir=tmp_path), Encoder(folder, cache_dir=tmp_path, **change)
    assert np.abs(first.encode(TEXTS) - second.encode(TEXTS)).max() > 1e-4


def test_pooling_belongs_to_the_fingerprint(folder, tmp_path):
    mean = tiny.save_sentence_transformer(tmp_path / "mean", pooling="mean")
    same = shutil.copytree(folder, tmp_path / "elsewhere")
    fingerprint = Encoder(folder, cache_dir=None).fingerprint
    assert Encoder(mean, cache_dir=None).fingerprint != fingerprint
    assert Encoder(same, cache_dir=None).fingerprint == fingerprint


def test_instruction_is_put_before_queries_only(folder, tmp_path):
    encoder = Encoder(folder, prompts=Prompts("查询："), cache_dir=tmp_path)
    plain = Encoder(folder, cache_dir=tmp_path)
    np.testing.assert_array_equal(encoder.encode(TEXTS), plain.encode(TEXTS))
    expected = plain.encode(["查询：" + text for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS, prompt=encoder.prompts.query), expected, atol=1e-6)
    assert np.abs(expected - plain.encode(TEXTS)).max() > 0.05


def test_killed_run_keeps_its_shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("bgetune.models.encoder.SHARD", 2)
    encoder = Encoder(folder, cache_dir=tmp_path)
    forward, calls = encoder._forward, []

    def dies_at_the_second_shard(texts, bar):
        calls.append(texts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return forward(texts, bar)

    monkeypatch.setattr(encoder, "_forward", dies_at_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(TEXTS)
    again = Encoder(folder, cache_dir=tmp_path)
    encoded = []
    monkeypatch.setattr(
        again, "_forward", lambda texts, bar, inner=again._forward: encoded.extend(texts) or inner(texts, bar)
    )
    again.encode(TEXTS)
    assert len(calls[0]) == 2
    assert set(encoded) == set(TEXTS) - set(calls[0])


def test_no_texts(folder, tmp_path):
    assert Encoder(folder, cache_dir=tmp_path).encode([]).shape == (0, 32)


def test_empty_and_overlong_texts(folder, tmp_path):
    vectors = Encoder(folder, cache_dir=tmp_path).encode(["", "支付" * 500])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_pickled_weights_are_refused(folder, tmp_path):
    model = shutil.copytree(folder, tmp_path / "pickled")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        Encoder(model)


def test_missing_models_are_named():
    with pytest.raises(InputError, match=r"guide: there is no model at /no/where"):
        Encoder("/no/where", parameter="guide")


def test_unreachable_hub_says_the_ways_out():
    with pytest.raises(InputError) as error:
        Encoder("BAAI/no-such-model-zh")
    for part in ("model:", "BAAI/no-such-model-zh", "HF_ENDPOINT", "/path/to/no-such-model-zh"):
        assert part in str(error.value)


def test_two_processes_share_the_encoding_and_give_the_same_vectors(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("bgetune.models.encoder.SHARD", 8)
    monkeypatch.setattr("bgetune.models.spread.BLOCKS", 1)
    texts = [f"{text}{number}" for number in range(8) for text in TEXTS]
    alone = Encoder(folder, cache_dir=tmp_path / "one").encode(texts)
    encoder = Encoder(folder, cache_dir=tmp_path / "two", processes=2)
    monkeypatch.setattr(encoder, "_forward", lambda *_: pytest.fail("a process left texts for this one"))
    np.testing.assert_array_equal(encoder.encode(texts), alone)
    shards = [sorted(file.name for file in (tmp_path / name).rglob("*.npy")) for name in ("one", "two")]
    assert shards[0] == shards[1]
    assert len(shards[0]) == 2 * 4  # 32 distinct texts, 8 a block
    few = Encoder(folder, cache_dir=tmp_path / "few", processes=2)
    monkeypatch.setattr("bgetune.models.spread.fill", lambda *_: pytest.fail("too few texts to start processes for"))
    few.encode(texts[:16])
