"""Similarities to probabilities: five monotone maps with scikit-learn's habits, and what tells whether they are right.

A calibrator is fitted on similarities and labels and then holds a few numbers; `predict` is NumPy alone. All rise
strictly, so that ranking, AUC and average precision stay what they were (min-max up to the ends of the range it was
fitted on). Where a map wants something between 0 and 1, it gets u = (1 + similarity) / 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.metrics.statistics import bootstrap, clopper_pearson, prior_weights

EDGE = 1e-6
"""How near u comes to 0 and 1: logarithms stay finite, and texts that are equal get a high but finite score."""

BINS = 15
"""Of the calibration error, with the same number of pairs each."""


class Calibrator:
    """What all maps share.

    Attributes:
        name: as it is written in `scoring.json`.
        fitted: names of the fitted attributes, which `to_dict` keeps.
    """

    name: ClassVar[str]
    fitted: ClassVar[tuple[str, ...]]

    def fit(self, similarities: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Learn the map.

        Args:
            similarities: (n,) cosines.
            labels: (n,) 1 = same meaning, 0 = not; both must occur.
            sample_weight: (n,); see `statistics.prior_weights`.

        Raises:
            InputError: if only one label occurs, or higher similarities do not mean more positives.
        """
        similarities = np.asarray(similarities, dtype=np.float64)
        labels = np.asarray(labels, dtype=np.float64)
        if not 0 < labels.sum() < len(labels):
            raise InputError(
                f"calibration needs pairs of both kinds; {labels.sum():.0f} of the {len(labels)} pairs are positive"
            )
        weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self._fit(similarities, labels, weight)
        return self

    def predict(self, similarities: np.ndarray) -> np.ndarray:
        """(n,) float64 probabilities in [0, 1] of "same meaning", in the order of the similarities."""
        return self._predict(np.asarray(similarities, dtype=np.float64))

    def inverse(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) float64 similarities that get these probabilities (to 1e-6), -1 or 1 where none does: for those who
        decide by a probability and search by cosine."""
        grid = np.linspace(-1, 1, 2001)
        return np.interp(probabilities, self.predict(grid), grid)

    def to_dict(self) -> dict[str, Any]:
        """Method and fitted numbers, as JSON takes them."""
        return {"method": self.name} | {key: np.asarray(getattr(self, key)).tolist() for key in self.fitted}

    def _fit(self, similarities: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> None:
        raise NotImplementedError

    def _predict(self, similarities: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class MinMax(Calibrator):
    """The simple linear map: the lowest similarity seen becomes 0, the highest 1. It only looks like a probability."""

    name = "min_max"
    fitted = ("low_", "high_")

    def _fit(self, similarities, labels, weight):
        self.low_, self.high_ = float(similarities.min()), float(similarities.max())
        if self.low_ == self.high_:
            raise InputError(f"calibration: all similarities are {self.low_}")

    def _predict(self, similarities):
        return ((similarities - self.low_) / (self.high_ - self.low_)).clip(0, 1)


class Platt(Calibrator):
    """A logistic curve of the similarity, fitted to Platt's targets (N+ + 1)/(N+ + 2) and 1/(N- + 2).

    These keep the curve finite where the kinds are parted completely (Platt, 1999).
    """

    name = "platt"
    fitted = ("slope_", "intercept_")

    def _fit(self, similarities, labels, weight):
        (self.slope_,), self.intercept_ = _logistic(similarities[:, None], _platt_targets(labels), weight)
        _must_rise(self.slope_)

    def _predict(self, similarities):
        return _sigmoid(self.slope_ * similarities + self.intercept_)


class Temperature(Calibrator):
    """One number: the log-odds of u divided by a temperature. It cannot move the point where the probability is 0.5.

    That point is cosine 0, which is why it fails on bunched scores (Guo et al., arXiv 1706.04599, divide log-odds of a
    classifier, whose zero is in the right place).
    """

    name = "temperature"
    fitted = ("temperature_",)

    def _fit(self, similarities, labels, weight):
        odds = _log_odds(similarities)
        (slope,), _ = _logistic(odds[:, None], _platt_targets(labels), weight, intercept=False)
        # when most pairs of positive similarity are negatives, the best finite map is an almost flat one
        self.temperature_ = 1 / max(slope, 1e-3)

    def _predict(self, similarities):
        return _sigmoid(_log_odds(similarities) / self.temperature_)


class Beta(Calibrator):
    """Beta calibration of u: log-odds a ln(u) - b ln(1 - u) + c, with a, b >= 0 (Kull et al., AISTATS 2017).

    A coefficient that would be negative is set to 0 and the other fitted alone, as the authors do.
    """

    name = "beta"
    fitted = ("a_", "b_", "c_")

    def _fit(self, similarities, labels, weight):
        features = self._features(similarities)
        self.a_ = self.b_ = 0.0
        (a, b), c = _logistic(features, labels, weight)
        if a < 0:
            (self.b_,), self.c_ = _logistic(features[:, 1:], labels, weight)
        elif b < 0:
            (self.a_,), self.c_ = _logistic(features[:, :1], labels, weight)
        else:
            self.a_, self.b_, self.c_ = a, b, c
        _must_rise(min(self.a_, self.b_) if min(self.a_, self.b_) < 0 else max(self.a_, self.b_))

    def _predict(self, similarities):
        return _sigmoid(self._features(similarities) @ [self.a_, self.b_] + self.c_)

    @staticmethod
    def _features(similarities: np.ndarray) -> np.ndarray:
        u = _unit(similarities)
        return np.column_stack([np.log(u), -np.log1p(-u)])


class Isotonic(Calibrator):
    """The monotone steps of pool-adjacent-violators, joined by straight lines from centre to centre.

    The steps of plain isotonic regression give equal scores to unequal pairs, which changes the ranking, and reach 0
    and 1, which no finite sample can promise; the lines rise everywhere, and the ends stay within Platt's targets.
    """

    name = "isotonic"
    fitted = ("similarities_", "probabilities_")

    def _fit(self, similarities, labels, weight):
        from sklearn.isotonic import IsotonicRegression

        steps = IsotonicRegression().fit(similarities, labels, weight).predict(similarities)
        low, high = _platt_targets(np.array([0.0, 1.0]), positives=labels.sum(), negatives=(1 - labels).sum())
        values, step = np.unique(steps, return_inverse=True)
        if len(values) < 2:
            _must_rise(0.0)
        centres = np.bincount(step, weight * similarities) / np.bincount(step, weight)
        values, first = np.unique(values.clip(low, high), return_index=True)
        # beyond the outermost centres the curve goes on to half and to half the missing rest
        self.similarities_ = np.r_[-1.0, centres[first], 1.0]
        self.probabilities_ = np.r_[values[0] / 2, values, (1 + values[-1]) / 2]
        inside = np.r_[True, (centres[first] > -1) & (centres[first] < 1), True]
        self.similarities_, self.probabilities_ = self.similarities_[inside], self.probabilities_[inside]

    def _predict(self, similarities):
        return np.interp(similarities, self.similarities_, self.probabilities_)


METHODS: dict[str, type[Calibrator]] = {kind.name: kind for kind in (MinMax, Platt, Temperature, Beta, Isotonic)}


def fit(method: str, similarities: np.ndarray, labels: np.ndarray, prior: float | None = None) -> Calibrator:
    """A map of `METHODS` fitted to pairs, re-weighted to the balance of production; see `statistics.prior_weights`."""
    return METHODS[method]().fit(similarities, labels, prior_weights(labels, prior))


def from_dict(values: Mapping[str, Any]) -> Calibrator:
    """The fitted calibrator that `Calibrator.to_dict` wrote.

    Raises:
        InputError: if the method is unknown or a number is missing.
    """
    kind = METHODS.get(values.get("method"))
    if kind is None or any(key not in values for key in kind.fitted):
        raise InputError(f"no calibration of this version: {sorted(values)}; run 05_calibrate again")
    calibrator = kind()
    for key in kind.fitted:
        setattr(calibrator, key, np.asarray(values[key]) if isinstance(values[key], list) else values[key])
    return calibrator


@dataclass(frozen=True)
class Combination:
    """The probability by bi-encoder and cross-encoder together: a logistic regression on the log-odds of both.

    Attributes:
        similarity: weight of the log-odds of the calibrated similarity, >= 0.
        reranker: weight of the log-odds of the cross-encoder's score, >= 0.
        intercept: what is added.
    """

    similarity: float
    reranker: float
    intercept: float

    @classmethod
    def fit(cls, probabilities: np.ndarray, reranker: np.ndarray, labels: np.ndarray) -> Self:
        """Fit to (n,) calibrated probabilities, cross-encoder scores in [0, 1] and labels 0 or 1."""
        labels = np.asarray(labels, dtype=np.float64)
        features = np.column_stack([_odds(probabilities), _odds(reranker)])
        slopes, intercept = _logistic(features, _platt_targets(labels), np.ones(len(labels)))
        for kept in (0, 1):
            # a score that would count against a pair is left out
            if slopes[1 - kept] < 0:
                slope, intercept = _logistic(features[:, [kept]], _platt_targets(labels), np.ones(len(labels)))
                slopes = np.eye(2)[kept] * max(slope[0], 0)
        return cls(float(slopes[0]), float(slopes[1]), intercept)

    def predict(self, probabilities: np.ndarray, reranker: np.ndarray) -> np.ndarray:
        """(n,) float64 in [0, 1]."""
        return _sigmoid(self.similarity * _odds(probabilities) + self.reranker * _odds(reranker) + self.intercept)


# --- the balance of production ------------------------------------------------------------------------------------


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
    for name, kind in METHODS.items():
        offered = name != "isotonic" or len(labels) >= isotonic_min_pairs
        loss = np.nan
        if offered:
            predicted = np.empty(len(labels))
            for train, held in splits:
                try:
                    fitted = kind().fit(similarities[train], labels[train], weights[train])
                    predicted[held] = fitted.predict(similarities[held])
                except InputError:
                    # the scores rank these folds no better than chance: the share of positives is all there is to say
                    predicted[held] = np.average(labels[train], weights=weights[train])
            loss = log_loss(predicted, labels, weights)
        rows.append((name, loss, offered))
    return pd.DataFrame(rows, columns=["method", "log_loss", "offered"]).sort_values("log_loss", ignore_index=True)


def judge(
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


# --- shared -------------------------------------------------------------------------------------------------------


def _unit(similarities: np.ndarray) -> np.ndarray:
    return ((1 + similarities) / 2).clip(EDGE, 1 - EDGE)


def _log_odds(similarities: np.ndarray) -> np.ndarray:
    u = _unit(similarities)
    return np.log(u) - np.log1p(-u)


def _odds(probabilities: np.ndarray) -> np.ndarray:
    p = np.asarray(probabilities, dtype=np.float64).clip(EDGE, 1 - EDGE)
    return np.log(p) - np.log1p(-p)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    # the form with tanh overflows nowhere
    return 0.5 + 0.5 * np.tanh(0.5 * values)


def _root(square: float) -> float:
    return float(np.sqrt(max(square, 0)))


def _platt_targets(labels: np.ndarray, positives: float | None = None, negatives: float | None = None) -> np.ndarray:
    positives = labels.sum() if positives is None else positives
    negatives = (1 - labels).sum() if negatives is None else negatives
    return np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _logistic(
    features: np.ndarray, targets: np.ndarray, weight: np.ndarray, intercept: bool = True
) -> tuple[np.ndarray, float]:
    """Maximum-likelihood logistic regression on targets in [0, 1]: coefficients and intercept.

    A target t is a positive of weight t and a negative of weight 1 - t. The penalty is the one betacal uses: it only
    stops parted kinds from making the coefficients infinite.
    """
    from sklearn.linear_model import LogisticRegression

    count = len(targets)
    twice = np.r_[targets * weight, (1 - targets) * weight]
    used = twice > 0
    # centred features: the solver's steps are well scaled on bunched similarities
    centre, scale = features.mean(0), np.maximum(features.std(0), 1e-12)
    scaled = np.vstack([(features - centre * intercept) / scale] * 2)[used]
    model = LogisticRegression(
        C=99999999999, solver="newton-cholesky", tol=1e-12, max_iter=1000, fit_intercept=intercept
    )
    model.fit(scaled, np.repeat([1, 0], count)[used], twice[used])
    slopes = model.coef_[0] / scale
    return slopes.astype(float), float(model.intercept_[0] - slopes @ centre if intercept else 0.0)


def _must_rise(slope: float) -> None:
    if slope <= 0:
        raise InputError(
            "calibration: more similar pairs are not more often positives, so no threshold can work; the model has "
            "learnt nothing of these labels, or the labels are swapped (1 = same meaning)"
        )
