"""Whether dev and test can be judged at all: known as soon as the graph is split, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bgetune.config.profile import load_profile, resolve
from bgetune.locale import N_, _
from bgetune.metrics.statistics import fewest_pairs

FEWEST = 2
"""Positive pairs, and clusters of them, below which 05_calibrate has nothing to fit or to judge."""
FEW = 50
"""Positive pairs of test below which only large differences are more than chance."""
JUDGED = ("dev", "test")
REMEDY = N_(
    "give more data, a larger dev_fraction and test_fraction (01_positives), or labelled pairs for judging alone "
    "(sources: pairs with label_column and use: heldout)"
)


@dataclass(frozen=True)
class Outlook:
    """What later notebooks will be able to say.

    Attributes:
        enough: whether 05_calibrate can judge at all.
        sentence: the outcome, and what to add where that would help.
        table: by split: clusters (of two texts or more), positive pairs, labelled same, labelled different.
    """

    enough: bool
    sentence: str
    table: pd.DataFrame


def look(edges: pd.DataFrame, clusters: pd.DataFrame, graded: pd.DataFrame, profile: str | Path) -> Outlook:
    """Count what dev and test hold against what 05_calibrate needs.

    Pairs that people labelled are judged where dev and test have `min_labelled` of either label; else positives of the
    graph and as many hard negatives as 03_hard_negatives finds for them.

    Args:
        edges: a_id, b_id, ... inside clusters.
        clusters: text_id, cluster_id, split.
        graded: a_id, b_id, label, split.
        profile: a file; its sections 03_hard_negatives and 05_calibrate say what is judged, and what is promised.
    """
    loaded = load_profile(profile)
    most = resolve("03_hard_negatives", loaded)[0].heldout_per_cluster
    judge = resolve("05_calibrate", loaded)[0]
    table = _count(edges, clusters, graded, most)
    people = table[["labelled same", "labelled different"]]
    labelled = bool((people >= judge.min_labelled).all(axis=None))
    if not labelled and (table[["clusters", "positive pairs"]] < FEWEST).any(axis=None):
        part = _("{split} holds {pairs} positive pairs of {clusters} clusters")
        held = "; ".join(
            part.format(split=split, pairs=row["positive pairs"], clusters=row["clusters"])
            for split, row in table.iterrows()
        )
        sentence = _(
            "Too few to judge a model: {held}. Each needs at least {fewest} pairs of {fewest} clusters, or {labelled} "
            "labelled pairs of either label: {remedy}."
        )
        said = {"held": held, "fewest": FEWEST, "labelled": judge.min_labelled, "remedy": _(REMEDY)}
        return Outlook(False, sentence.format(**said), table)
    positives = people.iloc[:, 0] if labelled else table["positive pairs"]
    dev, test = (int(positives[split]) for split in JUDGED)
    judging = _("Models will be judged on {test:,} held-out positive pairs of test and calibrated on {dev:,} of dev.")
    if labelled:
        judging = _(
            "Models will be judged on {test:,} labelled positive pairs of test and calibrated on {dev:,} of dev."
        )
    sentences = [judging.format(test=test, dev=dev)]
    needed = {precision: fewest_pairs(precision, judge.confidence) for precision in sorted(judge.precisions)}
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
    """The table of `Outlook`; at most `most` positive pairs of a cluster count."""
    by_text = clusters.set_index("text_id")
    pairs = edges[["a_id", "b_id"]].drop_duplicates().assign(cluster=lambda rows: rows.a_id.map(by_text.cluster_id))
    pairs["split"] = pairs.a_id.map(by_text.split)
    sizes = pairs.groupby(["split", "cluster"]).size().clip(upper=most).groupby("split").agg(["size", "sum"])
    same = graded.groupby("split").label.agg(["sum", "size"])
    same["different"] = same["size"] - same["sum"]
    table = pd.concat([sizes, same[["sum", "different"]]], axis=1).reindex(JUDGED).fillna(0).astype("int64")
    return table.set_axis(["clusters", "positive pairs", "labelled same", "labelled different"], axis=1)
