"""Metrics of ranked lists: reciprocal rank, nDCG and recall, by ir-measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def evaluate(
    ranked: Mapping[str, Sequence[str]], relevance: Mapping[str, Mapping[str, int]], k: int = 10
) -> pd.DataFrame:
    """Evaluate the first k results of each query.

    Args:
        ranked: query -> ids of texts, best first.
        relevance: query -> {id: gain}, gains from 1; other ids are irrelevant. Queries without a relevant text are
            left out.
        k: number of results.

    Returns:
        Index: query. ``mrr`` (1 / rank of the first relevant text, 0 below the k-th), ``ndcg`` (gains as given, not
        2^gain - 1: the trec_eval form) and ``recall`` (share of the relevant texts among the first k). Their means are
        MRR@k, nDCG@k and recall@k.
    """
    import ir_measures
    from ir_measures import RR, R, nDCG

    relevance = {query: {i: int(gain) for i, gain in gains.items() if gain > 0} for query, gains in relevance.items()}
    relevance = {query: gains for query, gains in relevance.items() if gains}
    # negative ranks as scores, because trec_eval orders equal scores by id
    run = {query: {i: -rank for rank, i in enumerate(dict.fromkeys(ranked.get(query, ())))} for query in relevance}
    names = {RR @ k: "mrr", nDCG @ k: "ndcg", R @ k: "recall"}
    table = pd.DataFrame(0.0, index=pd.Index(list(relevance), name="query"), columns=list(names.values()))
    found = {query: scores for query, scores in run.items() if scores}
    for metric in ir_measures.iter_calc(list(names), relevance, found) if found else ():
        table.loc[metric.query_id, names[metric.measure]] = metric.value
    return table


def nearest(
    query_ids: Sequence[str] | np.ndarray,
    query_vectors: np.ndarray,
    ids: Sequence[str] | np.ndarray,
    vectors: np.ndarray,
    k: int = 10,
) -> pd.DataFrame:
    """The k most similar texts of each query, without the query itself.

    Args:
        query_ids, query_vectors: m ids and (m, d) unit rows.
        ids, vectors: n ids and (n, d) unit rows of the texts to search.
        k: number of results.

    Returns:
        ``query_id, text_id, rank`` (from 1) ``, similarity``, ordered by query and rank.
    """
    from bgetune.models.index import search

    similarities, positions = search(query_vectors, vectors, k + 1)
    found = positions.ravel() >= 0
    table = pd.DataFrame(
        {
            "query_id": np.repeat(np.asarray(query_ids, dtype=object), positions.shape[1])[found],
            "text_id": np.asarray(ids, dtype=object)[positions.ravel()[found]],
            "similarity": similarities.ravel()[found].astype(np.float64),
        }
    )
    table = table[table["query_id"] != table["text_id"]]
    table.insert(2, "rank", table.groupby("query_id", sort=False).cumcount() + 1)
    return table[table["rank"] <= k].reset_index(drop=True)
