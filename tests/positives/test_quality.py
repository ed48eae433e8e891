import pandas as pd
import pytest

from bgetune.data.text import text_id
from bgetune.positives import clicks, quality

MEANING = {text_id(name): meaning for name, meaning in [("a1", "A"), ("a2", "A"), ("a3", "A"), ("b1", "B"), ("x", "")]}


def make_pairs(*pairs):
    return pd.DataFrame([sorted(map(text_id, pair)) for pair in pairs], columns=["a_id", "b_id"])


def make_clusters(*groups):
    rows = [(text_id(name), text_id(group[0])) for group in groups for name in group]
    return pd.DataFrame(rows, columns=["text_id", "cluster_id"])


def test_pairs_of_a_cluster_are_measured_and_unknown_texts_are_not():
    clusters = make_clusters(["a1", "a2", "b1", "nobody knows"], ["a3"])
    supported = make_pairs(("a1", "a2"), ("a1", "a3"), ("a1", "b1"))
    found = quality.pair_quality(clusters, MEANING, supported)
    assert found == {"pairs": 3, "precision": pytest.approx(1 / 3), "recall": 0.5, "mixed_clusters": 1}


def test_raw_pairs_are_all_that_a_log_could_mean():
    texts = pd.DataFrame({"text_id": [text_id(n) for n in ("a1", "a2", "b1", "a3")], "text": ["a1", "a2", "b1", "a3"]})
    seen = pd.DataFrame({"query": [0, 1, 2], "document": [3, 3, -7], "users": [1, 1, 5]})
    rewrites = pd.DataFrame({"query": [2], "rewrite": [0], "users": [1]})
    found = quality.raw_pairs(clicks.Counts(texts, seen, rewrites, pd.DataFrame()))
    expected = make_pairs(("a1", "a2"), ("a1", "a3"), ("a2", "a3"), ("a1", "b1"))
    assert {*found[["a_id", "b_id"]].itertuples(index=False, name=None)} == {
        *expected.itertuples(index=False, name=None)
    }
    assert list(found["source"]) == ["co_click"] * 3 + ["rewrite"]
