"""The vectors of a split, as the model gives them and after whitening."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bgetune.models.cache import new_rows
from bgetune.models.encoder import Encoder
from bgetune.negatives.corpus import Corpus

SIMILARITY_DIGITS = 6
"""Decimals that similarities are rounded to before they are compared: the last bits differ with the batch."""

BLOCK = 65_536
"""Rows that are whitened at a time."""


@dataclass(frozen=True)
class Space:
    """The vectors of a split, as the model gives them and whitened.

    Attributes:
        vectors: (b * n + e, d) float32 unit rows, large ones memory-mapped: the n texts of the split, encoded once with
            each of b prompts, then the queries whose prompt is none of these.
        query: (m,) int64: row of `vectors` of each query, encoded with its prompt.
        row: (number of all texts,) int64: a text's row in the first n of `vectors`, -1 outside the split.
        start: (m,) int64: first of the n rows of `vectors` that a query is compared with.
        whiten: the whitening fitted to the texts.
    """

    vectors: np.ndarray
    query: np.ndarray
    row: np.ndarray
    start: np.ndarray
    whiten: Whitening

    @classmethod
    def of(cls, corpus: Corpus, queries: pd.DataFrame, split: str, encoder: Encoder) -> Space:
        """Encode the texts of a split and its queries."""
        numbers = np.flatnonzero(corpus.split == split)
        row = np.full(len(corpus.texts), -1)
        row[numbers] = np.arange(len(numbers))
        block, prompts = pd.factorize(queries["text_prompt"], sort=True)
        parts = [encoder.encode(corpus.text[numbers].tolist(), prompt=prompt) for prompt in prompts]
        texts = end = len(prompts) * len(numbers)
        anchors = queries["anchor"].to_numpy()
        query = np.empty(len(queries), dtype=np.int64)
        for prompt, rows in queries.groupby("prompt").indices.items():
            if prompt in prompts:
                query[rows] = prompts.get_loc(prompt) * len(numbers) + row[anchors[rows]]
            else:
                parts.append(encoder.encode(corpus.text[anchors[rows]].tolist(), prompt=str(prompt)))
                query[rows] = np.arange(end, end + len(rows))
                end += len(rows)
        vectors = _stack(parts)
        return cls(vectors, query, row, block * len(numbers), Whitening.fit(vectors[:texts]))

    def vectors_of(self, start: int, numbers: np.ndarray) -> np.ndarray:
        """(k, d) float32 vectors of k text numbers, encoded as the queries with this `start` are compared with them."""
        found = new_rows(len(numbers), self.vectors.shape[1])
        return np.take(self.vectors, start + self.row[numbers], axis=0, out=found, mode="clip")

    @cached_property
    def whitened(self) -> np.ndarray:
        """(b * n + e, d) float32: `vectors` after whitening."""
        found = new_rows(*self.vectors.shape)
        for start in range(0, len(found), BLOCK):
            found[start : start + BLOCK] = self.whiten(self.vectors[start : start + BLOCK])
        return found

    def similarity(self, query: np.ndarray, text: np.ndarray, whitened: bool = False) -> np.ndarray:
        """Cosines of p pairs: (p,) float64, rounded to `SIMILARITY_DIGITS`.

        Args:
            query: (p,) numbers of queries.
            text: (p,) text numbers.
            whitened: compare the whitened vectors.
        """
        vectors = self.whitened if whitened else self.vectors
        products = np.empty(len(query))
        for start in range(0, len(query), 1024):  # rows of a block stay in the processor's cache
            part = slice(start, start + 1024)
            rows = self.start[query[part]] + self.row[text[part]]
            products[part] = np.einsum("pd,pd->p", vectors[self.query[query[part]]], vectors[rows])
        return products.round(SIMILARITY_DIGITS)


def _stack(parts: list[np.ndarray]) -> np.ndarray:
    """The rows of all parts, which have the same width."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts, out=new_rows(sum(map(len, parts)), parts[0].shape[1]))


@dataclass(frozen=True)
class Whitening:
    """Rows minus their mean, rotated and scaled to equal variance in all directions (whitening, arXiv 2103.15316).

    Attributes:
        mean: (d,) float32.
        rotation: (d, d) float32: rotation and scale.
    """

    mean: np.ndarray
    rotation: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray, floor: float = 0.01, sample: int = 50_000) -> Whitening:
        """Fit to rows (n, d), at most the first `sample`.

        `floor`, as a share of the largest variance, is added to every variance, so that noise is not amplified.
        """
        rows = rows[:sample]
        mean = rows.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(rows.shape[1])
        centred = rows - mean.astype(np.float32)
        variance, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64) / max(len(rows), 1))
        scale = 1 / np.sqrt(variance.clip(min=0) + max(floor * variance.max(), 1e-12))
        return cls(mean.astype(np.float32), (directions * scale).astype(np.float32))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """(n, d) float32: whitened rows of length 1."""
        rows = (rows - self.mean) @ self.rotation
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-12)
