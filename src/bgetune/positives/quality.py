"""What mined positives are worth, measured against known meanings (the demo world, or a labelled sample).

Two texts belong together when they have one meaning. A text without a meaning (junk, a page that is about nothing in
particular) belongs to no other; pairs with a text whose meaning nobody knows are not judged.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bgetune.graph import clusters as graph
from bgetune.metrics.truth import same_meaning
from bgetune.positives.clicks import Counts


def raw_pairs(counts: Counts) -> pd.DataFrame:
    """All pairs that share a clicked document, a query and each title clicked after it, all rewrites: no support, no
    PMI, no hub cap. What a log can support at all is the part of these that has one meaning.

    Returns:
        a_id < b_id, source (co_click, rewrite).
    """
    ids = counts.texts.text_id.to_numpy()
    shared = counts.clicks[["query", "document"]].merge(counts.clicks[["query", "document"]], on="document")
    shared = shared[shared.query_x < shared.query_y]
    titled = counts.clicks[counts.clicks.document >= 0]
    a = np.concatenate([shared.query_x, titled["query"], counts.rewrites["query"]])
    b = np.concatenate([shared.query_y, titled.document, counts.rewrites.rewrite])
    source = np.repeat(["co_click", "rewrite"], [len(shared) + len(titled), len(counts.rewrites)])
    a, b = ids[a.astype(int)], ids[b.astype(int)]
    pairs = pd.DataFrame({"a_id": np.minimum(a, b), "b_id": np.maximum(a, b), "source": source})
    return pairs[pairs.a_id != pairs.b_id].drop_duplicates(ignore_index=True)


def precision_by_source(edges: pd.DataFrame, meaning: Mapping[str, str]) -> pd.DataFrame:
    """source -> pairs, precision (of the pairs that can be judged)."""
    judged = edges.assign(right=same_meaning(edges.a_id, edges.b_id, meaning))
    return judged.groupby("source").agg(pairs=("right", "size"), precision=("right", "mean"))


def pair_quality(clusters: pd.DataFrame, meaning: Mapping[str, str], supported: pd.DataFrame) -> dict[str, float]:
    """How right it is to take all texts of a cluster for positives of one another.

    Args:
        clusters: text_id, cluster_id.
        supported: pairs that should have been found (see `raw_pairs`); those of one meaning count.

    Returns:
        pairs (in one cluster), precision, recall (of the supported pairs), mixed_clusters (with several meanings).
    """
    known = clusters.assign(meaning=clusters.text_id.map(meaning)).dropna(subset="meaning")
    size = known.groupby("cluster_id").size()
    together = (size * (size - 1) // 2).sum()
    alike = known[known.meaning != ""].groupby(["cluster_id", "meaning"]).size()
    right = (alike * (alike - 1) // 2).sum()
    home = clusters.set_index("text_id").cluster_id
    wanted = supported[same_meaning(supported.a_id, supported.b_id, meaning) == 1].drop_duplicates(["a_id", "b_id"])
    found = wanted.a_id.map(home) == wanted.b_id.map(home)
    return {
        "pairs": int(together),
        "precision": float(right / together) if together else float("nan"),
        "recall": float(found.mean()) if len(wanted) else float("nan"),
        "mixed_clusters": int(known.drop_duplicates(["cluster_id", "meaning"]).cluster_id.duplicated().sum()),
    }


def report(
    meaning: Mapping[str, str],
    counts: Counts,
    log_edges: pd.DataFrame,
    edges: pd.DataFrame,
    representative: Mapping[str, str],
    max_cluster_size: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Raw log, mined log, mined log with the reranker's verdicts, and whole graph; and the precision of every source.

    Args:
        log_edges: what was mined from the log alone, before near-duplicates were merged.
        edges: the whole graph.
        representative: see `graph.merge_duplicates`.

    Returns:
        One row a method: edges, edge_precision, pairs (in one cluster), precision, recall, mixed_clusters; and the
        table of `precision_by_source` for the graph.
    """
    supported = graph.rename(raw_pairs(counts), representative).drop_duplicates()
    rows = {}
    methods = {
        "raw log": supported,
        "mined from the log": graph.rename(log_edges, representative),
        "log and reranker": edges[edges.source.isin(["co_click", "rewrite"])],
        "whole graph": edges,
    }
    for method, some in methods.items():
        some = some.assign(weight=1.0) if "weight" not in some else some
        limit = len(representative) if method == "raw log" else max_cluster_size
        clusters = graph.cluster(set(representative.values()), graph.combine(some), max_cluster_size=max(limit, 2))
        pairs = some.drop_duplicates(["a_id", "b_id"])
        right = same_meaning(pairs.a_id, pairs.b_id, meaning)
        rows[method] = {"edges": len(right), "edge_precision": right.mean()} | pair_quality(
            clusters, meaning, supported
        )
    return pd.DataFrame(rows).T.astype({"edges": int, "pairs": int, "mixed_clusters": int}), precision_by_source(
        edges, meaning
    )
