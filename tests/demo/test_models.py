"""The miniatures behave like what they stand in for."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bgetune_demo import SMALL, resolve


def auc(better, worse):
    return roc_auc_score([1] * len(better) + [0] * len(worse), np.r_[better, worse])


@pytest.fixture(scope="module")
def encoder():
    return resolve("demo://small/encoder", progress=False)


def test_the_encoder_drifts_as_bge_does(encoder, judged):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(encoder), device="cpu")
    scores = {}
    for kind, rows in judged.items():
        a, b = (model.encode(list(side)) for side in zip(*rows, strict=True))
        assert np.allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
        scores[kind] = (a * b).sum(axis=1)
    assert scores["random"].mean() > 0.4  # unrelated texts look related
    bunched = np.r_[scores["same"], scores["near"]]
    assert ((bunched > 0.6) & (bunched < 0.95)).mean() > 0.7
    assert 0.5 < auc(scores["same"], scores["near"]) < 0.8  # near-misses score like paraphrases
    right = ((scores["same"] >= 0.8).mean() + (scores["near"] < 0.8).mean()) / 2
    assert right < 0.65  # so the fixed threshold is hardly better than a coin
    assert auc(scores["same"], scores["random"]) > 0.9  # yet it is no random model


def test_flagembedding_and_sentence_transformers_give_the_same_vectors(encoder):
    from FlagEmbedding import FlagModel
    from sentence_transformers import SentenceTransformer

    texts = ["怎么修改登录密码", "申请退款要多久"]
    flag = FlagModel(str(encoder), use_fp16=False, devices="cpu", pooling_method="cls")
    assert np.allclose(flag.encode(texts), SentenceTransformer(str(encoder), device="cpu").encode(texts), atol=1e-5)


def test_the_encoder_is_safetensors_only_and_has_the_modules_of_bge(encoder):
    files = {path.name for path in encoder.rglob("*")}
    assert {"model.safetensors", "modules.json", "1_Pooling", "2_Normalize", "tokenizer.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]


def test_the_reranker_knows_what_means_the_same(judged):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(resolve("demo://small/reranker", progress=False)), device="cpu")
    scores = {kind: model.predict(rows) for kind, rows in judged.items()}
    assert auc(scores["same"], scores["near"]) > 0.9
    assert auc(scores["same"], scores["random"]) > 0.97
    assert (scores["same"] > 0.9).mean() > 0.4
    assert (scores["near"] < 0.1).mean() > 0.4
    assert (scores["random"] > 0.9).mean() < 0.02


def test_a_round_trip_of_the_translators_rewords(known):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    def translate(direction, texts):
        path = resolve(f"demo://small/{direction}", progress=False)
        tokens, model = AutoTokenizer.from_pretrained(path), AutoModelForSeq2SeqLM.from_pretrained(path)
        return tokens.batch_decode(
            model.generate(**tokens(texts, return_tensors="pt", padding=True)), skip_special_tokens=True
        )

    asked = known[known.meaning.str.startswith("account.login_password.") & (known.text.str.len() < 15)].text.tolist()
    english = translate("zh-en", asked)
    again = translate("en-zh", english)
    assert all(text.isascii() for text in english)
    assert np.mean(["password" in text for text in english]) > 0.7
    words = ("登录密码", "登陆密码", "登录口令", "登入密码")
    assert np.mean([any(word in text for word in words) for text in again]) > 0.5
    assert np.mean([a != b for a, b in zip(asked, again, strict=True)]) > 0.5


def test_the_same_seed_trains_the_same_bytes(tmp_path):
    import torch

    from bgetune_demo import encoder, reranker, translator

    world = replace(SMALL, services=1, parallel=10, encoder_steps=3, reranker_steps=3, translator_steps=3)
    torch.manual_seed(123)
    for module, item in ((encoder, "encoder"), (reranker, "reranker"), (translator, "zh-en")):
        weights = []
        for turn in ("a", "b"):
            folder = tmp_path / turn / item
            folder.mkdir(parents=True)
            before = torch.get_rng_state()
            module.train(world, item, folder, progress=False)
            assert torch.equal(torch.get_rng_state(), before)  # the caller's randomness is untouched
            assert not torch.are_deterministic_algorithms_enabled()
            weights.append((folder / "model.safetensors").read_bytes())
        assert weights[0] == weights[1]
