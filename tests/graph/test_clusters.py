import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from bgetune.data.tables import SOURCES
from bgetune.graph import clusters as graph


def text_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


def edge_table(rows) -> pd.DataFrame:
    """Edges from (number, number, source, weight)."""
    table = pd.DataFrame(
        [(*sorted((text_id(a), text_id(b))), source, 1, weight) for a, b, source, weight in rows if a != b],
        columns=["a_id", "b_id", "source", "support", "weight"],
    ).astype({"a_id": str, "b_id": str, "source": str, "support": "int64", "weight": "float64"})
    return table.drop_duplicates(["a_id", "b_id", "source"], ignore_index=True)


edge_lists = st.lists(
    st.tuples(
        st.integers(0, 24),
        st.integers(0, 24),
        st.sampled_from(sorted(SOURCES)),
        st.integers(1, 20).map(lambda n: n / 20),
    ),
    max_size=60,
).map(edge_table)
texts = [text_id(number) for number in range(25)]
few = settings(max_examples=30, deadline=None)
fractions = {"dev_fraction": 0.2, "test_fraction": 0.2}


def clustered(edges, **options):
    return graph.cluster(texts, graph.combine_sources(edges), **{"max_cluster_size": 6, **options})


# --- clusters -----------------------------------------------------------------------------------------------------


@few
@given(edges=edge_lists, limit=st.integers(2, 25))
def test_clusters_are_disjoint_cover_all_texts_and_respect_the_limit(edges, limit):
    clusters = clustered(edges, max_cluster_size=limit)
    assert list(clusters["text_id"]) == sorted(texts)
    assert clusters["cluster_id"].value_counts().max() <= limit
    assert (
        clusters.groupby("cluster_id")["text_id"].min() == clusters.groupby("cluster_id")["cluster_id"].first()
    ).all()


@few
@given(edges=edge_lists, limit=st.integers(2, 25))
def test_texts_of_a_cluster_are_connected_by_its_edges_and_small_components_stay_whole(edges, limit):
    clusters = clustered(edges, max_cluster_size=limit)
    inside = edges[graph.within_clusters(edges, clusters).to_numpy()]
    whole = clustered(edges, max_cluster_size=25)
    again = clustered(inside, max_cluster_size=25)
    columns = ["text_id", "cluster_id"]
    assert again[columns].equals(clusters[columns])
    small = whole.groupby("cluster_id")["text_id"].transform("size") <= limit
    assert clusters.loc[small, columns].equals(whole.loc[small, columns])


@few
@given(edges=edge_lists, pairs=st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=10))
def test_texts_known_to_be_different_share_no_cluster(edges, pairs):
    different = [(text_id(a), text_id(b)) for a, b in pairs if a != b]
    home = clustered(edges, different=different).set_index("text_id")["cluster_id"]
    assert all(home[a] != home[b] for a, b in different)


@pytest.mark.slow
@few
@given(edges=edge_lists, seed=st.integers(0, 100))
def test_the_order_of_rows_changes_nothing(edges, seed):
    shuffled = edges.sample(frac=1, random_state=seed)
    assert clustered(shuffled).equals(clustered(edges))
    first = graph.split(clustered(edges), edges, seed=1, **fractions)
    assert graph.split(clustered(edges), shuffled, seed=1, **fractions).equals(first)


def test_an_oversize_component_is_cut_where_two_groups_are_glued():
    """Two groups of five, each tightly joined, and one strong edge between them that closes no triangle."""
    groups = [(a, b, "co_click", 0.6) for start in (0, 5) for a in range(start, start + 5) for b in range(start, a)]
    clusters = clustered(edge_table([*groups, (0, 5, "given", 0.7)]), max_cluster_size=9)
    home = clusters.set_index("text_id")["cluster_id"]
    assert len(set(home[[text_id(n) for n in range(5)]])) == 1
    assert len(set(home[[text_id(n) for n in range(5, 10)]])) == 1
    assert home[text_id(0)] != home[text_id(5)]


def test_sources_combine_as_independent_witnesses():
    edges = edge_table([(0, 1, "co_click", 0.5), (0, 1, "rewrite", 0.5), (1, 2, "given", 1.0)])
    combined = graph.combine_sources(edges)
    weights = {frozenset((row.a_id, row.b_id)): row.weight for row in combined.itertuples()}
    assert weights[frozenset((text_id(0), text_id(1)))] == pytest.approx(0.75)
    assert weights[frozenset((text_id(1), text_id(2)))] == pytest.approx(1.0)


def test_an_edge_to_an_unknown_text_is_an_error():
    with pytest.raises(ValueError, match="not among the texts"):
        graph.cluster(texts[:2], graph.combine_sources(edge_table([(0, 7, "qa", 0.8)])), max_cluster_size=5)


# --- splits -------------------------------------------------------------------------------------------------------


@few
@given(edges=edge_lists, seed=st.integers(0, 5))
def test_a_split_never_separates_a_cluster(edges, seed):
    splits = graph.split(clustered(edges), edges, seed=seed, **fractions)
    assert not splits[["cluster_id", "split"]].drop_duplicates()["cluster_id"].duplicated().any()
    assert set(splits["split"]) <= {"train", "dev", "test"}
    assert splits[["text_id", "cluster_id"]].equals(clustered(edges)[["text_id", "cluster_id"]])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(edges=edge_lists, appended=edge_lists, known=st.integers(2, 25))
def test_a_text_never_moves_from_test_or_dev_to_train_when_data_is_appended(edges, appended, known):
    """The first run knows some of the texts and edges; the second all, so clusters grow, merge and are cut anew."""
    some = set(texts[:known])
    edges = edges[edges["a_id"].isin(some) & edges["b_id"].isin(some)]
    before = graph.cluster(sorted(some), graph.combine_sources(edges), max_cluster_size=6)
    before = graph.split(before, edges, seed=3, **fractions)
    every = graph.merge_edges(pd.concat([edges, appended]))
    earlier = dict(zip(before["text_id"], before["split"], strict=True))
    after = graph.split(clustered(every), every, seed=3, earlier=earlier, **fractions)
    moved = before.merge(after, on="text_id", suffixes=("", "_after"))
    assert not ((moved["split"] != "train") & (moved["split_after"] == "train")).any()
    assert not ((moved["split"] == "test") & (moved["split_after"] != "test")).any()


@few
@given(edges=edge_lists)
def test_heldout_texts_are_never_trained_on_and_train_only_texts_never_judged(edges):
    heldout, train_only = set(texts[:5]), set(texts[5:10])
    splits = graph.split(clustered(edges), edges, seed=1, heldout=heldout, train_only=train_only, **fractions)
    splits = splits.set_index("text_id")
    assert not (splits["split"][list(heldout)] == "train").any()
    with_heldout = set(splits["cluster_id"][list(heldout)])
    alone = [text for text in train_only if splits["cluster_id"][text] not in with_heldout]
    assert (splits["split"][alone] == "train").all()


def test_heldout_stands_above_an_earlier_run_that_trained_on_it():
    splits = graph.split(
        clustered(edge_table([])), edge_table([]), seed=1, heldout=texts[:1], earlier={texts[0]: "train"}, **fractions
    )
    assert splits.set_index("text_id")["split"][texts[0]] != "train"


def test_every_source_has_its_share_of_every_split():
    rows = [(2 * n, 2 * n + 1, "co_click" if n % 10 else "qa", 0.9) for n in range(1000)]
    edges = edge_table(rows)
    clusters = graph.cluster([text_id(n) for n in range(2000)], graph.combine_sources(edges), max_cluster_size=6)
    splits = graph.split(clusters, edges, seed=1, dev_fraction=0.1, test_fraction=0.1).set_index("text_id")["split"]
    for source in ("co_click", "qa"):
        share = splits[edges["a_id"][edges["source"] == source]].value_counts(normalize=True)
        assert share["test"] == pytest.approx(0.1, abs=0.011)
        assert share["dev"] == pytest.approx(0.1, abs=0.011)


def test_most_texts_keep_their_split_when_data_is_appended_to_a_fresh_folder():
    def splits(count):
        edges = edge_table([(2 * n, 2 * n + 1, "qa", 0.9) for n in range(count)])
        texts = [text_id(n) for n in range(2 * count)]
        clusters = graph.cluster(texts, graph.combine_sources(edges), max_cluster_size=6)
        return graph.split(clusters, edges, seed=1, dev_fraction=0.1, test_fraction=0.1).set_index("text_id")["split"]

    before, after = splits(1000), splits(1200)
    assert (before == after[before.index]).mean() > 0.95


def test_the_pieces_of_a_cut_component_share_a_split():
    """A chain of ten texts among a thousand others, cut in two: both halves may mean the same."""
    edges = edge_table([(n, n + 1, "given", 1.0) for n in range(9)])
    everyone = [text_id(n) for n in range(1000)]
    clusters = graph.cluster(everyone, graph.combine_sources(edges), max_cluster_size=5)
    chain = [text_id(n) for n in range(10)]
    for seed in range(20):
        splits = graph.split(clusters, edges, seed=seed, **fractions).set_index("text_id")
        assert len(set(splits["cluster_id"][chain])) > 1
        assert len(set(splits["split"][chain])) == 1


def test_a_component_that_swallows_everything_is_split_by_cluster():
    edges = edge_table([(n, n + 1, "co_click", 0.5) for n in range(299)])
    clusters = graph.cluster([text_id(n) for n in range(300)], graph.combine_sources(edges), max_cluster_size=5)
    splits = graph.split(clusters, edges, seed=1, **fractions)
    assert set(splits["split"]) == {"train", "dev", "test"}


def test_another_seed_makes_another_split():
    first, second = (graph.split(clustered(edge_table([])), edge_table([]), seed=s, **fractions) for s in (1, 2))
    assert not first.equals(second)


# --- near-duplicates ----------------------------------------------------------------------------------------------


def make_texts(rows) -> pd.DataFrame:
    return pd.DataFrame(
        [(text_id(n), *row) for n, row in enumerate(rows)], columns=["text_id", "text", "kind", "count"]
    )


def test_texts_that_differ_in_punctuation_only_are_merged_into_the_most_frequent():
    table = make_texts(
        [("忘记密码?", "document", 1), ("忘记密码", "query", 3), ("忘记-密码!", "query", 1), ("改密码", "query", 1)]
    )
    merged, representative = graph.merge_duplicates(table)
    assert dict(zip(merged["text"], merged["count"], strict=True)) == {"忘记密码": 5, "改密码": 1}
    assert set(merged["kind"]) == {"query"}
    assert [representative[text_id(n)] for n in range(4)] == [text_id(1)] * 3 + [text_id(3)]


def test_texts_of_punctuation_only_stay_apart():
    merged, _ = graph.merge_duplicates(make_texts([("???", "query", 1), ("!!!", "query", 1)]))
    assert len(merged) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.5倍", "15倍"),
        ("3-5天到账", "35天到账"),
        ("c++", "c"),
        ("5%", "5"),
        ("温度≥30", "温度≤30"),
        ("ดี", "ดู"),
        ("की", "का"),
    ],
)
def test_signs_that_carry_meaning_keep_texts_apart(one, other):
    merged, _ = graph.merge_duplicates(make_texts([(one, "query", 1), (other, "query", 1)]))
    assert len(merged) == 2


@pytest.mark.parametrize(
    ("one", "other"), [("1,000元", "1000元"), ("iphone 15", "iphone15"), ("转账(跨行)", "转账跨行")]
)
def test_marks_that_carry_none_do_not(one, other):
    merged, _ = graph.merge_duplicates(make_texts([(one, "query", 1), (other, "query", 1)]))
    assert len(merged) == 1


def test_rename_drops_pairs_that_became_one_text():
    pairs = edge_table([(0, 1, "qa", 0.8), (1, 2, "qa", 0.8)])
    representative = {text_id(0): text_id(0), text_id(1): text_id(0), text_id(2): text_id(2)}
    renamed = graph.to_representatives(pairs, representative)
    assert len(renamed) == 1
    assert set(renamed.loc[0, ["a_id", "b_id"]]) == {text_id(0), text_id(2)}
    assert (renamed["a_id"] < renamed["b_id"]).all()


# --- to look at ---------------------------------------------------------------------------------------------------


def test_overview_counts_texts_clusters_and_edges_by_split():
    edges = edge_table([(0, 1, "qa", 0.8), (2, 3, "co_click", 0.9)])
    clusters = graph.split(clustered(edges), edges, seed=1, **fractions)
    table = graph.overview(clusters, edges)
    assert table.texts.sum() == 25
    assert table["clusters of 2 or more"].sum() == 2
    assert table[["qa edges", "co_click edges"]].to_numpy().sum() == 2


def test_doubtful_edges_come_weakest_first():
    table = make_texts([("如何还款", "query", 1), ("怎么还款", "query", 1), ("开户", "query", 1)])
    edges = edge_table([(0, 1, "qa", 0.3), (1, 2, "qa", 0.3), (0, 2, "qa", 0.8)])
    shown = graph.doubtful(edges, table, 3)
    assert list(shown["weight"].round(2)) == [0.3, 0.3, 0.8]
    assert set(shown.loc[0, ["text", "other text"]]) == {"怎么还款", "开户"}
    assert np.isclose(shown.overlap[0], 0)


def test_a_low_score_of_the_reranker_is_the_first_doubt():
    table = make_texts([("如何还款", "query", 1), ("怎么还款", "query", 1), ("开户", "query", 1)])
    edges = edge_table([(0, 1, "qa", 0.3), (1, 2, "qa", 0.8)])
    scores = edges[["a_id", "b_id"]].assign(score=[0.9, 0.2] if edges["weight"][0] == 0.3 else [0.2, 0.9])
    shown = graph.doubtful(edges, table, 2, scores)
    assert list(shown["score"]) == [0.2, 0.9]
    assert list(shown["weight"].round(2)) == [0.8, 0.3]
