"""What is kept of the calibration pairs, for new traffic to be compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

POINTS = 501
UNLABELLED = "unlabelled"


def reference(similarities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What `scoring.json` keeps of the calibration pairs' similarities: quantiles and number of each kind."""
    similarities, labels = np.asarray(similarities, dtype=np.float64), np.asarray(labels).astype(bool)
    return {"positive": quantiles(similarities[labels]), "negative": quantiles(similarities[~labels])}


def unlabelled(similarities: np.ndarray) -> dict[str, Any]:
    """The same of pairs whose kind nobody knows, for `monitor.compare`."""
    return {UNLABELLED: quantiles(similarities)}


def quantiles(similarities: np.ndarray) -> dict[str, Any]:
    grid = np.linspace(0, 1, POINTS)
    return {"pairs": len(similarities), "quantiles": np.quantile(similarities, grid).round(5).tolist()}
