"""The vectors of a split, as the model gives them and after whitening."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bgetune.models.encoder import Encoder
from bgetune.negatives.corpus import Corpus

SIMILARITY_DIGITS = 6
"""Decimals that similarities are rounded to before they are compared: the last bits differ with the batch."""


@dataclass(frozen=True)
class Space:
    """The vectors of a split, as the model gives them and whitened.

    Attributes:
        texts: (b * n, d) float32 unit rows: the n texts of the split, encoded once with each of b prompts.
        queries: (m, d) float32 unit rows: the queries, each encoded with its prompt.
        whiten: the whitening fitted to `texts`.
        row: (number of all texts,) int64: a text's row in the first n of `texts`, -1 outside the split.
        start: (m,) int64: first of the n rows of `texts` that a query is compared with.
    """

    texts: np.ndarray
    queries: np.ndarray
    whiten: Whitening
    row: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, corpus: Corpus, queries: pd.DataFrame, split: str, encoder: Encoder) -> Space:
        """Encode the texts of a split and its queries."""
        numbers = np.flatnonzero(corpus.split == split)
        row = np.full(len(corpus.texts), -1)
        row[numbers] = np.arange(len(numbers))
        block, prompts = pd.factorize(queries["text_prompt"], sort=True)
        texts = np.vstack([encoder.encode(corpus.text[numbers].tolist(), prompt=prompt) for prompt in prompts])
        anchors = queries["anchor"].to_numpy()
        sought = np.empty((len(queries), texts.shape[1]), dtype=np.float32)
        for prompt, rows in queries.groupby("prompt").indices.items():
            if prompt in prompts:
                sought[rows] = texts[prompts.get_loc(prompt) * len(numbers) + row[anchors[rows]]]
            else:
                sought[rows] = encoder.encode(corpus.text[anchors[rows]].tolist(), prompt=str(prompt))
        return cls(texts, sought, Whitening.fit(texts), row, block * len(numbers))

    def vectors_of(self, start: int, numbers: np.ndarray) -> np.ndarray:
        """(k, d) float32 vectors of k text numbers, encoded as the queries with this `start` are compared with them."""
        return self.texts[start + self.row[numbers]]

    @property
    def whitened_texts(self) -> np.ndarray:
        """(b * n, d) float32: `texts` after whitening."""
        return self._whitened[1]

    def similarity(self, query: np.ndarray, text: np.ndarray, whitened: bool = False) -> np.ndarray:
        """Cosines of p pairs: (p,) float64, rounded to `SIMILARITY_DIGITS`.

        Args:
            query: (p,) rows of `queries`.
            text: (p,) text numbers.
            whitened: compare the whitened vectors.
        """
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
