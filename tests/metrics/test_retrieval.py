import numpy as np
import pytest

from bgetune.metrics.retrieval import evaluate, nearest


def definition(ranked, gains, k):
    """MRR@k, nDCG@k and recall@k of one query, written down once more."""
    hits = [gains.get(text, 0) for text in ranked[:k]]
    first = next((rank for rank, gain in enumerate(hits, 1) if gain > 0), None)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = sorted(gains.values(), reverse=True)[:k]
    return (
        1 / first if first else 0.0,
        (hits * discount[: len(hits)]).sum() / (ideal * discount[: len(ideal)]).sum(),
        sum(gain > 0 for gain in hits) / len(gains),
    )


@pytest.mark.parametrize("k", [1, 5, 10])
def test_measures_agree_with_their_definition(k):
    rng = np.random.default_rng(0)
    texts = [f"t{i}" for i in range(40)]
    ranked, relevance = {}, {}
    for query in range(50):
        ranked[f"q{query}"] = list(rng.permutation(texts)[: rng.integers(1, 20)])
        chosen = rng.permutation(texts)[: rng.integers(1, 15)]
        relevance[f"q{query}"] = {text: int(rng.integers(1, 5)) for text in chosen}
    table = evaluate(ranked, relevance, k)
    for query, row in table.iterrows():
        assert tuple(row) == pytest.approx(definition(ranked[query], relevance[query], k), abs=1e-9)
    assert len(table) == 50


def test_missing_and_useless_queries():
    table = evaluate({"a": ["x"], "c": []}, {"a": {"x": 1}, "b": {"y": 2}, "c": {"z": 1}, "d": {}, "e": {"x": 0}})
    assert table.loc["a"].tolist() == [1, 1, 1]
    assert table.loc["b"].tolist() == [0, 0, 0]  # never searched: found nothing
    assert table.loc["c"].tolist() == [0, 0, 0]
    assert list(table.index) == ["a", "b", "c"]  # nothing can be found for d and e
    assert evaluate({}, {"a": {"x": 1}})["mrr"].tolist() == [0]


def test_order_decides_not_names():
    # as scores they would be equal; trec_eval orders equal scores by id
    assert evaluate({"q": ["b", "a"]}, {"q": {"b": 1}})["mrr"].item() == 1
    assert evaluate({"q": ["a", "b"]}, {"q": {"b": 1}})["mrr"].item() == 0.5


def test_nearest_leaves_the_query_out():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"t{i}" for i in range(30)]
    table = nearest(["t3", "new"], vectors[[3, 4]], ids, vectors, k=5)
    expected = np.argsort(-(vectors @ vectors[3]))
    assert table[table["query_id"] == "t3"]["text_id"].tolist() == [ids[i] for i in expected if i != 3][:5]
    assert table[table["query_id"] == "new"]["text_id"].iloc[0] == "t4"
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    assert table["similarity"].iloc[0] == pytest.approx(float(vectors[3] @ vectors[expected[1]]), abs=1e-6)
