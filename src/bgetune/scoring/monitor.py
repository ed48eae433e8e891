"""New traffic against the scores that the calibration was made on: has anything moved, and what helps?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.files import write_atomic
from bgetune.locale import _
from bgetune.scoring.monitor_page import page
from bgetune.scoring.reference import UNLABELLED, unlabelled

BINS = 10
FEWEST = 100
"""Pairs below which nothing is said: chance alone moves the distribution too far."""

SMALL, LARGE = 0.1, 0.25
"""The usual limits of the population stability index: below the first nothing moved, above the second much did."""

TOLERABLE_ECE = 0.05
"""Calibration error that a new calibration is worth for, when it is certain."""

LEAST_PRIOR, MOST_PRIOR = 0.0001, 0.99
"""Bounds of an advised `prior`: with two digits it stays inside (0, 1), and YAML reads it as a number (not 1e-05)."""


@dataclass(frozen=True)
class Comparison:
    """New scores against the reference.

    Attributes:
        verdict: ``stable``, ``recalibrate``, ``retrain`` or ``too few pairs``; `advice` says it in words.
        psi, psi_band: population stability index, and what chance alone stays below in 99 % of cases.
        ks, ks_band: Kolmogorov-Smirnov distance and its 99 % band.
        prior: share of positives that explains the new scores best, if only the class balance moved; None where the
            reference has no labels.
        psi_after_prior, ks_after_prior: what such a change leaves unexplained.
        edges, known_shares, new_shares: bins of the index that hold equal shares of the reference: the b - 1 cosines
            between them, and the (b,) shares of the reference and of the new pairs.
        auc, auc_interval, ece, ece_interval: of the new pairs, where they have labels; no AUC where all are the same.
    """

    verdict: str
    advice: str
    pairs: int
    psi: float
    psi_band: float
    ks: float
    ks_band: float
    prior: float | None
    psi_after_prior: float | None
    ks_after_prior: float | None
    edges: list[float]
    known_shares: list[float]
    new_shares: list[float]
    auc: float | None = None
    auc_interval: list[float] | None = None
    ece: float | None = None
    ece_interval: list[float] | None = None


def psi(known: np.ndarray, new: np.ndarray) -> float:
    """Population stability index of two (bins,) shares, ``sum((new - known) * ln(new / known))``.

    Shares below 0.0001 count as that, as is usual, so that an empty bin does not make the index infinite.
    """
    known, new = np.maximum(known, 1e-4), np.maximum(new, 1e-4)
    return float(((new - known) * np.log(new / known)).sum())


def psi_band(known_pairs: float, new_pairs: int, bins: int = BINS, confidence: float = 0.99) -> float:
    """What the index stays below when nothing moved: (1/n + 1/m) times a chi-square quantile (Yurdakul, 2018)."""
    from scipy.stats import chi2

    return float(chi2.ppf(confidence, bins - 1) * (1 / known_pairs + 1 / new_pairs))


def ks_band(known_pairs: float, new_pairs: int, confidence: float = 0.99) -> float:
    """What the Kolmogorov-Smirnov distance of two samples stays below when nothing moved (asymptotic)."""
    from scipy.stats import kstwobign

    return float(kstwobign.ppf(confidence) * np.sqrt(1 / known_pairs + 1 / new_pairs))


def compare(
    known: Mapping[str, Any],
    similarities: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    prior: float | None = None,
    known_auc: float | None = None,
    known_auc_low: float | None = None,
    bins: int = BINS,
    seed: int = 42,
) -> Comparison:
    """Has the distribution of scores moved, and is a new calibration enough?

    Without labels: a move that another class balance explains needs a new `prior` only; one that no balance explains
    means that the scores of a class moved. With labels the question has a direct answer: a fallen AUC is the model's
    (retrain), wrong probabilities at the old AUC are the calibration's (recalibrate).

    Args:
        known: what `reference` made; or `unlabelled`: then a move as such is seen, not one of the balance.
        similarities: (n,) of new pairs.
        labels: (n,) 0 or 1, where people labelled the new pairs.
        probabilities: (n,) calibrated scores, needed with labels.
        prior: share of positives that the run was calibrated for; None: that of the calibration pairs.
        known_auc: AUC on the calibration's test pairs.
        known_auc_low: its lower bound, so that its own error raises no alarm; None: the AUC itself.
        bins: of the index, each holding the same share of the reference.
    """
    new = np.sort(np.asarray(similarities, dtype=np.float64))
    if len(new) == 0:
        raise InputError(_("there are no new pairs to compare; give a file with some"))
    if mixed := UNLABELLED not in known:
        kinds = [known["positive"], known["negative"]]
        positives, negatives = (kind["pairs"] for kind in kinds)
        balance = positives / (positives + negatives) if prior is None else prior
        # as many pairs as a sample of this balance would need to be known as well
        known_pairs = 1 / (balance**2 / positives + (1 - balance) ** 2 / negatives)
    else:
        kinds, balance, known_pairs = [known[UNLABELLED]] * 2, 0.5, known[UNLABELLED]["pairs"]

    def cdf(points: np.ndarray, share: float) -> np.ndarray:
        positive, negative = (
            np.interp(points, kind["quantiles"], np.linspace(0, 1, len(kind["quantiles"])), left=0, right=1)
            for kind in kinds
        )
        return share * positive + (1 - share) * negative

    def shares(share: float) -> np.ndarray:
        return np.diff(cdf(edges, share), prepend=0, append=1)

    def ks(share: float) -> float:
        expected, steps = cdf(new, share), np.arange(len(new) + 1) / len(new)
        return float(np.maximum(expected - steps[:-1], steps[1:] - expected).max())

    points = np.unique(np.concatenate([kind["quantiles"] for kind in kinds]))
    edges = np.unique(np.interp(np.linspace(0, 1, bins + 1)[1:-1], cdf(points, balance), points))
    seen = np.bincount(np.searchsorted(edges, new), minlength=len(edges) + 1) / len(new)
    best = _best_balance(shares(1), shares(0), seen) if mixed else None
    facts: dict[str, Any] = {
        "pairs": len(new),
        "psi": psi(shares(balance), seen),
        "psi_band": psi_band(known_pairs, len(new), len(edges) + 1),
        "ks": ks(balance),
        "ks_band": ks_band(known_pairs, len(new)),
        "prior": best,
        "psi_after_prior": None if best is None else psi(shares(best), seen),
        "ks_after_prior": None if best is None else ks(best),
        "edges": edges.tolist(),
        "known_shares": shares(balance).tolist(),
        "new_shares": seen.tolist(),
    }
    if labels is not None:
        facts |= _with_labels(np.asarray(similarities), np.asarray(labels), np.asarray(probabilities), seed)
    verdict, advice = _verdict(facts, balance, known_auc, known_auc if known_auc_low is None else known_auc_low)
    return Comparison(verdict=verdict, advice=advice, **facts)


def _best_balance(positive: np.ndarray, negative: np.ndarray, seen: np.ndarray, steps: int = 200) -> float:
    """The share of positives that makes the seen shares likeliest (EM of Saerens et al., 2002, on bins)."""
    prior = 0.5
    for _step in range(steps):
        belief = prior * positive / np.maximum(prior * positive + (1 - prior) * negative, 1e-12)
        prior = float((seen * belief).sum())
    return prior


def _with_labels(similarities: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, seed: int) -> dict[str, Any]:
    from bgetune.metrics.calibration import calibration_error
    from bgetune.metrics.separation import separation
    from bgetune.metrics.statistics import bootstrap, interval

    pairs = range(len(labels))
    error = calibration_error(probabilities, labels, pairs, seed=seed)
    facts: dict[str, Any] = {"ece": error.value, "ece_interval": error.interval}
    if 0 < labels.sum() < len(labels):
        auc = bootstrap(lambda weights: separation(similarities, labels, weights), pairs, 200, seed)["auc"]
        facts |= {"auc": float(separation(similarities, labels)["auc"][0]), "auc_interval": interval(auc)}
    return facts


def _verdict(
    facts: Mapping[str, Any], balance: float, known_auc: float | None, known_auc_low: float | None
) -> tuple[str, str]:
    if facts["pairs"] < FEWEST:
        return "too few pairs", _("{pairs} pairs say nothing yet; collect at least {least}").format(
            pairs=facts["pairs"], least=FEWEST
        )
    if "auc" in facts:
        if known_auc_low is not None and facts["auc_interval"][1] < known_auc_low:
            return "retrain", _(
                "the model ranks these pairs worse than its test pairs (AUC {auc:.3f}, was {before:.3f}): add them to "
                "the training data and tune again"
            ).format(auc=facts["auc"], before=known_auc)
        if facts["ece_interval"][0] > TOLERABLE_ECE:
            return "recalibrate", _(
                "the ranking is as good as it was, the probabilities are off (calibration error {error:.3f}): add "
                "these labelled pairs to the sources and run 05_calibrate again"
            ).format(error=facts["ece"])
        return "stable", _("the labels agree with the scores: ranking and probabilities are as they were")
    if "ece" in facts:
        if facts["ece_interval"][0] > TOLERABLE_ECE:
            return "recalibrate", _(
                "all pairs have the same label, so the ranking cannot be measured (no AUC); the probabilities are off "
                "(calibration error {error:.3f}): if these pairs are a random sample, add them to the sources and run "
                "05_calibrate again; else label a random sample"
            ).format(error=facts["ece"])
        return "stable", _(
            "the probabilities agree with the labels; all pairs have the same label, so the ranking cannot be measured "
            "(no AUC): label pairs of both kinds to see it"
        )
    if facts["prior"] is None:
        return _moved(facts)
    if _small(facts["psi"], facts["psi_band"]) and facts["ks"] <= max(facts["ks_band"], SMALL):
        return "stable", _("the scores are distributed as they were at calibration")
    if _small(facts["psi_after_prior"], facts["psi_band"]) and facts["ks_after_prior"] <= max(facts["ks_band"], SMALL):
        return "recalibrate", _(
            "a change of the balance alone explains the move: {share:.1%} of these pairs would be positive, "
            "{before:.1%} at calibration; label a hundred to be sure, and run 05_calibrate with prior: {prior:.2g}"
        ).format(share=facts["prior"], before=balance, prior=min(max(facts["prior"], LEAST_PRIOR), MOST_PRIOR))
    if facts["psi_after_prior"] < LARGE:
        return "recalibrate", _(
            "the scores moved in a way that no class balance explains, but not far: label a few hundred of these "
            "pairs, add them to the sources, and run 05_calibrate again"
        )
    return "retrain", _(
        "the scores moved far, and no class balance explains it: these texts are unlike those the model was tuned on; "
        "label a sample, check the AUC with this command, and tune on such texts"
    )


def _moved(facts: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict where the reference has no labels: whether a balance explains a move cannot be told."""
    if _small(facts["psi"], facts["psi_band"]) and facts["ks"] <= max(facts["ks_band"], SMALL):
        return "stable", _("the scores are distributed as those of the reference")
    return "recalibrate" if facts["psi"] < LARGE else "retrain", _(
        "the scores moved away from those of the reference: label a few hundred of these pairs, and check ranking and "
        "probabilities with --label"
    )


def _small(value: float, band: float) -> bool:
    return value <= max(band, SMALL)


def main(arguments: list[str] | None = None) -> int:
    """The command line of `python -m bgetune.scoring.monitor`.

    Returns the exit status, for schedulers: 0 if nothing needs doing, 1 if something does, 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bgetune.scoring.monitor",
        description=_("Has the distribution of scores moved since calibration, and what to do about it."),
        epilog=_("Exit status: 0 stable, or too few pairs to tell; 1 recalibrate or retrain; 2 unusable input."),
    )
    parser.add_argument("--run", required=True, help=_("folder of a finished run, for example runs/demo"))
    parser.add_argument(
        "--pairs",
        required=True,
        help=_(
            "new pairs, or a log of queries and titles: whatever a profile's source can be (file, folder, "
            "pattern, address, database); - reads csv from stdin"
        ),
    )
    parser.add_argument("--query", help=_("SQL query, where --pairs is a database (sqlite:///log.db, postgres://...)"))
    parser.add_argument(
        "--reference", help=_("compare with these pairs (an earlier week) instead of the calibration's")
    )
    parser.add_argument("--columns", default="query,document", help=_("of the two texts (default: %(default)s)"))
    parser.add_argument("--label", help=_("column with 1 or 0, where people labelled the pairs"))
    parser.add_argument(
        "--limit",
        type=int,
        default=20_000,
        help=_("most pairs to score; a random sample of more (default: %(default)s)"),
    )
    parser.add_argument("--json", action="store_true", help=_("one JSON object instead of text"))
    parser.add_argument("--html", metavar="FILE", help=_("also write a page"))
    options = parser.parse_args(arguments)
    try:
        found = _compared(options)
    except InputError as error:
        print(_("error: {message}").format(message=error), file=sys.stderr)
        return 2
    if options.html:
        write_atomic(Path(options.html), page(found, options.run, options.pairs))
    print(json.dumps(asdict(found)) if options.json else describe(found))
    return 1 if found.verdict in ("recalibrate", "retrain") else 0


def _compared(options: argparse.Namespace) -> Comparison:
    from bgetune.scoring.files import at_most, check_limit, read_pairs, without_text
    from bgetune.scoring.scorer import Scorer

    check_limit(options.limit)
    scorer = Scorer.load(options.run)

    def sample(location: str, label: str | None = None) -> pd.DataFrame:
        pairs = read_pairs(location, options.columns, label, options.query if location == options.pairs else None)
        return at_most(pairs[~without_text(pairs, scorer.normal)], options.limit)

    pairs = sample(options.pairs, options.label)
    similarities = scorer.similarity(pairs["query"], pairs["document"])
    known = scorer.settings["reference"]
    if options.reference:
        earlier = sample(options.reference)
        known = unlabelled(scorer.similarity(earlier["query"], earlier["document"]))
    return compare(
        known,
        similarities,
        labels=pairs["label"].to_numpy() if options.label else None,
        probabilities=scorer.calibrate(similarities),
        prior=scorer.settings["data"].get("prior"),
        known_auc=scorer.settings["test"]["auc"],
        known_auc_low=scorer.settings["test"]["auc_interval"][0],
    )


def describe(found: Comparison) -> str:
    """A comparison in a few lines."""
    lines = [
        _("{pairs} new pairs").format(pairs=found.pairs),
        _("PSI {psi:.3f} (chance stays below {band:.3f}; {small} is called small, {large} large)").format(
            psi=found.psi, band=found.psi_band, small=SMALL, large=LARGE
        ),
        _("KS  {ks:.3f} (chance stays below {band:.3f})").format(ks=found.ks, band=found.ks_band),
    ]
    if found.prior is not None:
        lines.append(
            _("with {prior:.1%} positives: PSI {psi:.3f}, KS {ks:.3f}").format(
                prior=found.prior, psi=found.psi_after_prior, ks=found.ks_after_prior
            )
        )
    if found.auc_interval is not None and found.ece_interval is not None:
        lines.append(
            _(
                "labels: AUC {auc:.3f} [{auc_low:.3f}, {auc_high:.3f}], calibration error {error:.3f} "
                "[{error_low:.3f}, {error_high:.3f}]"
            ).format(
                auc=found.auc,
                auc_low=found.auc_interval[0],
                auc_high=found.auc_interval[1],
                error=found.ece,
                error_low=found.ece_interval[0],
                error_high=found.ece_interval[1],
            )
        )
    elif found.ece_interval is not None:
        lines.append(
            _("labels: no AUC, for all are the same; calibration error {error:.3f} [{low:.3f}, {high:.3f}]").format(
                error=found.ece, low=found.ece_interval[0], high=found.ece_interval[1]
            )
        )
    return "\n".join([*lines, _("{name}: {value}").format(name=_(found.verdict), value=found.advice)])


if __name__ == "__main__":
    sys.exit(main())
