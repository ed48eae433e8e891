import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from bgetune.metrics.calibrators import Platt
from bgetune.scoring import search


def world(queries=120, k=10, seed=0):
    """Search results whose relevance both a similarity and a cross-encoder know something about."""
    rng = np.random.default_rng(seed)
    rows = []
    for query in range(queries):
        good = rng.random(k) < 0.3
        similarity = 0.7 + 0.05 * (good + rng.normal(size=k))
        cross = expit(3 * (good - 0.5) + rng.normal(size=k))
        for place in np.argsort(-similarity):
            rows.append((f"q{query}", f"q{query}t{place}", similarity[place], cross[place], bool(good[place])))
    found = pd.DataFrame(rows, columns=["query_id", "text_id", "similarity", "cross", "good"])
    found.insert(2, "rank", found.groupby("query_id").cumcount() + 1)
    found["cluster_id"], found["query"], found["text"] = found["query_id"], found["query_id"], found["text_id"]
    relevance = {}
    for row in found[found["good"]].itertuples():
        relevance.setdefault(row.query_id, {})[row.text_id] = 4
    for query in found["query_id"].unique():
        relevance.setdefault(query, {"elsewhere": 4})
    return found, relevance


class CrossEncoder:
    def __init__(self, *tables):
        self.scores = {(row.query, row.text): row.cross for found in tables for row in found.itertuples()}

    def score(self, pairs, *, progress=True):
        return np.array([self.scores[pair] for pair in pairs], dtype=np.float32)


@pytest.fixture
def calibrator():
    found, _ = world()
    return Platt().fit(found["similarity"], found["good"].astype(int))


def test_a_better_order_is_seen(calibrator):
    (dev, of_dev), (test, of_test) = world(seed=1), world(seed=2)
    test["query_id"], test["text_id"] = "x" + test["query_id"], "x" + test["text_id"]
    test["query"], test["text"], test["cluster_id"] = test["query_id"], test["text_id"], test["query_id"]
    relevance = of_dev | {f"x{q}": {f"x{t}": gain for t, gain in gains.items()} for q, gains in of_test.items()}
    combination, orders = search.rerank({"reranker": CrossEncoder(dev, test)}, calibrator, dev, test, relevance)
    assert combination.similarity > 0
    assert combination.reranker > 0
    table = search.evaluate_orders({"after": (test, "similarity"), **orders}, relevance, 10, count=100)
    assert list(table.index) == ["after", "after, reranker", "after, both"]
    assert table["mrr"].is_monotonic_increasing
    assert table["auc"].is_monotonic_increasing
    assert np.ptp(table["recall"]) == 0  # the same ten in another order
    assert table.loc["after", "auc"] == pytest.approx(roc_auc_score(test["good"], test["similarity"]), abs=1e-9)
    ranks = test[test["good"]].groupby("query_id")["rank"].min()
    assert table.loc["after", "mrr"] == pytest.approx((1 / ranks).sum() / test["query_id"].nunique(), abs=1e-9)
    assert (table["mrr_low"] < table["mrr"]).all()
    assert (table["mrr"] < table["mrr_high"]).all()
    assert table.loc["after", ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]
    both = table.loc["after, both"]
    assert both["gain"] == pytest.approx(both["mrr"] - table.loc["after", "mrr"])
    # measured on the same resamples, so narrower than two intervals by themselves
    assert both["gain_low"] < both["gain"] < both["gain_high"]
    assert both["gain_high"] - both["gain_low"] < both["mrr_high"] - table.loc["after", "mrr_low"]


def test_an_untuned_reranker_is_shown_beside_the_tuned_one_that_the_combination_is_made_with(calibrator):
    (dev, relevance), knows_nothing = world(seed=1), world(seed=1)[0]
    knows_nothing["cross"] = 0.5
    rerankers = {"untuned reranker": CrossEncoder(knows_nothing), "reranker": CrossEncoder(dev)}
    combination, orders = search.rerank(rerankers, calibrator, dev, dev, relevance)
    alone, of_one = search.rerank({"reranker": CrossEncoder(dev)}, calibrator, dev, dev, relevance)
    assert list(orders) == ["after, untuned reranker", "after, reranker", "after, both"]
    assert combination == alone
    table = search.evaluate_orders({"after": (dev, "similarity"), **orders}, relevance, 10, count=100)
    one = search.evaluate_orders(of_one, relevance, 10, count=100)
    assert table.loc["after, untuned reranker", "auc"] == 0.5
    assert table.loc["after, reranker", "auc"] == one.loc["after, reranker", "auc"]


def test_no_reranker_and_nothing_to_learn_from(calibrator):
    dev, relevance = world()
    assert search.rerank({}, calibrator, dev, dev, relevance) == (None, {})
    combination, orders = search.rerank({"reranker": CrossEncoder(dev)}, calibrator, dev, dev, {})
    assert combination is None
    assert list(orders) == ["after, reranker"]
    empty = dev.iloc[:0]
    assert search.evaluate_orders({"after": (empty, "similarity")}, relevance, 10, count=100).empty


def test_queries_are_a_seeded_sample_of_those_with_something_to_find():
    texts = pd.DataFrame({"text_id": [f"t{i}" for i in range(50)], "text": "x", "kind": ["query", "document"] * 25})
    clusters = pd.DataFrame({"text_id": texts["text_id"], "cluster_id": "c", "split": ["dev"] * 30 + ["test"] * 20})
    relevance = {f"t{i}": {"t1": 4} for i in range(28)}
    queries = search.sample_queries(texts, clusters, relevance, "dev", 8, seed=1)
    assert len(queries) == 8
    assert set(queries["text_id"]) <= {f"t{i}" for i in range(0, 28, 2)}
    assert queries.equals(search.sample_queries(texts, clusters, relevance, "dev", 8, seed=1))
    assert not queries.equals(search.sample_queries(texts, clusters, relevance, "dev", 8, seed=2))
    assert search.sample_queries(texts, clusters, relevance, "test", 8, seed=1).empty


def test_candidates_and_times_of_a_real_encoder(world_of_models):
    encoder, texts = world_of_models
    queries = texts[texts["kind"] == "query"].head(5).assign(cluster_id="c")
    searched = texts[texts["kind"] == "document"]
    found = search.candidates(encoder, queries, searched, 4)
    assert found.groupby("query_id").size().tolist() == [4] * 5
    brute = encoder.encode(queries["text"].head(1).tolist()) @ encoder.encode(searched["text"].tolist()).T
    first = found[found["query_id"] == queries["text_id"].iloc[0]]
    assert first["text_id"].tolist() == searched["text_id"].iloc[np.argsort(-brute[0])[:4]].tolist()
    assert search.candidates(encoder, queries.iloc[:0], searched, 4).empty
    spent = search.milliseconds(encoder, queries, searched, None, 4)
    assert list(spent) == ["search"]
    assert spent["search"] > 0


@pytest.fixture
def world_of_models(request, tmp_path):
    from bgetune.models.encoder import Encoder

    made = request.getfixturevalue("world")
    return Encoder(made.run / "04_train" / "model", cache_dir=tmp_path), made.texts
