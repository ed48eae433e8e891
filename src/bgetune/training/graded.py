"""Labelled and graded pairs: which of them each epoch reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from datasets import Dataset


def count(graded: pd.DataFrame | None) -> int:
    """Number of pairs that an epoch reads: those that people graded, without the ones that follow from them."""
    return 0 if graded is None else len(_numbers(graded)[0])


def rows_of_epochs(graded: pd.DataFrame, epochs: int, seed: int) -> pd.DataFrame:
    """The pairs of all epochs, one after the other: each pair, or, half of the time, one that follows from it.

    Args:
        graded: query, text, grade and, where some follow from others, pair, as `evaluation.graded_pairs` returns them.
        epochs: number of epochs.
        seed: of the choices.

    Returns:
        epochs * n rows of `graded` for n pairs; the pairs of every epoch come in the same order.
    """
    first, counts = _numbers(graded)
    order = np.argsort(_pairs(graded), kind="stable")
    lots = np.random.default_rng([seed, len(first)])
    rows = []
    for _epoch in range(epochs):
        implied = np.where(lots.random(len(first)) < 0.5, lots.integers(np.maximum(counts - 1, 1)) + 1, 0)
        rows.append(order[first + np.where(counts > 1, implied, 0)])
    return graded.iloc[np.concatenate(rows)].reset_index(drop=True)


def dataset(graded: pd.DataFrame, epochs: int, seed: int) -> Dataset:
    """`rows_of_epochs` as the trainers take them: columns query, text and label."""
    from datasets import Dataset

    rows = rows_of_epochs(graded, epochs, seed)
    return Dataset.from_dict(
        {"query": rows["query"].tolist(), "text": rows["text"].tolist(), "label": rows["grade"].tolist()}
    )


def part(graded: pd.DataFrame, pairs: np.ndarray) -> pd.DataFrame:
    """Some of the pairs, with those that follow from them.

    Args:
        graded: as for `rows_of_epochs`.
        pairs: which of the pairs, counted from 0 in the order of their numbers.
    """
    numbers = _pairs(graded)
    return graded[np.isin(numbers, np.unique(numbers)[pairs])]


def _pairs(graded: pd.DataFrame) -> np.ndarray:
    return graded["pair"].to_numpy() if "pair" in graded else np.arange(len(graded))


def _numbers(graded: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair, in the order of the pairs: where its rows begin once they are sorted by pair, and their number."""
    counts = np.unique(_pairs(graded), return_counts=True)[1]
    return np.cumsum(counts) - counts, counts
