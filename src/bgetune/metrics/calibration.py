"""Whether calibrated scores are right: calibration error, Brier score, reliability, and which map to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.metrics.calibrators import METHODS, make
from bgetune.metrics.statistics import bootstrap, clopper_pearson, prior_weights

AUTO = "auto"
"""The parameter `calibration`: the map that wins by log loss."""

BINS = 15
"""Of the calibration error, with the same number of pairs each."""


@dataclass(frozen=True)
class CalibrationError:
    """The debiased expected calibration error (root mean square over bins of equal mass).

    Attributes:
        value: square root of the debiased square; 0 where noise explains all of it.
        plug_in: without debiasing: what a perfectly calibrated score shows too, by chance.
        interval: 95 % by bootstrap over clusters.
    """

    value: float
    plug_in: float
    interval: list[float]


def equal_mass_bins(probabilities: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS) -> np.ndarray:
    """(n,) the bin of each pair, 0 to bins - 1, about the same weight in each; equal probabilities share a bin."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    weights = np.ones(len(probabilities)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(probabilities, kind="stable")
    below = np.cumsum(weights[order]) - weights[order]
    first = np.searchsorted(probabilities[order], probabilities, side="left")
    return np.minimum((below[first] / weights.sum() * bins + 1e-9).astype(int), bins - 1)


def calibration_error(
    probabilities: np.ndarray,
    labels: np.ndarray,
    clusters: Sequence | None = None,
    weights: np.ndarray | None = None,
    *,
    bins: int = BINS,
    count: int = 500,
    seed: int = 42,
) -> CalibrationError:
    """Debiased equal-mass calibration error: ECE^2 = sum_b w_b [(p_b - y_b)^2 - y_b (1 - y_b) / (n_b - 1)].

    With weights, n_b is the effective number (sum w)^2 / sum w^2 of the bin. The interval is pivotal: the bootstrap
    distribution of the square is moved so that its mean is the estimate, because resampling adds the noise once more.

    Args:
        probabilities: (n,) calibrated scores.
        labels: (n,) 0 or 1.
        clusters: (n,) what is resampled; None: every pair by itself.
        weights: (n,) of `prior_weights`.
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
    clusters = np.arange(len(labels)) if clusters is None else clusters
    drawn = bootstrap(squares, clusters, count, seed)["debiased"]
    low, high = np.percentile(drawn - drawn.mean() + value["debiased"], [2.5, 97.5])
    return CalibrationError(_root(value["debiased"]), _root(value["plug_in"]), [_root(low), _root(high)])


def brier(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS) -> dict:
    """The Brier score and its parts: ``brier = reliability - resolution + uncertainty + within``.

    Murphy's decomposition over bins of equal mass; `within` is what the spread of the scores inside the bins adds
    (Stephenson et al., 2008), so that the sum is exact.
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
    """Per bin of equal mass: ``pairs, weight, predicted`` (mean probability), ``observed`` (share of positives), and
    ``low, high``, the 95 % Clopper-Pearson interval of the share (on the effective number of pairs)."""
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
    """Mean negative log-likelihood; a probability counts as at least 1e-7 from 0 and 1, so that it stays finite."""
    probabilities = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-7, 1 - 1e-7)
    losses = -np.where(np.asarray(labels) == 1, np.log(probabilities), np.log1p(-probabilities))
    return float(np.average(losses, weights=weights))


# --- which map? ---------------------------------------------------------------------------------------------------


def cross_validate(
    similarities: np.ndarray,
    labels: np.ndarray,
    clusters: Sequence,
    *,
    prior: float | None = None,
    folds: int = 5,
    isotonic_min_pairs: int = 1000,
    wanted: str = AUTO,
    min_max: Mapping[str, Any] | None = None,
    seed: int = 42,
) -> pd.DataFrame:
    """The log loss of every map on pairs of clusters that it was not fitted on, best first.

    Args:
        similarities: (n,) cosines of dev pairs.
        labels: (n,) 0 or 1.
        clusters: (n,) what stays together in a fold.
        prior: share of positives in production; see `statistics.prior_weights`.
        folds: of clusters, with about the same balance each.
        isotonic_min_pairs: pairs below which isotonic is not offered: it follows the noise of small samples.
        wanted: a map that is offered in any case, as somebody asked for it.
        min_max: arguments of `calibrators.MinMax`.

    Returns:
        ``method, log_loss, offered``; methods that are not offered come last, without a loss.

    Raises:
        InputError: if there are too few clusters of either kind for two folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    similarities, labels = np.asarray(similarities, dtype=np.float64), np.asarray(labels)
    clusters = np.asarray(clusters)
    weights = prior_weights(labels, prior)
    folds = min(folds, *(len(np.unique(clusters[labels == kind])) for kind in (0, 1)))
    if folds < 2:
        raise InputError("calibration: the dev pairs come from one cluster; it needs pairs of more, add labelled pairs")
    splits = list(
        StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(similarities[:, None], labels, clusters)
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
                    # the scores rank these folds no better than chance: the share of positives is all there is to say
                    predicted[held] = np.average(labels[train], weights=weights[train])
            loss = log_loss(predicted, labels, weights)
        rows.append((name, loss, offered))
    return pd.DataFrame(rows, columns=["method", "log_loss", "offered"]).sort_values("log_loss", ignore_index=True)


def choose(race: pd.DataFrame, wanted: str) -> str:
    """The map to take: the one that was asked for, else the best of those offered.

    Args:
        race: as `cross_validate` returns it.
    """
    return race.loc[race["offered"], "method"].iloc[0] if wanted == AUTO else wanted


def cost(table: pd.DataFrame, chosen: str, automatic: str) -> str:
    """What it costs to ask for another map than the one that wins, in one sentence; "" if it is that one.

    Args:
        table: index: name; ``log_loss`` and, where measured, ``ece``, of `evaluate`.
        chosen, automatic: names of maps.
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
    clusters: Sequence,
    *,
    prior: float | None = None,
    count: int = 500,
    seed: int = 42,
) -> pd.DataFrame:
    """How right several scores of the same pairs are.

    Args:
        probabilities: name -> (n,).

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
