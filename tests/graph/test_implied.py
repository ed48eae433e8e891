import pandas as pd

from bgetune.graph import implied


def edges(*rows):
    return pd.DataFrame([(*sorted(pair), weight) for *pair, weight in rows], columns=["a_id", "b_id", "weight"])


def clusters(*members):
    rows = [(text, names[0]) for names in members for text in names]
    return pd.DataFrame(rows, columns=["text_id", "cluster_id"])


def found(cores):
    return sorted(cores.groupby("core")["text_id"].agg("".join))


def test_a_chain_of_certain_pairs_is_a_core_and_weak_pairs_are_none():
    table = implied.cores(
        edges(("a", "b", 1.0), ("b", "c", 1.0), ("c", "d", 0.96), ("d", "e", 0.9), ("x", "y", 0.8)),
        clusters("abcde", "xy"),
        min_weight=0.95,
    )
    assert found(table) == ["abcd"]
    assert table.dtypes.astype(str).to_dict()["core"] == "int64"


def test_paths_that_agree_add_up():
    # one path of two edges: .81; two of them: 1 - (1 - .81)^2 = .9639
    one = edges(("a", "x", 0.9), ("x", "b", 0.9))
    two = edges(("a", "x", 0.9), ("x", "b", 0.9), ("a", "y", 0.9), ("y", "b", 0.9))
    whole = clusters("abxy")
    assert found(implied.cores(one, whole, min_weight=0.95)) == []
    assert found(implied.cores(two, whole, min_weight=0.95)) == ["ab", "xy"]
    assert found(implied.cores(two, whole, min_weight=0.97)) == []


def test_edges_between_clusters_join_nothing_and_none_means_no_cores():
    certain = edges(("a", "b", 1.0), ("b", "c", 1.0), ("c", "d", 1.0))
    assert found(implied.cores(certain, clusters("ab", "cd"), min_weight=0.95)) == ["ab", "cd"]
    assert implied.cores(certain, clusters("abcd"), min_weight=None).empty
    assert implied.cores(certain.head(0), clusters("abcd"), min_weight=0.95).empty


def test_the_weight_of_a_pair_is_that_of_its_best_source():
    twice = pd.concat([edges(("a", "b", 0.5)), edges(("a", "b", 1.0))])
    assert found(implied.cores(twice, clusters("ab"), min_weight=0.95)) == ["ab"]


def test_few_paths_at_a_time_find_the_same(monkeypatch):
    names = [chr(ord("a") + i) for i in range(12)]
    some = edges(*((x, y, 0.7) for i, x in enumerate(names) for y in names[i + 1 :] if (i + ord(y)) % 3))
    whole = implied.cores(some, clusters(names), min_weight=0.9)
    assert len(whole)
    monkeypatch.setattr(implied, "PATHS_AT_ONCE", 7)
    pd.testing.assert_frame_equal(implied.cores(some, clusters(names), min_weight=0.9), whole)


def test_same_as_draws_from_the_core():
    table = pd.DataFrame({"text_id": list("abcdefxy"), "core": [0] * 6 + [1] * 2})
    same = implied.same_as(table, most=3, seed=1)
    assert set(same) == set("abcdefxy")
    assert (same["x"], same["y"]) == (["y"], ["x"])
    for text in "abcdef":
        assert len(same[text]) == len(set(same[text])) == 3
        assert set(same[text]) <= set("abcdef") - {text}
    assert same == implied.same_as(table, most=3, seed=1)
    assert same != implied.same_as(table, most=3, seed=2)
