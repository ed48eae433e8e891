import numpy as np
import pytest
import tiny

from bgetune.config.stages import HardNegatives
from bgetune.errors import InputError
from bgetune.models.reranker import Reranker

PAIRS = [("支付密码", "登录密码"), ("转账", "转账到余额"), ("支付密码", "登录密码"), ("登录密码", "支付密码")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("models") / "reranker", labels=1)


def test_scores_are_sigmoids_of_the_logit(folder, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    scores = Reranker(folder, cache_dir=tmp_path).score(PAIRS)
    assert scores.dtype == np.float32
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        expected = [model(**tokenizer(a, b, return_tensors="pt")).logits.sigmoid().item() for a, b in PAIRS]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert scores[0] == scores[2]
    assert abs(scores[0] - scores[3]) > 1e-3  # the direction counts


def test_two_processes_share_the_scoring_and_give_the_same_scores(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("bgetune.models.reranker.BLOCK", 8)
    monkeypatch.setattr("bgetune.models.spread.BLOCKS", 1)
    pairs = [(f"{one}{number}", two) for number in range(8) for one, two in PAIRS]
    alone = Reranker(folder, cache_dir=tmp_path / "one").score(pairs)
    reranker = Reranker(folder, cache_dir=tmp_path / "two", processes=2)
    monkeypatch.setattr(reranker, "_forward", lambda *_: pytest.fail("a process left pairs for this one"))
    with pytest.raises(pytest.fail.Exception):
        reranker.score(pairs[:20])  # too few to start processes for
    np.testing.assert_array_equal(reranker.score(pairs), alone)
    shards = [sorted(file.name for file in (tmp_path / name).rglob("*.npy")) for name in ("one", "two")]
    assert shards[0] == shards[1]
    assert len(shards[0]) == 2 * 3  # 24 distinct pairs, 8 a block


def test_the_parameters_of_a_notebook_say_how_it_computes(folder):
    parameters = HardNegatives(model="any", max_length=24, device="cpu", launcher={"processes": 3})
    made = Reranker.of(parameters, folder, precision="bfloat16")
    assert (made.max_length, made.device, made.processes, made.precision) == (24, "cpu", 3, "bfloat16")


def test_two_logits_are_a_softmax(tmp_path):
    folder = tiny.save_bert(tmp_path / "two", labels=2)
    scores = Reranker(folder, cache_dir=None).score(PAIRS)
    assert ((scores > 0) & (scores < 1)).all()


def test_more_outputs_are_refused(tmp_path):
    folder = tiny.save_bert(tmp_path / "three", labels=3)
    with pytest.raises(InputError, match="one output or two"):
        Reranker(folder, cache_dir=None).score(PAIRS)


def test_cache_answers_without_loading_the_model(folder, tmp_path, monkeypatch):
    scores = Reranker(folder, cache_dir=tmp_path).score(PAIRS)
    monkeypatch.setattr(Reranker, "_forward", lambda *_: pytest.fail("the model was asked"))
    np.testing.assert_array_equal(Reranker(folder, cache_dir=tmp_path).score(PAIRS[::-1]), scores[::-1])


def test_no_pairs(folder, tmp_path):
    assert Reranker(folder, cache_dir=tmp_path).score([]).shape == (0,)
