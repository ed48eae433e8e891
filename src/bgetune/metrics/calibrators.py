"""Calibrators: four monotone maps from similarity to probability, with the interface of scikit-learn.

A calibrator is fitted on similarities and labels and then holds a few numbers; `predict` needs NumPy and SciPy. All are
strictly increasing, so that ranking, AUC and average precision do not change (min-max within the range it was fitted
on). Where a method needs values between 0 and 1, it gets u = (1 + similarity) / 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit, logit

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.metrics.statistics import prior_weights

EDGE = 1e-6
"""Smallest distance of u from 0 and 1, so that logarithms are finite."""


class Calibrator:
    """Base class of the calibrators.

    Attributes:
        name: the name in `scoring.json`.
        fitted: names of the fitted attributes, which `to_dict` writes.
    """

    name: ClassVar[str]
    fitted: ClassVar[tuple[str, ...]]

    def fit(self, similarities: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit the calibrator to labelled pairs.

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
                _("calibration needs pairs of both kinds; {positives:.0f} of the {pairs} pairs are positive").format(
                    positives=labels.sum(), pairs=len(labels)
                )
            )
        weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self._fit(similarities, labels, weight)
        return self

    def predict(self, similarities: np.ndarray) -> np.ndarray:
        """The probabilities (n,) float64 in [0, 1] that the pairs of (n,) similarities mean the same."""
        return self._predict(np.asarray(similarities, dtype=np.float64))

    def inverse(self, probabilities: np.ndarray) -> np.ndarray:
        """The similarities (n,) float64 of (n,) probabilities (to 1e-6), to search by cosine with a probability as the
        threshold; -1 or 1 for a probability that no similarity has."""
        grid = np.linspace(-1, 1, 2001)
        return np.interp(probabilities, self.predict(grid), grid)

    def to_dict(self) -> dict[str, Any]:
        """Name and fitted values, ready for JSON; `from_dict` reads them."""
        return {"method": self.name} | {key: np.asarray(getattr(self, key)).tolist() for key in self.fitted}

    def _fit(self, similarities: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> None:
        raise NotImplementedError

    def _predict(self, similarities: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class MinMax(Calibrator):
    """Linear scaling of similarities to [0, 1]. The result is no probability.

    Args:
        quantiles: the quantiles of the similarities that become 0 and 1. Those other than 0 and 1 make the scaling
            robust to single pairs.
        bounds: the two similarities that become 0 and 1; nothing is fitted then.
    """

    name = "min_max"
    fitted = ("low_", "high_")

    def __init__(self, quantiles: Sequence[float] = (0, 1), bounds: Sequence[float] | None = None):
        self.quantiles = quantiles
        self.bounds = bounds

    def _fit(self, similarities, labels, weight):
        low, high = np.quantile(similarities, self.quantiles) if self.bounds is None else self.bounds
        self.low_, self.high_ = float(low), float(high)
        if self.low_ == self.high_:
            raise InputError(
                _("calibration: all similarities are {value}; is the model the right one?").format(value=self.low_)
            )

    def _predict(self, similarities):
        return ((similarities - self.low_) / (self.high_ - self.low_)).clip(0, 1)


class Platt(Calibrator):
    """Platt scaling: a logistic function of the similarity, fitted to the targets (N+ + 1)/(N+ + 2) and 1/(N- + 2).

    These targets keep the slope finite where positives and negatives are separated completely (Platt, 1999). They hold
    for the balance of the sample: the balance that the weights ask for is put into the intercept afterwards.
    """

    name = "platt"
    fitted = ("slope_", "intercept_")

    def _fit(self, similarities, labels, weight):
        plain, shift = _of_sample_balance(labels, weight)
        (self.slope_,), self.intercept_ = _logistic(similarities[:, None], _platt_targets(labels), plain)
        self.intercept_ += shift
        _must_rise(self.slope_)

    def _predict(self, similarities):
        return expit(self.slope_ * similarities + self.intercept_)


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
        return expit(self._features(similarities) @ [self.a_, self.b_] + self.c_)

    @staticmethod
    def _features(similarities: np.ndarray) -> np.ndarray:
        u = _unit(similarities)
        return np.column_stack([np.log(u), -np.log1p(-u)])


class Isotonic(Calibrator):
    """Isotonic regression, linearly interpolated between the centres of its steps.

    The steps of plain isotonic regression give equal scores to unequal similarities, which changes the ranking, and
    reach 0 and 1. The interpolation is strictly increasing, and its ends stay within Platt's targets.
    """

    name = "isotonic"
    fitted = ("similarities_", "probabilities_")

    def _fit(self, similarities, labels, weight):
        from sklearn.isotonic import IsotonicRegression

        similarities = similarities.round(12)  # the interpolation between values such as 0 and 1e-39 is not finite
        steps = IsotonicRegression().fit(similarities, labels, weight).predict(similarities)
        ends = _platt_targets(np.array([0.0, 1.0]), positives=labels.sum(), negatives=(1 - labels).sum())
        low, high = expit(logit(ends) + _of_sample_balance(labels, weight)[1])
        values, step = np.unique(steps, return_inverse=True)
        if len(values) < 2:
            _must_rise(0.0)
        centres = np.bincount(step, weight * similarities) / np.bincount(step, weight)
        values, first = np.unique(values.clip(low, high), return_index=True)
        # beyond the outermost centres: to half the lowest probability at -1, half-way from the highest to 1 at 1
        self.similarities_ = np.r_[-1.0, centres[first], 1.0]
        self.probabilities_ = np.r_[values[0] / 2, values, (1 + values[-1]) / 2]
        inside = np.r_[True, (centres[first] > -1) & (centres[first] < 1), True]
        self.similarities_, self.probabilities_ = self.similarities_[inside], self.probabilities_[inside]

    def _predict(self, similarities):
        return np.interp(similarities, self.similarities_, self.probabilities_)


METHODS: dict[str, type[Calibrator]] = {kind.name: kind for kind in (MinMax, Platt, Beta, Isotonic)}


def make(method: str, min_max: Mapping[str, Any] | None = None) -> Calibrator:
    """A calibrator of `METHODS`, not fitted yet.

    Args:
        method: its name.
        min_max: arguments of `MinMax`.
    """
    return METHODS[method](**(min_max or {})) if method == MinMax.name else METHODS[method]()


def fit(
    method: str,
    similarities: np.ndarray,
    labels: np.ndarray,
    prior: float | None = None,
    min_max: Mapping[str, Any] | None = None,
) -> Calibrator:
    """A calibrator of `METHODS` fitted to pairs.

    Args:
        method: its name.
        similarities: (n,) cosines.
        labels: (n,) 0 or 1.
        prior: share of positives in production; see `statistics.prior_weights`.
        min_max: arguments of `MinMax`.

    Raises:
        InputError: see `Calibrator.fit`.
    """
    return make(method, min_max).fit(similarities, labels, prior_weights(labels, prior))


def from_dict(values: Mapping[str, Any]) -> Calibrator:
    """The fitted calibrator that `Calibrator.to_dict` wrote.

    Raises:
        InputError: if the method is unknown or a number is missing.
    """
    kind = METHODS.get(str(values.get("method")))
    if kind is None or any(key not in values for key in kind.fitted):
        raise InputError(
            _("no calibration of this version: {found}; run 05_calibrate again").format(found=sorted(values))
        )
    calibrator = kind()
    for key in kind.fitted:
        setattr(calibrator, key, np.asarray(values[key]) if isinstance(values[key], list) else values[key])
    return calibrator


@dataclass(frozen=True)
class Combination:
    """Probability from bi-encoder and cross-encoder together: a logistic regression on the log-odds of both.

    Attributes:
        similarity: weight of the log-odds of the calibrated similarity, >= 0.
        reranker: weight of the log-odds of the cross-encoder's score, >= 0.
        intercept: of the regression.
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
            # a score with a negative weight is left out
            if slopes[1 - kept] < 0:
                slope, intercept = _logistic(features[:, [kept]], _platt_targets(labels), np.ones(len(labels)))
                slopes = np.eye(2)[kept] * max(slope[0], 0)
        return cls(float(slopes[0]), float(slopes[1]), intercept)

    def predict(self, probabilities: np.ndarray, reranker: np.ndarray) -> np.ndarray:
        """(n,) float64 in [0, 1]."""
        return expit(self.similarity * _odds(probabilities) + self.reranker * _odds(reranker) + self.intercept)


def _unit(similarities: np.ndarray) -> np.ndarray:
    return ((1 + similarities) / 2).clip(EDGE, 1 - EDGE)


def _odds(probabilities: np.ndarray) -> np.ndarray:
    p = np.asarray(probabilities, dtype=np.float64).clip(EDGE, 1 - EDGE)
    return logit(p)


def _of_sample_balance(labels: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """The weights without what they change of the classes' balance, and the shift of all log-odds that this change is.

    Args:
        labels, weight: (n,); both labels occur.
    """
    of_class = [weight[labels == label].mean() for label in (0, 1)]
    return weight / np.where(labels == 1, of_class[1], of_class[0]), float(np.log(of_class[1] / of_class[0]))


def _platt_targets(labels: np.ndarray, positives: float | None = None, negatives: float | None = None) -> np.ndarray:
    positives = labels.sum() if positives is None else positives
    negatives = (1 - labels).sum() if negatives is None else negatives
    return np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _logistic(features: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Maximum-likelihood logistic regression on targets in [0, 1]: coefficients and intercept.

    A target t counts as a positive of weight t and a negative of weight 1 - t. The tiny penalty, that of betacal, keeps
    the coefficients finite where positives and negatives are separated completely.

    Args:
        features: (n, k).
        targets: (n,) in [0, 1].
        weight: (n,).

    Returns:
        (k,) coefficients, and the intercept.
    """
    from sklearn.linear_model import LogisticRegression

    count = len(targets)
    twice = np.r_[targets * weight, (1 - targets) * weight]
    used = twice > 0
    # centred and scaled, because similarities in a narrow band make the solver's steps badly scaled
    centre, scale = features.mean(0), np.maximum(features.std(0), 1e-12)
    scaled = np.vstack([(features - centre) / scale] * 2)[used]
    model = LogisticRegression(C=99999999999, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit(scaled, np.repeat([1, 0], count)[used], twice[used])
    slopes = model.coef_[0] / scale
    return slopes.astype(float), float(model.intercept_[0] - slopes @ centre)


def _must_rise(slope: float) -> None:
    if slope <= 0:
        raise InputError(
            _(
                "calibration: more similar pairs are not more often positives, so no threshold can work; the "
                "model has learnt nothing of these labels, or the labels are swapped (1 = same meaning)"
            )
        )
