"""Nearest neighbours by inner product: exact, or by any FAISS `index_factory` string, kept on disk."""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bgetune.errors import InputError
from bgetune.files import remove_abandoned, sha256, temporary_name
from bgetune.locale import _
from bgetune.paths import cache_root

CACHE = Path("data/cache/indexes")

EXACT = 100_000
"""Largest number of vectors that ``auto`` searches exactly, which takes twice as long there as an IVF index."""

LIST = 256
"""Vectors in a list of the IVF index that ``auto`` makes, about: a constant, so that a query costs the same in any
corpus."""

PROBES = 32
"""Lists of it that a query reads."""

FLAT_LISTS, MOST_LISTS = 2**14, 2**16
"""Largest number of lists whose centroids ``auto`` compares one by one (more are found by HNSW), and of all: training
takes time with their square."""

KEPT = 8
"""Number of indexes that the cache keeps, those used last: each is as large as its vectors."""

LEAST_SAMPLE, SAMPLE_OF_LIST = 50_000, 40
"""Vectors that an index with centroids or codebooks is trained on: at least, and for each of its lists (FAISS wants
39)."""


class Index:
    """Vectors to search, once or many times.

    An index of FAISS is written to the cache, under a name made from the vectors, the factory string and the seed, and
    searched there memory-mapped: the next notebook, round or a run that was killed finds it again, and the memory it
    takes is the operating system's to give back. A file that does not match its checksum is damaged and made again.

    Args:
        corpus: (n, d) float32 unit rows; may be memory-mapped, it is read in blocks.
        factory: ``Flat`` is exact; others are strings of FAISS: ``IVF1024,Flat``, ``HNSW32``, ``IVF4096,PQ32``;
            ``auto``: see `resolve`.
        search_params: ``nprobe`` of IVF, ``efSearch`` of HNSW.
        memory_mb: maximum working memory of building and searching, in MiB, without the index itself.
        seed: seed of the sample that an index is trained on.
        cache_dir: folder of the cache; None: the index stays in memory. The default is ``data/cache/indexes``.

    Raises:
        InputError: naming the factory string or the parameter that FAISS does not take.
    """

    def __init__(
        self,
        corpus: np.ndarray,
        factory: str = "auto",
        *,
        search_params: Mapping[str, int] | None = None,
        memory_mb: int = 512,
        seed: int = 42,
        cache_dir: Path | str | None = CACHE,
    ):
        self.memory_mb = memory_mb
        self.factory, parameters = resolve(factory, search_params, len(corpus))
        self._corpus: np.ndarray | None = None
        self._index: Any = None
        if self.factory == "Flat":
            self._corpus = corpus
            return
        if cache_dir is None:
            self._index = build(corpus, self.factory, memory_mb=memory_mb, seed=seed)
        else:
            self._index = _from_cache(cache_root() / cache_dir, corpus, self.factory, memory_mb=memory_mb, seed=seed)
        _set(self._index, parameters)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar rows for each query.

        Args:
            queries: (m, d) float32 unit rows.
            k: number of neighbours.

        Returns:
            similarities (m, k) float32, descending, and positions (m, k) int64; where there are fewer than k
            neighbours, -inf and -1. An exact search orders equal similarities by position (which of them are left out
            is undefined). The last bits of similarities differ with the number of threads.
        """
        if self._corpus is not None:
            return _exact(queries, self._corpus, k, self.memory_mb)
        similarities = np.empty((len(queries), k), dtype=np.float32)
        positions = np.empty((len(queries), k), dtype=np.int64)
        for rows in _blocks(len(queries), 2 * (k + PROBES) * 12 + queries.shape[1] * 8, self.memory_mb):
            block = np.ascontiguousarray(queries[rows], np.float32)
            similarities[rows], positions[rows] = _by_lists(self._index, block, k)
        similarities[positions < 0] = -np.inf
        return similarities, positions


def search(
    queries: np.ndarray,
    corpus: np.ndarray,
    k: int,
    factory: str = "Flat",
    *,
    search_params: Mapping[str, int] | None = None,
    memory_mb: int = 512,
    seed: int = 42,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of a corpus for each query: one search by an `Index` in memory."""
    index = Index(corpus, factory, search_params=search_params, memory_mb=memory_mb, seed=seed, cache_dir=None)
    return index.search(queries, k)


def resolve(factory: str, search_params: Mapping[str, int] | None, count: int) -> tuple[str, dict[str, int]]:
    """The factory string and the search parameters for a corpus of `count` vectors.

    ``auto`` is ``Flat`` up to `EXACT` vectors. Beyond, it is IVF with lists of about `LIST` vectors (a power of two of
    them), and `PROBES` of them are read unless `search_params` says otherwise.
    """
    given = dict(search_params or {})
    if factory != "auto":
        return factory, given
    if count <= EXACT:
        return "Flat", {}
    lists = min(2 ** round(math.log2(count / LIST)), MOST_LISTS)
    return f"IVF{lists}{'_HNSW32' if lists > FLAT_LISTS else ''},Flat", {"nprobe": PROBES} | given


def build(corpus: np.ndarray, factory: str, *, memory_mb: int = 512, seed: int = 42) -> Any:
    """Build a FAISS index of a corpus, trained on a sample of it where it needs training; arguments as for `Index`.

    Raises:
        InputError: if FAISS does not know the factory string, or the corpus is too small to train it.
    """
    faiss = _faiss()

    try:
        index = faiss.index_factory(corpus.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            count = min(len(corpus), max(LEAST_SAMPLE, SAMPLE_OF_LIST * _lists(index)))
            sample = np.sort(np.random.default_rng(seed).choice(len(corpus), count, replace=False))
            index.train(np.ascontiguousarray(corpus[sample], dtype=np.float32))
    except RuntimeError as error:
        raise InputError(
            _(
                "index: FAISS cannot make {factory!r} over {count:,} vectors of {dimensions} dimensions ({reason}); "
                "Flat always works, and IVF wants about 40 vectors a list"
            ).format(factory=factory, count=len(corpus), dimensions=corpus.shape[1], reason=_reason(error))
        ) from None
    for rows in _blocks(len(corpus), corpus.shape[1] * 8, memory_mb):
        index.add(np.ascontiguousarray(corpus[rows], dtype=np.float32))
    return index


def _from_cache(folder: Path, corpus: np.ndarray, factory: str, *, memory_mb: int, seed: int) -> Any:
    """An index on disk, memory-mapped. It is built first if it is not there; its name is ``KEY.CHECKSUM.faiss``."""
    faiss = _faiss()

    key = _key(corpus, factory, memory_mb, seed)
    for file in sorted(folder.glob(f"{key}.*.faiss")):
        if file.suffixes[0] == f".{sha256(file)[:32]}":
            os.utime(file)  # used now
            return _mapped(file)
        warnings.warn(
            _("{file}: a damaged file of the cache was removed; its contents are computed again").format(file=file),
            stacklevel=4,
        )
        file.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    made = build(corpus, factory, memory_mb=memory_mb, seed=seed)
    temporary = temporary_name(folder / f"{key}.faiss")
    try:
        faiss.write_index(made, str(temporary))
        del made  # the copy on disk takes its place
        file = folder / f"{key}.{sha256(temporary)[:32]}.faiss"
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    index = _mapped(file)
    _prune(folder)
    return index


def _prune(folder: Path) -> None:
    """Remove the indexes of the cache but the `KEPT` used last. One that is mapped can be read on, unless the system
    (Windows) refuses to remove it."""
    used = {}
    for file in folder.glob("*.faiss"):
        with suppress(FileNotFoundError):  # another process removed it
            used[file] = file.stat().st_mtime_ns
    for file in sorted(used, key=lambda one: used[one])[:-KEPT]:
        with suppress(PermissionError):
            file.unlink(missing_ok=True)


def _mapped(file: Path) -> Any:
    faiss = _faiss()

    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    if _lists(index):
        lists = faiss.downcast_InvertedLists(faiss.extract_index_ivf(index).invlists)
        lists.prefetch_nthread = 0  # by default 32 threads read ahead for every block of queries
    return index


def _by_lists(index: Any, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Search; with an IVF index, queries of one list follow each other, as they read much the same lists.

    The results are those of `index.search`. The lists stay in the processor's cache, which saves a seventh to a
    quarter of the time (50,000 to 857,500 vectors of 128 dimensions).
    """
    if not isinstance(index, _faiss().IndexIVF):
        return index.search(queries, k)
    nearness, lists = index.quantizer.search(queries, min(index.nprobe, index.nlist))
    order = np.argsort(lists[:, 0], kind="stable")
    found = index.search_preassigned(queries[order], k, lists[order], nearness[order])
    back = np.argsort(order)
    return found[0][back], found[1][back]


def _key(corpus: np.ndarray, factory: str, memory_mb: int, seed: int) -> str:
    """A hash of what an index is made from."""
    digest = hashlib.blake2b(f"{_faiss().__version__} {factory} {seed} {corpus.shape}".encode(), digest_size=16)
    for rows in _blocks(len(corpus), corpus.shape[1] * 4, memory_mb):
        digest.update(np.ascontiguousarray(corpus[rows], dtype=np.float32).data)
    return digest.hexdigest()


def _lists(index: Any) -> int:
    """Number of lists of an IVF index; 0 for other indexes."""
    try:
        return int(_faiss().extract_index_ivf(index).nlist)
    except RuntimeError:
        return 0


def check(factory: str, search_params: dict[str, int] | None = None, dimension: int = 512) -> None:
    """Check that FAISS can make an index and knows its search parameters, on a tiny index (``auto``: an IVF index).

    Raises:
        InputError: naming `index` or `search_params`, the reason and the remedy.
    """
    remedy = _("auto and Flat always work; others are IVF4096,Flat, HNSW32 or IVF4096,PQ32")
    if factory == "auto":
        factory = "IVF1,Flat"
    if factory == "Flat":
        if search_params:
            raise InputError(
                _("search_params: Flat has none, not {names}; leave them out").format(names=", ".join(search_params))
            )
        return
    sizes = [int(size) for size in re.findall(r"\d+", factory)]
    if not factory or not all(0 < size < 2**24 for size in sizes):
        raise InputError(
            _("index: FAISS cannot make {factory!r}: a size in it is too small or too large; {remedy}").format(
                factory=factory, remedy=remedy
            )
        )
    faiss = _faiss()
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        if index.is_trained:
            index.add(np.eye(4, dimension, dtype=np.float32))
    except RuntimeError as error:
        raise InputError(
            _("index: FAISS cannot make {factory!r} ({reason}); {remedy}").format(
                factory=factory, reason=_reason(error), remedy=remedy
            )
        ) from None
    for name, value in (search_params or {}).items():
        if value < 1:
            raise InputError(_("search_params: {name} is at least 1, not {value}").format(name=name, value=value))
    _set(index, search_params or {})


def recall(positions: np.ndarray, exact: np.ndarray) -> float:
    """Recall of an approximate search: the share of the exact neighbours (m, k) among the positions found (m, k)."""
    hits = [len(np.intersect1d(found, wanted[wanted >= 0])) for found, wanted in zip(positions, exact, strict=True)]
    return float(sum(hits) / max((exact >= 0).sum(), 1))


def _exact(queries: np.ndarray, corpus: np.ndarray, k: int, memory_mb: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact search, block by block of the corpus, merging the best k so far with those of the block."""
    faiss = _faiss()

    depth = min(k, len(corpus))
    similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
    positions = np.full((len(queries), k), -1, dtype=np.int64)
    for rows in _blocks(len(queries), k * 36 + queries.shape[1] * 4, memory_mb // 2):
        block = np.ascontiguousarray(queries[rows], dtype=np.float32)
        for part in _blocks(len(corpus), corpus.shape[1] * 4, memory_mb // 2):
            found, where = faiss.knn(
                block,
                np.ascontiguousarray(corpus[part], dtype=np.float32),
                min(depth, part.stop - part.start),
                metric=faiss.METRIC_INNER_PRODUCT,
            )
            where += part.start * (where >= 0)
            if part.start:
                found, where = np.hstack([similarities[rows], found]), np.hstack([positions[rows], where])
            order = np.lexsort((where, -found), axis=1)[:, :k]
            similarities[rows, : order.shape[1]] = np.take_along_axis(found, order, axis=1)
            positions[rows, : order.shape[1]] = np.take_along_axis(where, order, axis=1)
    return similarities, positions


def _faiss() -> Any:
    """FAISS, set to multiply matrices for few queries, too. By default it compares single vectors where queries times
    dimensions are below 128,000, which is seven times slower."""
    import faiss

    faiss.cvar.distance_compute_blas_threshold = 1
    return faiss


def _reason(error: RuntimeError) -> str:
    """The message of FAISS, without the place in its sources."""
    text = str(error).strip().split("\n")[0].split("Error: ")[-1]
    return re.sub(r"^.*\.cpp:\d+: ", "", text)


def _set(index: Any, parameters: dict[str, int]) -> None:
    faiss = _faiss()

    for name, value in parameters.items():
        try:
            faiss.ParameterSpace().set_index_parameter(index, name, value)
        except RuntimeError:
            raise InputError(
                _("search_params: {index} has no {name}; nprobe is that of IVF, efSearch that of HNSW").format(
                    index=type(index).__name__, name=name
                )
            ) from None


def _blocks(count: int, row_bytes: int, memory_mb: int) -> list[slice]:
    size = max(1, memory_mb * 2**20 // row_bytes)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
