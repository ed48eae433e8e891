import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from bgetune.errors import InputError
from bgetune.training.groups import (
    Group,
    blocks,
    choose,
    cluster_numbers,
    default_epochs,
    read_groups,
    summary,
    with_implied,
    without_contradictions,
)


def write(tmp_path, *lines):
    file = tmp_path / "train.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return file


def test_reads_the_flagembedding_format(tmp_path):
    row = {
        "query": "q",
        "pos": ["p"],
        "neg": ["n"],
        "pos_scores": [1.0],
        "neg_scores": [0.1],
        "prompt": "为",
        "source": "qa",
    }
    groups = read_groups(write(tmp_path, row, "", {"query": "a", "pos": ["b", "c"], "neg": []}))
    assert groups == [Group("q", ("p",), ("n",), "为", "qa"), Group("a", ("b", "c"))]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a group is an object"),
        ({"pos": ["p"], "neg": []}, "line 2: query must be a text"),
        ({"query": "q", "pos": "p", "neg": []}, "line 2: pos must be a list"),
        ({"query": "q", "pos": [], "neg": []}, "line 2: a group needs a query and at least one positive"),
        ({"query": "q", "pos": ["p"], "neg": [" "]}, "no text may be empty"),
    ],
)
def test_names_the_line_that_is_no_group(tmp_path, line, told):
    with pytest.raises(InputError, match=told):
        read_groups(write(tmp_path, {"query": "q", "pos": ["p"], "neg": []}, line))


def test_no_group_at_all(tmp_path):
    with pytest.raises(InputError, match="holds no training group"):
        read_groups(write(tmp_path, ""))


def test_texts_without_a_cluster_are_their_own(world):
    texts, clusters, _ = world
    known = texts["text"][0]
    numbers = cluster_numbers([Group(known, (texts["text"][1],), ("unknown 1", "unknown 2"))], texts, clusters)
    assert numbers[known] == numbers[texts["text"][1]]
    assert len({numbers[known], numbers["unknown 1"], numbers["unknown 2"]}) == 3


def test_contradictions_are_left_out_and_counted():
    cluster_of = {"q": 0, "p": 0, "own": 0, "far": 1, "alone": 2}
    groups = [
        Group("q", ("p", "q", "p"), ("far", "own", "p", "far"), source="qa"),
        Group("alone", ("alone",), source="qa"),
    ]
    kept, dropped = without_contradictions(groups, cluster_of)
    assert kept == [Group("q", ("p",), ("far",), source="qa")]
    assert dict(zip(dropped["reason"], dropped["rows"], strict=True)) == {
        "group without a positive": 1,
        "negative of the query's own cluster": 2,
        "positive is the query itself": 2,
    }


def test_blocks_join_groups_by_query_and_by_positive():
    cluster_of = {"a": 0, "a2": 0, "b": 1, "c": 2, "d": 3, "e": 4, "n": 5}
    groups = [
        Group("a", ("b",)),  # joins clusters 0 and 1
        Group("a2", ("a",)),
        Group("c", ("b",)),  # joins 2 to them, though the queries differ
        Group("d", ("e",), ("n",)),
        Group("e", ("d",), ("a",)),  # a negative joins nothing
    ]
    found = blocks(groups, cluster_of)
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] != found[0]
    assert set(found) == {0, 1}


@given(count=st.integers(1, 12), epochs=st.integers(1, 6), seed=st.integers(0, 3))
def test_every_positive_is_used_once_all_epochs_are_over(count, epochs, seed):
    group = Group("q", tuple(f"p{i}" for i in range(count)))
    turns = [choose(group, epoch=e, epochs=epochs, seed=(seed, 0))[0] for e in range(epochs)]
    assert set().union(*turns) == set(group.positives)
    assert all(len(set(turn)) == len(turn) == -(-count // epochs) for turn in turns)


def test_choice_is_bounded_repeatable_and_without_repetition():
    group = Group("q", tuple("abcde"), tuple("uvwxyz"))
    options = {"epochs": 2, "positives": 1, "negatives": 3}
    first, second = (choose(group, epoch=e, seed=(1, 7), **options) for e in (0, 1))
    assert first == choose(group, epoch=0, seed=(1, 7), **options)
    assert len(first[0]) == 1
    assert first[0] != second[0]
    assert len(set(first[1])) == 3
    assert first[1] != second[1]
    assert choose(group, epoch=0, epochs=1, seed=(1, 7), negatives=0)[1] == []
    assert choose(group, epoch=0, epochs=1, seed=(1, 7))[1] == list("uvwxyz")
    draws = {tuple(choose(group, epoch=0, seed=(s, 7), **options)[1]) for s in range(20)}
    assert len(draws) > 5


def test_summary_counts_by_source():
    table = summary([Group("q", ("a", "b"), ("n",), "x", "qa", implied=("i",)), Group("r", ("c",), (), "", "given")])
    assert table.loc["all"].tolist() == [2, 3, 1, 1, 1, 1]
    assert table.loc["qa", ["positives", "with_instruction"]].tolist() == [2, 1]
    assert isinstance(table, pd.DataFrame)
    assert np.issubdtype(table["groups"].dtype, np.integer)


def test_small_sets_get_more_epochs_where_dev_chooses():
    given = [(n, default_epochs(n, evaluates=True)) for n in (1, 500, 1200, 1500, 2000, 3999, 4000, 90_000)]
    assert given == [(1, 10), (500, 10), (1200, 10), (1500, 8), (2000, 6), (3999, 4), (4000, 3), (90_000, 3)]
    assert default_epochs(1, evaluates=False) == 3


def test_implied_positives_are_of_a_kind_that_the_positives_have_and_one_joins_a_batch():
    texts = pd.DataFrame(
        [("1", "q", "query"), ("2", "p", "query"), ("3", "same", "query"), ("4", "page", "document")],
        columns=["text_id", "text", "kind"],
    )
    same = {"1": ["2", "3", "4"]}
    (group,) = with_implied([Group("q", ("p",))], same, texts)
    assert group.implied == ("same",)
    (other,) = with_implied([Group("q", ("page",))], {"1": ["2", "3", "4"]}, texts)
    assert other.implied == ()
    assert choose(group, epoch=0, epochs=1, seed=(0, 0))[0] == ["p", "same"]
    assert choose(group, epoch=0, epochs=1, seed=(0, 0), positives=1)[0] == ["p"]
    several = Group("q", ("p",), implied=("a", "b", "c"))
    turns = [choose(several, epoch=epoch, epochs=3, seed=(0, 0))[0] for epoch in range(3)]
    assert [turn[0] for turn in turns] == ["p"] * 3
    assert {turn[1] for turn in turns} == set("abc")


def test_implied_positives_belong_to_a_cluster():
    group = Group("q", ("p",), implied=("same",))
    texts = pd.DataFrame({"text_id": ["1", "2", "3"], "text": ["q", "p", "same"]})
    clusters = pd.DataFrame({"text_id": ["1", "2", "3"], "cluster_id": ["1"] * 3})
    assert set(cluster_numbers([group], texts, clusters).values()) == {0}
