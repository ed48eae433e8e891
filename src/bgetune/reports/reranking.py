"""Whether a reranker is worth its time: the table, and the conclusion in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bgetune.locale import N_, _
from bgetune.reports import numbers, tables
from bgetune.reports.tables import Table
from bgetune.reports.words import scored_by

MEASURES = {"mrr": "MRR", "average_precision": N_("average precision"), "auc": "AUC"}

Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows) -> Table | None:
    """MRR, average precision and AUC of each score, what it gains over the cosine, and its time.

    Args:
        rows: of `scoring.worth.compare`, None for NaN.
    """
    if not rows:
        return None
    shown, looks = [], []
    among = [row["scored by"] for row in rows]
    for row in rows:
        cells = {N_("scored by"): _(scored_by(row["scored by"], among))}
        look = {}
        for measure, name in MEASURES.items():
            bounds = None if row["scored by"] == "cosine" else _gain(row, measure)
            gain = "" if bounds is None else f" ({numbers.interval(bounds, signs=True)})"
            cells[name] = numbers.number(row[measure]) + gain
            look[name] = "number good" if bounds is not None and bounds[0] > 0 else "number"
        cells[N_("ms a pair")] = numbers.number(row.get("ms a pair"), 1)
        cells[N_("ms a query")] = numbers.number(row.get("ms a query"), 1)
        shown.append(cells)
        looks.append(look)
    by_column = {name: [look[name] for look in looks] for name in MEASURES.values()}
    return tables.table(pd.DataFrame(shown).set_index("scored by"), looks=by_column)


def in_words(rows: Rows) -> str:
    """What tuning the reranker changed, and whether it is worth its time beside the tuned model.

    Args:
        rows: of `scoring.worth.compare`, None for NaN; empty where there is no reranker.
    """
    by_score = {row["scored by"]: row for row in rows}
    if "reranker" not in by_score:
        return _("There is no reranker to compare with.")
    sentences = []
    reranker, cosine = by_score["reranker"], by_score["cosine"]
    if reranker["tuning"] is not None:
        known = {
            "before": numbers.number(by_score["untuned reranker"]["average_precision"]),
            "after": numbers.number(reranker["average_precision"]),
            "bounds": numbers.interval([reranker["tuning_low"], reranker["tuning_high"]], signs=True),
        }
        words = _(
            "Tuning changed the reranker's average precision by no more than chance may: {before} before, {after} "
            "after ({bounds})."
        )
        if reranker["tuning_low"] > 0:
            words = _("Tuning raised the reranker's average precision from {before} to {after} ({bounds}).")
        elif reranker["tuning_high"] < 0:
            words = _(
                "Tuning lowered the reranker's average precision from {before} to {after} ({bounds}): leave "
                "tune_reranker out."
            )
        sentences.append(words.format(**known))
    used = by_score.get("both", reranker)
    gains = []
    for measure in ("mrr", "average_precision"):
        if (bounds := _gain(used, measure)) is not None:
            told = _("{measure} {before} without, {after} with it ({bounds})").format(
                measure=_(MEASURES[measure]),
                before=numbers.number(cosine[measure]),
                after=numbers.number(used[measure]),
                bounds=numbers.interval(bounds, signs=True),
            )
            gains.append((bounds[0] > 0, told))
    found = _("; ").join(told for _proven, told in gains)
    pair, alone = (numbers.number(row.get("ms a pair"), 1) for row in (used, cosine))
    words = _(
        "The reranker is not worth its time here: beside the tuned model it gains no more than chance may ({found}), "
        "and a pair takes {pair} ms with it, {alone} ms without. Leave it out."
    )
    if any(proven for proven, _told in gains):
        words = _(
            "The reranker gains beside the tuned model: {found}. A pair takes {pair} ms with it, {alone} ms without."
        )
    return " ".join([*sentences, words.format(found=found, pair=pair, alone=alone)])


def _gain(row: Mapping[str, Any], measure: str) -> tuple[float, float] | None:
    """The 95 % interval of the gain over the cosine; None where it was not measured."""
    low, high = (row.get(f"{measure}_gain_{end}") for end in ("low", "high"))
    return None if low is None or high is None else (low, high)
