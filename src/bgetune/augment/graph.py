"""The two ends of augmentation at the positive graph: which texts get paraphrases, and how the kept ones join it.

Only texts of the train split are looked at, and what is made of them is of their cluster and split: nothing leaks.
"""

from __future__ import annotations

import hashlib

import pandas as pd

from bgetune.augment import surface
from bgetune.tables import SOURCES


def texts_to_paraphrase(texts: pd.DataFrame, clusters: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Queries of the train split, in a stable random order in which every cluster comes once before one comes twice.

    Web addresses, numbers and single strange words, of which logs are full, are passed over.

    Returns:
        Rows of `texts`, at most `limit`; with another limit they are the same as far as they go.
    """
    train = clusters[clusters["split"] == "train"]
    queries = texts[(texts["kind"] == "query") & texts["text"].map(surface.has_words)]
    return _spread(queries.merge(train, on="text_id"), limit, seed)[list(texts.columns)]


def documents_to_ask_about(texts: pd.DataFrame, clusters: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Documents without a query: of train clusters that hold documents only, and documents of no cluster."""
    placed = texts.merge(clusters, on="text_id", how="left")
    answered = set(placed.loc[placed["kind"] == "query", "cluster_id"].dropna())
    open_to_train = placed["split"].isna() | (placed["split"] == "train")
    found = placed[(placed["kind"] == "document") & open_to_train & ~placed["cluster_id"].isin(answered)]
    return _spread(found.assign(cluster_id=found["cluster_id"].fillna(found["text_id"])), limit, seed)[
        list(texts.columns)
    ]


def extend(
    texts: pd.DataFrame, edges: pd.DataFrame, clusters: pd.DataFrame, paraphrases: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Texts, edges and clusters with the kept paraphrases (those without a `reason`).

    An edge weighs what its source is trusted, times the reranker's score where there is one.
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


def _spread(table: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    draw = [hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in table["text_id"]]
    shuffled = table.assign(draw=draw).sort_values("draw")
    turn = shuffled.groupby("cluster_id").cumcount()
    return shuffled.assign(turn=turn).sort_values(["turn", "draw"]).head(len(table) if limit is None else limit)
