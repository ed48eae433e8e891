"""What numbers are worth that were measured on few pairs, or on pairs of no person: what is said of them wherever they
are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bgetune.locale import N_, _
from bgetune.metrics.statistics import FEWEST_CLUSTERS, fewest_pairs

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

REMEDY = N_(
    "give more data, a larger dev_fraction and test_fraction (01_positives), or labelled pairs for judging alone "
    "(sources: pairs with label_column and use: heldout)"
)
"""What makes more pairs of dev and test."""

DOUBTS = {
    "few": N_(
        "Too few pairs to calibrate: dev holds {positives} positive and {negatives} negative pairs from {clusters} "
        "clusters of meaning; {fewest} of each from {fewest} clusters are needed. Scores are plain cosines, not "
        "probabilities, and there is no threshold. Remedy: {remedy}, about {labels} of them."
    ),
    "falling": N_(
        "The model tells nothing of these labels: in dev ({positives} positive and {negatives} negative pairs) the "
        "positives are not more similar than the negatives. Scores are plain cosines, not probabilities, and there "
        "is no threshold. Check that the labels are not swapped (1 = same meaning), then {remedy}."
    ),
}
"""Why dev cannot carry a calibration and thresholds -> what to say."""

NOTES = {
    "few": N_("too few pairs or clusters in dev to trust a threshold"),
    "falling": N_("in dev the positives are not more similar than the negatives"),
}
"""The same in a few words, as tables hold it."""

Doubt = Literal["few", "falling"]

MADE = {"generated": N_("pairs that a language model wrote"), "documents": N_("parts of one document each")}
"""Origin of the pairs (see `bgetune.graph.outlook.judged_by`) -> what they are, where no person made them."""

CAUTION = {
    "generated": N_(
        "A language model wrote these pairs and nobody checked them: the intervals cover chance, not its errors, nor "
        "how far its queries are from those of your users."
    ),
    "documents": N_(
        "These pairs are parts of one document each: a weak measure, which says little about the queries of your users."
    ),
}
"""Origin of the pairs -> what they cannot show."""

USE = {
    "generated": N_(
        "Start with these thresholds; about {labels} pairs labelled by people, half of them for dev and half for test "
        "(sources: pairs), replace them."
    ),
    "documents": N_(
        "Trust which model is better more than any threshold; about {labels} pairs labelled by people, half of them "
        "for dev and half for test (sources: pairs), replace them."
    ),
}
"""Origin of the pairs -> what to do with the thresholds that they gave."""


def mark(origin: str | None) -> str:
    """What the pairs are, in a few words to stand beside numbers; empty for pairs of logs and people."""
    return _(MADE[origin]) if origin in MADE else ""


def doubt(similarities: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None) -> Doubt | None:
    """Why a calibration and thresholds cannot be fitted to pairs; None where they can.

    A logistic curve rises where the mean similarity of the positives is above that of the negatives, and only there.

    Args:
        similarities: (n,) cosines.
        labels: (n,) 0 or 1.
        clusters: (n,) the cluster of each pair; None: every pair by itself.
    """
    similarities, positive = np.asarray(similarities, dtype=np.float64), np.asarray(labels) == 1
    groups = np.arange(len(positive)) if clusters is None else np.asarray(clusters)
    by_label = (positive, ~positive)
    few = len(np.unique(groups)) < FEWEST_CLUSTERS or min(rows.sum() for rows in by_label) < FEWEST_CLUSTERS
    # cross-validation needs two folds, and each a cluster of either label
    if few or min(len(np.unique(groups[rows])) for rows in by_label) < 2:
        return "few"
    return None if similarities[positive].mean() > similarities[~positive].mean() else "falling"


def caution(pairs: Mapping[str, Any]) -> str:
    """What to think of numbers, and what would make better ones; empty where enough pairs of logs or people judge.

    Args:
        pairs: with ``pairs`` (their origin) and ``human_labels``; with ``doubt`` and ``balance`` where there is one.
    """
    why, origin, dev = pairs.get("doubt"), pairs.get("pairs"), {}
    said = [CAUTION[origin], USE[origin]] if origin in CAUTION else []
    if why:
        said = [DOUBTS[why], *said[:1]]
        dev = {name: f"{pairs['balance']['dev'][name]:,}" for name in ("positives", "negatives", "clusters")}
    labels = f"{pairs.get('human_labels', 0):,}"
    return " ".join(map(_, said)).format(labels=labels, fewest=FEWEST_CLUSTERS, remedy=_(REMEDY), **dev)


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
