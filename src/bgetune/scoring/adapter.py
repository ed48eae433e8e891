"""Vectors of an old model for queries of a new one: a linear map, for indexes that cannot be rebuilt at once.

The map is fitted on texts that both models encoded. What it loses beside a rebuilt index is measured, never assumed:
`python -m bgetune.compare_traffic OLD NEW LOG --adapter FILE` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from bgetune.errors import InputError
from bgetune.locale import _

RIDGE = 1e-3
"""Penalty of the ridge regression, as a share of the mean squared length of the old vectors' dimensions."""

Method = Literal["procrustes", "ridge"]


@dataclass(frozen=True)
class Adapter:
    """A linear map from vectors of an old model to those of a new one.

    Attributes:
        matrix: (d_old, d_new) float32.
        old, new: fingerprints of the models that it is for.
        method: ``procrustes`` (a rotation, the nearest that keeps angles; Schönemann, 1966) or ``ridge`` (any linear
            map, with a small penalty).
    """

    matrix: np.ndarray
    old: str
    new: str
    method: Method

    @classmethod
    def fit(cls, old: np.ndarray, new: np.ndarray, *, models: tuple[str, str], method: Method) -> Self:
        """Fit to the vectors of the same texts by both models.

        Args:
            old, new: (n, d_old) and (n, d_new), unit rows.
            models: fingerprints of the old and of the new model.
        """
        old, new = old.astype(np.float64), new.astype(np.float64)
        if method == "procrustes":
            left, _values, right = np.linalg.svd(old.T @ new, full_matrices=False)
            matrix = left @ right
        else:
            gram = old.T @ old
            penalty = RIDGE * np.trace(gram) / len(gram)
            matrix = np.linalg.solve(gram + penalty * np.eye(len(gram)), old.T @ new)
        return cls(matrix.astype(np.float32), *models, method)

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """(n, d_new) float32 unit rows: what an index for the new model's queries can hold instead of its own vectors.

        The thresholds of neither model hold for cosines with them.

        Args:
            vectors: (n, d_old) of the old model.

        Raises:
            InputError: if they have another dimension.
        """
        vectors = np.asarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != len(self.matrix):
            message = _("the vectors have the shape {shape}; the adapter takes rows of {dimension} numbers")
            raise InputError(message.format(shape=vectors.shape, dimension=len(self.matrix)))
        mapped = vectors @ self.matrix
        return mapped / np.linalg.norm(mapped, axis=1, keepdims=True).clip(min=1e-12)

    def save(self, file: Path) -> None:
        """Write it as a safetensors file."""
        from safetensors.numpy import save_file

        save_file({"matrix": self.matrix}, file, {"old": self.old, "new": self.new, "method": self.method})

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: if it is no such file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, "numpy") as stored:
                meta = stored.metadata() or {}
                return cls(stored.get_tensor("matrix"), meta["old"], meta["new"], meta["method"])
        except (OSError, SafetensorError, KeyError) as error:
            message = _("{file} is no adapter ({error}); make one with python -m bgetune.compare_traffic --adapter")
            raise InputError(message.format(file=file, error=error)) from None
