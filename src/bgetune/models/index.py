"""Nearest neighbours by inner product: exact by default, any FAISS `index_factory` string for large corpora."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from bgetune.errors import InputError
from bgetune.locale import _

TRAINING_SAMPLE = 50_000
"""Maximum number of vectors that an index with centroids or codebooks is trained on."""


def search(
    queries: np.ndarray,
    corpus: np.ndarray,
    k: int,
    factory: str = "Flat",
    *,
    search_params: dict[str, int] | None = None,
    memory_mb: int = 512,
    seed: int = 42,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of a corpus for each query.

    Args:
        queries: (m, d) float32 unit rows.
        corpus: (n, d) float32 unit rows; may be memory-mapped, it is read in blocks.
        k: number of neighbours.
        factory: ``Flat`` is exact; others are strings of FAISS: ``IVF1024,Flat``, ``HNSW32``, ``IVF4096,PQ32``.
        search_params: ``nprobe`` of IVF, ``efSearch`` of HNSW.
        memory_mb: maximum working memory of the search, in MiB, without the index itself (``Flat`` has none).
        seed: seed of the sample that an index is trained on.

    Returns:
        similarities (m, k) float32, descending, and positions (m, k) int64; where there are fewer than k neighbours,
        -inf and -1. An exact search orders equal similarities by position (which of them are left out is undefined).

    Raises:
        InputError: naming the factory string or the parameter that FAISS does not take.
    """
    if factory == "Flat":
        return _exact(queries, corpus, k, memory_mb)
    index = build(corpus, factory, memory_mb=memory_mb, seed=seed)
    return search_index(index, queries, k, search_params, memory_mb=memory_mb)


def search_index(
    index: Any, queries: np.ndarray, k: int, search_params: dict[str, int] | None = None, *, memory_mb: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar vectors of a FAISS index for each query; arguments and result are those of `search`."""
    _set(index, search_params or {})
    similarities = np.empty((len(queries), k), dtype=np.float32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    for rows in _blocks(len(queries), k * 12 + queries.shape[1] * 4, memory_mb):
        similarities[rows], positions[rows] = index.search(np.ascontiguousarray(queries[rows], np.float32), k)
    similarities[positions < 0] = -np.inf
    return similarities, positions


def build(corpus: np.ndarray, factory: str, *, memory_mb: int = 512, seed: int = 42) -> Any:
    """Build a FAISS index of a corpus, trained on a sample of it where it needs training; arguments as for `search`.

    Raises:
        InputError: if FAISS does not know the factory string, or the corpus is too small to train it.
    """
    faiss = _faiss()

    try:
        index = faiss.index_factory(corpus.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            count = min(len(corpus), TRAINING_SAMPLE)
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


def check(factory: str, search_params: dict[str, int] | None = None, dimension: int = 512) -> None:
    """Check that FAISS can make an index and knows its search parameters, on a tiny index.

    Raises:
        InputError: naming `index` or `search_params`, the reason and the remedy.
    """
    remedy = _("Flat always works; others are IVF4096,Flat, HNSW32 or IVF4096,PQ32")
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
