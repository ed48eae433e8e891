"""Cosine, reranker or both together: what each finds at a guaranteed precision, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bgetune.metrics.calibrators import Calibrator, Combination
from bgetune.reports.words import scored_by
from bgetune.scoring.search import uncached
from bgetune.scoring.thresholds import Thresholds, choose, point, precision_interval
from bgetune.scoring.worth import compare as compare_scores

if TYPE_CHECKING:
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker

TIMED = 8
"""Pairs whose time is taken; the first is a warm-up and not counted."""


def rerankers(
    untuned: str | Path | None, tuned: str | Path | None, *, max_length: int, device: str, processes: int = 1
) -> dict[str, Reranker]:
    """The rerankers to compare: ``reranker`` is the one to be used, ``untuned reranker`` the other where both are.

    Args:
        untuned: the profile's, None for none.
        tuned: what 04_train made of it, None for none.
        max_length, device, processes: as for `Reranker`.
    """
    from bgetune.models.reranker import Reranker

    places = {"untuned reranker": untuned, "reranker": tuned} if tuned is not None else {"reranker": untuned}
    return {
        name: Reranker(place, max_length=max_length, device=device, processes=processes)
        for name, place in places.items()
        if place is not None
    }


@dataclass(frozen=True)
class Decisions:
    """Thresholds on the reranker's score and on both scores together, beside those on the cosine.

    Attributes:
        thresholds: ``reranker`` and ``both`` -> their thresholds; without a reranker, or a combination, less.
        worth: `worth.compare` of the scores on test; empty without a reranker.
        table: ``decided by, precision, threshold, recall`` (dev), ``test_precision`` with its 95 % interval ``test_low,
            test_high`` (where no prior re-weights the pairs), ``test_recall``, ``ms a pair`` and ``ms a query``, a row
            each precision and score; NaN where no threshold guarantees the precision.
    """

    thresholds: dict[str, Thresholds]
    table: pd.DataFrame
    worth: pd.DataFrame

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table for a manifest, None for NaN."""
        return _records(self.table)

    @property
    def reranking(self) -> list[dict[str, Any]]:
        """`worth` for a manifest, None for NaN."""
        return _records(self.worth)


def compare(
    judged: pd.DataFrame,
    texts: pd.DataFrame,
    on_cosine: Thresholds,
    encoder: Encoder,
    calibrator: Calibrator,
    rerankers: Mapping[str, Reranker],
    combination: Combination | None,
    spent: Mapping[str, float],
    ranking: pd.DataFrame,
    *,
    count: int = 500,
    seed: int = 42,
    **wanted: Any,
) -> Decisions:
    """Choose thresholds on dev for the reranker's score and for both, as those on the cosine were; judge all on test.

    Args:
        judged: ``query_id, text_id, label, split, cluster_id, after``; `after` are the tuned model's cosines.
        texts: ``text_id, text``.
        on_cosine: thresholds on `after`, chosen on dev.
        encoder: the tuned model; timed only.
        calibrator, combination: of the run; the combination takes the calibrated probability and the reranker's score.
        rerankers: ``reranker`` and, where that one was tuned, ``untuned reranker``, which is only measured.
        spent: `search.milliseconds`.
        ranking: `search.evaluate_orders`.
        count, seed: of the resamples for intervals.
        wanted: ``precisions, recalls, confidence, prior``, as `thresholds.choose` takes them.
    """
    by_id = texts.set_index("text_id")["text"]
    pairs = list(zip(judged["query_id"].map(by_id), judged["text_id"].map(by_id), strict=True))
    scores = {"cosine": judged["after"].to_numpy()}
    scores |= {name: reranker.score(pairs).astype(np.float64) for name, reranker in rerankers.items()}
    if combination is not None:
        scores["both"] = combination.predict(calibrator.predict(scores["cosine"]), scores["reranker"])
    dev, test = (judged["split"].to_numpy() == split for split in ("dev", "test"))
    labels, clusters = judged["label"].to_numpy(), judged["cluster_id"].to_numpy()
    chosen = {
        name: choose(values[dev], labels[dev], clusters=clusters[dev], **wanted)
        for name, values in scores.items()
        if name in ("reranker", "both")
    }
    times = milliseconds(encoder, rerankers, [pair for pair, tested in zip(pairs, test, strict=True) if tested], spent)
    rows = []
    for place, precision in enumerate(wanted["precisions"]):
        for name, made in ({"cosine": on_cosine} | chosen).items():
            guarantee = made.precisions[place]
            row = {"decided by": scored_by(name, scores), "precision": precision} | dict.fromkeys(
                ["threshold", "recall", "test_precision", "test_low", "test_high", "test_recall"], np.nan
            )
            if guarantee.threshold is not None:
                seen = point(scores[name][test], labels[test], guarantee.threshold, wanted.get("prior"))
                row |= {"threshold": guarantee.threshold, "recall": guarantee.recall}
                row |= {"test_precision": seen["precision"], "test_recall": seen["recall"]}
                if wanted.get("prior") is None:
                    low, high, _accepted = precision_interval(scores[name][test], labels[test], guarantee.threshold)
                    row |= {"test_low": low, "test_high": high}
            rows.append(row | times[name])
    worth = pd.DataFrame()
    if rerankers:
        tested = {name: values[test] for name, values in scores.items()}
        worth = compare_scores(tested, labels[test], clusters[test], ranking, times, count=count, seed=seed)
    return Decisions(chosen, pd.DataFrame(rows), worth)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def milliseconds(
    encoder: Encoder, rerankers: Mapping[str, Reranker], pairs: list[tuple[str, str]], spent: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Median time of one pair and of one query by each score, one at a time and without caches."""
    bare, _none = uncached(encoder, None)
    cosine = _median(lambda pair: bare.encode(list(pair), progress=False), pairs)
    found = spent.get("search", np.nan)
    times = {"cosine": {"ms a pair": cosine, "ms a query": found}}
    alone = {name: _pair(uncached(encoder, reranker)[1], pairs) for name, reranker in rerankers.items()}
    for name, one in alone.items():
        query = found + spent.get("rerank", np.nan) * one / alone["reranker"]
        times[name] = {"ms a pair": one, "ms a query": query}
    if "reranker" in alone:
        times["both"] = {"ms a pair": cosine + alone["reranker"], "ms a query": times["reranker"]["ms a query"]}
    return times


def _pair(reranker: Reranker | None, pairs: list[tuple[str, str]]) -> float:
    assert reranker is not None
    return _median(lambda pair: reranker.score([pair], progress=False), pairs)


def _median(compute: Callable[[tuple[str, str]], Any], pairs: list[tuple[str, str]]) -> float:
    seconds = []
    for pair in pairs[:TIMED]:
        started = time.perf_counter()
        compute(pair)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:] or seconds)) * 1000
