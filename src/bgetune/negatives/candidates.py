"""Candidates for negatives: the nearest texts of every query."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from bgetune.negatives.corpus import Corpus
from bgetune.negatives.rules import Search
from bgetune.negatives.space import SIMILARITY_DIGITS, Space


def find_candidates(
    corpus: Corpus,
    queries: pd.DataFrame,
    space: Space,
    search: Search,
    *,
    depth: int,
    seed: int,
    rows: np.ndarray | None = None,
) -> pd.DataFrame:
    """The nearest texts of queries in their split, of the kinds (query, document) that their positives have.

    Args:
        queries: as `queries_of` returns them.
        space: the vectors of these queries and of the texts of their split.
        search: how to search.
        depth: number of texts to find for each query.
        seed: of an index that needs training.
        rows: (k,) rows of `queries` to search for. None: all.

    Returns:
        Columns query (row of `queries`), candidate (text number), similarity, whitened (similarity after whitening),
        rank (from 1); sorted by query and rank.
    """
    rows = np.arange(len(queries)) if rows is None else rows
    kinds_of = queries["kinds"].to_numpy()[rows]
    similarities, candidates = [np.empty((len(rows), 0))], [np.empty((len(rows), 0), dtype=np.int64)]
    for kind, start in product(("document", "query"), np.unique(space.start)):
        wanted = np.flatnonzero((space.start[rows] == start) & np.array([kind in kinds for kinds in kinds_of]))
        numbers = np.flatnonzero((space.row >= 0) & (corpus.kind == kind))
        if len(wanted) and len(numbers):
            # one more than asked for: a query is among its own neighbours
            found, position = search.nearest(
                space.queries[rows[wanted]], space.vectors_of(start, numbers), depth + 1, seed=seed
            )
            similarities.append(np.full((len(rows), depth + 1), -np.inf))
            similarities[-1][wanted] = found.astype(np.float64).round(SIMILARITY_DIGITS)
            candidates.append(np.full((len(rows), depth + 1), -1))
            candidates[-1][wanted] = np.where(position >= 0, numbers[position], -1)
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
    a, b = corpus.positives["anchor"], corpus.positives["positive"]
    labelled = np.array([pair for pair, grade in corpus.labels.items() if grade > 0], dtype=np.int64).reshape(-1, 2)
    edges = [corpus.pair_key(a, b), corpus.pair_key(b, a), corpus.pair_key(*labelled.T)]
    anchor = queries["anchor"].to_numpy()[pairs["query"]]
    return pd.Index(corpus.pair_key(anchor, pairs["candidate"])).isin(np.concatenate(edges))


def same_cluster(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Which candidates are in the cluster of their query: (n,) bool."""
    anchor = queries["anchor"].to_numpy()[pairs["query"]]
    return corpus.cluster[anchor] == corpus.cluster[pairs["candidate"]]
