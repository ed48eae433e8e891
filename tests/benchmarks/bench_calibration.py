"""Measures calibration, guaranteed precision and the scorer; prints tables, and one JSON object on the last line.

    python tests/benchmarks/bench_calibration.py [--quick] [--model FOLDER]

The part on the bank data needs ../shared; the rest needs nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from bgetune.data.text import Normalizer
from bgetune.metrics import calibration, calibrators
from bgetune.metrics.separation import separation
from bgetune.paths import ROOT
from bgetune.scoring import thresholds

SHARED = ROOT.parent / "shared"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, under a minute")
    parser.add_argument("--model", default=SHARED / "models" / "zh-mini", type=Path, help="encoder for the bank data")
    options = parser.parse_args()
    results = {"quick": options.quick}
    results["small_samples"] = small_samples(50 if options.quick else 100)
    results["guarantee"] = guarantees(100 if options.quick else 1000)
    results["clusters"] = clustered(60 if options.quick else 300)
    results["few_clusters"] = few_clusters(100 if options.quick else 400)
    results["one_half"] = one_half()
    results["million_pairs_seconds"] = a_million_pairs()
    if (SHARED / "data").is_dir() and options.model.is_dir():
        results |= bank(options.model, 1500 if options.quick else None)
    else:
        print("\n../shared is not there: nothing measured on real data")
    print(json.dumps(results))


# --- known distributions ------------------------------------------------------------------------------------------


def bunched(count: int, rng: np.random.Generator, gap: float = 2.2) -> tuple[np.ndarray, np.ndarray]:
    """Cosines as a drifted model gives them: negatives N(0.68, 0.05), positives `gap` standard deviations higher."""
    labels = (rng.random(count) < 0.5).astype(int)
    return 0.68 + 0.05 * (rng.normal(size=count) + gap * labels), labels


def true_precision(threshold: float, gap: float = 2.2) -> float:
    at = (threshold - 0.68) / 0.05
    return norm.sf(at - gap) / (norm.sf(at - gap) + norm.sf(at))


def true_recall(threshold: float, gap: float = 2.2) -> float:
    return norm.sf((threshold - 0.68) / 0.05 - gap)


def small_samples(trials: int) -> dict[str, dict[int, float]]:
    """How far the probabilities are from the known ones, by method and number of pairs."""
    print("\nDistance from the true probability (root mean square), median over calibration sets")
    rng = np.random.default_rng(0)
    new, _ = bunched(5000, rng)
    at = (new - 0.68) / 0.05
    truth = expit(2.2 * at - 2.2**2 / 2)
    rows = {"cosine": {}} | {name: {} for name in calibrators.METHODS}
    for count in (100, 300, 1000, 3000):
        errors = {name: [] for name in rows}
        for _ in range(trials):
            scores, labels = bunched(count, rng)
            errors["cosine"].append(new.clip(0, 1))
            for name in calibrators.METHODS:
                errors[name].append(calibrators.fit(name, scores, labels).predict(new))
        for name, values in errors.items():
            rows[name][count] = float(np.median([np.sqrt(np.mean((value - truth) ** 2)) for value in values]))
    print(pd.DataFrame(rows).T.round(4).to_string())
    return rows


def guarantees(trials: int) -> list[dict]:
    """Does the guarantee hold, what recall does it cost, and what does the threshold picked on the sample do?"""
    print(f"\nGuaranteed precision over {trials} calibration sets, beside the threshold picked on the sample")
    rng = np.random.default_rng(0)
    rows = []
    for precision in (0.90, 0.95, 0.99):
        best = brentq(lambda threshold, p=precision: true_precision(threshold) - p, 0.5, 1.1)
        for count in (300, 1000, 3000):
            kept, picked, recall, picked_recall, given = [], [], [], [], 0
            for _ in range(trials):
                scores, labels = bunched(count, rng)
                threshold = thresholds.precision_guarantee(scores, labels, precision).threshold
                given += threshold is not None
                kept.append(threshold is None or true_precision(threshold) >= precision)
                recall.append(0 if threshold is None else true_recall(threshold))
                order = np.argsort(-scores)
                share = np.cumsum(labels[order]) / np.arange(1, count + 1)
                last = np.flatnonzero(share >= precision)
                naive = scores[order][last[-1]] if len(last) else 2.0
                picked.append(true_precision(naive) if len(last) else 1.0)
                picked_recall.append(true_recall(naive))
            rows.append(
                {
                    "precision": precision,
                    "pairs": count,
                    "kept": float(np.mean(kept)),
                    "given": given / trials,
                    "recall": float(np.mean(recall)),
                    "oracle_recall": float(true_recall(best)),
                    "given_up": float(true_recall(best) - np.mean(recall)),
                    "picked_kept": float(np.mean(np.array(picked) >= precision)),
                    "picked_5th_percentile": float(np.percentile(picked, 5)),
                    "picked_recall": float(np.mean(picked_recall)),
                }
            )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    return rows


def clustered(trials: int) -> list[dict]:
    """The same where pairs of a cluster err together, with and without counting clusters."""
    print(f"\nGuaranteed precision 0.90 over {trials} calibration sets of clustered pairs (gap 2.2)")
    rng = np.random.default_rng(1)
    rows = []
    for size in (3, 10):
        for correlation in (0.3, 0.6):
            for count in (300, 1000, 3000):
                kept = {"pairs": [], "clusters": []}
                recall = {"pairs": [], "clusters": []}
                for _ in range(trials):
                    groups = np.repeat(np.arange(count), rng.geometric(1 / size, count))[:count]
                    shared = rng.normal(size=count)[groups]
                    labels = (rng.random(count) < 0.5).astype(int)
                    noise = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.normal(size=count)
                    scores = 0.68 + 0.05 * (noise + 2.2 * labels)
                    for name, given in (("pairs", None), ("clusters", groups)):
                        threshold = thresholds.precision_guarantee(scores, labels, 0.9, clusters=given).threshold
                        kept[name].append(threshold is None or true_precision(threshold) >= 0.9)
                        recall[name].append(0 if threshold is None else true_recall(threshold))
                rows.append(
                    {"mean_size": size, "correlation": correlation, "pairs": count}
                    | {f"kept_counting_{name}": float(np.mean(values)) for name, values in kept.items()}
                    | {f"recall_counting_{name}": float(np.mean(values)) for name, values in recall.items()}
                )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    return rows


def few_clusters(trials: int) -> list[dict]:
    """How often 95 % precision is kept where dev has few, large clusters. No threshold counts as kept.

    Either each cluster has an effect on all its negatives, or the negatives of some clusters score like positives.
    """
    print(f"\nGuaranteed precision 0.95 over {trials} calibration sets of few clusters")
    rng = np.random.default_rng(3)
    rows = []
    for kind, clusters, size in [
        *(("effect", *shape) for shape in ((56, 20), (20, 50), (12, 80))),
        *(("6 % confused", *shape) for shape in ((56, 20), (20, 40))),
    ]:
        gap, spread, confused = (3.5, np.sqrt(2), 0.0) if kind == "effect" else (3.0, 1.0, 0.06)
        groups = np.repeat(np.arange(clusters), size)
        kept, given = 0, 0
        for _ in range(trials):
            labels = (rng.random(len(groups)) < 0.5).astype(int)
            shared = np.sqrt(spread**2 - 1) * rng.normal(size=clusters)[groups] * (labels == 0)
            alike = (labels == 1) | (rng.random(clusters) < confused)[groups]
            scores = rng.normal(size=len(groups)) + shared + gap * alike
            found = thresholds.precision_guarantee(scores, labels, 0.95, clusters=groups).threshold
            at = np.inf if found is None else found
            right, wrong = norm.sf(at - gap), confused * norm.sf(at - gap) + (1 - confused) * norm.sf(at / spread)
            kept += found is None or right / (right + wrong) >= 0.95
            given += found is not None
        rows.append({"kind": kind, "clusters": clusters, "size": size, "kept": kept / trials, "given": given / trials})
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    return rows


def at_one_half(probabilities: np.ndarray, tolerance: float = 0.01) -> dict[str, float]:
    """What the threshold 0.5 costs on a score that is calibrated exactly: the probabilities are their own truth.

    Fewest errors are made at 0.5, but the best F1 is reached at half of that F1 (Lipton et al., arXiv 1402.1892). A
    score whose F1 at 0.5 is nearer to the best must lift pairs over 0.5 that are less likely than that; it errs least
    if it lifts the likeliest of them just to 0.5. `error_needed` is the calibration error (root mean square) of this
    best compromise, for an F1 within `tolerance`: no score with a smaller error reaches it, whatever its method.
    """
    p = np.sort(probabilities)[::-1]
    f1 = 2 * np.cumsum(p) / (np.arange(1, len(p) + 1) + p.sum())
    accepted = int((p >= 0.5).sum())
    needed = max(int(np.argmax(f1 >= f1.max() - tolerance)) + 1, accepted)
    return {
        "best_f1": float(f1.max()),
        "best_threshold": float(p[f1.argmax()]),
        "half_of_best_f1": float(f1.max() / 2),
        "f1_at_0.5": float(f1[accepted - 1]) if accepted else 0.0,
        "f1_lost_at_0.5": float(f1.max() - (f1[accepted - 1] if accepted else 0)),
        "error_needed": float(np.sqrt(((0.5 - p[accepted:needed]) ** 2).sum() / len(p))),
    }


def one_half() -> list[dict]:
    """`at_one_half` for models that separate two normal distributions more and more, half of the pairs positive."""
    print(
        "\nExactly calibrated scores at the threshold 0.5, and the calibration error of any that lose 0.01 of F1 there"
    )
    rows = []
    for gap in (0.5, 0.85, 1.2, 1.6, 2.2, 3.0, 4.0):
        quantiles = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
        at = np.concatenate([quantiles, quantiles + gap])
        rows.append({"auc": float(norm.cdf(gap / np.sqrt(2)))} | at_one_half(expit(gap * at - gap**2 / 2)))
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    return rows


def a_million_pairs() -> dict[str, float]:
    """Seconds to calibrate a million similarities that are already there."""
    rng = np.random.default_rng(0)
    scores, labels = bunched(3000, rng)
    million, _ = bunched(1_000_000, rng)
    seconds = {}
    for name in calibrators.METHODS:
        calibrator = calibrators.fit(name, scores, labels)
        seconds[name] = min(_timed(calibrator.predict, million) for _ in range(5))
    print("\nSeconds for a million cached pairs:", {name: round(value, 3) for name, value in seconds.items()})
    return seconds


# --- real data ----------------------------------------------------------------------------------------------------


def bank(model: Path, limit: int | None) -> dict:
    """Calibrated on half of the bank pairs, judged on the other half; and what the scorer costs above its encoder."""
    from bgetune.models.encoder import Encoder
    from bgetune.scoring.scorer import cosines

    pairs = pd.read_csv(SHARED / "data" / "bq_dev.tsv.gz", sep="\t", quoting=3, dtype=str, keep_default_na=False)
    pairs = pairs.sample(frac=1, random_state=0).head(limit or len(pairs))
    labels = pairs["label"].astype(int).to_numpy()
    with tempfile.TemporaryDirectory() as cache:
        encoder = Encoder(model, cache_dir=cache)
        left, right = (encoder.encode(pairs[column].tolist(), progress=False) for column in ("text_a", "text_b"))
    similarities = cosines(left, right)

    print(f"\n{len(pairs):,} bank pairs, {model.name}: calibrated on one half, judged on the other")
    tables, sums = [], []
    for seed in range(5 if limit else 10):
        order = np.random.default_rng(seed).permutation(len(labels))
        dev, test = np.array_split(order, 2)
        race = calibration.cross_validate(similarities[dev], labels[dev], pairs["text_a"].to_numpy()[dev], seed=seed)
        chosen = race["method"].iloc[0]
        probabilities = {"cosine": similarities[test].clip(0, 1)}
        for name in race.loc[race["offered"], "method"]:
            probabilities[name] = calibrators.fit(name, similarities[dev], labels[dev]).predict(similarities[test])
        probabilities["chosen"] = probabilities[chosen]
        table = calibration.evaluate(probabilities, labels[test], np.arange(len(test)), count=100, seed=seed)
        table["f1_at_0.5"] = [thresholds.point(values, labels[test], 0.5)["f1"] for values in probabilities.values()]
        best = thresholds.best_f1(probabilities["chosen"], labels[test])
        ordered = labels[test][np.argsort(-probabilities["chosen"])]
        right = np.cumsum(ordered) + (1 - ordered).sum() - np.cumsum(1 - ordered)
        exact = at_one_half(probabilities["chosen"])
        own = thresholds.best_f1(similarities[dev], labels[dev])["threshold"]
        sums.append(
            {
                "chosen": chosen,
                "best_f1": best["f1"],
                "best_probability": best["threshold"],
                "f1_at_0.5": table.loc["chosen", "f1_at_0.5"],
                "f1_at_dev_best": thresholds.point(similarities[test], labels[test], own)["f1"],
                "accuracy_at_0.5": float(((probabilities["chosen"] >= 0.5) == labels[test]).mean()),
                "best_accuracy": float(right.max() / len(test)),
                "exact_best_threshold": exact["best_threshold"],
                "half_of_best_f1": exact["half_of_best_f1"],
                "exact_f1_lost_at_0.5": exact["f1_lost_at_0.5"],
                "error_needed": exact["error_needed"],
                "auc": float(separation(similarities[test], labels[test])["auc"][0]),
                "f1_at_0.8_cosine": thresholds.point(similarities[test], labels[test], 0.8)["f1"],
            }
        )
        tables.append(table)
    first, halves = tables[0], pd.DataFrame(sums)
    print(first.round(4).to_string())
    errors = pd.DataFrame({name: [table.loc[name, "ece"] for table in tables] for name in first.index})
    print("ECE over", len(tables), "halvings:", errors.describe().loc[["mean", "min", "max"]].round(4).to_dict("index"))
    print(halves.describe(include="number").loc[["mean", "min", "max"]].T.round(4).to_string())
    lost = {name: float((halves["best_f1"] - halves[name]).mean()) for name in ("f1_at_0.5", "f1_at_dev_best")}
    mean = halves.mean(numeric_only=True)
    print(
        f"F1 lost at 0.5: {lost['f1_at_0.5']:.3f}, at the threshold chosen on dev: {lost['f1_at_dev_best']:.3f}. "
        f"The best lies at {mean['best_probability']:.3f}; half of the best F1 is {mean['half_of_best_f1']:.3f}. "
        f"Losing 0.01 at 0.5 takes a calibration error of {mean['error_needed']:.3f}."
    )
    return {
        "bank": {
            "pairs": len(pairs),
            "ece": {name: first.loc[name, "ece"] for name in first.index},
            "ece_interval": first.loc["chosen", ["ece_low", "ece_high"]].tolist(),
            "ece_mean_of_halvings": errors.mean().to_dict(),
            "halvings_with_ece_at_most_0.02": float((errors["chosen"] <= 0.02).mean()),
            "first_half": sums[0],
            "mean_of_halvings": mean.to_dict(),
            "f1_lost_at_0.5": lost["f1_at_0.5"],
            "f1_lost_at_dev_best": lost["f1_at_dev_best"],
            "accuracy_lost_at_0.5": float((halves["best_accuracy"] - halves["accuracy_at_0.5"]).mean()),
        },
        "scorer": scorer_overhead(model, pairs, similarities, labels),
    }


def scorer_overhead(model: Path, pairs: pd.DataFrame, similarities: np.ndarray, labels: np.ndarray) -> dict:
    """What `Scorer.score` adds to its encoder for 1,000 pairs: normalisation, cosines, calibration."""
    from bgetune.models.encoder import Encoder
    from bgetune.scoring.scorer import Scorer
    from bgetune.scoring.settings import make_settings

    encoder = Encoder(model, cache_dir=None)
    settings = make_settings(
        encoder=encoder,
        normalizer=Normalizer(("phone",)),
        calibrator=calibrators.fit("platt", similarities, labels),
        thresholds=thresholds.choose(similarities, labels, precisions=[0.9]),
        dev=(similarities, labels),
        test={},
        data={},
    )
    scorer = Scorer(settings, encoder, Path("bench"))
    queries, documents = pairs["text_a"].head(1000).tolist(), pairs["text_b"].head(1000).tolist()
    inside = []
    plain = encoder.encode

    def timed(*arguments, **options):
        started = time.perf_counter()
        try:
            return plain(*arguments, **options)
        finally:
            inside.append(time.perf_counter() - started)

    encoder.encode = timed
    scorer.score(queries[:50], documents[:50])
    shares = []
    for _ in range(5):
        inside.clear()
        total = _timed(scorer.score, queries, documents)
        shares.append((total - sum(inside)) / sum(inside))
    result = {"seconds": total, "encoder_seconds": sum(inside), "overhead": float(np.median(shares))}
    print(f"\nScorer, 1,000 pairs: {total:.2f} s, {result['overhead']:.2%} above the encoder")
    return result


def _timed(function, *arguments) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
