"""Add confirmed pairs to the positive graph: join the clusters of their texts unless people keep them apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from bgetune.data.tables import SOURCES

LARGEST_CHAIN = 60
"""Maximum size of a cluster that nearest neighbours may join, because chains of neighbours change their meaning."""


def promote(
    edges: pd.DataFrame,
    clusters: pd.DataFrame,
    missed: pd.DataFrame,
    verdicts: Mapping[tuple[str, str], str],
    labels: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Add missed positives to the graph.

    Pairs that people labelled as same come first, then the missed positives in their order. Two clusters are not joined
    if people called a text of one different from a text of the other, if they are in different splits, or if a pair of
    nearest neighbours (source neighbor) would join more than `LARGEST_CHAIN` texts.

    Args:
        edges, clusters: tables of the run.
        missed: a_id, b_id, score, source.
        verdicts: (a_id, b_id) -> "same" or "different".
        labels: a_id, b_id, grade that people gave; grade 0 keeps clusters apart.

    Returns:
        The tables edges and clusters with the promoted pairs, and the pairs that were not joined (a_id, b_id, score,
        reason).
    """
    same = pd.DataFrame([pair for pair, verdict in verdicts.items() if verdict == "same"], columns=["a_id", "b_id"])
    missed = pd.concat([same.assign(score=1.0, source="given"), missed], ignore_index=True)
    missed = missed.drop_duplicates(["a_id", "b_id"])
    apart = [pair for pair, verdict in verdicts.items() if verdict == "different"]
    if labels is not None:
        apart += list(labels.loc[labels["grade"] == 0, ["a_id", "b_id"]].itertuples(index=False, name=None))
    growing = _Clusters(clusters, apart)
    accepted: list[tuple[str, str, str, int, float]] = []
    refused: list[tuple[str, str, float, str]] = []
    for row in missed.itertuples():
        reason = growing.join(row.a_id, row.b_id, LARGEST_CHAIN if row.source == "neighbor" else None)
        if reason is None:
            accepted.append((row.a_id, row.b_id, row.source, 1, SOURCES[row.source] * row.score))
        else:
            refused.append((row.a_id, row.b_id, row.score, reason))
    added = pd.DataFrame(accepted, columns=["a_id", "b_id", "source", "support", "weight"])
    if len(added):
        edges = pd.concat([edges, added], ignore_index=True).drop_duplicates(["a_id", "b_id", "source"])
    return edges, growing.table(), pd.DataFrame(refused, columns=["a_id", "b_id", "score", "reason"])


class _Clusters:
    """Clusters that can be joined."""

    def __init__(self, clusters: pd.DataFrame, apart: Iterable[tuple[str, str]]):
        self.cluster = dict(zip(clusters["text_id"], clusters["cluster_id"], strict=True))
        self.split = dict(zip(clusters["cluster_id"], clusters["split"], strict=True))
        self.groups = DisjointSet(self.split)
        self.size = clusters["cluster_id"].value_counts().to_dict()
        self.apart: dict[str, set[str]] = {}
        for a, b in apart:
            if a in self.cluster and b in self.cluster:
                for one, other in ((a, b), (b, a)):
                    self.apart.setdefault(self.cluster[one], set()).add(self.cluster[other])

    def join(self, a: str, b: str, largest: int | None = None) -> str | None:
        """Join the clusters of two texts to one of at most `largest` texts; return the reason if this is refused."""
        for text in (a, b):
            if text not in self.cluster:
                self.cluster[text] = text
                self.split[text] = "train"
                self.size[text] = 1
                self.groups.add(text)
        first, second = self.groups[self.cluster[a]], self.groups[self.cluster[b]]
        if first == second:
            return None
        if self.split[first] != self.split[second]:
            return "in different splits"
        if any(self.groups[other] == second for other in self.apart.get(first, ())):
            return "people called texts of the two clusters different"
        size = self.size[first] + self.size[second]
        if largest is not None and size > largest:
            return "neighbours of neighbours"
        apart = self.apart.get(first, set()) | self.apart.get(second, set())
        self.groups.merge(first, second)
        root = self.groups[first]
        self.size[root], self.apart[root] = size, apart
        return None

    def table(self) -> pd.DataFrame:
        """The table `clusters`; the id of a joined cluster is the smallest of the ids."""
        name = {cluster: min(group) for group in self.groups.subsets() for cluster in group}
        texts = sorted(self.cluster)
        clusters = [name[self.cluster[text]] for text in texts]
        return pd.DataFrame({"text_id": texts, "cluster_id": clusters, "split": [self.split[c] for c in clusters]})
