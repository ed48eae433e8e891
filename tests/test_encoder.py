import shutil

import numpy as np
import pytest
import tiny

from bgetune.encoder import Encoder
from bgetune.errors import InputError

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


def test_plain_bert_gets_cls_pooling(folder, tmp_path):
    plain = Encoder(folder.with_name("st-bert"), cache_dir=tmp_path)
    expected = Encoder(folder, cache_dir=tmp_path).encode(TEXTS)
    np.testing.assert_allclose(plain.encode(TEXTS), expected, atol=1e-6)
    mean = tiny.save_sentence_transformer(tmp_path / "mean", pooling="mean")
    assert np.abs(Encoder(mean, cache_dir=None).encode(TEXTS) - expected).max() > 0.05


def test_cache_answers_without_loading_the_model(folder, tmp_path, monkeypatch):
    vectors = Encoder(folder, cache_dir=tmp_path).encode(TEXTS)
    monkeypatch.setattr("bgetune.encoder._load", lambda *_: pytest.fail("the model was loaded"))
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
    encoder = Encoder(folder, query_instruction="查询：", cache_dir=tmp_path)
    plain = Encoder(folder, cache_dir=tmp_path)
    np.testing.assert_array_equal(encoder.encode(TEXTS), plain.encode(TEXTS))
    expected = plain.encode(["查询：" + text for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS, query=True), expected, atol=1e-6)
    assert np.abs(expected - plain.encode(TEXTS)).max() > 0.05


def test_killed_run_keeps_its_shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("bgetune.encoder.SHARD", 2)
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
