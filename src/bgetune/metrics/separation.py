"""Separation: how well a model's similarities tell pairs that mean the same from pairs that do not.

Every metric of `separation` is computed for many weightings of the pairs at once, so that bootstrap intervals cost
little: one row of weights is one resample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.metrics.statistics import bootstrap, interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FIXED_THRESHOLD = 0.8
"""The threshold that is often set by hand, which similarity drift makes useless."""

DRIFT_BAND = (0.6, 0.9)
"""Band in which the similarities of a drifted model bunch."""

GRID = np.linspace(-1.1, 1.1, 441)
"""Similarities at which densities are estimated, 0.005 apart."""


def separation(
    similarities: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    thresholds: Mapping[str, float] | None = None,
    band: tuple[float, float] | None = None,
) -> dict[str, np.ndarray]:
    """The metrics of how well similarities, and one threshold of them, separate positives from negatives.

    Args:
        similarities: (n,) cosines.
        labels: (n,) 1 = same meaning, 0 = not.
        weights: (r, n) one row for each weighting of the pairs, 0 leaves a pair out; None: one row of ones.
        thresholds: further thresholds to measure F1 at, name -> threshold.
        band: `crowded_band` of the base model; None: ``crowded_share`` is left out.

    Returns:
        Measure -> (r,) float64: ``auc`` (ties count half), ``average_precision`` (as scikit-learn's), ``overlap`` of
        the two densities in [0, 1], ``ks`` (Kolmogorov-Smirnov distance), ``d_prime`` (distance of the means in
        standard deviations), ``share_0.6_0.9``, ``f1_at_0.8`` and ``accepted_at_0.8`` (share of the pairs at or above
        it), ``best_f1`` and its ``best_threshold`` (the same meaning when similarity >= it), ``mean_positive``,
        ``mean_negative``, ``crowded_share`` (share of the pairs in `band`).

    Raises:
        InputError: if a kind is missing.
    """
    scores = np.asarray(similarities, dtype=np.float64)
    labels = np.asarray(labels).astype(bool)
    if labels.all() or not labels.any():
        raise InputError(
            _("separation needs pairs of both kinds; there are {positives} positives of {pairs}").format(
                positives=labels.sum(), pairs=len(labels)
            )
        )
    weights = np.ones((1, len(scores))) if weights is None else np.asarray(weights, dtype=np.float64)

    order = np.argsort(-scores, kind="stable")
    scores, labels, weights = scores[order], labels[order], weights[:, order]
    # a threshold cannot separate equal scores: counts are read at the last pair of each tie
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True])
    true = np.cumsum(weights * labels, axis=1)[:, last]
    false = np.cumsum(weights * ~labels, axis=1)[:, last]
    positives, negatives = true[:, -1:], false[:, -1:]
    gained = np.diff(true, axis=1, prepend=0)

    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(true + false > 0, true / (true + false), 0)
        f1 = 2 * true / (true + false + positives)
        result = {
            "auc": (np.diff(false, axis=1, prepend=0) * (true - gained / 2)).sum(1) / (positives * negatives)[:, 0],
            "average_precision": (gained * precision).sum(1) / positives[:, 0],
            "ks": np.abs(true / positives - false / negatives).max(1),
        }
    result["best_f1"] = f1.max(1)
    result["best_threshold"] = scores[last[f1.argmax(1)]]
    for name, threshold in {"f1_at_0.8": FIXED_THRESHOLD, **(thresholds or {})}.items():
        accepted = np.searchsorted(-scores[last], -threshold, side="right")
        result[name] = f1[:, accepted - 1] if accepted else np.zeros(len(f1))
    result["accepted_at_0.8"] = weights @ (scores >= FIXED_THRESHOLD) / weights.sum(1)
    for name, inside in in_bands(scores, band).items():
        result[name] = weights @ inside / weights.sum(1)
    means, variances, densities = zip(
        *(_moments(scores[kind], weights[:, kind]) for kind in (labels, ~labels)), strict=True
    )
    result["mean_positive"], result["mean_negative"] = means
    result["d_prime"] = (means[0] - means[1]) / np.sqrt(np.maximum(sum(variances) / 2, 1e-12))
    result["overlap"] = np.minimum(*densities).sum(1)
    return result


def crowded_band(similarities: np.ndarray) -> tuple[float, float]:
    """The band of the middle 80 % of the similarities of a base model: 10th and 90th percentile.

    The share of a tuned model's similarities in it says whether they bunch less, wherever the base model's lie.
    """
    low, high = np.quantile(similarities, [0.1, 0.9])
    return float(low), float(high)


def in_bands(similarities: np.ndarray, band: tuple[float, float] | None) -> dict[str, np.ndarray]:
    """Which similarities lie in `DRIFT_BAND` (``share_0.6_0.9``) and in the band of a base model (``crowded_share``).

    Args:
        similarities: (n,) cosines.
        band: `crowded_band`; None: it is left out.

    Returns:
        Name -> (n,) bool.
    """
    bands = {"share_0.6_0.9": DRIFT_BAND} | ({} if band is None else {"crowded_share": band})
    return {name: (similarities >= low) & (similarities <= high) for name, (low, high) in bands.items()}


def density(similarities: np.ndarray) -> np.ndarray:
    """The density of (n,) similarities at the points of `GRID`: Gaussian kernels, Silverman's bandwidth."""
    scores = np.asarray(similarities, dtype=np.float64)
    return _moments(scores, np.ones((1, len(scores))))[2][0] / (GRID[1] - GRID[0])


def densities(groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The `density` of several groups of similarities: one column for each, index: similarity from -1 to 1."""
    table = pd.DataFrame({name: density(values) for name, values in groups.items() if len(values)}, index=GRID)
    return table[(GRID > -1 - 1e-9) & (GRID < 1 + 1e-9)]


def _moments(scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (r,), variances (r,) and kernel densities (r, len(GRID)) of (n,) scores; each row of the last sums to 1."""
    total = weights.sum(1)
    mean = weights @ scores / total
    variance = np.maximum(weights @ scores**2 / total - mean**2, 0)
    spread = max(min(scores.std(), np.subtract(*np.percentile(scores, [75, 25])) / 1.34), 1e-3)
    bandwidth = max(0.9 * spread * len(scores) ** -0.2, GRID[1] - GRID[0])
    kernels = np.exp(-0.5 * ((GRID[:, None] - GRID[None]) / bandwidth) ** 2)
    kernels /= kernels.sum(1, keepdims=True)
    place = np.rint((scores - GRID[0]) / (GRID[1] - GRID[0])).astype(int).clip(0, len(GRID) - 1)
    counts = np.zeros((len(weights), len(GRID)))
    by_place = np.argsort(place, kind="stable")
    occupied, starts = np.unique(place[by_place], return_index=True)
    counts[:, occupied] = np.add.reduceat(weights[:, by_place], starts, axis=1)
    return mean, variance, counts @ kernels / total[:, None]


def mean_squared_cosine(similarities: np.ndarray) -> float:
    """Orthogonality of random pairs: 1/d if vectors are spread like random ones of d dimensions, 1 if all are equal.

    Args:
        similarities: (n,) cosines of random pairs; NaN is returned if there are none.
    """
    if len(similarities) == 0:
        return float("nan")
    return float(np.square(np.asarray(similarities, dtype=np.float64)).mean())


def orthogonality(
    random: pd.DataFrame, models: Sequence[str], clusters: ArrayLike, *, count: int = 500, seed: int = 42
) -> dict[str, dict[str, Any]]:
    """`mean_squared_cosine` of random pairs for two models, and the difference (second minus first), with intervals.

    Args:
        random: one column of similarities for each model.
        models: names of the two columns, the base first.
        clusters: (n,) the cluster of each pair.
        count: number of resamples.
        seed: seed of the resamples.

    Returns:
        An entry for each model and one for ``difference``, as `headline` writes them; NaN where there are no pairs.
    """
    key = "mean_squared_cosine_random"
    squares = {name: np.square(random[name].to_numpy(dtype=np.float64)) for name in models}
    if not len(random):
        empty = {key: float("nan"), f"{key}_interval": [float("nan")] * 2}
        return {name: dict(empty) for name in [*models, "difference"]}
    first, second = models
    squares["difference"] = squares[second] - squares[first]
    drawn = bootstrap(
        lambda w: {name: w @ values / w.sum(1) for name, values in squares.items()}, clusters, count, seed
    )
    return {
        name: {key: float(values.mean()), f"{key}_interval": interval(drawn[name])} for name, values in squares.items()
    }


def report(
    models: Mapping[str, np.ndarray],
    labels: np.ndarray,
    clusters: ArrayLike,
    *,
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    count: int = 500,
    seed: int = 42,
) -> pd.DataFrame:
    """Every metric of `separation` for several models on the same pairs, with intervals.

    Args:
        models: name -> (n,) similarities, the base model first: its scores set the `crowded_band`.
        labels: (n,) 0 or 1.
        clusters: (n,) the cluster of each pair.
        thresholds: name of a model -> further thresholds to measure F1 at.
        count: number of resamples.
        seed: seed of the resamples.

    Returns:
        A row for each model and metric: ``model, measure, value, low, high``. With two models, also rows of model
        ``difference`` (second minus first) whose intervals are paired: both models are measured on the same resamples.
    """
    rows: list[tuple[str, str, float, float, float]] = []
    drawn, whole = {}, {}
    band = crowded_band(next(iter(models.values())))
    for name, similarities in models.items():
        extra = (thresholds or {}).get(name)
        values = whole[name] = separation(similarities, labels, None, extra, band)
        measure = partial(separation, similarities, labels, thresholds=extra, band=band)
        drawn[name] = bootstrap(measure, clusters, count, seed)
        for key, value in values.items():
            low, high = interval(drawn[name][key])
            rows.append((name, key, float(value[0]), low, high))
    table = pd.DataFrame(rows, columns=["model", "measure", "value", "low", "high"])
    if len(models) == 2:
        (first, a), (second, b) = drawn.items()
        rows = []
        for key in [key for key in a if key in b]:
            low, high = interval(b[key] - a[key])
            rows.append(("difference", key, float(whole[second][key][0] - whole[first][key][0]), low, high))
        table = pd.concat([table, pd.DataFrame(rows, columns=table.columns)], ignore_index=True)
    return table


def headline(table: pd.DataFrame, model: str) -> dict[str, Any]:
    """The rows of one model in `report` as a manifest has them: ``auc``, ``auc_interval``, and so on."""
    rows = table[table["model"] == model]
    values = dict(zip(rows["measure"], rows["value"], strict=True))
    intervals = {f"{row.measure}_interval": [row.low, row.high] for row in rows.itertuples()}
    return values | intervals


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """`report` as a table to read: ``measure`` and a column for each model, each value with its interval."""
    cells = [f"{row.value:.3f}  [{row.low:.3f}, {row.high:.3f}]" for row in table.itertuples()]
    models = table["model"].unique()
    wide = table.assign(cell=cells).pivot_table(
        index="measure", columns="model", values="cell", aggfunc="first", sort=False
    )
    return wide[models].rename_axis(columns=None).reset_index()


def by_slice(
    models: Mapping[str, np.ndarray],
    labels: np.ndarray,
    clusters: ArrayLike,
    slices: Mapping[str, Sequence],
    *,
    count: int = 200,
    seed: int = 42,
    fewest: int = 10,
) -> pd.DataFrame:
    """The AUC of each model on each slice of the pairs, with intervals.

    Args:
        models: name -> (n,) similarities.
        labels: (n,) 0 or 1.
        clusters: (n,) the cluster of each pair.
        slices: dimension (``length``, ``source``, ``frequency``) -> (n,) the slice of each pair; a `pandas.Categorical`
            keeps its order.
        count: number of resamples.
        seed: seed of the resamples.
        fewest: minimum number of positives and of negatives; on smaller slices the AUC is NaN.

    Returns:
        ``dimension, slice, pairs, positives`` and, for each model, ``NAME, NAME_low, NAME_high``.
    """
    labels, groups = np.asarray(labels), np.asarray(clusters)
    rows = []
    for dimension, names in slices.items():
        categories = pd.Categorical(names)
        for name in categories.categories:
            inside = np.asarray(categories == name)
            pairs, positives = int(inside.sum()), int(labels[inside].sum())
            row: dict[str, Any] = {"dimension": dimension, "slice": name, "pairs": pairs, "positives": positives}
            enough = min(positives, pairs - positives) >= fewest
            for model, similarities in models.items():
                cells = [np.nan] * 3
                if enough:
                    s, y = similarities[inside], labels[inside]
                    cells[0] = float(separation(s, y)["auc"][0])
                    cells[1:] = interval(bootstrap(partial(separation, s, y), groups[inside], count, seed)["auc"])
                row |= dict(zip((model, f"{model}_low", f"{model}_high"), cells, strict=True))
            rows.append(row)
    return pd.DataFrame(rows)
