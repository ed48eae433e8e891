"""Whether dev and test hold enough pairs for evaluation; known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from bgetune.locale import N_, _
from bgetune.metrics.statistics import fewest_pairs

FEWEST = 2
"""Minimum number of positive pairs, and of clusters of them, for 05_calibrate to fit and evaluate anything."""
FEW = 50
"""Number of positive pairs of test below which only large differences are significant."""
JUDGED = ("dev", "test")
REMEDY = N_(
    "give more data, a larger dev_fraction and test_fraction (01_positives), or labelled pairs for judging alone "
    "(sources: pairs with label_column and use: heldout)"
)


@dataclass(frozen=True)
class Outlook:
    """What later notebooks can evaluate.

    Attributes:
        enough: whether 05_calibrate can evaluate a model.
        sentence: the result, and what data to add.
        table: index split (dev, test); clusters (of two texts or more), positive pairs, labelled same, labelled
            different.
    """

    enough: bool
    sentence: str
    table: pd.DataFrame


def count_pairs(
    edges: pd.DataFrame,
    clusters: pd.DataFrame,
    graded: pd.DataFrame,
    *,
    heldout_per_cluster: int,
    min_labelled: int,
    precisions: Iterable[float],
    confidence: float,
) -> Outlook:
    """Compare the pairs of dev and test with what 05_calibrate needs.

    05_calibrate evaluates on labelled pairs if dev and test have `min_labelled` of each label; otherwise on positives
    of the graph and on the hard negatives that 03_hard_negatives finds for them.

    Args:
        edges: a_id, b_id and further columns, within clusters.
        clusters: text_id, cluster_id, split.
        graded: a_id, b_id, label, split.
        heldout_per_cluster: parameter of 03_hard_negatives: maximum number of positive pairs of a cluster.
        min_labelled, precisions, confidence: parameters of 05_calibrate.
    """
    table = _count(edges, clusters, graded, heldout_per_cluster)
    people = table[["labelled same", "labelled different"]]
    labelled = bool((people >= min_labelled).all(axis=None))
    if not labelled and (table[["clusters", "positive pairs"]] < FEWEST).any(axis=None):
        part = _("{split} holds {pairs} positive pairs of {clusters} clusters")
        held = _("; ").join(
            part.format(split=split, pairs=row["positive pairs"], clusters=row["clusters"])
            for split, row in table.iterrows()
        )
        sentence = _(
            "Too few to judge a model: {held}. Each needs at least {fewest} pairs of {fewest} clusters, or {labelled} "
            "labelled pairs of either label: {remedy}."
        )
        sentence = sentence.format(held=held, fewest=FEWEST, labelled=min_labelled, remedy=_(REMEDY))
        return Outlook(False, sentence, table)
    positives = people.iloc[:, 0] if labelled else table["positive pairs"]
    dev, test = (int(positives[split]) for split in JUDGED)
    judging = _("Models will be judged on {test:,} held-out positive pairs of test and calibrated on {dev:,} of dev.")
    if labelled:
        judging = _(
            "Models will be judged on {test:,} labelled positive pairs of test and calibrated on {dev:,} of dev."
        )
    sentences = [judging.format(test=test, dev=dev)]
    needed = {precision: fewest_pairs(precision, confidence) for precision in sorted(precisions)}
    if short := {precision: count for precision, count in needed.items() if count > dev}:
        part = _("{precision:.0%} needs {count:,}")
        promises = ", ".join(part.format(precision=precision, count=count) for precision, count in short.items())
        few = _("Too few in dev to promise a precision: {promises} at least; {remedy}.")
        sentences.append(few.format(promises=promises, remedy=_(REMEDY)))
    if test < FEW:
        few = _("With fewer than {few} in test only large differences are more than chance; {remedy}.")
        sentences.append(few.format(few=FEW, remedy=_(REMEDY)))
    return Outlook(True, " ".join(sentences), table)


def _count(edges: pd.DataFrame, clusters: pd.DataFrame, graded: pd.DataFrame, most: int) -> pd.DataFrame:
    """The table of `Outlook`; of each cluster at most `most` positive pairs count."""
    by_text = clusters.set_index("text_id")
    pairs = (
        edges[["a_id", "b_id"]].drop_duplicates().assign(cluster=lambda rows: rows["a_id"].map(by_text["cluster_id"]))
    )
    pairs["split"] = pairs["a_id"].map(by_text["split"])
    sizes = pairs.groupby(["split", "cluster"]).size().clip(upper=most).groupby("split").agg(["size", "sum"])
    same = graded.groupby("split")["label"].agg(["sum", "size"])
    same["different"] = same["size"] - same["sum"]
    table = pd.concat([sizes, same[["sum", "different"]]], axis=1).reindex(JUDGED).fillna(0).astype("int64")
    return table.set_axis(["clusters", "positive pairs", "labelled same", "labelled different"], axis=1)
