"""Evaluation of calibrated scores (calibration error, Brier score, reliability), and the choice of the calibrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.metrics import worth
from bgetune.metrics.calibrators import METHODS, Calibrator, MinMax, fit, make
from bgetune.metrics.statistics import bootstrap, clopper_pearson, prior_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

AUTO = "auto"
"""Value of the parameter `calibration`: take the calibrator with the lowest log loss."""

BINS = 15
"""Number of bins of the calibration error, each with the same number of pairs."""


@dataclass(frozen=True)
class CalibrationError:
    """The debiased expected calibration error (root mean square over bins of equal mass).

    Attributes:
        value: square root of the debiased square; 0 where sampling noise explains all of it.
        plug_in: the same without debiasing, which is above 0 even for perfectly calibrated scores.
        interval: 95 % confidence interval of `value`, by bootstrap over clusters.
    """

    value: float
    plug_in: float
    interval: list[float]


def equal_mass_bins(probabilities: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS) -> np.ndarray:
    """Sort pairs into bins of about equal weight; equal probabilities share a bin.

    Args:
        probabilities: (n,) calibrated scores.
        weights: (n,); None weighs all pairs the same.
        bins: number of bins.

    Returns:
        (n,) int64, the bin of each pair, from 0.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    weights = np.ones(len(probabilities)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(probabilities, kind="stable")
    below = np.cumsum(weights[order]) - weights[order]
    first = np.searchsorted(probabilities[order], probabilities, side="left")
    return np.minimum((below[first] / weights.sum() * bins + 1e-9).astype(int), bins - 1)


def calibration_error(
    probabilities: np.ndarray,
    labels: np.ndarray,
    clusters: ArrayLike | None = None,
    weights: np.ndarray | None = None,
    *,
    bins: int = BINS,
    count: int = 500,
    seed: int = 42,
) -> CalibrationError:
    """Debiased calibration error in equal-mass bins: ECE^2 = sum_b w_b [(p_b - y_b)^2 - y_b (1 - y_b) / (n_b - 1)].

    With weights, n_b is the effective number (sum w)^2 / sum w^2 of the bin. The bootstrap distribution of the square
    is shifted so that its mean is the estimate, because resampling adds the sampling noise once more. The debiased
    estimator is that of Kumar et al. (arXiv 1909.10155).

    Args:
        probabilities: (n,) calibrated scores.
        labels: (n,) 0 or 1.
        clusters: (n,) the cluster of each pair; None: each pair is one of its own.
        weights: (n,) of `prior_weights`.
        bins: number of bins.
        count: number of resamples.
        seed: seed of the resamples.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    member = np.eye(bins)[equal_mass_bins(probabilities, weights, bins)]
    columns = [
        (values[:, None] * member) for values in (weights, weights**2, weights * probabilities, weights * labels)
    ]

    def squares(drawn: np.ndarray) -> dict[str, np.ndarray]:
        # a pair drawn twice weighs twice, and counts as two in the effective number
        mass, mass2, predicted, observed = (drawn @ column for column in columns)
        occupied = mass > 0
        mass_ = np.where(occupied, mass, 1)
        effective = mass_**2 / np.where(occupied, mass2, 1)
        gap, share = (predicted - observed) / mass_, observed / mass_
        noise = np.where(effective > 1, share * (1 - share) / np.maximum(effective - 1, 1e-12), 0)
        portion = np.where(occupied, mass, 0) / mass.sum(1, keepdims=True)
        return {"plug_in": (portion * gap**2).sum(1), "debiased": (portion * (gap**2 - noise)).sum(1)}

    value = {name: found[0] for name, found in squares(np.ones((1, len(labels)))).items()}
    drawn = bootstrap(squares, np.arange(len(labels)) if clusters is None else clusters, count, seed)["debiased"]
    low, high = np.percentile(drawn - drawn.mean() + value["debiased"], [2.5, 97.5])
    return CalibrationError(_root(value["debiased"]), _root(value["plug_in"]), [_root(low), _root(high)])


def brier(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS
) -> dict[str, float]:
    """The Brier score and its parts: ``brier = reliability - resolution + uncertainty + within``.

    The decomposition of Murphy (1973) over bins of equal mass; `within` is the part of the variance of the scores
    inside the bins (Stephenson et al., 2008), which makes the sum exact.

    Args:
        probabilities: (n,) calibrated scores.
        labels: (n,) 0 or 1.
        weights: (n,); None weighs all pairs the same.
        bins: number of bins.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    score = float(np.average((probabilities - labels) ** 2, weights=weights))
    table = reliability(probabilities, labels, weights, bins)
    share, base = table["weight"] / table["weight"].sum(), float(np.average(labels, weights=weights))
    parts = {
        "brier": score,
        "reliability": float((share * (table["predicted"] - table["observed"]) ** 2).sum()),
        "resolution": float((share * (table["observed"] - base) ** 2).sum()),
        "uncertainty": base * (1 - base),
    }
    return parts | {"within": score - parts["reliability"] + parts["resolution"] - parts["uncertainty"]}


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS
) -> pd.DataFrame:
    """The reliability diagram as a table, one row for each bin of equal mass.

    Args:
        probabilities: (n,) calibrated scores.
        labels: (n,) 0 or 1.
        weights: (n,); None weighs all pairs the same.
        bins: number of bins.

    Returns:
        ``pairs, weight, predicted`` (mean probability), ``observed`` (share of positives), and ``low, high``, the 95 %
        Clopper-Pearson interval of the share (on the effective number of pairs).
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    frame = pd.DataFrame({"bin": equal_mass_bins(probabilities, weights, bins), "pairs": 1, "weight": weights})
    frame["squares"], frame["predicted"], frame["observed"] = weights**2, weights * probabilities, weights * labels
    table = frame.groupby("bin").sum()
    table["predicted"] /= table["weight"]
    table["observed"] = (table["observed"] / table["weight"]).clip(0, 1)
    effective = table["weight"] ** 2 / table.pop("squares")
    table["low"], table["high"] = clopper_pearson(table["observed"] * effective, effective, 0.95)
    return table.reset_index(drop=True)


def log_loss(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean negative log-likelihood in nats; probabilities are clipped to 1e-7 from 0 and 1, so that it is finite.

    Args:
        probabilities: (n,) calibrated scores.
        labels: (n,) 0 or 1.
        weights: (n,); None weighs all pairs the same.
    """
    probabilities = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-7, 1 - 1e-7)
    losses = -np.where(np.asarray(labels) == 1, np.log(probabilities), np.log1p(-probabilities))
    return float(np.average(losses, weights=weights))


# --- choice of the calibrator -------------------------------------------------------------------------------------


def cross_validate(
    similarities: np.ndarray,
    labels: np.ndarray,
    clusters: ArrayLike,
    *,
    prior: float | None = None,
    folds: int = 5,
    isotonic_min_pairs: int = 1000,
    wanted: str = AUTO,
    min_max: Mapping[str, Any] | None = None,
    seed: int = 42,
) -> pd.DataFrame:
    """Cross-validate every calibrator by log loss; pairs of one cluster are in the same fold.

    Args:
        similarities: (n,) cosines of dev pairs.
        labels: (n,) 0 or 1.
        clusters: (n,) the cluster of each pair.
        prior: share of positives in production; see `statistics.prior_weights`.
        folds: number of folds, with about the same share of positives each.
        isotonic_min_pairs: minimum number of pairs for isotonic, which follows the noise of small samples.
        wanted: the calibrator that the user asked for, which is offered in any case.
        min_max: arguments of `calibrators.MinMax`.
        seed: seed of the folds.

    Returns:
        ``method, log_loss, offered``, best first; methods that are not offered come last, without a loss.

    Raises:
        InputError: if there are too few clusters of either kind for two folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    similarities, labels = np.asarray(similarities, dtype=np.float64), np.asarray(labels)
    groups = np.asarray(clusters)
    weights = prior_weights(labels, prior)
    folds = min(folds, *(len(np.unique(groups[labels == kind])) for kind in (0, 1)))
    if folds < 2:
        raise InputError(
            _("calibration: the dev pairs come from one cluster; it needs pairs of more, add labelled pairs")
        )
    splits = list(
        StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(similarities[:, None], labels, groups)
    )
    rows = []
    for name in METHODS:
        offered = name != "isotonic" or wanted == "isotonic" or len(labels) >= isotonic_min_pairs
        loss = np.nan
        if offered:
            predicted = np.empty(len(labels))
            for train, held in splits:
                try:
                    fitted = make(name, min_max).fit(similarities[train], labels[train], weights[train])
                    predicted[held] = fitted.predict(similarities[held])
                except InputError:
                    # no calibrator can be fitted to these folds: predict the share of positives
                    predicted[held] = np.average(labels[train], weights=weights[train])
            loss = log_loss(predicted, labels, weights)
        rows.append((name, loss, offered))
    return pd.DataFrame(rows, columns=["method", "log_loss", "offered"]).sort_values("log_loss", ignore_index=True)


def fit_all(
    similarities: np.ndarray,
    labels: np.ndarray,
    clusters: ArrayLike,
    *,
    prior: float | None = None,
    min_max: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[pd.DataFrame, dict[str, Calibrator]]:
    """`cross_validate`, and every calibrator that is offered, fitted to all pairs.

    Where the pairs cannot carry a calibration (`worth.doubt`), min-max alone is offered: between the bounds of
    `min_max`, else between 0 and 1, which leaves cosines as they are.

    Args:
        similarities, labels, clusters, prior, min_max, options: as `cross_validate` takes them.

    Returns:
        The table of `cross_validate`, in which what cannot be fitted is not offered, and name -> calibrator.
    """
    if worth.doubt(similarities, labels, clusters):
        plain = {"bounds": (min_max or {}).get("bounds") or (0.0, 1.0)}
        fitted = {MinMax.name: fit(MinMax.name, similarities, labels, prior, plain)}
        losses = pd.DataFrame({"method": list(METHODS), "log_loss": np.nan})
        return losses.assign(offered=losses["method"].isin(fitted)), fitted
    losses = cross_validate(similarities, labels, clusters, prior=prior, min_max=min_max, **options)
    fitted = {}
    for name in losses.loc[losses["offered"], "method"]:
        try:
            fitted[name] = fit(name, similarities, labels, prior, min_max)
        except InputError:  # its curve does not rise on these pairs, another one's does
            losses.loc[losses["method"] == name, ["log_loss", "offered"]] = np.nan, False
    return losses, fitted


def choose(losses: pd.DataFrame, wanted: str) -> str:
    """The name of the calibrator to take: the one that was asked for if it is offered, else the one with the lowest log
    loss.

    Args:
        losses: as `fit_all` returns it.
        wanted: `AUTO`, or the name of a calibrator.
    """
    offered = losses.loc[losses["offered"], "method"].tolist()
    return wanted if wanted in offered else offered[0]


def in_words(chosen: str, pairs: int, doubt: worth.Doubt | None) -> str:
    """The calibrator that was chosen and the number of pairs it was fitted to, or why scores stay plain cosines."""
    if doubt:
        return _("Not calibrated: {why}.").format(why=_(worth.NOTES[doubt]))
    return _("Chosen: {}, fitted on {:,} dev pairs.").format(chosen, pairs)


def cost(table: pd.DataFrame, chosen: str, automatic: str) -> str:
    """A sentence that compares the chosen calibrator with the best one; "" if they are the same.

    Args:
        table: index: name of the calibrator; ``log_loss`` and, where measured, ``ece``, of `evaluate`.
        chosen, automatic: names of calibrators.
    """
    if chosen == automatic:
        return ""
    names = {"log_loss": _("log loss"), "ece": _("calibration error")}
    part = _("{measure} {chosen:.4f} instead of {best:.4f}")
    parts = [
        part.format(measure=names[key], chosen=table.loc[chosen, key], best=table.loc[automatic, key])
        for key in names
        if key in table
    ]
    sentence = _("calibration: {chosen} was asked for; auto would take {automatic}: {costs}.")
    return sentence.format(chosen=chosen, automatic=automatic, costs=", ".join(parts))


def evaluate(
    probabilities: Mapping[str, np.ndarray],
    labels: np.ndarray,
    clusters: ArrayLike,
    *,
    prior: float | None = None,
    count: int = 500,
    seed: int = 42,
) -> pd.DataFrame:
    """Evaluate several calibrated scores of the same pairs.

    Args:
        probabilities: name -> (n,) calibrated scores.
        labels: (n,) 0 or 1.
        clusters: (n,) the cluster of each pair, for the intervals.
        prior: share of positives in production; see `statistics.prior_weights`.
        count: number of resamples.
        seed: seed of the resamples.

    Returns:
        Index: name. ``ece, ece_low, ece_high, ece_plug_in, log_loss, brier, reliability, resolution, uncertainty,
        within``.
    """
    weights = prior_weights(labels, prior)
    rows = {}
    for name, values in probabilities.items():
        error = calibration_error(values, labels, clusters, weights, count=count, seed=seed)
        rows[name] = {
            "ece": error.value,
            "ece_low": error.interval[0],
            "ece_high": error.interval[1],
            "ece_plug_in": error.plug_in,
            "log_loss": log_loss(values, labels, weights),
            **brier(values, labels, weights),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _root(square: float) -> float:
    return float(np.sqrt(max(square, 0)))
