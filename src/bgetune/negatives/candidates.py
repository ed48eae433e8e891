"""Candidates for negatives: the nearest texts of every query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from bgetune.models.index import Index
from bgetune.negatives.corpus import Corpus
from bgetune.negatives.rules import Search
from bgetune.negatives.space import SIMILARITY_DIGITS, Space


@dataclass(frozen=True)
class Pool:
    """Texts of a split that queries search: of one kind, encoded with one prompt.

    Attributes:
        kind: query or document.
        start: of the queries that search it (see `Space.start`).
        numbers: (n,) int64 numbers of the texts.
        index: of their vectors.
    """

    kind: str
    start: int
    numbers: np.ndarray
    index: Index


def pools_of(corpus: Corpus, queries: pd.DataFrame, space: Space, search: Search, *, seed: int) -> list[Pool]:
    """The pools of a split that its queries search, each indexed once.

    Args:
        queries: as `queries_of` returns them.
        space: the vectors of these queries and of the texts of their split.
        search: how to search.
        seed: of an index that needs training.
    """
    pools = []
    for kind, start in product(("document", "query"), np.unique(space.start)):
        numbers = np.flatnonzero((space.row >= 0) & (corpus.kind == kind))
        wanted = any(kind in kinds for kinds in set(queries["kinds"][space.start == start]))
        if wanted and len(numbers):
            pools.append(Pool(kind, int(start), numbers, search.over(space.vectors_of(start, numbers), seed=seed)))
    return pools


def find_candidates(
    queries: pd.DataFrame, space: Space, pools: Sequence[Pool], *, depth: int, rows: np.ndarray
) -> pd.DataFrame:
    """The nearest texts of queries in their split, of the kinds (query, document) that their positives have.

    Args:
        queries: as `queries_of` returns them.
        space: the vectors of these queries and of the texts of their split.
        pools: what is searched (`pools_of`).
        depth: number of texts to find for each query.
        rows: (k,) rows of `queries` to search for.

    Returns:
        Columns query (row of `queries`), candidate (text number), similarity, whitened (similarity after whitening),
        rank (from 1); sorted by query and rank.
    """
    kinds_of = queries["kinds"].to_numpy()[rows]
    similarities, candidates = [np.empty((len(rows), 0))], [np.empty((len(rows), 0), dtype=np.int64)]
    for pool in pools:
        wanted = np.flatnonzero(
            (space.start[rows] == pool.start) & np.array([pool.kind in kinds for kinds in kinds_of])
        )
        if len(wanted):
            # one more than asked for: a query is among its own neighbours
            found, position = pool.index.search(space.vectors[space.query[rows[wanted]]], depth + 1)
            similarities.append(np.full((len(rows), depth + 1), -np.inf))
            similarities[-1][wanted] = found.astype(np.float64).round(SIMILARITY_DIGITS)
            candidates.append(np.full((len(rows), depth + 1), -1))
            candidates[-1][wanted] = np.where(position >= 0, pool.numbers[position], -1)
    similarity, candidate = np.hstack(similarities), np.hstack(candidates)
    order = np.lexsort((candidate, -similarity), axis=1)
    similarity = np.take_along_axis(similarity, order, axis=1)
    candidate = np.take_along_axis(candidate, order, axis=1)
    others = (candidate >= 0) & (candidate != queries["anchor"].to_numpy()[rows][:, None])
    rank = np.cumsum(others, axis=1)
    kept = others & (rank <= depth)
    pairs = pd.DataFrame(
        {
            "query": rows[np.nonzero(kept)[0]],
            "candidate": candidate[kept],
            "similarity": similarity[kept],
            "rank": rank[kept],
        }
    )
    pairs["whitened"] = space.similarity(pairs["query"].to_numpy(), pairs["candidate"].to_numpy(), whitened=True)
    return pairs


def known_positive(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Which candidates an edge or a label calls positives of their query: (n,) bool."""
    return corpus.among(corpus.known_pairs, queries["anchor"].to_numpy()[pairs["query"]], pairs["candidate"])


def called_different(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Which candidates people called different from their query: (n,) bool."""
    return corpus.among(corpus.different_pairs, queries["anchor"].to_numpy()[pairs["query"]], pairs["candidate"])


def same_cluster(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Which candidates are in the cluster of their query: (n,) bool."""
    anchor = queries["anchor"].to_numpy()[pairs["query"]]
    return corpus.cluster[anchor] == corpus.cluster[pairs["candidate"]]
