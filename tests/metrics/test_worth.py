"""What is said of numbers from pairs that no person made."""

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
