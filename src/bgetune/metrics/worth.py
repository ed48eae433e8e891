"""What numbers are worth that were measured on pairs of no person: what is said of them wherever they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bgetune.locale import N_, _
from bgetune.metrics.statistics import fewest_pairs

MADE = {"generated": N_("pairs that a language model wrote"), "documents": N_("parts of one document each")}
"""Origin of the pairs (see `bgetune.graph.outlook.judged_by`) -> what they are, where no person made them."""

CAUTION = {
    "generated": N_(
        "A language model wrote these pairs and nobody checked them: the intervals cover chance, not its errors, nor "
        "how far its queries are from those of your users. Start with these thresholds; about {labels} pairs labelled "
        "by people, half of them for dev and half for test (sources: pairs), replace them."
    ),
    "documents": N_(
        "These pairs are parts of one document each: a weak measure, which says little about the queries of your "
        "users. Trust which model is better more than any threshold; about {labels} pairs labelled by people, half of "
        "them for dev and half for test (sources: pairs), replace them."
    ),
}


def mark(origin: str | None) -> str:
    """What the pairs are, in a few words to stand beside numbers; empty for pairs of logs and people."""
    return _(MADE[origin]) if origin in MADE else ""


def caution(pairs: Mapping[str, Any]) -> str:
    """What to think of numbers, and how many labels of people replace the pairs; empty for pairs of logs and people.

    Args:
        pairs: with ``pairs`` (their origin) and ``human_labels``.
    """
    origin = pairs.get("pairs")
    return _(CAUTION[origin]).format(labels=f"{pairs['human_labels']:,}") if origin in CAUTION else ""


def human_labels(guarantees: Iterable[Mapping[str, Any]], *, min_labelled: int) -> int:
    """About how many pairs labelled by people give the same guarantees: dev and test together, two leading digits.

    A precision p is guaranteed at the confidence c by at least log(1 - c) / log(p) pairs above the threshold, if all of
    them are right; so dev takes that many over the share of pairs above it. Test, which checks, takes as many. Never
    fewer than calibration needs to use labels at all: `min_labelled` of either label in both.

    Args:
        guarantees: with ``precision, confidence, threshold, coverage``, as `Thresholds.to_dict` gives them.
        min_labelled: parameter of 05_calibrate.
    """
    dev = [
        fewest_pairs(row["precision"], row["confidence"]) / row["coverage"]
        for row in guarantees
        if row["threshold"] is not None
    ]
    count = max([4 * min_labelled, *(2 * pairs for pairs in dev)])
    step = 10 ** max(int(np.log10(count)) - 1, 0)
    return int(np.ceil(count / step) * step)
