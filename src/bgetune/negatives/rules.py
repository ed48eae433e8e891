"""What a candidate must pass to become a hard negative, and how candidates are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from bgetune.config.stages import HardNegatives
from bgetune.models.index import Index

REASONS = {
    "known_positive": "an edge or a label says that it means the same",
    "same_cluster": "it is in the query's cluster",
    "missed_positive": "the reranker confirms it in both directions: promoted to a positive",
    "rank": "outside rank_min to rank_max",
    "below_window": "less similar than window_low: too easy",
    "above_window": "more similar than window_high: too much like a positive",
    "margin": "not a margin below the positives, after whitening",
    "unknown_positive": "more probably an unknown positive than max_false_negatives allows",
    "veto": "the reranker doubts that it is a negative",
}
"""Name of a rule -> why it rejects a candidate, in the order in which the rules apply."""

FALLBACK_MARGIN = 0.05
"""Margin that applies where one is needed and the rules have none."""


def _default(name: str) -> Any:
    """The default of the parameter of this name of 03_hard_negatives."""
    return HardNegatives.model_fields[name].get_default(call_default_factory=True)


@dataclass(frozen=True)
class Rules:
    """Which candidates become hard negatives, and how many.

    The attributes are the parameters of these names of 03_hard_negatives, with the same defaults; their help texts are
    in `bgetune.config.stages.HardNegatives`. None turns a rule off.
    """

    num_negatives: int = _default("num_negatives")
    rank_min: int = _default("rank_min")
    rank_max: int = _default("rank_max")
    window_low: float | None = _default("window_low")
    window_high: float | None = _default("window_high")
    margin: float | None = _default("margin")
    max_false_negatives: float | None = _default("max_false_negatives")
    cluster_rule: bool = _default("cluster_rule")
    veto_score: float | None = _default("veto_score")
    promote_score: float | None = _default("promote_score")
    sampling: Literal["top", "random", "band"] = _default("sampling")
    too_few: Literal["fewer", "random"] = _default("too_few")
    seed: int = _default("seed")

    def for_evaluation(self) -> Rules:
        """The rules for held-out negatives: correct rather than hard, and independent of the scores under evaluation.

        A margin (`FALLBACK_MARGIN` if these rules have none) replaces the probability, because dev and test hold too
        few positives to estimate one. The similarity window does not apply.
        """
        return replace(
            self,
            window_low=None,
            window_high=None,
            sampling="top",
            too_few="fewer",
            rank_min=1,
            margin=FALLBACK_MARGIN if self.margin is None else self.margin,
            max_false_negatives=None,
        )


@dataclass(frozen=True)
class Search:
    """How the nearest texts are found: the parameters of these names of 03_hard_negatives.

    Attributes:
        index: FAISS index factory string.
        search_params: parameters of that index, such as {"nprobe": 32}.
        memory_mb: working memory in MiB.
    """

    index: str = _default("index")
    search_params: Mapping[str, int] = field(default_factory=lambda: _default("search_params"))
    memory_mb: int = _default("memory_mb")

    def over(self, texts: np.ndarray, *, seed: int) -> Index:
        """An index of (n, d) float32 unit rows.

        Args:
            seed: of an index that needs training.

        Raises:
            InputError: if FAISS does not know the index or its parameters.
        """
        return Index(texts, self.index, search_params=self.search_params, memory_mb=self.memory_mb, seed=seed)
