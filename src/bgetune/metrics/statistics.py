"""Confidence intervals and weights, shared by all metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BLOCK = 4_000_000
"""Maximum number of weights of resamples held in memory at a time."""

FEWEST_CLUSTERS = 10
"""Number of clusters below which an interval by resampling them means nothing."""


def resamples(clusters: ArrayLike, count: int, seed: int) -> Iterator[np.ndarray]:
    """Bootstrap weights. Clusters are drawn with replacement, not pairs, because pairs of one cluster are similar.

    Args:
        clusters: (n,) the cluster of each pair.
        count: number of resamples.
        seed: seed of the draws.

    Yields:
        (block, n) float64: how often each pair is in each resample of the block.
    """
    numbers, codes = np.unique(np.asarray(clusters), return_inverse=True)
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // max(len(codes), 1))
    for start in range(0, count, block):
        drawn = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=min(block, count - start))
        yield drawn[:, codes].astype(np.float64)


def bootstrap(
    measure: Callable[[np.ndarray], Mapping[str, np.ndarray]], clusters: ArrayLike, count: int = 500, seed: int = 42
) -> dict[str, np.ndarray]:
    """Compute metrics on bootstrap resamples; see `resamples`.

    Args:
        measure: (r, n) weights -> name -> (r,) values.
        clusters: (n,) the cluster of each pair.
        count: number of resamples.
        seed: seed of the draws.

    Returns:
        name -> (count,); NaN where a resample cannot be measured.
    """
    blocks = [measure(weights) for weights in resamples(clusters, count, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def interval(values: np.ndarray, confidence: float = 0.95) -> list[float]:
    """The percentile interval [low, high] of (count,) bootstrap values; NaN is left out."""
    tail = 50 * (1 - confidence)
    return [float(bound) for bound in np.nanpercentile(values, [tail, 100 - tail])]


def fewest_pairs(precision: float, confidence: float = 0.95) -> int:
    """The smallest number of pairs that can guarantee a precision, if all are correct: confidence <= 1 - precision^n.

    29 for a precision of 0.90, 59 for 0.95, 299 for 0.99, at a confidence of 0.95.
    """
    return int(np.ceil(np.log(1 - confidence) / np.log(precision) - 1e-9))


def clopper_pearson(
    successes: np.ndarray | float, trials: np.ndarray | float, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """The exact two-sided interval of a proportion (Clopper and Pearson, 1934).

    A one-sided bound at confidence c is the bound of the two-sided interval at 2 c - 1.

    Args:
        successes, trials: may be fractions, as effective numbers are (Korn and Graubard, 1998).
        confidence: of the interval.

    Returns:
        Lower and upper bounds, arrays of the broadcast shape.
    """
    from scipy.special import betaincinv  # scipy.stats takes a second to import, and a form waits for this

    successes, trials = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float))
    failures = np.maximum(trials - successes, 0)
    tail = (1 - confidence) / 2
    low = np.where(successes > 0, betaincinv(np.maximum(successes, 1e-12), failures + 1, tail), 0.0)
    high = np.where(failures > 0, betaincinv(successes + 1, np.maximum(failures, 1e-12), 1 - tail), 1.0)
    return low, high


def prior_weights(labels: np.ndarray, prior: float | None) -> np.ndarray:
    """Weights under which the share of positives is `prior` (all 1 when it is None).

    Args:
        labels: (n,) 0 or 1.
        prior: share of positives among the pairs of production.

    Returns:
        (n,) float64 with mean 1.
    """
    labels = np.asarray(labels, dtype=np.float64)
    share = labels.mean()
    if prior is None or not 0 < share < 1:
        return np.ones(len(labels))
    return np.where(labels == 1, prior / share, (1 - prior) / (1 - share))
