"""Whether dev and test hold enough pairs for evaluation; known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from bgetune.data.tables import OBSERVED
from bgetune.locale import N_, _
from bgetune.metrics.statistics import FEWEST_CLUSTERS, fewest_pairs
from bgetune.metrics.worth import REMEDY

FEWEST = 2
"""Minimum number of positive pairs, and of clusters of them, for 05_calibrate to fit and evaluate anything."""
FEW = 50
"""Number of positive pairs of test below which only large differences are significant."""
JUDGED = ("dev", "test")
EVIDENCE = {"held out": OBSERVED, "generated": ("generated",), "documents": ("same_document",)}
"""What positive pairs of dev and test can come from, the best first -> the sources of their edges."""

COLD = {
    "generated": N_(
        "No log and no person says which texts of dev and test mean the same: models are judged on queries that a "
        "language model writes for their documents (02_backtranslate.generation). All numbers from them are marked."
    ),
    "documents": N_(
        "No log and no person says which texts of dev and test mean the same: models are judged on parts of one "
        "document each, a weak measure. All numbers from them are marked."
    ),
}
"""Said where models are judged without pairs of logs or people."""


def said(judged: str) -> str:
    """What there is to say of the pairs that models are judged on; empty for those of logs and people."""
    return _(COLD[judged]) if judged in COLD else ""


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


def too_few_texts(count: int) -> str:
    """The message for fewer than two texts."""
    return _("sources: {count} usable text(s); positives need at least two. Give more sources").format(count=count)


def no_positives() -> str:
    """The message for data in which nothing says that two texts mean the same, and what to add."""
    return _(
        "sources: no two texts with one meaning were found. Add QA, synonyms or pairs, or a longer click log; for a "
        "small log lower min_support, min_npmi and min_jaccard. For documents alone, let a language model write their "
        "queries (02_backtranslate: generation: base_url and model), or give documents of several sentences or with a "
        "title_column, whose parts become weak positives (document_pairs)"
    )


def enough(edges: pd.DataFrame, clusters: pd.DataFrame, evidence: str = "held out") -> bool:
    """Whether dev and test hold positive pairs of this evidence enough to judge a model on.

    Args:
        evidence: a key of `EVIDENCE`; "held out" is that of logs and people.
    """
    # with fewer clusters, pairs of logs and people tell nothing, and generated pairs judge where there are some
    table = _count(edges[edges["source"].isin(EVIDENCE[evidence])], clusters, None, FEWEST_CLUSTERS)
    least = FEWEST_CLUSTERS if evidence == "held out" else FEWEST
    return bool((table[["clusters", "positive pairs"]] >= least).all(axis=None))


def judged_by(edges: pd.DataFrame, clusters: pd.DataFrame) -> str:
    """What the positive pairs come from that models are judged on: the first of `EVIDENCE` of which there are enough.

    Returns:
        A key of `EVIDENCE`; "held out" where there are enough of none.
    """
    return next((name for name in EVIDENCE if enough(edges, clusters, name)), "held out")


def count_pairs(
    edges: pd.DataFrame,
    clusters: pd.DataFrame,
    graded: pd.DataFrame,
    *,
    heldout_per_cluster: int,
    min_labelled: int,
    precisions: Iterable[float],
    confidence: float,
    generating: bool = False,
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
        generating: whether a language model will write queries for documents of dev and test, too, where they hold no
            pairs of logs or people.
    """
    judged = judged_by(edges, clusters)
    seen = edges[edges["source"].isin(EVIDENCE["documents"]) == (judged == "documents")]
    table = _count(seen, clusters, graded, heldout_per_cluster)
    people = table[["labelled same", "labelled different"]]
    labelled = bool((people >= min_labelled).all(axis=None))
    if not labelled and generating and not enough(edges, clusters):
        return Outlook(True, said("generated"), table)
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
    if not labelled and said(judged):
        sentences.insert(0, said(judged))
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


def _count(edges: pd.DataFrame, clusters: pd.DataFrame, graded: pd.DataFrame | None, most: int) -> pd.DataFrame:
    """The table of `Outlook`; of each cluster at most `most` positive pairs count. `graded` None: none is labelled."""
    by_text = clusters.set_index("text_id")
    pairs = (
        edges[["a_id", "b_id"]].drop_duplicates().assign(cluster=lambda rows: rows["a_id"].map(by_text["cluster_id"]))
    )
    pairs["split"] = pairs["a_id"].map(by_text["split"])
    sizes = pairs.groupby(["split", "cluster"]).size().clip(upper=most).groupby("split").agg(["size", "sum"])
    labels = pd.DataFrame({"split": [], "label": []}) if graded is None else graded
    same = labels.groupby("split")["label"].agg(["sum", "size"])
    same["different"] = same["size"] - same["sum"]
    table = pd.concat([sizes, same[["sum", "different"]]], axis=1).reindex(JUDGED).fillna(0).astype("int64")
    return table.set_axis(["clusters", "positive pairs", "labelled same", "labelled different"], axis=1)
