"""What is said of numbers from few pairs, and from pairs that no person made."""

import numpy as np
import pytest

from bgetune.metrics import worth


def guarantee(precision, coverage, threshold=0.5):
    return {"precision": precision, "confidence": 0.95, "threshold": threshold, "coverage": coverage}


@pytest.mark.parametrize(
    ("guarantees", "labels"),
    [
        ([], 400),
        ([guarantee(0.9, 0.5)], 400),  # 29 pairs above the threshold: 58 for dev, 58 for test
        ([guarantee(0.95, 0.1)], 1200),  # 59 / 0.1, twice: 1,180
        ([guarantee(0.95, 0.1), guarantee(0.99, 0.1)], 6000),  # 299 / 0.1, twice: 5,980
        ([guarantee(0.95, 0.1), guarantee(0.99, 0.0, threshold=None)], 1200),
    ],
)
def test_labels_that_give_the_same_guarantees(guarantees, labels):
    assert worth.human_labels(guarantees, min_labelled=100) == labels


def test_pairs_of_people_need_no_caution():
    for origin in ("labelled", "held out", None):
        assert worth.mark(origin) == worth.caution({"pairs": origin}) == ""


@pytest.mark.parametrize("origin", worth.MADE)
def test_others_say_what_they_are_and_how_many_labels_replace_them(origin):
    assert worth.mark(origin)
    assert "about 1,200 pairs labelled by people" in worth.caution({"pairs": origin, "human_labels": 1200})


LABELS = np.tile([1, 0], 10)
RISING = 0.5 + 0.3 * LABELS + 0.01 * np.arange(20)


@pytest.mark.parametrize(
    ("similarities", "labels", "clusters", "why"),
    [
        (RISING, LABELS, np.arange(20) // 2, None),
        (RISING, LABELS, None, None),
        (RISING, LABELS, np.arange(20) // 3, "few"),  # seven clusters
        (RISING[:18], LABELS[:18], None, "few"),  # nine of each label
        (RISING, np.ones(20), None, "few"),
        (RISING, LABELS, np.where(LABELS == 0, 0, np.arange(20)), "few"),  # all negatives from one cluster
        (1 - RISING, LABELS, None, "falling"),
        (np.full(20, 0.5), LABELS, None, "falling"),
        (RISING[:0], LABELS[:0], None, "few"),
    ],
)
def test_what_cannot_carry_a_threshold(similarities, labels, clusters, why):
    assert worth.doubt(similarities, labels, clusters) == why


def test_too_few_pairs_are_said_with_their_numbers_and_the_remedy():
    dev = {"positives": 2, "negatives": 3, "clusters": 2}
    pairs = {"pairs": "held out", "balance": {"dev": dev}, "human_labels": 400, "doubt": "few"}
    said = worth.caution(pairs)
    assert "dev holds 2 positive and 3 negative pairs from 2 clusters of meaning; 10 of each from 10 clusters" in said
    assert "dev_fraction and test_fraction (01_positives)" in said
    assert "(sources: pairs with label_column and use: heldout), about 400 of them" in said
    said = worth.caution(pairs | {"pairs": "generated"})
    assert "nobody checked them" in said
    assert "Start with these thresholds" not in said, "there are none"
    assert "labels are not swapped" in worth.caution(pairs | {"doubt": "falling"})
