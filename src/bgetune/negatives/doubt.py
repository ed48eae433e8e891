"""Which candidates may be missed positives, for people to judge."""

from __future__ import annotations

import pandas as pd

from bgetune.negatives.rules import Rules

WITHOUT_VETO = 0.5
"""Reranker score from which on a candidate is doubtful where the rules have no `veto_score`."""


def most_doubtful(candidates: pd.DataFrame, rules: Rules, typical: float) -> pd.DataFrame:
    """The candidates that may be missed positives, the most probable first.

    With a reranker, those that it scores high; without one, those that a rule found too much like a positive.

    Args:
        candidates: the columns of `Mined.candidates` and anchor (text number of the query).
        typical: whitened similarity of a typical positive.

    Returns:
        Rows of `candidates`.
    """
    rows = candidates[candidates["label"].isna()]
    if rows["reranker"].notna().any():
        rows = rows[
            ~rows["rule"].isin(["known_positive", "same_cluster"])
            & (rows["reranker"] >= (WITHOUT_VETO if rules.veto_score is None else rules.veto_score))
        ]
        keys = ["reranker", "similarity"]
    else:
        near = rows["taken"] & (rows["whitened"] > typical)
        rows = rows[near | rows["rule"].isin(["margin", "unknown_positive", "above_window"])]
        keys = ["risk", "whitened"]
    return rows.sort_values([*keys, "anchor", "candidate"], ascending=[False, False, True, True])
