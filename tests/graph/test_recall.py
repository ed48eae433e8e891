import numpy as np
import pandas as pd
import pytest

from bgetune.data.text import text_id
from bgetune.graph import recall


class Oracle:
    """A reranker that knows some pairs: (first, second) -> score; others get 0."""

    def __init__(self, known):
        self.known, self.asked = known, []

    def score(self, pairs, progress=True):
        self.asked += pairs
        return np.array([self.known.get(pair, 0.0) for pair in pairs], dtype=np.float32)


def both_ways(*pairs, score=0.95):
    return {pair: score for a, b in pairs for pair in ((a, b), (b, a))}


def make_texts(*names, document=(), counts=None):
    kinds = ["document" if name in document else "query" for name in names]
    table = {"text_id": [text_id(n) for n in names], "text": names, "kind": kinds, "count": counts or [1] * len(names)}
    return pd.DataFrame(table).astype({"count": "int64"})


def make_pairs(*pairs, source="recall"):
    rows = [(*sorted((text_id(a), text_id(b))), source, 1, 0.5) for a, b in pairs]
    return pd.DataFrame(rows, columns=["a_id", "b_id", "source", "support", "weight"])


def make_clusters(*groups):
    rows = [(text_id(name), min(map(text_id, group))) for group in groups for name in group]
    return pd.DataFrame(rows, columns=["text_id", "cluster_id"])


def as_set(pairs):
    return {frozenset(pair) for pair in zip(pairs["a_id"], pairs["b_id"], strict=True)}


def ids(*pairs):
    return {frozenset(map(text_id, pair)) for pair in pairs}


def on_circle(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


# --- proposals ----------------------------------------------------------------------------------------------------


def test_texts_that_retrieve_one_another_are_proposed_the_most_similar_first():
    found = recall.propose(["a", "b", "c", "d"], on_circle(0, 3, 10, 90), neighbors=2, similarity=0.98)
    assert list(zip(found["a_id"], found["b_id"], strict=True)) == [("a", "b"), ("b", "c"), ("a", "c")]
    assert found["similarity"].to_numpy() == pytest.approx(np.cos(np.radians([3, 7, 10])), abs=1e-5)


def test_similarity_below_the_bound_proposes_nothing():
    assert recall.propose(["a", "b"], on_circle(0, 12), neighbors=5, similarity=0.98).empty


def test_a_hub_s_neighbours_are_not_its_own():
    """b is nearest to c, but c has two nearer ones."""
    vectors = on_circle(0, 5, 6, 6.5)
    found = recall.propose(["far", "x", "y", "z"], vectors, neighbors=1, similarity=0.9)
    assert as_set(found) == {frozenset(("y", "z"))}


def test_blocks_and_an_index_propose_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(60, 8)), 5, axis=0) + 0.2 * rng.normal(size=(300, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = [text_id(str(number)) for number in range(300)]
    exact = recall.propose(names, vectors, neighbors=4, similarity=0.8)
    assert len(exact) > 300
    assert (exact["a_id"] < exact["b_id"]).all()
    order = exact.sort_values(["similarity", "a_id", "b_id"], ascending=[False, True, True], ignore_index=True)
    pd.testing.assert_frame_equal(exact, order)
    products, found = vectors @ vectors.T, set()
    np.fill_diagonal(products, -1)
    nearest = np.argsort(-products, axis=1)[:, :4]
    for a, row in enumerate(nearest):
        found |= {frozenset((names[a], names[b])) for b in row if a in nearest[b] and products[a, b] >= 0.8}
    assert as_set(exact) == found
    monkeypatch.setattr(recall, "BLOCK", 70)
    pd.testing.assert_frame_equal(recall.propose(names, vectors, neighbors=4, similarity=0.8), exact)
    options = {"index": "IVF4,Flat", "search_params": {"nprobe": 4}}
    by_lists = recall.propose(names, vectors, neighbors=4, similarity=0.8, **options)
    assert as_set(by_lists) == as_set(exact)
    few = recall.propose(names, vectors, neighbors=4, similarity=0.8, index="IVF4,Flat", search_params={"nprobe": 1})
    assert as_set(few) != as_set(exact)


def test_pairs_already_together_or_known_to_differ_are_not_scored():
    clusters = make_clusters(["a", "b"], ["c"], ["d"], ["e"])
    proposed = make_pairs(("a", "b"), ("a", "c"), ("c", "d")).assign(similarity=0.99)
    weak = make_pairs(("d", "e"), ("a", "c"), source="co_click")
    different = [(text_id("d"), text_id("c"))]
    found, left_out = recall.candidates(proposed, weak, clusters, different, 10)
    assert as_set(found) == ids(("d", "e"), ("a", "c"))
    assert list(found["source"]) == ["co_click", "co_click"]
    assert left_out == 0


def test_the_limit_keeps_what_users_said_before_what_the_model_found():
    clusters = make_clusters(*"abcdef")
    proposed = make_pairs(("a", "b"), ("c", "d")).assign(similarity=0.99)
    found, left_out = recall.candidates(proposed, make_pairs(("e", "f"), source="rewrite"), clusters, [], 2)
    assert as_set(found) == ids(("e", "f"), ("a", "b"))
    assert left_out == 1


# --- the reranker -------------------------------------------------------------------------------------------------


def test_the_lower_of_the_two_directions_counts():
    reranker = Oracle({("a", "b"): 0.99, ("b", "a"): 0.2} | both_ways(("a", "c"), score=0.95))
    read = recall.rerank(make_pairs(("a", "b"), ("a", "c")), make_texts("a", "b", "c"), reranker)
    assert read["score"].to_numpy() == pytest.approx([0.2, 0.95])
    assert read["weight"].to_numpy() == pytest.approx([0.7 * 0.2, 0.7 * 0.95])
    assert set(reranker.asked) == {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")}


def test_a_confirmed_pair_of_two_single_texts_is_taken():
    clusters, texts = make_clusters("a", "b", "c"), make_texts("a", "b", "c")
    reranker = Oracle(both_ways(("a", "b")))
    reranked = recall.rerank(make_pairs(("a", "b"), ("a", "c")), texts, reranker)
    assert as_set(recall.confirm(reranked, clusters, texts, reranker, score=0.9, veto=0.1)) == ids(("a", "b"))


def test_answers_of_one_template_do_not_join_questions_that_differ():
    texts = make_texts("冻结步骤", "解冻步骤", "怎么冻结", "怎么解冻", document=("冻结步骤", "解冻步骤"))
    clusters = make_clusters(["冻结步骤", "怎么冻结"], ["解冻步骤", "怎么解冻"])
    alike = both_ways(("冻结步骤", "解冻步骤"))
    pairs = make_pairs(("冻结步骤", "解冻步骤"))
    for questions, taken in ((0.0, 0), (0.5, 0), (0.95, 1)):
        reranker = Oracle(alike | both_ways(("怎么冻结", "怎么解冻"), score=questions))
        reranked = recall.rerank(pairs, texts, reranker)
        assert len(recall.confirm(reranked, clusters, texts, reranker, score=0.9, veto=0.1)) == taken


def test_a_pair_that_a_user_proposed_needs_less_where_a_single_text_joins():
    texts, clusters = make_texts("a", "b", "c", counts=[1, 9, 1]), make_clusters(["a", "b"], ["c"])
    reranker = Oracle(both_ways(("a", "c")) | both_ways(("b", "c"), score=0.5))
    for source, veto, taken in (("co_click", 0.1, 1), ("co_click", 0.6, 0), ("recall", 0.1, 0)):
        reranked = recall.rerank(make_pairs(("a", "c"), source=source), texts, reranker)
        assert len(recall.confirm(reranked, clusters, texts, reranker, score=0.9, veto=veto)) == taken


def test_one_user_does_not_join_two_clusters_that_the_reranker_is_unsure_of():
    texts, clusters = make_texts("a", "b", "c", "d", counts=[1, 9, 1, 9]), make_clusters(["a", "b"], ["c", "d"])
    for sure, taken in ((0.5, 0), (0.95, 1)):
        reranker = Oracle(both_ways(("a", "c")) | both_ways(("b", "d"), score=sure))
        reranked = recall.rerank(make_pairs(("a", "c"), source="co_click"), texts, reranker)
        assert len(recall.confirm(reranked, clusters, texts, reranker, score=0.9, veto=0.1)) == taken


def test_the_most_frequent_query_speaks_for_a_cluster():
    texts = make_texts("答案", "常问", "少问", "别的", document=("答案",), counts=[99, 5, 1, 1])
    clusters = make_clusters(["答案", "常问", "少问"], ["别的"])
    assert as_set(recall.representatives(make_pairs(("少问", "别的")), clusters, texts)) == ids(("常问", "别的"))


def test_only_what_a_log_alone_says_can_be_vetoed_the_least_certain_first():
    edges = pd.concat(
        [
            make_pairs(("a", "b"), source="co_click").assign(weight=0.8),
            make_pairs(("a", "b"), source="given").assign(weight=1.0),
            make_pairs(("a", "c"), source="co_click").assign(weight=0.9),
            make_pairs(("b", "c"), source="rewrite").assign(weight=0.4),
            make_pairs(("c", "d"), source="qa").assign(weight=0.1),
        ],
        ignore_index=True,
    )
    assert list(recall.least_certain(edges, 10).index) == [3, 2]
    assert list(recall.least_certain(edges, 1).index) == [3]
    assert recall.least_certain(edges, -5).empty


def test_the_summary_counts_by_source():
    reranked = make_pairs(("a", "b"), ("a", "c"))
    table = recall.summary(reranked, reranked.head(1), make_pairs(("a", "d"), source="rewrite"), reranked.head(0))
    table = table.set_index("proposed by")
    assert tuple(table.loc["similarity", ["read", "pairs", "share"]]) == (2, 1, 0.5)
    assert tuple(table.loc["several users' rewrite", ["read", "pairs"]]) == (1, 0)
