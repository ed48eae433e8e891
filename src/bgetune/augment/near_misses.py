"""Near-misses that a language model wrote for documents: which are kept, and the first rule that rejects the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bgetune.augment import surface
from bgetune.augment.generate import Task
from bgetune.config.augmentation import Gate
from bgetune.data.text import Normalizer, text_id

if TYPE_CHECKING:
    from bgetune.models.reranker import Reranker

COLUMNS = ("origin_id", "text_id", "text", "reranker", "reason")


def check(
    generated: Mapping[Task, pd.DataFrame],
    texts: pd.DataFrame,
    clusters: pd.DataFrame,
    gate: Gate,
    normalizer: Normalizer,
    *,
    reranker: Reranker | None = None,
) -> pd.DataFrame:
    """Decide which near-misses are kept.

    Args:
        generated: task -> origin_id (the document), text; see `bgetune.augment.generate.generate_for`.
        texts, clusters: tables of the run, with the queries that were generated: a near-miss that is one of them is no
            near-miss.
        gate: with `min_characters` and `max_reranker`.
        normalizer: of the run.
        reranker: None: that rule does not apply.

    Returns:
        origin_id, text_id, text (normalised), reranker (score of the near-miss and its document, NaN where none was
        needed), reason ("" for kept ones; else no text, known, two clusters or answered).
    """
    raw = generated.get("near_misses", pd.DataFrame({"origin_id": [], "text": []}, dtype=str))
    table = raw.assign(text=raw["text"].map(normalizer).astype(str)).drop_duplicates(["origin_id", "text"])
    table = table.reset_index(drop=True).assign(reranker=np.nan, reason="")
    table["text_id"] = table["text"].map(text_id).astype(str)
    cores = table["text"].map(surface.core)
    home = table["origin_id"].map(clusters.set_index("text_id")["cluster_id"]).fillna(table["origin_id"])
    rules = {
        "no text": table["text"].str.len() < (gate.min_characters or 1),
        "known": cores.isin(set(texts["text"].map(surface.core))),
        "two clusters": home.groupby(cores).transform("nunique") > 1,
        "duplicate": cores.duplicated(),
    }
    for reason, bad in rules.items():
        table.loc[bad & table["reason"].eq(""), "reason"] = reason
    if reranker is not None and gate.max_reranker is not None:
        open_ = table.index[table["reason"].eq("")]
        document = table["origin_id"].map(texts.set_index("text_id")["text"])
        table.loc[open_, "reranker"] = reranker.score(
            list(zip(table["text"][open_], document[open_], strict=True)), progress=False
        )
        table.loc[table["reranker"] >= gate.max_reranker, "reason"] = "answered"
    return table[list(COLUMNS)]
