"""What a reranker is worth: separation by the tuned model, by the reranker before and after tuning, and by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bgetune.metrics.separation import separation
from bgetune.metrics.statistics import bootstrap, interval

MEASURES = ("auc", "average_precision")

ORDERS = {
    "cosine": "after",
    "untuned reranker": "after, untuned reranker",
    "reranker": "after, reranker",
    "both": "after, both",
}
"""Score -> the order of search results by it, in `search.evaluate_orders`."""


def compare(
    scores: Mapping[str, np.ndarray],
    labels: np.ndarray,
    clusters: Sequence,
    ranking: pd.DataFrame,
    times: Mapping[str, Mapping[str, float]],
    *,
    count: int = 500,
    seed: int = 42,
) -> pd.DataFrame:
    """AUC, average precision and MRR of each score on test, and its gain over the cosine of the tuned model.

    Args:
        scores: keys of `ORDERS`, the cosine among them -> (n,) scores of the test pairs.
        labels: (n,) 0 or 1.
        clusters: (n,) what is resampled.
        ranking: `search.evaluate_orders`; an order that it lacks has no MRR.
        times: score -> ``ms a pair`` and ``ms a query``.
        count, seed: of the resamples.

    Returns:
        A row for each score: ``scored by`` (its key), ``mrr, auc, average_precision``, of each measure the gain over
        the cosine and its 95 % interval (``auc_gain, auc_gain_low, auc_gain_high``), ``tuning, tuning_low,
        tuning_high`` (of a tuned reranker: average precision over that of the untuned one; else NaN), ``ms a pair, ms
        a query``. Intervals are measured on the same resamples for all scores.
    """
    whole = {name: separation(values, labels) for name, values in scores.items()}
    drawn = {
        name: bootstrap(partial(separation, values, labels), clusters, count, seed) for name, values in scores.items()
    }

    def gain(measure: str, name: str, base: str) -> dict[str, float]:
        low, high = interval(drawn[name][measure] - drawn[base][measure])
        return {"": float(whole[name][measure][0] - whole[base][measure][0]), "_low": low, "_high": high}

    rows = []
    for name in scores:
        found = ranking.loc[ORDERS[name]] if ORDERS[name] in ranking.index else pd.Series(dtype="float64")
        row: dict[str, Any] = {"scored by": name, "mrr": found.get("mrr", np.nan)}
        row |= {f"mrr_gain{end}": found.get(f"gain{end}", np.nan) for end in ("", "_low", "_high")}
        for measure in MEASURES:
            row[measure] = float(whole[name][measure][0])
            row |= {f"{measure}_gain{end}": value for end, value in gain(measure, name, "cosine").items()}
        row |= dict.fromkeys(("tuning", "tuning_low", "tuning_high"), np.nan)
        if name == "reranker" and "untuned reranker" in scores:
            change = gain("average_precision", name, "untuned reranker")
            row |= {f"tuning{end}": value for end, value in change.items()}
        rows.append(row | dict(times.get(name, {})))
    return pd.DataFrame(rows)
