"""Thresholds on the reranker's score and on both scores together."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from bgetune.metrics.calibrators import Combination, Platt
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.reports import reranking, words
from bgetune.scoring import deciding, thresholds

WANTED = {"precisions": [0.8, 0.9999], "recalls": [0.9], "confidence": 0.95, "prior": None}


class Read(Reranker):
    """A reranker whose scores are known."""

    def __init__(self, folder, known):
        super().__init__(folder, max_length=32, cache_dir=None)
        self.known = known

    def score(self, pairs, *, progress=True):
        return np.array([self.known[pair] for pair in pairs], dtype=np.float32)


@pytest.fixture(scope="module")
def judged():
    """Pairs that cosine and reranker each tell something of."""
    rng = np.random.default_rng(0)
    count = 1200
    labels = rng.integers(0, 2, count)
    frame = pd.DataFrame({"query_id": [f"q{i}" for i in range(count)], "text_id": [f"t{i}" for i in range(count)]})
    frame["label"], frame["split"] = labels, np.where(np.arange(count) % 2, "dev", "test")
    frame["cluster_id"] = frame["query_id"]
    frame["after"] = 0.6 + 0.05 * (rng.normal(size=count) + 1.5 * labels)
    frame["cross"] = 1 / (1 + np.exp(-2 * (rng.normal(size=count) + 2 * labels - 1)))
    return frame


@pytest.fixture(scope="module")
def models(tmp_path_factory, judged):
    folder = tmp_path_factory.mktemp("deciding")
    known = dict(zip(zip(judged["query_id"], judged["text_id"], strict=True), judged["cross"], strict=True))
    encoder = Encoder(tiny.save_sentence_transformer(folder / "model"), cache_dir=None)
    return encoder, Read(tiny.save_bert(folder / "reranker", seed=1, labels=1), known)


@pytest.fixture(scope="module")
def decisions(judged, models):
    encoder, reranker = models
    dev = judged[judged["split"] == "dev"]
    platt = Platt().fit(dev["after"], dev["label"])
    ids = pd.concat([judged["query_id"], judged["text_id"]])
    texts = pd.DataFrame({"text_id": ids, "text": ids})
    on_cosine = thresholds.choose(dev["after"], dev["label"], clusters=dev["cluster_id"], **WANTED)
    combination = Combination.fit(platt.predict(dev["after"]), dev["cross"], dev["label"])
    untuned = Read(reranker.folder, dict.fromkeys(reranker.known, 0.5))
    rerankers = {"untuned reranker": untuned, "reranker": reranker}
    spent, ranking = {"search": 2.0, "rerank": 30.0}, pd.DataFrame({"mrr": [0.5, 0.75]}, ["after", "after, both"])
    return deciding.compare(
        judged, texts, on_cosine, encoder, platt, rerankers, combination, spent, ranking, count=100, **WANTED
    )


def test_each_score_gets_the_threshold_that_its_dev_pairs_guarantee(judged, decisions):
    dev, test = (judged[judged["split"] == split] for split in ("dev", "test"))
    table = decisions.table[decisions.table["precision"] == 0.8].set_index("decided by")
    wanted = thresholds.precision_guarantee(dev["cross"].astype("float32"), dev["label"], 0.8)
    row = table.loc["tuned reranker"]
    assert row["threshold"] == pytest.approx(wanted.threshold)
    assert decisions.thresholds["reranker"].precisions[0].lower_bound >= 0.8
    above = test["cross"] >= row["threshold"]
    assert row["test_recall"] == pytest.approx(test["label"][above].sum() / test["label"].sum())
    exact = binomtest(test["label"][above].sum(), above.sum()).proportion_ci(0.95)
    assert (row["test_low"], row["test_high"]) == pytest.approx((exact.low, exact.high))
    # both know more than either
    both = table.loc["cosine and reranker together"]
    assert both["recall"] > max(row["recall"], table.loc["cosine", "recall"])
    assert both["test_precision"] >= 0.75


def test_a_score_has_one_name_on_a_page(decisions):
    """The tables of the decisions and of the reranker's worth stand one below the other."""
    scores = decisions.worth["scored by"].tolist()
    named = {words.scored_by(name, scores) for name in scores}
    assert set(decisions.table["decided by"]) == named - {"untuned reranker"}
    page = reranking.table(decisions.reranking)._repr_html_()
    assert all(f">{name}<" in page for name in named)


def test_what_it_costs_and_what_is_missing(decisions):
    table = decisions.table.set_index(["precision", "decided by"])
    assert list(table.loc[0.8, "ms a query"]) == [2, 32, 32]
    assert (table["ms a pair"] > 0).all()
    assert table.loc[0.9999, "threshold"].isna().all()
    assert [row["threshold"] for row in decisions.rows if row["precision"] == 0.9999] == [None] * 3
    json.dumps(decisions.rows, allow_nan=False)


def test_what_the_scores_are_worth_on_test(judged, decisions):
    test = judged[judged["split"] == "test"]
    worth = decisions.worth.set_index("scored by")
    assert list(worth.index) == ["cosine", "untuned reranker", "reranker", "both"]
    for name, values in {"cosine": test["after"], "reranker": test["cross"]}.items():
        assert worth.loc[name, "auc"] == pytest.approx(roc_auc_score(test["label"], values), abs=1e-6)
        assert worth.loc[name, "average_precision"] == pytest.approx(
            average_precision_score(test["label"], values), abs=1e-6
        )
    assert worth.loc["untuned reranker", "auc"] == 0.5
    assert worth.loc["cosine", ["auc_gain", "auc_gain_low", "auc_gain_high"]].tolist() == [0, 0, 0]
    both = worth.loc["both"]
    assert both["auc_gain"] == pytest.approx(both["auc"] - worth.loc["cosine", "auc"])
    assert 0 < both["auc_gain_low"] < both["auc_gain"] < both["auc_gain_high"]
    assert 0 < worth.loc["reranker", "tuning_low"] < worth.loc["reranker", "tuning"]
    assert worth["tuning"].notna().tolist() == [False, False, True, False]
    assert worth.loc["both", "mrr"] == 0.75
    assert decisions.reranking[1]["mrr"] is None  # no such order was measured
    assert (worth["ms a pair"] > 0).all()
    assert set(decisions.thresholds) == {"reranker", "both"}  # the untuned one is measured, never used
    json.dumps(decisions.reranking, allow_nan=False)


def test_rerankers_to_compare(tmp_path):
    folder, tuned = (tiny.save_bert(tmp_path / name, labels=1) for name in ("base", "tuned"))
    given = {"max_length": 24, "device": "cpu"}
    assert deciding.rerankers(None, None, **given) == {}
    assert {name: one.folder for name, one in deciding.rerankers(folder, None, **given).items()} == {"reranker": folder}
    both = deciding.rerankers(folder, tuned, **given)
    assert {name: one.folder for name, one in both.items()} == {"untuned reranker": folder, "reranker": tuned}
    assert list(deciding.rerankers(None, tuned, **given)) == ["reranker"]


def test_without_a_reranker_the_cosine_stands_alone(judged, models):
    on_cosine = thresholds.choose(judged["after"], judged["label"], **WANTED)
    texts = pd.DataFrame({"text_id": pd.concat([judged["query_id"], judged["text_id"]]), "text": "字"})
    platt = Platt().fit(judged["after"], judged["label"])
    made = deciding.compare(judged, texts, on_cosine, models[0], platt, {}, None, {}, pd.DataFrame(), **WANTED)
    assert made.thresholds == {}
    assert made.worth.empty
    assert made.reranking == []
    assert list(made.table["decided by"]) == ["cosine", "cosine"]
