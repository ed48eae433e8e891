"""Recall of further positives: pairs of high similarity, which the reranker must confirm in both directions.

Similarity alone is not enough: where similarities drift, near-misses score like paraphrases. Therefore similarity and
clicks of single users only propose pairs, and the reranker decides. It also vetoes pairs that only a click log
supports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bgetune.data.tables import SOURCES
from bgetune.models.index import Index

if TYPE_CHECKING:
    from bgetune.models.reranker import Reranker

LOG_SOURCES = ["co_click", "rewrite"]
"""Sources of edges that come from a click log."""

BLOCK = 200_000
"""Texts whose neighbours are searched at a time."""


def propose(
    text_ids: Iterable[str],
    vectors: np.ndarray,
    *,
    neighbors: int,
    similarity: float,
    index: str = "auto",
    search_params: Mapping[str, int] | None = None,
    memory_mb: int = 512,
    seed: int = 42,
) -> pd.DataFrame:
    """Propose pairs of texts that are among each other's nearest neighbours.

    Args:
        text_ids: n ids.
        vectors: (n, d) float32 unit rows; may be memory-mapped.
        neighbors: number of nearest neighbours of each text.
        similarity: minimum cosine of a pair.
        index, search_params, memory_mb, seed: how they are searched (`bgetune.models.index.Index`).

    Returns:
        a_id < b_id, similarity; the highest first.

    Raises:
        InputError: if FAISS does not know the index or its parameters.
    """
    ids = np.asarray(text_ids, dtype=object)
    order = np.argsort(ids)
    place = np.empty(len(ids), dtype=np.int64)  # of each id among the sorted ones: compared faster than the ids
    place[order] = np.arange(len(ids))
    found = Index(vectors, index, search_params=search_params, memory_mb=memory_mb, seed=seed)
    count = min(neighbors + 1, len(ids))
    keys, scores = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
    for start in range(0, len(ids), BLOCK):
        similarities, positions = found.search(vectors[start : start + BLOCK], count)
        a = np.repeat(np.arange(start, start + len(positions)), count)
        b, score = positions.ravel(), similarities.ravel()
        some = (b >= 0) & (a != b) & (score >= similarity)
        a, b = place[a[some]], place[b[some]]
        keys.append(np.minimum(a, b) * len(ids) + np.maximum(a, b))
        scores.append(score[some])
    key, score = np.concatenate(keys), np.concatenate(scores).astype(float)
    by_key = np.lexsort((score, key))
    second = by_key[1:][key[by_key[1:]] == key[by_key[:-1]]]  # of the two ways of a pair that of the higher score
    second = second[np.lexsort((key[second], -score[second]))]
    a, b = np.divmod(key[second], max(len(ids), 1))
    return pd.DataFrame({"a_id": ids[order[a]], "b_id": ids[order[b]], "similarity": score[second]})


def candidates(
    proposed: pd.DataFrame,
    weak: pd.DataFrame,
    clusters: pd.DataFrame,
    different: Iterable[tuple[str, str]],
    max_pairs: int,
) -> tuple[pd.DataFrame, int]:
    """Pairs for the reranker to score: those not yet in one cluster, pairs of users before pairs by similarity.

    Args:
        proposed: a_id, b_id, similarity (see `propose`).
        weak: a_id, b_id, source, support, weight of pairs with too few users (see `positives.evidence.Mined`).
        clusters: text_id, cluster_id so far.
        different: pairs of text_ids that people labelled as different.
        max_pairs: maximum number of pairs.

    Returns:
        a_id, b_id, source, support; and the number of pairs beyond `max_pairs`.
    """
    columns = ["a_id", "b_id", "source", "support"]
    both = pd.concat([weak[columns], proposed.assign(source="recall", support=1)[columns]], ignore_index=True)
    home = clusters.set_index("text_id")["cluster_id"]
    both = both[both["a_id"].map(home) != both["b_id"].map(home)].drop_duplicates(["a_id", "b_id"])
    known = pd.MultiIndex.from_tuples([tuple(sorted(pair)) for pair in different], names=["a_id", "b_id"])
    both = both[~pd.MultiIndex.from_frame(both[["a_id", "b_id"]]).isin(known)] if len(known) else both
    return both.head(max_pairs).reset_index(drop=True), max(len(both) - max_pairs, 0)


def least_certain(edges: pd.DataFrame, max_pairs: int) -> pd.DataFrame:
    """The edges that only a click log supports, at most `max_pairs`, the lowest weight first."""
    of_log = edges["source"].isin(LOG_SOURCES)
    elsewhere = pd.MultiIndex.from_frame(edges.loc[~of_log, ["a_id", "b_id"]])
    alone = of_log & ~pd.MultiIndex.from_frame(edges[["a_id", "b_id"]]).isin(elsewhere)
    return edges[alone].sort_values(["weight", "a_id", "b_id"]).head(max(max_pairs, 0))


def rerank(pairs: pd.DataFrame, texts: pd.DataFrame, reranker: Reranker) -> pd.DataFrame:
    """Score pairs by the reranker, in both directions.

    Args:
        pairs: a_id, b_id, source, support.
        texts: text_id, text.

    Returns:
        The pairs with score (the lower of the two directions) and weight (that of the source times the score).
    """
    text = texts.set_index("text_id")["text"]
    there = list(zip(pairs["a_id"].map(text), pairs["b_id"].map(text), strict=True))
    scores = reranker.score(there + [(b, a) for a, b in there]).astype(float)
    lower = np.minimum(scores[: len(there)], scores[len(there) :])
    return pairs.assign(score=lower, weight=np.maximum(pairs["source"].map(SOURCES).astype(float) * lower, 1e-6))


def representatives(pairs: pd.DataFrame, clusters: pd.DataFrame, texts: pd.DataFrame) -> pd.DataFrame:
    """Replace the texts of pairs by the most frequent texts of their clusters (queries before documents).

    Two texts of one template (answers that differ in one word) get high scores from any model; the queries that lead to
    them do not.
    """
    ranked = clusters.merge(texts, on="text_id")
    ranked = ranked.assign(document=ranked["kind"] == "document", rare=-ranked["count"])
    ranked = ranked.sort_values(["document", "rare", "text_id"])
    representative = ranked.drop_duplicates("cluster_id").set_index("cluster_id")["text_id"]
    home = clusters.set_index("text_id")["cluster_id"]
    return pairs.assign(
        a_id=pairs["a_id"].map(home).map(representative), b_id=pairs["b_id"].map(home).map(representative)
    )


def confirm(
    reranked: pd.DataFrame,
    clusters: pd.DataFrame,
    texts: pd.DataFrame,
    reranker: Reranker,
    *,
    score: float,
    veto: float,
) -> pd.DataFrame:
    """The pairs that the reranker confirms.

    The representatives of the two clusters must not be vetoed. They must be confirmed as well if only similarity
    proposed the pair, or if both clusters have several texts: one wrong edge would make all of these positives.

    Args:
        reranked: a_id, b_id, source, score and further columns (see `rerank`).
        score: minimum score, in both directions.
        veto: minimum score of the representatives, in both directions.

    Returns:
        The confirmed rows, with joined: the score of the representatives.
    """
    confirmed = reranked[reranked["score"] >= score]
    joined = rerank(representatives(confirmed, clusters, texts), texts, reranker)["score"]
    confirmed = confirmed.assign(joined=joined)
    alone = clusters.loc[~clusters["cluster_id"].duplicated(keep=False), "text_id"]
    strict = (confirmed["source"] == "recall") | ~(confirmed["a_id"].isin(alone) | confirmed["b_id"].isin(alone))
    return confirmed[joined >= np.where(strict, score, veto)]


def summary(
    reranked: pd.DataFrame, confirmed: pd.DataFrame, checked: pd.DataFrame, vetoed: pd.DataFrame
) -> pd.DataFrame:
    """Numbers of pairs that the reranker scored, confirmed and vetoed, by source.

    Args:
        reranked, confirmed: proposed pairs.
        checked, vetoed: edges of the click log.
    """
    lines = [("a single user's " + source, reranked, confirmed, source, "confirmed") for source in LOG_SOURCES]
    lines += [("similarity", reranked, confirmed, "recall", "confirmed")]
    lines += [("several users' " + source, checked, vetoed, source, "vetoed") for source in LOG_SOURCES]
    rows = [
        (name, int((scored["source"] == source).sum()), verdict, int((taken["source"] == source).sum()))
        for name, scored, taken, source, verdict in lines
    ]
    table = pd.DataFrame(rows, columns=["proposed by", "read", "verdict", "pairs"])
    return table.assign(share=table["pairs"] / table["read"].clip(lower=1))
