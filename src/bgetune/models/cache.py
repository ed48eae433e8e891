"""Results of models on disk: rows of float32 under a key of their content, in memory-mapped shards.

A shard is two ``.npy`` files, sorted keys and rows in the same order. It is written to a temporary name and renamed,
keys last, so that a killed process leaves whole shards only; processes that write the same rows write the same file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

KEY = np.dtype("S32")
"""Keys are 128-bit hashes in hexadecimal."""


def content_key(*parts: str) -> str:
    """A hash that differs where any part differs."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def content_keys(prefix: str, texts: Iterable[str]) -> np.ndarray:
    """(n,) keys of texts under a common prefix."""
    return np.array([content_key(prefix, text) for text in texts], dtype=KEY)


class RowCache:
    """Rows of one width under content keys.

    Args:
        folder: made at the first write.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._shards: dict[Path, np.ndarray] = {}

    def find(self, keys: np.ndarray, rows: np.ndarray | None = None) -> tuple[np.ndarray | None, np.ndarray]:
        """Look rows up.

        Args:
            keys: (n,) distinct.
            rows: (n, d) float32 to fill; None makes one of the shards' width.

        Returns:
            The rows (None if nothing was found and none given) and (n,) bool, which of them were found.
        """
        self._open_new_shards()
        order = np.argsort(keys)
        ordered = keys[order]
        found = np.zeros(len(keys), dtype=bool)
        for file, shard in self._shards.items():
            position = np.searchsorted(ordered, shard).clip(max=max(len(keys) - 1, 0))
            inside = np.flatnonzero(ordered[position] == shard) if len(keys) else np.array([], dtype=int)
            if len(inside):
                stored = np.load(file.with_suffix("").with_suffix(".rows.npy"), mmap_mode="r")
                if rows is None:
                    rows = np.empty((len(keys), stored.shape[1]), dtype=np.float32)
                where = order[position[inside]]
                rows[where] = stored[inside]
                found[where] = True
        return rows, found

    def add(self, keys: Sequence[bytes] | np.ndarray, rows: np.ndarray) -> None:
        """Write a shard: (n,) keys and (n, d) float32 rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        order = np.argsort(keys)
        keys, rows = np.asarray(keys, dtype=KEY)[order], np.ascontiguousarray(rows[order], dtype=np.float32)
        name = hashlib.blake2b(keys.tobytes() + rows.tobytes(), digest_size=16).hexdigest()
        self._write(f"{name}.rows.npy", rows)
        self._shards[self._write(f"{name}.keys.npy", keys)] = keys

    def _open_new_shards(self) -> None:
        for file in sorted(self.folder.glob("*.keys.npy")):
            if file not in self._shards:
                self._shards[file] = np.load(file)

    def _write(self, name: str, array: np.ndarray) -> Path:
        temporary = self.folder / f".{name}.{os.getpid()}.part"
        with temporary.open("wb") as file:
            np.save(file, array)
        os.replace(temporary, self.folder / name)
        return self.folder / name
