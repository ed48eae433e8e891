"""A cache of model outputs on disk: rows of float32 with keys made from the content, in memory-mapped shards.

A shard is two ``.npy`` files, sorted keys and rows in the same order, named by a hash of both. A shard that does not
match its name is damaged and computed again. It is written to a temporary file and renamed, keys last, so that a killed
process leaves complete shards only; processes that write the same rows write the same file.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bgetune.errors import InputError, reason
from bgetune.locale import _
from bgetune.paths import work_root

KEY = np.dtype("S32")
"""Type of the keys: 128-bit hashes in hexadecimal."""

CACHE_VERSION = "2"
"""Part of the name of a cache folder; changes when the same text gets another result."""

MAPPED = 128 << 20
"""Size in bytes from which on an array of rows lies in a working file instead of in memory."""


def content_key(*parts: str) -> str:
    """A hash of several texts."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def content_keys(prefix: str, texts: Iterable[str]) -> np.ndarray:
    """(n,) keys of texts with a common prefix."""
    return np.array([content_key(prefix, text) for text in texts], dtype=KEY)


def by_length(item: Any) -> tuple[int, Any]:
    """The order in which items are computed: by length and text."""
    return len("".join(item)), item


def new_rows(count: int, width: int) -> np.ndarray:
    """An uninitialised array of (count, width) float32.

    From `MAPPED` bytes on it is memory-mapped: the system writes parts of it to a working file and reads them back as
    it needs the memory. The file has no name, so it ends with the array, however the process ends.

    Raises:
        InputError: if the disk has no room for it.
    """
    size = count * width * 4
    if size < MAPPED:
        return np.empty((count, width), dtype=np.float32)
    work_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=work_root()) as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, not a crash at a later write
            return np.asarray(np.memmap(file, np.float32, "r+", shape=(count, width)))
        except OSError as error:
            raise InputError(
                _(
                    "{folder}: no room for {size:,} MiB of vectors ({reason}); free some, or name a folder on a larger "
                    "disk in BGETUNE_CACHE"
                ).format(folder=work_root(), size=math.ceil(size / 2**20), reason=reason(error))
            ) from None


def cached_rows(
    items: Sequence[Any],
    compute: Callable[[list[Any], tqdm], np.ndarray],
    *,
    cache: RowCache | None,
    keys: Callable[[list[Any]], np.ndarray],
    block: int,
    label: str,
    unit: str,
    progress: bool,
    share_out: Callable[[list[list[Any]]], None] | None = None,
    least_shared: int = 0,
) -> np.ndarray:
    """The rows of items: each distinct item is read from the cache, or computed and added to it.

    Args:
        items: n texts or pairs of texts, n > 0.
        compute: b distinct items -> (b, d) float32; it advances the bar. Short items come first.
        cache: cache of the rows; None: none.
        keys: b items -> (b,) keys.
        block: number of items computed between two writes to the cache, which a killed run loses at most.
        label, unit: of the progress bar.
        progress: whether to show a progress bar (on stderr) while items are computed.
        share_out: has other processes compute blocks of items into the cache; None: there are none.
        least_shared: number of missing items beyond which it is called.

    Returns:
        (n, d) float32; large ones are memory-mapped (`new_rows`).
    """
    number: dict[Any, int] = {}
    inverse = np.array([number.setdefault(item, len(number)) for item in items], dtype=np.int64)
    distinct = list(number)
    rows, found, known = None, np.zeros(len(distinct), dtype=bool), np.zeros(0, dtype=KEY)
    if cache is not None:
        known = keys(distinct)
        rows, found = cache.find(known)
    # ordered by length and text, so that batches do not depend on the order of the items
    missing = sorted(np.flatnonzero(~found), key=lambda i: by_length(distinct[i]))
    if cache is not None and share_out is not None and len(missing) > least_shared:
        share_out([[distinct[i] for i in missing[k : k + block]] for k in range(0, len(missing), block)])
        rows, found = cache.find(known)
        missing = [i for i in missing if not found[i]]
    with tqdm(total=len(missing), desc=label, unit=unit, disable=not (progress and missing)) as bar:
        for start in range(0, len(missing), block):
            part = missing[start : start + block]
            made = compute([distinct[i] for i in part], bar)
            if rows is None:
                rows = new_rows(len(distinct), made.shape[1])
            rows[part] = made
            if cache is not None:
                cache.add(known[part], made)
    assert rows is not None  # there is an item, and it was found or computed
    if len(distinct) == len(items):
        return rows
    return np.take(rows, inverse, axis=0, out=new_rows(len(items), rows.shape[1]), mode="clip")  # "raise" makes a copy


class RowCache:
    """A folder of shards whose rows have the same length.

    Args:
        folder: made at the first write.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._keys: dict[Path, np.ndarray] = {}
        self._intact: set[Path] = set()

    def find(self, keys: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Look rows up. Damaged shards are removed, with a warning.

        The keys of all shards are compared, which takes time with the size of the cache; rows are read only where they
        are wanted. Look many keys up at once.

        Args:
            keys: (n,) distinct keys.

        Returns:
            (n, d) float32, undefined for keys that were not found (None if no key was), and (n,) bool, which were.
        """
        self._open_new_shards()
        order = np.argsort(keys)
        ordered = keys[order]
        rows, found = None, np.zeros(len(keys), dtype=bool)
        for file, shard in list(self._keys.items()):
            wanted, inside = _in_both(ordered, shard)
            if len(inside) and (stored := self._open(file)) is not None:
                if rows is None:
                    rows = new_rows(len(keys), stored.shape[1])
                where = order[wanted]
                rows[where] = stored[inside]
                found[where] = True
        return rows, found

    def add(self, keys: Sequence[bytes] | np.ndarray, rows: np.ndarray) -> None:
        """Write a shard of (n,) keys and (n, d) float32 rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        order = np.argsort(keys)
        keys, rows = np.asarray(keys, dtype=KEY)[order], np.ascontiguousarray(rows[order], dtype=np.float32)
        name = _name(keys, rows)
        self._write(f"{name}.rows.npy", rows)
        file = self._write(f"{name}.keys.npy", keys)
        self._keys[file] = keys
        self._intact.add(file)

    def _open_new_shards(self) -> None:
        for file in sorted(self.folder.glob("*.keys.npy")):
            if file not in self._keys:
                try:
                    keys = np.load(file)
                except (ValueError, EOFError, OSError):
                    self._remove(file)
                    continue
                if keys.dtype == KEY and keys.ndim == 1:
                    self._keys[file] = keys
                else:
                    self._remove(file)

    def _open(self, file: Path) -> np.ndarray | None:
        """The rows of a shard, checked at the first read; None if they are damaged.

        They are mapped anew each time: an array that is kept keeps its file open, and a process may open about 1,000.
        """
        try:
            rows = np.load(_rows_file(file), mmap_mode="r")
            whole = file in self._intact or _name(self._keys[file], rows) == file.name.split(".")[0]
        except (ValueError, EOFError, OSError):
            whole = False
        if not whole:
            self._remove(file)
            return None
        self._intact.add(file)
        return rows

    def _remove(self, file: Path) -> None:
        warnings.warn(
            _("{file}: a damaged file of the cache was removed; its contents are computed again").format(file=file),
            stacklevel=2,
        )
        self._keys.pop(file, None)
        self._intact.discard(file)
        for part in (file, _rows_file(file)):
            part.unlink(missing_ok=True)

    def _write(self, name: str, array: np.ndarray) -> Path:
        temporary = self.folder / f".{name}.{os.getpid()}.part"
        with temporary.open("wb") as file:
            np.save(file, array)
        os.replace(temporary, self.folder / name)
        return self.folder / name


def _in_both(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where two sorted arrays of distinct keys are equal: positions in each. The fewer keys are looked up."""
    if len(one) > len(other):
        there, here = _in_both(other, one)
        return here, there
    place = np.searchsorted(other, one).clip(max=max(len(other) - 1, 0))
    equal = np.flatnonzero(other[place] == one) if len(other) else np.zeros(0, dtype=np.int64)
    return equal, place[equal]


def _name(keys: np.ndarray, rows: np.ndarray) -> str:
    """The name of a shard: a checksum of its keys and rows."""
    digest = hashlib.blake2b(keys.tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def _rows_file(keys_file: Path) -> Path:
    return keys_file.with_name(keys_file.name.replace(".keys.npy", ".rows.npy"))
