"""What training reads: groups in FlagEmbedding's format, and what was rejected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from bgetune.config.stages import HardNegatives
from bgetune.models.reranker import Reranker
from bgetune.negatives.mining import Mined, ask
from bgetune.negatives.space import SIMILARITY_DIGITS
from bgetune.negatives.world import World, as_lists


def groups(world: World, mined: Mined, rules: HardNegatives, reranker: Reranker | None = None) -> pd.DataFrame:
    """Training groups in FlagEmbedding's format: one row a query (and its prompts).

    A query for which no negative was safe has an empty `neg`: it trains by its positives and by the other queries of
    its batch. FlagEmbedding's own trainer divides by zero there; `training.flagembedding` fills such rows.

    Returns:
        query, pos, neg, pos_scores, neg_scores, prompt (of the query), text_prompt (of pos and neg), source; in the
        order of the queries' ids. Scores are the reranker's where there is one (a teacher for distillation), else
        similarities.
    """
    taken = mined.negatives.sort_values(["query", "rank", "candidate"])
    if reranker is not None:
        taken = taken.assign(score=ask(world, mined.queries, taken, reranker))
    else:
        taken = taken.assign(score=taken["similarity"])
    kept = mined.queries
    positives = [row[: rules.max_positives] for row in kept["positives"]]
    if reranker is not None:
        pairs = [(world.text[a], world.text[p]) for a, row in zip(kept["anchor"], positives, strict=True) for p in row]
        scores = reranker.score(pairs).astype(np.float64).round(SIMILARITY_DIGITS)
        scores = as_lists(scores, np.array([len(row) for row in positives], dtype=np.int64))
    else:
        scores = [row[: rules.max_positives] for row in kept["similarities"]]
    counts = taken.groupby("query").size().reindex(kept.index, fill_value=0).to_numpy()
    negatives, negative_scores = (
        as_lists(values, counts) for values in (world.text[taken["candidate"]], taken["score"].to_numpy())
    )
    return pd.DataFrame(
        {
            "query": world.text[kept["anchor"]],
            "pos": [world.text[row].tolist() for row in positives],
            "neg": negatives,
            "pos_scores": scores,
            "neg_scores": negative_scores,
            "prompt": kept["prompt"].to_numpy(),
            "text_prompt": kept["text_prompt"].to_numpy(),
            "source": kept["source"].to_numpy(),
        }
    )


def write_jsonl(groups: pd.DataFrame, file: Path) -> None:
    """One JSON object a line, as FlagEmbedding's trainer and `datasets.load_dataset("json")` read it."""
    with file.open("w", encoding="utf-8", newline="\n") as lines:
        for row in groups.to_dict("records"):
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def rejected(world: World, mined: Mined) -> pd.DataFrame:
    """The table `rejected`: every candidate that a rule rejected, with the first that did."""
    rows = mined.candidates[mined.candidates["rule"].ne("") & mined.candidates["rank"].gt(0)]
    return pd.DataFrame(
        {
            "query_id": world.id[mined.queries["anchor"].to_numpy()[rows["query"]]].astype(str),
            "text_id": world.id[rows["candidate"]].astype(str),
            "rank": rows["rank"].astype("int64"),
            "similarity": rows["similarity"],
            "reranker": rows["reranker"],
            "rule": rows["rule"],
        }
    ).reset_index(drop=True)
