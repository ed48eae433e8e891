"""What tuning changed: recall at a guaranteed precision before and after, and the mistakes that remain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from bgetune.metrics.calibrators import Calibrator
from bgetune.metrics.statistics import bootstrap, interval
from bgetune.scoring.thresholds import PrecisionGuarantee

MISTAKES = 10
"""Mistakes shown of either side."""


def recall_at_guarantees(
    guarantees: Mapping[str, Sequence[PrecisionGuarantee]],
    scores: Mapping[str, np.ndarray],
    labels: np.ndarray,
    clusters: Sequence,
    *,
    count: int = 500,
    seed: int = 42,
) -> pd.DataFrame:
    """Recall on test at each model's own threshold for a guaranteed precision. A model without one finds nothing there.

    Args:
        guarantees: two models, the base first -> what `thresholds.precision_guarantee` gave on dev; the same precisions
            in the same order.
        scores: model -> (n,) cosines of the test pairs.
        labels: (n,) 0 or 1.
        clusters: (n,) what is resampled.

    Returns:
        ``precision`` and, a model each, ``NAME, NAME_low, NAME_high`` (NaN where it has no threshold), then
        ``difference, difference_low, difference_high`` on the same resamples, ``needed``: the least
        number of dev pairs for the second model's guarantee (NaN where it has one, or more pairs would not help), and
        ``needed_recall``: what it would find then.
    """
    positive = np.asarray(labels) == 1
    rows = []
    for asked in zip(*guarantees.values(), strict=True):
        row: dict[str, float] = {"precision": asked[0].precision}
        draws, values = {}, {}
        for name, made in zip(guarantees, asked, strict=True):
            threshold = np.inf if made.threshold is None else made.threshold
            found = positive & (np.asarray(scores[name]) >= threshold)
            draws[name] = bootstrap(partial(_recalls, found, positive), clusters, count, seed)["recall"]
            values[name] = found.sum() / positive.sum()
            shown = [values[name], *interval(draws[name])] if made.threshold is not None else [np.nan] * 3
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), shown, strict=True))
        first, second = guarantees
        row["difference"] = values[second] - values[first]
        row["difference_low"], row["difference_high"] = interval(draws[second] - draws[first])
        for name in ("needed", "needed_recall"):
            value = getattr(asked[1], name)
            row[name] = np.nan if value is None else value
        rows.append(row)
    return pd.DataFrame(rows)


def _recalls(found: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The recall of each resample: (r,) from (r, n) weights."""
    return {"recall": (weights @ found) / np.maximum(weights @ positive, 1e-12)}


def mistakes(
    pairs: pd.DataFrame, texts: pd.DataFrame, threshold: float, calibrator: Calibrator, count: int = MISTAKES
) -> pd.DataFrame:
    """The pairs that the tuned model gets most wrong at a threshold, both ways.

    Args:
        pairs: ``query_id, text_id, label, before, after``; cosines of both models.
        texts: ``text_id, text``.
        threshold: same meaning when the cosine is at or above it.
        count: of either side.

    Returns:
        The table `mistakes`: ``side`` (``missed``: same meaning, rejected; ``accepted``: another meaning, accepted),
        ``query, text, before, after, probability``, the farthest from the threshold first.
    """
    by_id = texts.set_index("text_id")["text"]
    same, above = pairs["label"] == 1, pairs["after"] >= threshold
    sides = {
        "missed": pairs[same & ~above].sort_values(["after", "query_id", "text_id"]),
        "accepted": pairs[~same & above].sort_values(["after", "query_id", "text_id"], ascending=[False, True, True]),
    }
    found = pd.concat([rows.head(count).assign(side=side) for side, rows in sides.items()])
    return pd.DataFrame(
        {
            "side": found["side"].astype(str),
            "query": found["query_id"].map(by_id).astype(str),
            "text": found["text_id"].map(by_id).astype(str),
            "before": found["before"].astype("float64"),
            "after": found["after"].astype("float64"),
            "probability": np.asarray(calibrator.predict(found["after"].to_numpy(dtype="float64")), dtype="float64"),
        }
    ).reset_index(drop=True)
