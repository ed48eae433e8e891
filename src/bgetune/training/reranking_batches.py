"""Batches for training a reranker: a query with a positive, its hard negatives and random texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bgetune.models.tokens import shorten
from bgetune.training.groups import Group, choose, linked_clusters

RANDOM = 1
"""Minimum number of random texts of a query: without any, a reranker would see near-misses alone."""

SHARPNESS = 10.0
"""Label of a positive for ListNet, whose target is the softmax of the labels: nearly all of it is the positive's."""


@dataclass(frozen=True)
class Ranking:
    """A query with texts to be ranked, and their labels: 1 positive, 0 negative."""

    query: str
    texts: list[str]
    labels: list[int]


@dataclass
class RerankerCollator:
    """Makes batches of pairs, or of a query's texts, for a loss of sentence-transformers' cross-encoders.

    The random negatives of a query are queries and positives of the other groups of the batch, except those of its own
    block (see `linked_clusters`): no known positive is ever a negative. The texts depend on the items of
    the batch alone, so that a training that continues sees the batches of an uninterrupted one.

    Attributes:
        tokenizer: of the model, to cut long texts.
        max_length: number of tokens that the model reads of a pair.
        groups: n groups; an item is `epoch * n + number of the group`.
        cluster_of: cluster number of every text.
        epochs: number of epochs of the training.
        seed: seed of all choices.
        negatives: maximum number of hard negatives of a query; fewer ones are made up for by random texts.
        loss: "binary" wants pairs; "listnet" and "lambda" want a query with its texts.
    """

    tokenizer: Any
    max_length: int
    groups: Sequence[Group]
    cluster_of: Mapping[str, int]
    epochs: int
    seed: int
    negatives: int
    loss: str
    valid_label_columns: Sequence[str] = ("label",)
    block_of: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.block_of = linked_clusters(self.groups, self.cluster_of)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Texts and labels as the losses take them, and, of groups, the items."""
        import torch

        name = rows[0]["dataset_name"]
        if "item" not in rows[0]:
            pairs = [(row["query"], row["text"]) for row in rows]
            labels = torch.tensor([float(row["label"]) for row in rows])
            return {"dataset_name": name, "label": labels, **self._columns(pairs)}
        items = [row["item"] for row in rows]
        made = self.rankings(items)
        if self.loss == "binary":
            pairs = [(ranking.query, text) for ranking in made for text in ranking.texts]
            labels = torch.tensor([float(label) for ranking in made for label in ranking.labels])
            return {"dataset_name": name, "items": items, "label": labels, **self._columns(pairs)}
        high = SHARPNESS if self.loss == "listnet" else 1.0
        return {
            "dataset_name": name,
            "items": items,
            "label": [high * torch.tensor(ranking.labels, dtype=torch.float32) for ranking in made],
            "query": self._short([ranking.query for ranking in made]),
            "text": [self._short(ranking.texts) for ranking in made],
        }

    def rankings(self, items: Sequence[int]) -> list[Ranking]:
        """The texts of each group of a batch."""
        n = len(self.groups)
        groups = [self.groups[item % n] for item in items]
        pool = list(dict.fromkeys(text for group in groups for text in (group.query, *group.positives)))
        blocks = self.block_of[[self.cluster_of[text] for text in pool]]
        made = []
        for item, group in zip(items, groups, strict=True):
            epoch, number = divmod(item, n)
            (positive,), hard = choose(
                group, epoch=epoch, epochs=self.epochs, seed=(self.seed, number), positives=1, negatives=self.negatives
            )
            own = self.block_of[self.cluster_of[group.query]]
            others = np.flatnonzero((blocks != own) & ~np.isin(pool, hard))
            wanted = min(max(RANDOM, self.negatives - len(hard)), len(others))
            drawn = np.random.default_rng([self.seed, item]).choice(others, size=wanted, replace=False)
            negatives = [*hard, *(pool[place] for place in drawn)]
            made.append(Ranking(group.query, [positive, *negatives], [1] + [0] * len(negatives)))
        return made

    def _columns(self, pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
        query, text = zip(*pairs, strict=True)
        return {"query": self._short(query), "text": self._short(text)}

    def _short(self, texts: Sequence[str]) -> list[str]:
        return shorten(self.tokenizer, texts, self.max_length)
