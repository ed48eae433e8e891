"""Which texts to paraphrase (those of the train split only, so that nothing leaks), and to write queries for."""

from __future__ import annotations

import pandas as pd

from bgetune.augment import surface
from bgetune.data.draw import draw


def texts_to_paraphrase(texts: pd.DataFrame, clusters: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Queries of the train split in random order, one of each cluster before a second one of any.

    Web addresses, numbers and single words, which are frequent in logs, are left out.

    Args:
        texts, clusters: tables of the run.
        limit: maximum number of rows. None: all.
        seed: of the order. A smaller limit gives the first rows of a larger one.

    Returns:
        Rows of `texts`.
    """
    train = clusters[clusters["split"] == "train"]
    queries = texts[(texts["kind"] == "query") & texts["text"].map(surface.has_words)]
    return _by_turns(queries.merge(train, on="text_id"), limit, seed)[list(texts.columns)]


def documents_without_query(
    texts: pd.DataFrame, edges: pd.DataFrame, clusters: pd.DataFrame, limit: int | None, seed: int, *, heldout: bool
) -> pd.DataFrame:
    """Documents of clusters without a query, and documents of no cluster; see `texts_to_paraphrase`.

    A part of a document (source same_document) is no query.

    Args:
        texts, edges, clusters: tables of the run.
        heldout: whether to take documents of dev and test as well as those of train: for models to be judged on the
            queries that are written for them.
    """
    placed = texts.merge(clusters, on="text_id", how="left")
    others = edges[edges["source"] != "same_document"]
    part = ~placed["text_id"].isin([*others["a_id"], *others["b_id"]])
    part &= placed["text_id"].isin([*edges["a_id"], *edges["b_id"]])
    answered = set(placed.loc[(placed["kind"] == "query") & ~part, "cluster_id"].dropna())
    usable = placed["split"].isna() | (placed["split"] == "train") | heldout
    found = placed[(placed["kind"] == "document") & usable & ~placed["cluster_id"].isin(answered)]
    return _by_turns(found.assign(cluster_id=found["cluster_id"].fillna(found["text_id"])), limit, seed)[
        list(texts.columns)
    ]


def _by_turns(table: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """At most `limit` rows in random order, one of each cluster before a second one of any."""
    shuffled = table.assign(draw=[draw(seed, name) for name in table["text_id"]]).sort_values("draw")
    turn = shuffled.groupby("cluster_id").cumcount()
    return shuffled.assign(turn=turn).sort_values(["turn", "draw"]).head(len(table) if limit is None else limit)
