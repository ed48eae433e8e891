"""Thresholds with a guarantee: a precision or a recall that holds on new pairs, not only on those it was picked on.

The lowest threshold that shows 95 % precision on a sample is too low more often than not: among many thresholds it is
the one that chance favoured. Here thresholds are tested from the highest down, each by an exact binomial test, until
one fails (fixed-sequence testing, as in Learn then Test, arXiv 2110.01052). The probability that the last threshold
that passed has a lower precision than wanted is at most 1 - confidence, for independent pairs, any sample size and any
distribution of scores in which a higher threshold does not mean a lower precision. Where pairs of a cluster err
together, an estimated design effect stands for their dependence, and nothing can see a kind of meaning that the sample
lacks. In simulations at a confidence of 0.95 the guarantee was kept in 94 % of the samples of 56 clusters of 20 pairs
with an effect of each cluster on its negatives, in 90 % of those of 20 clusters of 50 and in 83 % of those of 12 of 80;
where the model confuses 6 % of all meanings as a whole, in 90 % with 56 clusters of 20 and in 67 % with 20 of 40
(`tests/benchmarks/bench_calibration.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bgetune.metrics import worth
from bgetune.metrics.calibrators import Calibrator
from bgetune.metrics.statistics import clopper_pearson, fewest_pairs, prior_weights

TWO_STARTS = 20
"""Sample size, in multiples of the fewest pairs a test can pass with, from which a second start pays.

Measured on normal scores: from here on it gains more recall than halving the error rate costs."""

GUARANTEE_COLUMNS = [
    "precision", "cosine", "probability", "lower_bound", "recall", "test_precision", "test_interval", "test_recall",
    "guarantee",
]  # fmt: skip

CERTAIN = 1.1
"""Smallest number of pairs said to be needed, as a multiple of those there are: the estimate is no finer than that."""

FEW = 20
"""Pairs above a threshold below which their precision is no evidence of what more pairs would show."""


@dataclass(frozen=True)
class PrecisionGuarantee:
    """A wanted precision and the lowest threshold that guarantees it.

    Attributes:
        precision, confidence: what was asked for.
        threshold: same meaning when similarity >= it; None where there are too few pairs to prove it.
        lower_bound: of the precision at the threshold, one-sided at `confidence`.
        predicted, correct: pairs at or above the threshold, and the positives among them.
        recall, coverage: share of the positives, and of all pairs, at or above it (coverage at the balance of `prior`).
        needed: where there is no threshold, the pairs it takes at least; None if more pairs would not help.
        needed_recall: share of the positives that the threshold would then find; None where nothing tells.
        note: the outcome in words.
    """

    precision: float
    confidence: float
    threshold: float | None
    lower_bound: float | None
    predicted: int
    correct: int
    recall: float
    coverage: float
    needed: int | None
    needed_recall: float | None
    note: str


def precision_guarantee(
    similarities: np.ndarray,
    labels: np.ndarray,
    precision: float,
    *,
    confidence: float = 0.95,
    clusters: Sequence | None = None,
    prior: float | None = None,
) -> PrecisionGuarantee:
    """The lowest threshold whose precision is at least the wanted one, with confidence.

    Pairs are ordered by similarity, without a look at the labels, and the precision above each is tested from the
    first rank that could pass (`fewest_pairs`) downwards. In large samples a second sequence starts further down and
    each gets half of the error rate, so that one early mistake of the model does not end everything.

    Pairs of one cluster err together. The tests therefore count an effective number of pairs: divided by the design
    effect, the larger of the one seen above the threshold and of the one that the correlation of all residuals inside
    clusters gives. Measured on clusters of 10 pairs with correlation 0.6: without it 95 % precision was
    reached in 85 to 91 % of the samples, with it in 97 % or more (`tests/benchmarks/bench_calibration.py`).

    With `prior`, the guarantee is for pairs of that balance: class-wise the scores are assumed to be as here, precision
    is tested at the value it has at the balance of the sample, and the balance's own error costs a fifth of the error
    rate.

    Args:
        similarities: (n,) cosines.
        labels: (n,) 0 or 1.
        precision: wanted, in (0, 1).
        clusters: (n,) what errs together; None: every pair by itself.
        prior: share of positives in production.
    """
    from scipy.special import betainc

    order = np.argsort(-np.asarray(similarities, dtype=np.float64), kind="stable")
    scores = np.asarray(similarities, dtype=np.float64)[order]
    labels = np.asarray(labels, dtype=np.float64)[order]
    count, positives = len(labels), labels.sum()
    risk, wanted = 1 - confidence, precision
    if prior is not None:
        risk, wanted = 0.8 * risk, _at_sample_balance(precision, positives, count, prior, 0.2 * risk)

    # a threshold cannot part equal scores
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True]) if count else np.array([], dtype=int)
    ranks, correct = last + 1.0, np.cumsum(labels)[last]
    effect = np.ones(count) if clusters is None else design_effect(scores, labels, np.asarray(clusters)[order])
    effective, hits = ranks / effect[last], correct / effect[last]

    two = count >= TWO_STARTS * fewest_pairs(wanted, 1 - risk)
    level = risk / 2 if two else risk
    fewest = fewest_pairs(wanted, 1 - level)
    # P(this many hits or more, if the precision were the wanted one): the lower bound is above it when this is <= level
    passed = (hits > 0) & (betainc(np.maximum(hits, 1e-12), effective - hits + 1, wanted) <= level)
    lowest = _last_in_a_row(passed, effective, [fewest, np.sqrt(fewest * count)] if two else [fewest])

    if lowest is None:
        missing = _needed(ranks, correct, effect[last], wanted, level)
        return PrecisionGuarantee(precision, confidence, None, None, 0, 0, 0.0, 0.0, *missing)
    bound = clopper_pearson(hits[lowest], effective[lowest], 1 - 2 * level)[0]
    above = np.arange(count) <= last[lowest]
    note = f"precision at least {precision:.0%} with {confidence:.0%} confidence"
    meanings = count if clusters is None else len(np.unique(np.asarray(clusters)[order][above]))
    if meanings < fewest_pairs(precision, confidence):
        note += f"; from {meanings} clusters only, so that a meaning that the model confuses as a whole may be missing"
    return PrecisionGuarantee(
        precision,
        confidence,
        threshold=float(scores[last[lowest]]),
        # the bound at the sample's balance, taken to the one asked for as the wanted precision was taken from it
        lower_bound=_expit(_logit(float(bound)) - _logit(wanted) + _logit(precision)),
        predicted=int(ranks[lowest]),
        correct=int(correct[lowest]),
        recall=float(correct[lowest] / positives),
        coverage=float(np.average(above, weights=prior_weights(labels, prior))),
        needed=None,
        needed_recall=None,
        note=note,
    )


def design_effect(scores: np.ndarray, labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """How many pairs at or above each rank are worth one independent pair.

    The larger of two estimates, and at least 1: the variance of the number of errors between clusters over its binomial
    variance, among the pairs above; and 1 + rho (m - 1) with the correlation rho of all pairs' residuals inside
    clusters and the mean size m of the clusters among the pairs above (Kish). The first sees what happens where it
    matters but needs errors to see anything; the second is steady.

    Args:
        scores: (n,) descending.
        labels: (n,) 0 or 1.
        clusters: (n,).

    Returns:
        (n,) float64 >= 1.
    """
    from sklearn.isotonic import IsotonicRegression

    count = len(scores)
    codes = np.unique(clusters, return_inverse=True)[1]
    together = pd.DataFrame({"cluster": codes, "label": labels}).groupby("cluster")["label"]
    size, hits = together.cumcount().to_numpy(), together.cumsum().to_numpy() - labels
    # sums over clusters of n^2, k^2 and k n, as each pair adds to them
    squares = np.cumsum(2 * size + 1.0)
    hit_squares = np.cumsum(labels * (2 * hits + 1))
    products = np.cumsum((hits + labels) * (size + 1) - hits * size)
    ranks = np.arange(1, count + 1)
    share = np.cumsum(labels) / ranks
    binomial = ranks * share * (1 - share)
    between = hit_squares - 2 * share * products + share**2 * squares
    seen = np.divide(between, binomial, out=np.ones(count), where=binomial > 0)

    residuals = labels - IsotonicRegression(out_of_bounds="clip").fit(scores, labels).predict(scores)
    sums, sizes = np.bincount(codes, residuals), np.bincount(codes)
    pairs = (sizes * (sizes - 1)).sum()
    correlation = ((sums**2).sum() - (residuals**2).sum()) / max(pairs, 1) / max(np.mean(residuals**2), 1e-12)
    return np.maximum(np.maximum(seen, 1), 1 + max(correlation, 0) * (squares / ranks - 1))


def _last_in_a_row(passed: np.ndarray, effective: np.ndarray, starts: Sequence[float]) -> int | None:
    """The last position that passed, with all before it back to a start; the furthest of all starts."""
    ends = []
    for start in starts:
        if not (effective >= start).any():
            continue
        first = int(np.argmax(effective >= start))
        in_a_row = int(np.cumprod(passed[first:]).sum())
        if in_a_row:
            ends.append(first + in_a_row - 1)
    return max(ends, default=None)


def _needed(
    ranks: np.ndarray, correct: np.ndarray, effect: np.ndarray, wanted: float, level: float
) -> tuple[int | None, float | None, str]:
    """How many pairs it takes at least, if those above the best rank go on to be as precise as they look; the recall
    that the threshold would have then; both in words."""
    from scipy.special import betainc

    fewest, total = fewest_pairs(wanted, 1 - level), ranks[-1] if len(ranks) else 0
    seen = np.where(ranks >= FEW, correct / ranks, 0)
    possible = (ranks >= FEW) & (clopper_pearson(correct / effect, ranks / effect, 0.95)[1] >= wanted)
    if total < fewest:
        return fewest, None, f"too few pairs: a test needs {fewest} above a threshold, all correct, to pass at all"
    if not possible.any():
        note = (
            f"no threshold is that precise (best on these pairs: {seen.max():.1%}); more pairs will not help, a better "
            f"model or a reranker will"
        )
        return None, None, note
    # where nothing looks precise enough, but chance may have made it look worse: the fewest that can pass, all correct
    good = seen > wanted if (seen > wanted).any() else possible
    likely = np.where(seen > wanted, seen, 1.0)[good]
    share, effect = ranks[good] / total, effect[good]
    low, high = np.full(len(likely), float(fewest)), np.full(len(likely), 1e9)
    for _ in range(60):
        middle = np.sqrt(low * high)
        passes = betainc(likely * middle, (1 - likely) * middle + 1, wanted) <= level
        low, high = np.where(passes, low, middle), np.where(passes, middle, high)
    wanted_pairs = high * effect / share
    needed, best = int(np.ceil(wanted_pairs.min())), int(wanted_pairs.argmin())
    if needed <= total:  # there are enough, but the test goes down from the top and has ended before
        first = min(int(np.searchsorted(ranks, fewest)), len(ranks) - 1)
        wrong = f"{ranks[first] - correct[first]:,.0f} of the first {ranks[first]:,.0f} have the label 0"
        note = (
            f"the most similar pairs are less precise than those below them ({wrong}), and no threshold is chosen past "
            f"them: check their labels; more pairs alone will not help"
        )
        return None, None, note
    recall = float(correct[good][best] / max(correct[-1], 1))
    needed = max(needed, int(np.ceil(CERTAIN * total)))
    note = (
        f"too few pairs: at least {needed:,} labelled pairs like these are needed, there are {total:,.0f}; the "
        f"threshold would then find about {recall:.0%} of the positives"
    )
    return needed, recall, note


def _at_sample_balance(precision: float, positives: float, count: int, prior: float, risk: float) -> float:
    """The precision that pairs of the sample's balance must show, for `precision` at the balance of `prior`.

    The odds of a positive above a threshold change with the odds of a positive overall. The share of positives is
    taken at its upper confidence bound, which asks for more.
    """
    share = float(clopper_pearson(positives, count, 1 - 2 * risk)[1])
    return _expit(_logit(precision) + _logit(min(share, 1 - 1e-9)) - _logit(prior))


def _logit(share: float) -> float:
    return float(np.log(share) - np.log1p(-share))


def _expit(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds)))


# --- other thresholds ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecallGuarantee:
    """A threshold that new positives reach with a wanted probability.

    Attributes:
        recall: wanted.
        threshold: None where there are too few positives; `needed` says how many it takes.
        precision, coverage: of the pairs at or above the threshold, at the balance of `prior`.
    """

    recall: float
    threshold: float | None
    precision: float
    coverage: float
    needed: int | None


def recall_guarantee(
    similarities: np.ndarray,
    labels: np.ndarray,
    recall: float,
    *,
    confidence: float | None = None,
    prior: float | None = None,
) -> RecallGuarantee:
    """The highest threshold that a new positive reaches with probability `recall` or more (split conformal prediction).

    The threshold is the floor((n + 1)(1 - recall))-th smallest similarity of the n positives: exact on average over
    samples, for any distribution, if a new positive is exchangeable with these (Vovk et al., 2005).

    Args:
        confidence: None: the guarantee on average. Else it holds for this very sample's threshold with this
            confidence, by the Beta distribution of order statistics.
        prior: share of positives in production, for precision and coverage.
    """
    from scipy.special import betainc

    similarities, labels = np.asarray(similarities, dtype=np.float64), np.asarray(labels)
    ordered = np.sort(similarities[labels == 1])
    count = len(ordered)
    if confidence is None:
        rank = int(np.floor((count + 1) * (1 - recall) + 1e-9))
        needed = int(np.ceil(1 / (1 - recall) - 1e-9)) - 1
    else:
        ranks = np.arange(1, count + 1)
        # the share of positives at or above the rank-th smallest is Beta(count + 1 - rank, rank) distributed
        rank = int((betainc(count + 1 - ranks, ranks, recall) <= 1 - confidence).sum())
        needed = fewest_pairs(recall, confidence)
    if rank < 1:
        return RecallGuarantee(recall, None, 0.0, 0.0, needed)
    threshold = float(ordered[rank - 1])
    at = point(similarities, labels, threshold, prior)
    return RecallGuarantee(recall, threshold, at["precision"], at["coverage"], None)


def curve(similarities: np.ndarray, labels: np.ndarray, prior: float | None = None) -> pd.DataFrame:
    """What every threshold would do on these pairs.

    Returns:
        ``threshold, precision, recall, coverage, false_positive_rate, f1``, thresholds descending, one row a distinct
        similarity.
    """
    weights = prior_weights(labels, prior)
    frame = pd.DataFrame({"threshold": np.asarray(similarities, float), "all": weights, "true": weights * labels})
    sums = frame.groupby("threshold").sum().sort_index(ascending=False).cumsum()
    positives, total = sums["true"].iloc[-1], sums["all"].iloc[-1]
    return pd.DataFrame(
        {
            "precision": sums["true"] / sums["all"],
            "recall": sums["true"] / positives,
            "coverage": sums["all"] / total,
            "false_positive_rate": (sums["all"] - sums["true"]) / (total - positives),
            "f1": 2 * sums["true"] / (sums["all"] + positives),
        }
    ).reset_index()


def point(
    similarities: np.ndarray, labels: np.ndarray, threshold: float, prior: float | None = None
) -> dict[str, float]:
    """Precision, recall, coverage and F1 of one threshold on these pairs (precision 0 where nothing reaches it)."""
    weights, labels = prior_weights(labels, prior), np.asarray(labels)
    above = np.asarray(similarities) >= threshold
    true, accepted, positives = (weights * labels * above).sum(), (weights * above).sum(), (weights * labels).sum()
    return {
        "threshold": float(threshold),
        "precision": float(true / accepted) if accepted else 0.0,
        "recall": float(true / positives),
        "coverage": float(accepted / weights.sum()),
        "f1": float(2 * true / (accepted + positives)),
    }


def points(
    named: Mapping[str, float],
    similarities: np.ndarray,
    labels: np.ndarray,
    calibrator: Calibrator,
    prior: float | None,
) -> pd.DataFrame:
    """`point` of several thresholds, a row each: ``label`` (its name), what `point` gives, and ``probability``."""
    rows = [point(similarities, labels, threshold, prior) for threshold in named.values()]
    found = pd.DataFrame(rows, columns=["threshold", "precision", "recall", "coverage", "f1"]).assign(
        probability=calibrator.predict(np.array(list(named.values())))
    )
    found.insert(0, "label", list(named))
    return found


def precision_interval(similarities: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[float, float, int]:
    """Bounds of the precision at a threshold on test pairs (Clopper-Pearson, 95 %), and the pairs that reach it.

    At the balance of the pairs: it does not surround a precision that a prior re-weights.
    """
    above = np.asarray(similarities) >= threshold
    low, high = clopper_pearson(np.asarray(labels)[above].sum(), above.sum(), 0.95)
    return float(low), float(high), int(above.sum())


def best_f1(similarities: np.ndarray, labels: np.ndarray, prior: float | None = None) -> dict[str, float]:
    """The threshold with the highest F1 on these pairs, and what `point` says of it.

    On calibrated probabilities it lies at half of the F1 it reaches, not at 0.5 (Lipton et al., arXiv 1402.1892).
    """
    table = curve(similarities, labels, prior)
    return point(similarities, labels, table["threshold"].iloc[table["f1"].argmax()], prior)


@dataclass(frozen=True)
class Thresholds:
    """All thresholds of a model, chosen on the same pairs.

    Attributes:
        precisions: a guarantee for each wanted precision.
        recalls: a guarantee for each wanted recall.
        best_f1: `point` at the threshold with the highest F1; None where no threshold can be trusted (`worth.doubt`).
    """

    precisions: list[PrecisionGuarantee]
    recalls: list[RecallGuarantee]
    best_f1: dict[str, float] | None

    @property
    def named(self) -> dict[str, float]:
        """What each threshold is for -> similarity; only those that exist."""
        recalls = {f"recall {made.recall:.0%}": made.threshold for made in self.recalls}
        precisions = {f"precision {made.precision:.0%}": made.threshold for made in self.precisions}
        found = {"best F1": self.best_f1["threshold"] if self.best_f1 else None} | recalls | precisions
        return {name: threshold for name, threshold in found.items() if threshold is not None}

    def to_dict(self) -> dict[str, Any]:
        """As `scoring.json` keeps them."""
        return {
            "precision": [asdict(made) for made in self.precisions],
            "recall": [asdict(made) for made in self.recalls],
            "best_f1": self.best_f1,
        }


def choose(
    similarities: np.ndarray,
    labels: np.ndarray,
    *,
    precisions: Sequence[float],
    recalls: Sequence[float] = (),
    confidence: float = 0.95,
    clusters: Sequence | None = None,
    prior: float | None = None,
) -> Thresholds:
    """`precision_guarantee` for each precision, `recall_guarantee` for each recall, and `best_f1`.

    Where the pairs cannot carry a threshold (`worth.doubt`), there is none.
    """
    kept = [
        precision_guarantee(similarities, labels, wanted, confidence=confidence, clusters=clusters, prior=prior)
        for wanted in precisions
    ]
    found = [recall_guarantee(similarities, labels, wanted, prior=prior) for wanted in recalls]
    if why := worth.doubt(similarities, labels, clusters):
        none: dict[str, Any] = {"threshold": None, "lower_bound": None, "note": worth.NOTES[why]}
        none |= {"predicted": 0, "correct": 0, "recall": 0.0, "coverage": 0.0}
        kept = [made if made.threshold is None else replace(made, **none) for made in kept]
        found = [replace(made, threshold=None, precision=0.0, coverage=0.0) for made in found]
        return Thresholds(kept, found, None)
    return Thresholds(kept, found, best_f1(similarities, labels, prior))


def guarantee_table(
    guarantees: Sequence[PrecisionGuarantee],
    similarities: np.ndarray,
    labels: np.ndarray,
    calibrator: Calibrator,
    prior: float | None,
) -> pd.DataFrame:
    """Precision guarantees beside the precision on test pairs, on which no threshold was chosen.

    Args:
        similarities, labels: (n,) of the test pairs.
        calibrator: gives each threshold as a calibrated score.

    Returns:
        ``precision`` wanted, ``cosine`` and ``probability`` of the threshold, ``lower_bound`` of the precision,
        ``recall``, ``test_precision, test_interval`` (95 %, in words), ``test_recall, guarantee``; empty where there is
        no threshold.
    """
    rows = []
    for made in guarantees:
        row = dict.fromkeys(GUARANTEE_COLUMNS) | {"precision": made.precision, "guarantee": made.note}
        if made.threshold is not None:
            seen = point(similarities, labels, made.threshold, prior)
            low, high, accepted = precision_interval(similarities, labels, made.threshold)
            row |= {
                "cosine": made.threshold,
                "probability": float(calibrator.predict(np.array([made.threshold]))[0]),
                "lower_bound": made.lower_bound,
                "recall": made.recall,
                "test_precision": seen["precision"],
                # at the balance of the pairs: with a prior it does not surround the re-weighted precision
                "test_interval": f"{low:.3f} to {high:.3f} ({accepted:,} pairs)" if prior is None else "",
                "test_recall": seen["recall"],
            }
        rows.append(row)
    return pd.DataFrame(rows, columns=GUARANTEE_COLUMNS)
