"""Measures against the truth, on a world small enough to count by hand."""

import math

import pandas as pd
import pytest

from bgetune_demo import truth

KNOWN = pd.DataFrame(
    [
        *((text, text[0], "s") for text in ("a1", "a2", "a3", "b1", "b2")),
        *((text, "", "") for text in ("junk", "url")),
    ],
    columns=["text", "meaning", "service"],
)


def pairs(*rows, columns=("a", "b")):
    return pd.DataFrame(rows, columns=list(columns))


def test_precision_and_recall_count_unordered_pairs_of_known_texts_once():
    twice = [("a1", "a2"), ("a2", "a1"), ("Ａ1 ", "a2")]
    found = pairs(*twice, ("a1", "a1"), ("a1", "b1"), ("junk", "url"), ("a1", "new"))
    quality = truth.pair_quality(found, KNOWN)
    assert (quality.pairs, quality.correct, quality.possible, quality.unknown) == (3, 1, 4, 1)
    assert quality.precision == pytest.approx(1 / 3)
    assert quality.recall == pytest.approx(1 / 4)


def test_recall_can_be_asked_among_some_texts():
    quality = truth.pair_quality(pairs(("a1", "a2")), KNOWN, among=pd.Series(["a1", "a2", "b1", "b1"]))
    assert quality.possible == 1
    assert quality.recall == 1


def test_nothing_found_has_no_precision():
    assert math.isnan(truth.pair_quality(pairs(), KNOWN).precision)


def test_false_negatives_and_near_misses_among_supposed_negatives():
    negatives = pairs(
        ("a1", "a2"), ("a1", "b1"), ("b2", "a3"), ("a1", "junk"), ("junk", "url"), ("a1", "new"),
        columns=("query", "negative"),
    )  # fmt: skip
    assert truth.false_negative_share(negatives, KNOWN) == pytest.approx(1 / 5)
    close = pd.DataFrame({"meaning_a": ["b"], "meaning_b": ["a"]})
    assert truth.near_miss_share(negatives, KNOWN, close) == pytest.approx(2 / 5)


def test_personal_data_is_masked_before_texts_are_compared():
    known = pd.DataFrame([("怎么改手机13800000012", "a", "s")], columns=["text", "meaning", "service"])
    assert list(truth.meanings(pd.Series(["怎么改手机<电话>", "怎么改手机１３８０００００012"]), known)) == ["a", "a"]
