"""Recall: texts that a model finds alike are proposed, and a pair is taken when the reranker says so both ways round.

The model alone is no witness: where its scores have drifted, near-misses lie as close as paraphrases. So similarity
only proposes, as does a click of a single user, and the reranker decides. It also has a veto over what only a log says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bgetune.data.tables import SOURCES
from bgetune.models.index import search

if TYPE_CHECKING:
    from bgetune.models.reranker import Reranker

LOG_SOURCES = ["co_click", "rewrite"]


def propose(text_ids: Iterable[str], vectors: np.ndarray, *, neighbors: int, similarity: float) -> pd.DataFrame:
    """Pairs of texts that retrieve one another: each is among the nearest texts of the other.

    Args:
        text_ids: n ids.
        vectors: (n, d) float32 unit rows.
        neighbors: how many nearest texts each text looks at.
        similarity: cosine that a pair needs.

    Returns:
        a_id < b_id, similarity; the most similar first.
    """
    ids = np.asarray(text_ids, dtype=object)
    count = min(neighbors + 1, len(ids))
    similarities, positions = search(vectors, vectors, count)
    a, b, score = np.repeat(np.arange(len(ids)), count), positions.ravel(), similarities.ravel()
    some = (b >= 0) & (a != b) & (score >= similarity)
    a, b, score = a[some], b[some], score[some].astype(float)
    swap = ids[a] > ids[b]
    pairs = pd.DataFrame({"a": np.where(swap, b, a), "b": np.where(swap, a, b), "similarity": score})
    found = pairs.groupby(["a", "b"], as_index=False).agg(similarity=("similarity", "max"), ways=("similarity", "size"))
    found = found[found.ways == 2]
    found = pd.DataFrame({"a_id": ids[found.a], "b_id": ids[found.b], "similarity": found.similarity})
    return found.sort_values(["similarity", "a_id", "b_id"], ascending=[False, True, True], ignore_index=True)


def candidates(
    proposed: pd.DataFrame,
    weak: pd.DataFrame,
    clusters: pd.DataFrame,
    different: Iterable[tuple[str, str]],
    max_pairs: int,
) -> tuple[pd.DataFrame, int]:
    """What is worth the reranker's time: pairs not yet in one cluster, what a user said before what a model found.

    Args:
        proposed: a_id, b_id, similarity (see `propose`).
        weak: a_id, b_id, source, support, weight: what a single user said.
        clusters: text_id, cluster_id so far.
        different: pairs of ids that people labelled as different.

    Returns:
        At most `max_pairs` rows a_id, b_id, source, support, and how many pairs were left out by that limit.
    """
    columns = ["a_id", "b_id", "source", "support"]
    both = pd.concat([weak[columns], proposed.assign(source="recall", support=1)[columns]], ignore_index=True)
    home = clusters.set_index("text_id").cluster_id
    known = {tuple(sorted(pair)) for pair in different}
    is_new = (both.a_id.map(home) != both.b_id.map(home)).to_numpy()
    allowed = np.array([pair not in known for pair in zip(both.a_id, both.b_id, strict=True)], dtype=bool)
    both = both[is_new & allowed].drop_duplicates(["a_id", "b_id"])
    return both.head(max_pairs).reset_index(drop=True), max(len(both) - max_pairs, 0)


def least_certain(edges: pd.DataFrame, max_pairs: int) -> pd.DataFrame:
    """The edges that a log alone speaks for, at most `max_pairs` of them, those of the lowest weight first."""
    of_log = edges.source.isin(LOG_SOURCES)
    elsewhere = pd.MultiIndex.from_frame(edges.loc[~of_log, ["a_id", "b_id"]])
    alone = of_log & ~pd.MultiIndex.from_frame(edges[["a_id", "b_id"]]).isin(elsewhere)
    return edges[alone].sort_values(["weight", "a_id", "b_id"]).head(max(max_pairs, 0))


def rerank(pairs: pd.DataFrame, texts: pd.DataFrame, reranker: Reranker) -> pd.DataFrame:
    """The pairs with `score`, the reranker's lower score of the two directions, and the weight that follows from it.

    Args:
        pairs: a_id, b_id, source, support.
        texts: text_id, text.
    """
    text = texts.set_index("text_id").text
    there = list(zip(pairs.a_id.map(text), pairs.b_id.map(text), strict=True))
    scores = reranker.score(there + [(b, a) for a, b in there]).astype(float)
    lower = np.minimum(scores[: len(there)], scores[len(there) :])
    return pairs.assign(score=lower, weight=np.maximum(pairs.source.map(SOURCES).astype(float) * lower, 1e-6))


def representatives(pairs: pd.DataFrame, clusters: pd.DataFrame, texts: pd.DataFrame) -> pd.DataFrame:
    """For each pair, the most frequent texts of the two clusters that it would join (queries before documents).

    Two texts made from one template (answers that differ in one word) look alike to any model; what people ask to get
    to them does not.

    Returns:
        a_id, b_id, source, support in the rows of `pairs`.
    """
    ranked = clusters.merge(texts, on="text_id")
    ranked = ranked.assign(document=ranked.kind == "document", rare=-ranked["count"])
    ranked = ranked.sort_values(["document", "rare", "text_id"])
    voice = ranked.drop_duplicates("cluster_id").set_index("cluster_id").text_id
    home = clusters.set_index("text_id").cluster_id
    return pairs.assign(a_id=pairs.a_id.map(home).map(voice), b_id=pairs.b_id.map(home).map(voice))


def confirm(
    asked: pd.DataFrame, clusters: pd.DataFrame, texts: pd.DataFrame, reranker: Reranker, *, score: float, veto: float
) -> pd.DataFrame:
    """The pairs that the reranker confirms, with what it says of the clusters they would join (`joined`).

    The most frequent texts of the two clusters must not be vetoed. They must be confirmed as the pair itself where only
    a model proposed it, and where both clusters have several texts: one wrong edge would make them all positives.

    Args:
        asked: a_id, b_id, source, score (see `rerank`).
        score: both directions of a pair need it.
        veto: a score below it in one direction forbids.
    """
    confirmed = asked[asked.score >= score]
    joined = rerank(representatives(confirmed, clusters, texts), texts, reranker).score
    confirmed = confirmed.assign(joined=joined)
    alone = clusters.loc[~clusters.cluster_id.duplicated(keep=False), "text_id"]
    strict = (confirmed.source == "recall") | ~(confirmed.a_id.isin(alone) | confirmed.b_id.isin(alone))
    return confirmed[joined >= np.where(strict, score, veto)]


def summary(asked: pd.DataFrame, confirmed: pd.DataFrame, checked: pd.DataFrame, vetoed: pd.DataFrame) -> pd.DataFrame:
    """What the reranker read and said, per source of the pairs."""
    lines = [("a single user's " + source, asked, confirmed, source, "confirmed") for source in LOG_SOURCES]
    lines += [("similarity", asked, confirmed, "recall", "confirmed")]
    lines += [("several users' " + source, checked, vetoed, source, "vetoed") for source in LOG_SOURCES]
    rows = [
        (name, int((read.source == source).sum()), verdict, int((taken.source == source).sum()))
        for name, read, taken, source, verdict in lines
    ]
    table = pd.DataFrame(rows, columns=["proposed by", "read", "verdict", "pairs"])
    return table.assign(share=table.pairs / table["read"].clip(lower=1))
