"""Precision and recall of mined positives, by a table of known meanings (the demo world, or a labelled sample).

Two texts are positives of each other if they have one meaning. A text with an empty meaning (junk, a page about nothing
in particular) is a positive of no other text. Pairs with a text of unknown meaning are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bgetune.graph import clusters as graph
from bgetune.metrics.truth import same_meaning
from bgetune.positives.clicks import Counts


def raw_pairs(counts: Counts) -> pd.DataFrame:
    """All pairs of a click log, without any rule (support, PMI, hub cap): the positives it can hold at most.

    These are pairs of queries with clicks on one document, pairs of a query and a title clicked for it, and rewrites.

    Returns:
        a_id < b_id, source (co_click, rewrite).
    """
    ids = counts.texts["text_id"].to_numpy()
    shared = counts.clicks[["query", "document"]].merge(counts.clicks[["query", "document"]], on="document")
    shared = shared[shared["query_x"] < shared["query_y"]]
    titled = counts.clicks[counts.clicks["document"] >= 0]
    a = np.concatenate([shared["query_x"], titled["query"], counts.rewrites["query"]])
    b = np.concatenate([shared["query_y"], titled["document"], counts.rewrites["rewrite"]])
    source = np.repeat(["co_click", "rewrite"], [len(shared) + len(titled), len(counts.rewrites)])
    a, b = ids[a.astype(int)], ids[b.astype(int)]
    pairs = pd.DataFrame({"a_id": np.minimum(a, b), "b_id": np.maximum(a, b), "source": source})
    return pairs[pairs["a_id"] != pairs["b_id"]].drop_duplicates(ignore_index=True)


def precision_by_source(edges: pd.DataFrame, meaning: Mapping[str, str]) -> pd.DataFrame:
    """Index source; pairs (number), precision (of the pairs whose meanings are known)."""
    judged = edges.assign(right=same_meaning(edges["a_id"], edges["b_id"], meaning))
    return judged.groupby("source").agg(pairs=("right", "size"), precision=("right", "mean"))


def pair_quality(clusters: pd.DataFrame, meaning: Mapping[str, str], supported: pd.DataFrame) -> dict[str, float]:
    """Precision and recall of taking all texts of a cluster as positives of each other.

    Args:
        clusters: text_id, cluster_id.
        supported: the pairs of the log (see `raw_pairs`); those of one meaning should be found.

    Returns:
        pairs (number of pairs in one cluster), precision, recall (of the supported pairs), mixed_clusters (number of
        clusters with several meanings).
    """
    known = clusters.assign(meaning=clusters["text_id"].map(meaning)).dropna(subset="meaning")
    size = known.groupby("cluster_id").size()
    together = (size * (size - 1) // 2).sum()
    alike = known[known["meaning"] != ""].groupby(["cluster_id", "meaning"]).size()
    right = (alike * (alike - 1) // 2).sum()
    home = clusters.set_index("text_id")["cluster_id"]
    wanted = supported[same_meaning(supported["a_id"], supported["b_id"], meaning) == 1].drop_duplicates(
        ["a_id", "b_id"]
    )
    found = wanted["a_id"].map(home) == wanted["b_id"].map(home)
    return {
        "pairs": int(together),
        "precision": float(right / together) if together else float("nan"),
        "recall": float(found.mean()) if len(wanted) else float("nan"),
        "mixed_clusters": int(known.drop_duplicates(["cluster_id", "meaning"])["cluster_id"].duplicated().sum()),
    }


def report(
    meaning: Mapping[str, str],
    counts: Counts,
    log_edges: pd.DataFrame,
    edges: pd.DataFrame,
    representative: Mapping[str, str],
    max_cluster_size: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the raw log, the pairs mined from it, those after the reranker, and the whole graph with the truth.

    Args:
        meaning: text_id -> meaning (see `bgetune.metrics.truth`).
        log_edges: the edges mined from the log alone, before near-duplicates were merged.
        edges: the edges of the whole graph.
        representative: see `graph.clusters.merge_duplicates`.
        max_cluster_size: see `graph.clusters.cluster`.

    Returns:
        One row for each method: edges, edge_precision, and the values of `pair_quality`; and the table of
        `precision_by_source` for the whole graph.
    """
    supported = graph.to_representatives(raw_pairs(counts), representative).drop_duplicates()
    rows = {}
    methods = {
        "raw log": supported,
        "mined from the log": graph.to_representatives(log_edges, representative),
        "log and reranker": edges[edges["source"].isin(["co_click", "rewrite"])],
        "whole graph": edges,
    }
    for method, some in methods.items():
        some = some.assign(weight=1.0) if "weight" not in some else some
        limit = len(representative) if method == "raw log" else max_cluster_size
        clusters = graph.cluster(
            set(representative.values()), graph.combine_sources(some), max_cluster_size=max(limit, 2)
        )
        pairs = some.drop_duplicates(["a_id", "b_id"])
        right = same_meaning(pairs["a_id"], pairs["b_id"], meaning)
        rows[method] = {"edges": len(right), "edge_precision": right.mean()} | pair_quality(
            clusters, meaning, supported
        )
    return pd.DataFrame(rows).T.astype({"edges": int, "pairs": int, "mixed_clusters": int}), precision_by_source(
        edges, meaning
    )
