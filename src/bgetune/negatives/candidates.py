"""Candidates by search: the nearest texts of every query."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from bgetune.config.stages import HardNegatives
from bgetune.models.index import search
from bgetune.negatives.space import SIMILARITY_DIGITS, Space
from bgetune.negatives.world import World


def find_candidates(
    world: World,
    queries: pd.DataFrame,
    space: Space,
    rules: HardNegatives,
    depth: int | None = None,
    rows: np.ndarray | None = None,
) -> pd.DataFrame:
    """The nearest texts of queries in their split, of the kinds that their positives have.

    Args:
        queries: as `world.queries_of` returns them.
        space: of these queries.
        rules: index, search_params, memory_mb, seed and rank_max.
        depth: how many texts of a query. None: `rules.rank_max`.
        rows: (k,) rows of `queries` to search for. None: all.

    Returns:
        query, candidate, similarity, whitened, rank: see `mining.Mined`; sorted by query and rank.
    """
    depth = rules.rank_max if depth is None else depth
    rows = np.arange(len(queries)) if rows is None else rows
    kinds_of = queries["kinds"].to_numpy()[rows]
    similarities, candidates = [np.empty((len(rows), 0))], [np.empty((len(rows), 0), dtype=np.int64)]
    for kind, start in product(("document", "query"), np.unique(space.start)):
        wanted = np.flatnonzero((space.start[rows] == start) & np.array([kind in kinds for kinds in kinds_of]))
        corpus = np.flatnonzero((space.row >= 0) & (world.kind == kind))
        if len(wanted) and len(corpus):
            # one more than asked for: a query is among its own neighbours
            found, position = search(
                space.queries[rows[wanted]],
                space.corpus(start, corpus),
                depth + 1,
                rules.index,
                search_params=rules.search_params,
                memory_mb=rules.memory_mb,
                seed=rules.seed,
            )
            similarities.append(np.full((len(rows), depth + 1), -np.inf))
            similarities[-1][wanted] = found.astype(np.float64).round(SIMILARITY_DIGITS)
            candidates.append(np.full((len(rows), depth + 1), -1))
            candidates[-1][wanted] = np.where(position >= 0, corpus[position], -1)
    similarity, candidate = np.hstack(similarities), np.hstack(candidates)
    order = np.lexsort((candidate, -similarity), axis=1)
    candidate, similarity = (np.take_along_axis(array, order, axis=1) for array in (candidate, similarity))
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


def known_positive(world: World, queries: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Which candidates an edge or a person's label calls positives of their query: (n,) bool."""
    a, b = world.positives["anchor"], world.positives["positive"]
    labelled = np.array([pair for pair, grade in world.labels.items() if grade > 0], dtype=np.int64).reshape(-1, 2)
    edges = [world.pair_key(a, b), world.pair_key(b, a), world.pair_key(*labelled.T)]
    anchor = queries["anchor"].to_numpy()[pairs["query"]]
    return pd.Index(world.pair_key(anchor, pairs["candidate"])).isin(np.concatenate(edges))


def same_cluster(world: World, queries: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Which candidates are in the cluster of their query: (n,) bool."""
    anchor = queries["anchor"].to_numpy()[pairs["query"]]
    return world.cluster[anchor] == world.cluster[pairs["candidate"]]
