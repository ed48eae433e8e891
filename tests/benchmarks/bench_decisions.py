"""Measures whether the precisions guaranteed for the reranker and for both together are kept; prints tables, then JSON.

    python tests/benchmarks/bench_decisions.py [--quick] [--run FOLDER]

Calibration sets are drawn again and again; on each, the calibrator and the combination are fitted and the thresholds
chosen, all on the same pairs. Kept: the precision that this threshold truly has is at least the wanted one (where no
threshold is given, nothing is accepted and nothing broken). The truth is known: of normal scores from 200,000 pairs,
of a run (its judged pairs, scored again) from all of its pairs, of which the sets are drawn with replacement.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from bgetune.metrics import calibrators
from bgetune.metrics.calibrators import Combination
from bgetune.scoring import thresholds

PRECISIONS = (0.9, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 sets instead of 1,000")
    parser.add_argument("--run", type=Path, help="a finished run with a reranker, whose pairs are drawn, too")
    options = parser.parse_args()
    trials = 100 if options.quick else 1000
    rows = []
    for correlation in (0.0, 0.6):
        population = normal(200_000, np.random.default_rng(0), correlation)
        for count in (300, 1000, 3000):
            rng = np.random.default_rng(count)
            draws = (normal(count, rng, correlation) for _ in range(trials))
            rows += kept(population, draws, {"scores": f"normal, correlation {correlation}", "pairs": count})
    if options.run is not None:
        population = of_run(options.run)
        for count in (300, 1000, 3000):
            rng = np.random.default_rng(count)
            picks = (rng.integers(0, len(population[2]), count) for _ in range(trials))
            draws = (tuple(values[pick] for values in population) for pick in picks)
            rows += kept(population, draws, {"scores": options.run.name, "pairs": count})
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    print(json.dumps(rows))


def normal(count: int, rng: np.random.Generator, correlation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines 1.8 and log-odds of the reranker 2.4 standard deviations apart, whose noise is correlated; labels."""
    labels = (rng.random(count) < 0.5).astype(int)
    shared, own = rng.normal(size=(2, count))
    cosines = 0.68 + 0.05 * (shared + 1.8 * labels)
    noise = correlation * shared + np.sqrt(1 - correlation**2) * own
    return cosines, expit(1.5 * (noise + 2.4 * labels - 1.2)), labels


def of_run(run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines, scores of the reranker and labels of all judged pairs of a run."""
    from bgetune.runs.manifest import artifact_path
    from bgetune.scoring import Scorer

    scorer = Scorer.load(run)
    judged = pd.read_parquet(artifact_path(run, "judged"))
    texts = pd.read_parquet(artifact_path(run, "texts")).set_index("text_id")["text"]
    sides = [judged[column].map(texts).tolist() for column in ("query_id", "text_id")]
    return judged["after"].to_numpy(), scorer.rerank(*sides), judged["label"].to_numpy()


def kept(population: tuple, draws, row: dict) -> list[dict]:
    """How often the guarantee of each score is kept over the drawn sets, how often given, and the recall it finds."""
    cosines, reranked, labels = population
    outcomes: dict[tuple[str, float], list[tuple[bool, bool, float]]] = {}
    above = {name: Above(values, labels) for name, values in (("cosine", cosines), ("reranker", reranked))}
    for some_cosines, some_reranked, some_labels in draws:
        calibrator = calibrators.fit("platt", some_cosines, some_labels)
        combination = Combination.fit(calibrator.predict(some_cosines), some_reranked, some_labels)
        some_both = combination.predict(calibrator.predict(some_cosines), some_reranked)
        both = combination.predict(calibrator.predict(cosines), reranked)
        for precision in PRECISIONS:
            for name, values in (("cosine", some_cosines), ("reranker", some_reranked), ("both", some_both)):
                threshold = thresholds.precision_guarantee(values, some_labels, precision).threshold
                if threshold is None:
                    outcomes.setdefault((name, precision), []).append((True, False, 0.0))
                    continue
                true, recall = above[name](threshold) if name in above else _at(both, labels, threshold)
                outcomes.setdefault((name, precision), []).append((true >= precision, True, recall))
    return [
        row
        | {"decided by": name, "precision": precision}
        | dict(zip(("kept", "given", "recall"), np.mean(seen, axis=0).tolist(), strict=True))
        for (name, precision), seen in outcomes.items()
    ]


class Above:
    """Precision and recall at or above a threshold, looked up in sorted scores."""

    def __init__(self, scores: np.ndarray, labels: np.ndarray):
        order = np.argsort(-scores)
        self.scores, self.hits = -scores[order], np.cumsum(labels[order])

    def __call__(self, threshold: float) -> tuple[float, float]:
        count = np.searchsorted(self.scores, -threshold, side="right")
        hits = self.hits[count - 1] if count else 0
        return hits / max(count, 1), hits / self.hits[-1]


def _at(scores: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[float, float]:
    above = scores >= threshold
    hits = labels[above].sum()
    return hits / max(above.sum(), 1), hits / labels.sum()


if __name__ == "__main__":
    main()
