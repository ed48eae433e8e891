"""The vectors of a split, as they are and with their drift taken out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bgetune.models.encoder import Encoder
from bgetune.negatives.world import World

SIMILARITY_DIGITS = 6
"""Similarities are rounded to this before anything is ranked by them: the last bits differ with the batch."""


@dataclass(frozen=True)
class Space:
    """Vectors of a split, as they are and whitened.

    Attributes:
        texts: (b * n, d) of the n texts of the split; b times, once for each prompt that they are compared with.
        queries: (m, d) of the queries, prompt included.
        whiten: what takes the drift out of rows.
        row: (all texts,) a text's row in the first n of `texts`, -1 outside the split.
        start: (m,) where the n rows of `texts` begin that a query is compared with.
    """

    texts: np.ndarray
    queries: np.ndarray
    whiten: Whitening
    row: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, world: World, queries: pd.DataFrame, split: str, encoder: Encoder) -> Space:
        """Encode the texts of a split and its queries."""
        numbers = np.flatnonzero(world.split == split)
        row = np.full(len(world.texts), -1)
        row[numbers] = np.arange(len(numbers))
        block, prompts = pd.factorize(queries["text_prompt"], sort=True)
        texts = np.vstack([encoder.encode(world.text[numbers], prompt=prompt) for prompt in prompts])
        anchors = queries["anchor"].to_numpy()
        sought = np.empty((len(queries), texts.shape[1]), dtype=np.float32)
        for prompt, rows in queries.groupby("prompt").indices.items():
            if prompt in prompts:
                sought[rows] = texts[prompts.get_loc(prompt) * len(numbers) + row[anchors[rows]]]
            else:
                sought[rows] = encoder.encode(world.text[anchors[rows]], prompt=prompt)
        return cls(texts, sought, Whitening.fit(texts), row, block * len(numbers))

    def corpus(self, start: int, texts: np.ndarray) -> np.ndarray:
        """(k, d) rows of the texts of some numbers, as the queries with this `start` are compared with them."""
        return self.texts[start + self.row[texts]]

    @property
    def whitened_texts(self) -> np.ndarray:
        """`texts` after whitening."""
        return self._whitened[1]

    def similarity(self, query: np.ndarray, text: np.ndarray, whitened: bool = False) -> np.ndarray:
        """Cosine of rows of `queries` and text numbers, pair by pair: (p,) float64, rounded."""
        left, right = self._whitened if whitened else (self.queries, self.texts)
        products = np.empty(len(query))
        for start in range(0, len(query), 1024):  # rows of a block stay in the processor's cache
            part = slice(start, start + 1024)
            rows = self.start[query[part]] + self.row[text[part]]
            products[part] = np.einsum("pd,pd->p", left[query[part]], right[rows])
        return products.round(SIMILARITY_DIGITS)

    @cached_property
    def _whitened(self) -> tuple[np.ndarray, np.ndarray]:
        """`queries` and `texts` after whitening."""
        return self.whiten(self.queries), self.whiten(self.texts)


@dataclass(frozen=True)
class Whitening:
    """Rows minus their mean, turned and scaled until no direction is common to all of them (arXiv 2103.15316).

    Attributes:
        mean: (d,).
        turn: (d, d).
    """

    mean: np.ndarray
    turn: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray, floor: float = 0.01, sample: int = 50_000) -> Whitening:
        """Fit to rows (n, d); directions with less variance than `floor` of the largest are not blown up to noise."""
        rows = rows[:sample]
        mean = rows.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(rows.shape[1])
        centred = rows - mean.astype(np.float32)
        variance, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64) / max(len(rows), 1))
        scale = 1 / np.sqrt(variance.clip(min=0) + max(floor * variance.max(), 1e-12))
        return cls(mean.astype(np.float32), (directions * scale).astype(np.float32))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """(n, d) unit rows, float32."""
        rows = (rows - self.mean) @ self.turn
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-12)
