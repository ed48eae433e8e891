"""Labelled and graded pairs: usable rows, contradictions, splits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bgetune.config.sources import GradedSource, GroupSource, PairSource, QrelsSource, TripletSource
from bgetune.data import sources
from bgetune.data.draw import draw
from bgetune.data.drops import dropped_rows
from bgetune.data.tables import SOURCES
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.locale.words import said
from bgetune.positives.rows import EDGES, Columns, dropped_row, with_columns

LabelledSource = PairSource | GradedSource | GroupSource | TripletSource | QrelsSource

GRADED: Columns = {"a_id": str, "b_id": str, "grade": "float64", "origin": str, "use": str}
LABELLED: Columns = {**GRADED, "edge": str, "judged": bool, "name": str, "shown": str}


def usable_pairs(
    a: pd.DataFrame, b: pd.DataFrame, label: pd.Series, source: LabelledSource, kind: str, positive_grade: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The usable pairs of one source, and the rows dropped.

    Args:
        a, b: text_id, text of both sides (see `rows.normalise`).
        label: a grade for graded pairs, else 0 or 1.
        kind: name of the source's list in the parameter `sources`: qa, pairs, graded, groups, triplets or qrels.
        positive_grade: grade (0 to 1) from which on a graded pair is positive.

    Returns:
        A table of the columns `LABELLED` (edge is the source of the edge that the pair makes, "" for none; judged says
        whether it is a label to train and evaluate on; name is the source's name), and the table `dropped`.

    Raises:
        InputError: if no pair is usable.
    """
    unknown_grades: list[float] = []
    if isinstance(source, GradedSource):
        unknown_grades = source.unknown_grades
        low, high = _grade_range(label, source)
        grade, outside = (label - low) / (high - low), (label < low) | (label > high)
        why = f"grade outside {low:g} to {high:g}"
        positive = grade >= positive_grade
    else:
        grade, outside, why = label, ~label.isin([0, 1]), "label is neither 0 nor 1"
        positive = grade == 1
    reasons = {
        "grade unknown": label.isin(unknown_grades),
        why: outside,
        "no text": (a["text"] == "") | (b["text"] == ""),
        "both texts are the same": a["text_id"] == b["text_id"],
    }
    usable = pd.Series(True, a.index)
    drops = []
    shown = a["text"] + " | " + b["text"]
    for reason, bad in reasons.items():
        drops.append(dropped_row(source, reason, shown[usable & bad]))
        usable &= ~bad
    has_labels = isinstance(source, PairSource) and source.label_column is not None
    edge = "given" if kind in ("pairs", "graded") else "qa"
    table = pd.DataFrame(
        {
            "a_id": a["text_id"],
            "b_id": b["text_id"],
            "grade": grade.astype(float),
            "origin": "graded" if kind == "graded" else "pairs",
            "use": source.use,
            "edge": np.where(positive, edge, ""),
            "judged": kind != "qa" or source.use == "heldout" or has_labels,
            "name": sources.label(source),
            "shown": shown,
        }
    )[usable]
    if table.empty:
        counts = "; ".join(
            _("{reason}: {rows} rows").format(reason=said(row.reason), rows=row.rows)
            for row in pd.concat(drops).itertuples()
        )
        raise InputError(
            _("{source}: no pair can be used ({counts}); correct the file, or the columns").format(
                source=sources.label(source), counts=counts
            )
        )
    return table, pd.concat(drops)


def _grade_range(label: pd.Series, source: GradedSource) -> tuple[float, float]:
    """The lowest and the highest grade, given by the source or found in the labels."""
    known = label[~label.isin(source.unknown_grades)]
    low, high = source.grade_range or (known.min(), known.max())
    if source.grade_range is None:
        _warn_of_odd_grades(known, source)
    if not low < high:
        raise InputError(
            _(
                "{source}: column {column} only holds the grade {grade:g}; give grade_range, the lowest and "
                "highest grade there could be"
            ).format(source=sources.label(source), column=source.label_column, grade=low)
        )
    return float(low), float(high)


def _warn_of_odd_grades(grades: pd.Series, source: GradedSource) -> None:
    """Warn if the highest or the lowest grade is so far from the others that it may stand for "not labelled"."""
    values = sorted(grades.unique())
    if len(values) < 3:
        return
    odd = [values[-1]] if values[-1] - values[-2] > 2 * (values[-2] - values[0]) else []
    odd += [values[0]] if values[0] < 0 <= values[1] else []
    for value in odd:
        warnings.warn(
            _(
                "{source}: {column} {value:g} is far from the other grades ({low:g} to {high:g}); if it means "
                "that nobody judged, set unknown_grades: [{value:g}], else grade_range"
            ).format(
                source=sources.label(source), column=source.label_column, value=value, low=values[0], high=values[-1]
            ),
            stacklevel=2,
        )


def without_hubs(
    pairs: pd.DataFrame, b: pd.DataFrame, source: LabelledSource, cap: int | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs without those that call a text the answer to more than `cap` distinct questions, and the rows dropped.

    Pairs that say no stay, and do not count: in training files, a few texts are the negatives of all questions.

    Args:
        b: text_id, text of the answers.
        cap: None keeps all pairs.
    """
    if cap is None:
        return pairs, dropped_row(source, "", pd.Series(dtype=str))
    positive = pairs["edge"] != ""
    asked = pairs["a_id"].where(positive).groupby(pairs["b_id"]).transform("nunique")
    hub = positive & (asked > cap)
    return pairs[~hub], dropped_row(source, f"an answer to more than {cap} questions", b["text"][pairs.index][hub])


def resolve_conflicts(
    labelled: pd.DataFrame, positive_grade: float
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Merge the rows of each pair.

    Of labels 0 and 1 the majority counts; a pair with as many of both is dropped. Of grades the mean counts. A label
    overrides a grade. A pair is held out if one of its sources is; else it is for training only if one of its sources
    is.

    Args:
        labelled: the columns `LABELLED`, of all sources.

    Returns:
        The pairs to train and evaluate on (columns `GRADED`), the edges (columns `EDGES`), the pairs called different
        (a_id < b_id), and the table `dropped`.
    """
    a, b = labelled["a_id"], labelled["b_id"]
    labelled = labelled.assign(
        low=a.where(a < b, b),
        high=b.where(a < b, a),
        positive=labelled["edge"] != "",
        rank=labelled["use"].map({"heldout": 0, "train": 1, "all": 2}),
    )
    pairs = labelled.groupby(["low", "high", "origin"], sort=False, as_index=False).agg(
        a_id=("a_id", "first"),
        b_id=("b_id", "first"),
        grade=("grade", "mean"),
        rows=("grade", "size"),
        judged=("judged", "max"),
        rank=("rank", "min"),
        name=("name", "first"),
        shown=("shown", "first"),
    )
    label = pairs["origin"] == "pairs"
    tie = label & (pairs["grade"] == 0.5)
    outvoted = (
        (np.minimum(pairs["grade"], 1 - pairs["grade"]) * pairs["rows"]).round().where(label & ~tie, 0).astype(int)
    )
    drops = [
        *_drop_counts("labelled 0 and 1 equally often", pairs[tie], pairs["rows"][tie]),
        *_drop_counts("label contradicts the majority", pairs[outvoted > 0], outvoted[outvoted > 0]),
    ]
    pairs["grade"] = pairs["grade"].where(~label, pairs["grade"].round())
    pairs["use"] = pairs["rank"].map({0: "heldout", 1: "train", 2: "all"})
    order = pairs[~tie].sort_values("origin", ascending=False, kind="stable")  # pairs before graded
    pairs = order.drop_duplicates(["low", "high"]).sort_index()

    seen = pairs[pairs["use"] != "heldout"]
    different = seen[seen["grade"] == 0].drop(columns=["a_id", "b_id"]).rename(columns={"low": "a_id", "high": "b_id"})
    positive = seen[seen["grade"] >= positive_grade]
    edges = labelled[labelled["positive"]].merge(positive[["low", "high"]], on=["low", "high"])
    edges = edges.groupby(["low", "high", "edge"], as_index=False).agg(
        support=("grade", "size"), grade=("grade", "mean")
    )
    edges = edges.assign(weight=edges["edge"].map(SOURCES).astype(float) * edges["grade"])
    edges = edges.rename(columns={"low": "a_id", "high": "b_id", "edge": "source"})
    return (
        with_columns(pairs[pairs["judged"]], GRADED),
        with_columns(edges, EDGES),
        with_columns(different, {"a_id": str, "b_id": str}),
        dropped_rows(drops),
    )


def _drop_counts(reason: str, pairs: pd.DataFrame, rows: pd.Series) -> Iterator[tuple[str, str, int, str]]:
    """(source, reason, rows, example) of the dropped pairs, one for each source; `rows` counts the rows of a pair."""
    for name, group in pairs.groupby("name", sort=False):
        yield name, reason, rows[group.index].sum(), group["shown"].iloc[0]


def assign_graded_splits(
    graded: pd.DataFrame, clusters: pd.DataFrame, *, positive_grade: float = 0.75, dev_fraction: float = 0.5
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Assign labelled pairs to train, dev and test, by the clusters of their texts.

    A pair of a `heldout` source goes to dev or test: the split of its first text's cluster if that is dev or test, else
    by a hash of its first text, which further data do not change. It is dropped if one of its texts is trained on. A
    pair of a `train` source goes to train, and is dropped if one of its texts is held out. Any other pair goes to test
    if one of its texts is test, else to dev if one is dev, else to train.

    Args:
        graded: a_id, b_id, grade, origin, use (see `Collected`). Merging near-duplicate texts may have made two rows
            one pair: it is kept once, and dropped if the grades differ by 0.5 or more.
        clusters: text_id, cluster_id, split. Texts without a cluster count as not trained on.
        positive_grade: grade from which on a pair is positive (`label` 1).
        dev_fraction: share of dev among the pairs that the hash assigns.

    Returns:
        The table `graded` of `tables` (a_id, b_id, grade, label, origin, split), and the dropped pairs, with the column
        reason.
    """
    home = clusters.set_index("text_id")["split"]
    a, b = graded["a_id"].map(home), graded["b_id"].map(home)
    heldout, train = graded["use"] == "heldout", graded["use"] == "train"
    drawn = pd.Series(
        np.where([draw("split", key) < dev_fraction for key in graded["a_id"]], "dev", "test"), graded.index, dtype=str
    )
    by_text = pd.Series(
        np.select([(a == "test") | (b == "test"), (a == "dev") | (b == "dev")], ["test", "dev"], "train"), graded.index
    )
    split = by_text.mask(heldout, a.where(a.isin(["dev", "test"]), drawn))
    reason = pd.Series("", graded.index, dtype=str)
    key = [frozenset(pair) for pair in zip(graded["a_id"], graded["b_id"], strict=True)]
    grades = graded["grade"].groupby(key)
    reason[graded.assign(key=key).duplicated("key")] = "the same pair once more"
    reason[grades.transform("max") - grades.transform("min") >= 0.5] = "the same pair with another grade"
    reason[heldout & ((a == "train") | (b == "train"))] = "a held-out pair with a text that is trained on"
    reason[train & (split != "train")] = "a pair for training with a text that is held out"
    label = (graded["grade"] >= positive_grade).astype("int64")
    kept = graded.assign(label=label, split=split.astype(str))[reason == ""]
    columns = ["a_id", "b_id", "grade", "label", "origin", "split"]
    return kept[columns].reset_index(drop=True), graded.assign(reason=reason)[reason != ""].reset_index(drop=True)
