"""The first k results of a search, by the bi-encoder, the reranker and both: is a reranker worth its time?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bgetune.metrics import retrieval
from bgetune.metrics.calibrators import Calibrator, Combination
from bgetune.metrics.separation import separation
from bgetune.metrics.statistics import bootstrap, interval
from bgetune.scoring.scorer import prompts_for

if TYPE_CHECKING:
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker

Relevance = Mapping[str, Mapping[str, int]]


def sample_queries(
    texts: pd.DataFrame, clusters: pd.DataFrame, relevance: Relevance, split: str, limit: int, seed: int
) -> pd.DataFrame:
    """Queries of a split that have something to find; a seeded sample where there are more than `limit`.

    Returns:
        ``text_id, text, cluster_id``, ordered by id.
    """
    rows = clusters[(clusters["split"] == split) & clusters["text_id"].isin(relevance)].merge(texts, on="text_id")
    asked = rows[rows["kind"] == "query"]
    rows = asked if len(asked) else rows
    rows = rows.sample(limit, random_state=seed) if len(rows) > limit else rows
    return rows[["text_id", "text", "cluster_id"]].sort_values("text_id", ignore_index=True)


def candidates(encoder: Encoder, queries: pd.DataFrame, searched: pd.DataFrame, k: int) -> pd.DataFrame:
    """The k texts nearest to each query.

    Args:
        queries: ``text_id, text, cluster_id``.
        searched: rows of the table texts, all documents or none.

    Returns:
        ``query_id, text_id, rank, similarity, cluster_id, query, text``, by query and rank.
    """
    if queries.empty:
        return pd.DataFrame(columns=["query_id", "text_id", "rank", "similarity", "cluster_id", "query", "text"])
    before_query, before_text = prompts_for(encoder.prompts, searched)
    found = retrieval.nearest(
        queries["text_id"],
        encoder.encode(queries["text"].tolist(), prompt=before_query),
        searched["text_id"],
        encoder.encode(searched["text"].tolist(), prompt=before_text),
        k,
    )
    found["cluster_id"] = found["query_id"].map(queries.set_index("text_id")["cluster_id"])
    found["query"] = found["query_id"].map(queries.set_index("text_id")["text"])
    found["text"] = found["text_id"].map(searched.set_index("text_id")["text"])
    return found


def rerank(
    rerankers: Mapping[str, Reranker],
    calibrator: Calibrator,
    dev: pd.DataFrame,
    test: pd.DataFrame,
    relevance: Relevance,
) -> tuple[Combination | None, dict[str, tuple[pd.DataFrame, str]]]:
    """Order the candidates of test by the cross-encoder, and by both models together.

    Args:
        rerankers: ``reranker``, which the combination is made with, and, where that one was tuned, ``untuned
            reranker``; none: then there is nothing to order.
        dev: candidates that the combination of both is fitted on.

    Returns:
        The combination, None where dev has nothing to fit it on, and the orders as `evaluate_orders` takes them.
    """
    if not rerankers or test.empty:
        return None, {}
    found = pd.concat([dev, test], keys=["dev", "test"])
    for name, reranker in rerankers.items():
        found[name] = reranker.score(list(zip(found["query"], found["text"], strict=True)))
    found["probability"] = calibrator.predict(found["similarity"])
    fitted, labels = found.loc["dev"], relevant(dev, relevance)
    orders = {f"after, {name}": (found.loc["test"], name) for name in rerankers}
    if not 0 < labels.sum() < len(labels):
        return None, orders
    combination = Combination.fit(fitted["probability"], fitted["reranker"], labels)
    found["both"] = combination.predict(found["probability"], found["reranker"])
    return combination, orders | {"after, both": (found.loc["test"], "both")}


def relevant(found: pd.DataFrame, relevance: Relevance) -> np.ndarray:
    """(n,) 1 where the text of a candidate is relevant to its query."""
    return np.array(
        [text in relevance.get(query, ()) for query, text in zip(found["query_id"], found["text_id"], strict=True)],
        dtype=np.int64,
    )


def evaluate_orders(
    scored: Mapping[str, tuple[pd.DataFrame, str]],
    relevance: Relevance,
    k: int,
    *,
    baseline: str = "after",
    count: int = 500,
    seed: int = 42,
) -> pd.DataFrame:
    """MRR@k, nDCG@k, recall@k and the AUC among the candidates, for several orders of the same queries.

    Args:
        scored: name -> (candidates, column that orders them, highest first).
        baseline: the name whose MRR the others' gain is over.

    Returns:
        Index: name. ``mrr, mrr_low, mrr_high, ndcg, ndcg_low, ndcg_high, recall, auc, gain, gain_low, gain_high``;
        intervals by cluster, those of the gain in MRR on the same resamples. Empty if there were no queries.
    """
    rows, draws = {}, {}
    for name, (found, column) in scored.items():
        if found.empty:
            continue
        ordered = found.sort_values(["query_id", column, "rank"], ascending=[True, False, True])
        lists = {query: part.tolist() for query, part in ordered.groupby("query_id", sort=False)["text_id"]}
        measures = retrieval.evaluate(lists, {query: relevance[query] for query in lists}, k)
        owner = found.drop_duplicates("query_id").set_index("query_id")["cluster_id"].loc[measures.index]
        values = measures.to_numpy()
        drawn = bootstrap(partial(_means, values), owner, count, seed)
        draws[name] = drawn["mrr"]
        row: dict[str, float] = {}
        for measure in ("mrr", "ndcg"):
            low, high = interval(drawn[measure])
            row |= {measure: measures[measure].mean(), f"{measure}_low": low, f"{measure}_high": high}
        labels = relevant(found, relevance)
        parted = 0 < labels.sum() < len(labels)
        auc = float(separation(found[column], labels)["auc"][0]) if parted else np.nan
        rows[name] = row | {"recall": measures["recall"].mean(), "auc": auc}
    for name in rows if baseline in rows else ():
        low, high = interval(draws[name] - draws[baseline])
        rows[name] |= {"gain": rows[name]["mrr"] - rows[baseline]["mrr"], "gain_low": low, "gain_high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


def _means(values: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The mean measures of each resample: (r,) each from (n, 3) values and (r, n) weights."""
    return dict(zip(("mrr", "ndcg", "recall"), (weights @ values / weights.sum(1, keepdims=True)).T, strict=True))


def milliseconds(
    encoder: Encoder, queries: pd.DataFrame, searched: pd.DataFrame, reranker: Reranker | None, k: int
) -> dict[str, float]:
    """Median time of one query, one at a time and without caches: to encode it and search, and to rerank its k results.

    Args:
        queries: ``text``; at most eight; the first is a warm-up and not counted.
        searched: ``text``, ``kind``.

    Returns:
        ``search`` and, with a reranker, ``rerank``.
    """
    from bgetune.models.index import search

    before_query, before_text = prompts_for(encoder.prompts, searched)
    texts = searched["text"].tolist()
    vectors = encoder.encode(texts, prompt=before_text)
    encoder, reranker = uncached(encoder, reranker)
    spent: dict[str, list[float]] = {"search": [], "rerank": []}
    for query in queries["text"].head(8):
        started = time.perf_counter()
        _, positions = search(encoder.encode([query], prompt=before_query, progress=False), vectors, k)
        found = time.perf_counter()
        spent["search"].append(found - started)
        if reranker is not None:
            reranker.score([(query, texts[place]) for place in positions[0] if place >= 0], progress=False)
            spent["rerank"].append(time.perf_counter() - found)
    return {name: float(np.median(times[1:])) * 1000 for name, times in spent.items() if len(times) > 1}


def uncached(encoder: Encoder, reranker: Reranker | None) -> tuple[Encoder, Reranker | None]:
    """The same models without caches, on the encoder's device, to take their time."""
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker

    length, device = encoder.max_length, encoder.device
    bare = Encoder(encoder.folder, prompts=encoder.prompts, max_length=length, device=device, cache_dir=None)
    if reranker is None:
        return bare, None
    return bare, Reranker(reranker.folder, max_length=reranker.max_length, device=device, cache_dir=None)
