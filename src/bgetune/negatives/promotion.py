"""Missed positives: what the reranker or the tuned model confirms joins the graph, what is in doubt a person judges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from bgetune.config.stages import HardNegatives
from bgetune.data.tables import SOURCES
from bgetune.graph import recall
from bgetune.metrics.truth import same_meaning
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.negatives.mining import Mined
from bgetune.negatives.world import World

LARGEST_CHAIN = 60
"""Texts of a cluster that neighbours may join: from neighbour to neighbour the meaning wanders."""


def missed_positives(world: World, mined: Mined) -> pd.DataFrame:
    """Pairs that the reranker confirmed in both directions: a_id < b_id, score (of the weaker direction), source."""
    confirmed = mined.candidates[mined.candidates["rule"] == "missed_positive"]
    a, b = world.id[mined.queries["anchor"].to_numpy()[confirmed["query"]]], world.id[confirmed["candidate"]]
    pairs = pd.DataFrame({"a_id": np.minimum(a, b), "b_id": np.maximum(a, b), "score": confirmed["reranker"]})
    pairs = pairs.groupby(["a_id", "b_id"], as_index=False)["score"].min().assign(source="recall")
    return pairs.sort_values(["score", "a_id", "b_id"], ascending=[False, True, True], ignore_index=True)


def mutual_neighbors(
    world: World, encoder: Encoder, reranker: Reranker | None = None, veto: float | None = None
) -> pd.DataFrame:
    """Pairs of training texts of two clusters that are each other's nearest: a_id < b_id, score (cosine), source.

    A base model's nearest neighbour is as likely a near-miss as a paraphrase; a model that was tuned on the team's own
    positives is a better witness, but no reranker. Training again with such pairs is self-training. Measured (two
    rounds in `tests/benchmarks/bench_separation.py`), it lowers drift and does not raise the AUC; on the demo world,
    which is full of near-misses, it lowers that, too. So it is off unless asked for.

    Args:
        encoder: of a tuned model.
        reranker, veto: where there are both, a pair that scores below `veto` in a direction is left out.
    """
    train = np.flatnonzero(world.split == "train")
    found = recall.propose(world.id[train], encoder.encode(world.text[train].tolist()), neighbors=1, similarity=0)
    cluster = pd.Series(world.cluster, index=world.id)
    found = found[found["a_id"].map(cluster).to_numpy() != found["b_id"].map(cluster).to_numpy()]
    found = found.rename(columns={"similarity": "score"}).assign(source="neighbor").reset_index(drop=True)
    if reranker is not None and veto is not None:
        texts = pd.DataFrame({"text_id": world.id, "text": world.text})
        found = found[recall.read(found, texts, reranker)["score"] >= veto]
    return found.reset_index(drop=True)


def promote(
    edges: pd.DataFrame,
    clusters: pd.DataFrame,
    missed: pd.DataFrame,
    verdicts: Mapping[tuple[str, str], str],
    labels: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Add missed positives to the graph.

    Pairs that people judged the same come first, then the missed ones in their order. Two clusters are not joined when
    people called a text of one different from a text of the other, nor when they are of different splits, nor by
    neighbours alone to more than `LARGEST_CHAIN` texts.

    Args:
        edges, clusters: the run's tables.
        missed: a_id, b_id, score, source.
        verdicts: (a_id, b_id) -> "same" or "different".
        labels: a_id, b_id, grade: people's labels; grade 0 keeps clusters apart.

    Returns:
        edges and clusters with the promoted pairs, and the pairs that were not joined (a_id, b_id, score, reason).
    """
    same = pd.DataFrame([pair for pair, verdict in verdicts.items() if verdict == "same"], columns=["a_id", "b_id"])
    missed = pd.concat([same.assign(score=1.0, source="given"), missed], ignore_index=True)
    missed = missed.drop_duplicates(["a_id", "b_id"])
    apart = [pair for pair, verdict in verdicts.items() if verdict == "different"]
    if labels is not None:
        apart += list(labels.loc[labels["grade"] == 0, ["a_id", "b_id"]].itertuples(index=False, name=None))
    union = _Union(clusters, apart)
    accepted, refused = [], []
    for row in missed.itertuples():
        reason = union.join(row.a_id, row.b_id, LARGEST_CHAIN if row.source == "neighbor" else None)
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
        self.size = clusters["cluster_id"].value_counts().to_dict()
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

    def join(self, a: str, b: str, largest: int | None = None) -> str | None:
        """Join the clusters of two texts, to at most so many texts; the reason if they are not to be joined."""
        for text in (a, b):
            if text not in self.cluster:
                self.cluster[text] = text
                self.split[text] = "train"
                self.size[text] = 1
        first, second = sorted((self.root(self.cluster[a]), self.root(self.cluster[b])))
        if first == second:
            return None
        if self.split[first] != self.split[second]:
            return "in different splits"
        if any(self.root(other) == second for other in self.apart.get(first, ())):
            return "people called texts of the two clusters different"
        if largest is not None and self.size[first] + self.size[second] > largest:
            return "neighbours of neighbours"
        self.parent[second] = first
        self.size[first] += self.size[second]
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
        near = rows["taken"] & (rows["whitened"] > mined.cuts[-1])
        rows = rows[near | rows["rule"].isin(["margin", "unknown_positive", "above_window"])]
        reasons = [f"a positive with probability {risk:.2f}" for risk in rows["risk"]]
        rows = rows.assign(reason=np.where(rows["risk"].isna(), "as similar as the typical positive", reasons))
        rows = rows.sort_values(["risk", "whitened", "a", "b"], ascending=[False, False, True, True])
    if refused is not None and len(refused):
        reasons = {(row.a_id, row.b_id): row.reason for row in refused.itertuples()}
        keys = [tuple(sorted(pair)) for pair in zip(world.id[rows["a"]], world.id[rows["b"]], strict=True)]
        rows["reason"] = [reasons.get(key, reason) for key, reason in zip(keys, rows["reason"], strict=True)]
    rows["low"], rows["high"] = rows[["a", "b"]].min(axis=1), rows[["a", "b"]].max(axis=1)
    rows = rows.drop_duplicates(["low", "high"]).head(rules.review_limit)
    texts = {"query": world.text[rows["a"]], "candidate": world.text[rows["b"]]}
    return pd.DataFrame(texts | {name: rows[name].to_numpy() for name in ("similarity", "reranker", "reason")})


def shown(world: World, missed: pd.DataFrame, truth: Mapping[str, str] | None = None, count: int = 10) -> pd.DataFrame:
    """The surest and the least sure of the missed positives as texts; with a truth, whether each is right."""
    rows = pd.concat([missed.head(count // 2), missed.iloc[count // 2 :].tail(count - count // 2)])
    text = pd.Series(world.text, index=world.id)
    table = pd.DataFrame(
        {
            "text": rows["a_id"].map(text),
            "text to join": rows["b_id"].map(text),
            "score": rows["score"],
            "source": rows["source"],
        }
    )
    if truth is not None:
        right = same_meaning(rows["a_id"], rows["b_id"], truth)
        table["truly the same"] = right.map({1.0: "yes", 0.0: "no"}).astype(object).where(right.notna(), "unknown")
    return table
