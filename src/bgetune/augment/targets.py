"""Which texts get paraphrases or queries: those of the train split alone, so that nothing leaks."""

from __future__ import annotations

import pandas as pd

from bgetune.augment import surface
from bgetune.data.draw import draw


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


def _spread(table: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    shuffled = table.assign(draw=[draw(seed, name) for name in table["text_id"]]).sort_values("draw")
    turn = shuffled.groupby("cluster_id").cumcount()
    return shuffled.assign(turn=turn).sort_values(["turn", "draw"]).head(len(table) if limit is None else limit)
