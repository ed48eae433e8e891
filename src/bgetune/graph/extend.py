"""Add generated texts to the positive graph.

Paraphrases and queries join the cluster of the text that they were made from; near-misses are clusters of their own, in
the split of that text.
"""

from __future__ import annotations

import pandas as pd

from bgetune.data.tables import SOURCES


def extend(
    texts: pd.DataFrame, edges: pd.DataFrame, clusters: pd.DataFrame, paraphrases: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Add the kept paraphrases (those without a reason) to the tables of 01_positives.

    The weight of an edge is that of its source (`tables.SOURCES`), times the reranker's score if there is one.

    Args:
        texts, edges, clusters: tables of 01_positives.
        paraphrases: see `bgetune.augment.gate.check`. A text of no cluster gets a cluster of its own, in train.

    Returns:
        texts, edges, clusters with the additional rows at the end.
    """
    kept = paraphrases[paraphrases["reason"] == ""]
    if kept.empty:
        return texts, edges, clusters
    new_texts = pd.DataFrame({"text_id": kept["text_id"], "text": kept["text"], "kind": "query", "count": 1})
    pairs = kept[["origin_id", "text_id"]]
    new_edges = pd.DataFrame(
        {
            "a_id": pairs.min(axis=1),
            "b_id": pairs.max(axis=1),
            "source": kept["source"],
            "support": kept["support"].astype("int64"),
            "weight": (kept["source"].map(SOURCES) * kept["reranker"].fillna(1.0)).clip(lower=1e-3).astype("float64"),
        }
    )
    place = clusters.set_index("text_id")
    alone = sorted(set(kept["origin_id"]) - set(place.index))
    founded = pd.DataFrame({"text_id": alone, "cluster_id": alone, "split": "train"})
    place = pd.concat([place, founded.set_index("text_id")])
    joined = pd.DataFrame(
        {
            "text_id": kept["text_id"],
            "cluster_id": kept["origin_id"].map(place["cluster_id"]),
            "split": kept["origin_id"].map(place["split"]),
        }
    )
    return (
        pd.concat([texts, new_texts], ignore_index=True),
        pd.concat([edges, new_edges], ignore_index=True),
        pd.concat([clusters, founded, joined], ignore_index=True),
    )


def add_near_misses(
    texts: pd.DataFrame, clusters: pd.DataFrame, near_misses: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Add the kept near-misses (those without a reason), each a cluster of its own in the split of its document.

    Args:
        texts, clusters: tables of the run, with all queries that were generated.
        near_misses: see `bgetune.augment.near_misses.check`.

    Returns:
        texts and clusters with the additional rows at the end; and the table `near_misses`: each with its document and
        with the queries of that document's cluster, which ask for something else.
    """
    kept = near_misses[near_misses["reason"] == ""]
    place = clusters.set_index("text_id")
    new_texts = pd.DataFrame({"text_id": kept["text_id"], "text": kept["text"], "kind": "query", "count": 1})
    joined = pd.DataFrame({"text_id": kept["text_id"], "cluster_id": kept["text_id"]})
    joined["split"] = kept["origin_id"].map(place["split"]).fillna("train")
    queries = clusters[clusters["text_id"].isin(texts.loc[texts["kind"] == "query", "text_id"])]
    asked = kept.assign(cluster_id=kept["origin_id"].map(place["cluster_id"])).merge(
        queries[["text_id", "cluster_id"]], on="cluster_id", suffixes=("", "_other")
    )
    pairs = pd.concat(
        [
            kept[["text_id", "origin_id"]].set_axis(["a_id", "b_id"], axis=1),
            asked[["text_id", "text_id_other"]].set_axis(["a_id", "b_id"], axis=1),
        ],
        ignore_index=True,
    ).astype(str)
    return (
        pd.concat([texts, new_texts], ignore_index=True),
        pd.concat([clusters, joined], ignore_index=True),
        pairs.drop_duplicates(ignore_index=True).assign(grade=0.0),
    )
