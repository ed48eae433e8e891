"""Missed positives: what the reranker confirms joins the graph, what it doubts goes to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from bgetune.negatives.mining import Mined
from bgetune.negatives.world import World
from bgetune.params import HardNegatives
from bgetune.tables import SOURCES


def missed_positives(world: World, mined: Mined) -> pd.DataFrame:
    """Pairs that the reranker confirmed in both directions: a_id < b_id, score (of the weaker direction)."""
    confirmed = mined.candidates[mined.candidates["rule"] == "missed_positive"]
    a, b = world.id[mined.queries["anchor"].to_numpy()[confirmed["query"]]], world.id[confirmed["candidate"]]
    pairs = pd.DataFrame({"a_id": np.minimum(a, b), "b_id": np.maximum(a, b), "score": confirmed["reranker"]})
    pairs = pairs.groupby(["a_id", "b_id"], as_index=False)["score"].min()
    return pairs.sort_values(["score", "a_id", "b_id"], ascending=[False, True, True], ignore_index=True)


def promote(
    edges: pd.DataFrame,
    clusters: pd.DataFrame,
    missed: pd.DataFrame,
    verdicts: Mapping[tuple[str, str], str],
    labels: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Add missed positives to the graph.

    Pairs that people judged the same come first, then the reranker's by score. Two clusters are not joined when people
    called a text of one different from a text of the other, nor when they are of different splits.

    Args:
        edges, clusters: the run's tables.
        missed: a_id, b_id, score.
        verdicts: (a_id, b_id) -> "same" or "different".
        labels: a_id, b_id, grade: people's labels; grade 0 keeps clusters apart.

    Returns:
        edges and clusters with the promoted pairs, and the pairs that were not joined (a_id, b_id, score, reason).
    """
    same = pd.DataFrame([pair for pair, verdict in verdicts.items() if verdict == "same"], columns=["a_id", "b_id"])
    missed = pd.concat([same.assign(score=1.0, source="given"), missed.assign(source="recall")], ignore_index=True)
    missed = missed.drop_duplicates(["a_id", "b_id"])
    apart = [pair for pair, verdict in verdicts.items() if verdict == "different"]
    if labels is not None:
        apart += list(labels.loc[labels["grade"] == 0, ["a_id", "b_id"]].itertuples(index=False, name=None))
    union = _Union(clusters, apart)
    accepted, refused = [], []
    for row in missed.itertuples():
        reason = union.join(row.a_id, row.b_id)
        if reason is None:
            accepted.append((row.a_id, row.b_id, row.source, 1, SOURCES[row.source] * row.score))
        else:
            refused.append((row.a_id, row.b_id, row.score, reason))
    added = pd.DataFrame(accepted, columns=["a_id", "b_id", "source", "support", "weight"])
    if len(added):
        edges = pd.concat([edges, added], ignore_index=True).drop_duplicates(["a_id", "b_id", "source"])
    return edges, union.clusters(), pd.DataFrame(refused, columns=["a_id", "b_id", "score", "reason"])


class _Union:
    """Clusters that grow together unless something keeps them apart."""

    def __init__(self, clusters: pd.DataFrame, apart: Iterable[tuple[str, str]]):
        self.cluster = dict(zip(clusters["text_id"], clusters["cluster_id"], strict=True))
        self.split = dict(zip(clusters["cluster_id"], clusters["split"], strict=True))
        self.parent: dict[str, str] = {}
        self.apart: dict[str, set[str]] = {}
        for a, b in apart:
            if a in self.cluster and b in self.cluster:
                for one, other in ((a, b), (b, a)):
                    self.apart.setdefault(self.cluster[one], set()).add(self.cluster[other])

    def root(self, cluster: str) -> str:
        while (parent := self.parent.get(cluster, cluster)) != cluster:
            self.parent[cluster] = self.parent.get(parent, parent)
            cluster = parent
        return cluster

    def join(self, a: str, b: str) -> str | None:
        """Join the clusters of two texts; the reason if they are not to be joined."""
        for text in (a, b):
            if text not in self.cluster:
                self.cluster[text] = text
                self.split[text] = "train"
        first, second = sorted((self.root(self.cluster[a]), self.root(self.cluster[b])))
        if first == second:
            return None
        if self.split[first] != self.split[second]:
            return "in different splits"
        if any(self.root(other) == second for other in self.apart.get(first, ())):
            return "people called texts of the two clusters different"
        self.parent[second] = first
        self.apart[first] = self.apart.get(first, set()) | self.apart.get(second, set())
        return None

    def clusters(self) -> pd.DataFrame:
        texts = sorted(self.cluster)
        roots = [self.root(self.cluster[text]) for text in texts]
        return pd.DataFrame({"text_id": texts, "cluster_id": roots, "split": [self.split[root] for root in roots]})


def doubtful(world: World, mined: Mined, rules: HardNegatives, refused: pd.DataFrame | None = None) -> pd.DataFrame:
    """Candidates that a person should look at: what may be a missed positive, the likeliest first.

    Args:
        refused: pairs that `promote` did not join.

    Returns:
        query, candidate (texts), similarity, reranker, reason; at most `review_limit` rows, one a pair of texts.
    """
    rows = mined.candidates[mined.candidates["label"].isna()].copy()
    rows["a"], rows["b"] = mined.queries["anchor"].to_numpy()[rows["query"]], rows["candidate"]
    if rows["reranker"].notna().any():
        rows = rows[
            ~rows["rule"].isin(["known_positive", "same_cluster"])
            & (rows["reranker"] >= (0.5 if rules.veto_score is None else rules.veto_score))
        ]
        confirmed = rows["rule"].eq("missed_positive")
        rows["reason"] = np.where(
            confirmed,
            "the reranker confirms it, its cluster was not joined",
            np.where(
                rows["reranker"] >= (2 if rules.promote_score is None else rules.promote_score),
                "the reranker confirms it in one direction only",
                "the reranker is not sure",
            ),
        )
        rows = rows.sort_values(["reranker", "similarity", "a", "b"], ascending=[False, False, True, True])
    else:
        rows = rows[rows["rule"].isin(["margin", "above_window"])].assign(reason="as similar as the typical positive")
        rows = rows.sort_values(["whitened", "a", "b"], ascending=[False, True, True])
    if refused is not None and len(refused):
        reasons = {(row.a_id, row.b_id): row.reason for row in refused.itertuples()}
        keys = [tuple(sorted(pair)) for pair in zip(world.id[rows["a"]], world.id[rows["b"]], strict=True)]
        rows["reason"] = [reasons.get(key, reason) for key, reason in zip(keys, rows["reason"], strict=True)]
    rows["low"], rows["high"] = rows[["a", "b"]].min(axis=1), rows[["a", "b"]].max(axis=1)
    rows = rows.drop_duplicates(["low", "high"]).head(rules.review_limit)
    texts = {"query": world.text[rows["a"]], "candidate": world.text[rows["b"]]}
    return pd.DataFrame(texts | {name: rows[name].to_numpy() for name in ("similarity", "reranker", "reason")})


def shown(world: World, missed: pd.DataFrame, meanings: pd.Series | None = None, count: int = 10) -> pd.DataFrame:
    """The surest and the least sure of the missed positives as texts; where meanings are known, whether it is right."""
    rows = pd.concat([missed.head(count // 2), missed.iloc[count // 2 :].tail(count - count // 2)])
    text = pd.Series(world.text, index=world.id)
    table = pd.DataFrame(
        {"text": rows["a_id"].map(text), "text to join": rows["b_id"].map(text), "score": rows["score"]}
    )
    if meanings is not None:
        table["truly the same"] = table["text"].map(meanings).eq(table["text to join"].map(meanings))
    return table
