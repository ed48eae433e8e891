"""One rule for prompts: mining, the looks at dev, both backends, calibration and the scorer score a pair alike."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny

from bgetune.config.stages import Train
from bgetune.data.text import text_id
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import CONFIG
from bgetune.negatives.corpus import Corpus, queries_of
from bgetune.negatives.space import Space
from bgetune.scoring import pairs
from bgetune.training import evaluation
from bgetune.training.save import save
from bgetune.training.trainer import encoder_of, load

KINDS = {"支付密码": "query", "登录密码": "query", "余额转账": "document", "查询订单": "document"}

MODELS = {
    "none": ({}, {}),
    "query only": ({}, {"query_instruction": "查询："}),
    "both sides": ({"prompts": {"query": "取消：", "passage": "订单，"}}, {}),
    "default": ({"prompts": {"query": "取消：", "sts": "到，"}, "default_prompt_name": "sts"}, {}),
    "turned off": (
        {"prompts": {"query": "取消：", "document": "到"}, "default_prompt_name": "query"},
        {"query_instruction": "", "document_instruction": ""},
    ),
}


def cosines(encode, table):
    left, right = encode(table["query"].tolist()), encode(table["text"].tolist())
    return (left * right).sum(axis=1)


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_scores_a_pair_alike(tmp_path, name):
    said, parameters = MODELS[name]
    base = tiny.save_sentence_transformer(tmp_path / "base", pooling="mean")
    (base / CONFIG).write_text(json.dumps(said, ensure_ascii=False), "utf-8")
    options = Train(model=str(base), device="cpu", max_length=32, **parameters)
    ids = {text: text_id(text) for text in KINDS}
    texts = pd.DataFrame([(ids[t], t, k, 1) for t, k in KINDS.items()], columns=["text_id", "text", "kind", "count"])
    rows = [("支付密码", "余额转账"), ("支付密码", "登录密码"), ("余额转账", "查询订单"), ("登录密码", "查询订单")]
    judged = pd.DataFrame(rows, columns=["query_id", "text_id"]).replace(ids)

    encoder = Encoder.of(options, cache_dir=None)
    expected = pairs.similarities(encoder, judged, texts)  # 05_calibrate
    prompts = encoder.prompts
    heldout = judged.assign(label=1, kind="positive", split="dev")
    graded = pd.DataFrame(columns=["a_id", "b_id", "grade", "label", "origin", "split"])
    dev = evaluation.dev_pairs(heldout, graded, texts, prompts)
    model = load(base, max_length=32, device="cpu")
    np.testing.assert_allclose(cosines(encoder_of(model, 4), dev), expected, atol=1e-5)  # 04_train

    edges = judged.rename(columns={"query_id": "a_id", "text_id": "b_id"}).assign(source="given", support=1, weight=1.0)
    clusters = pd.DataFrame({"text_id": list(ids.values()), "cluster_id": ids["支付密码"], "split": "train"})
    corpus = Corpus.of(texts, edges, clusters)
    queries = queries_of(corpus, "train", prompts)
    space = Space.of(corpus, queries, "train", encoder)
    found = {
        (corpus.id[row.anchor], corpus.id[positive]): space.similarity(np.array([place]), np.array([positive]))[0]
        for place, row in enumerate(queries.itertuples())
        for positive in row.positives
    }
    mined = [found[tuple(row)] for row in judged.itertuples(index=False)]
    np.testing.assert_allclose(mined, expected, atol=1e-5)  # 03_hard_negatives

    save(model, tmp_path / "tuned", prompts)  # what was saved says the same by itself, and with the parameters again
    for tuned in (Encoder(tmp_path / "tuned", cache_dir=None), Encoder.of(options, tmp_path / "tuned", cache_dir=None)):
        assert tuned.prompts == prompts
        np.testing.assert_allclose(pairs.similarities(tuned, judged, texts), expected, atol=1e-5)
    plain = pairs.similarities(
        Encoder(tiny.save_sentence_transformer(tmp_path / "plain", pooling="mean"), cache_dir=None), judged, texts
    )
    assert (np.abs(plain - expected).max() > 1e-3) == (name not in ("none", "turned off"))
