"""What notebook 04 reads: training groups in FlagEmbedding's format; and the rejected candidates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from bgetune.models.reranker import Reranker
from bgetune.negatives.corpus import Corpus, as_lists
from bgetune.negatives.mining import Mined
from bgetune.negatives.selection import score_pairs
from bgetune.negatives.space import SIMILARITY_DIGITS

REJECTED = 5000
"""Maximum number of queries whose rejected candidates are kept."""


def training_groups(
    corpus: Corpus, mined: Mined, reranker: Reranker | None = None, *, max_positives: int
) -> pd.DataFrame:
    """Training groups in FlagEmbedding's format: one row for each query and its prompts.

    A query without a safe negative has an empty `neg`: it trains with its positives and with the other queries of its
    batch. (FlagEmbedding's own trainer divides by zero on such rows; `training.flagembedding` fills them.)

    Args:
        reranker: gives the scores, which a student can be trained on (distillation). None: similarities.
        max_positives: maximum number of positives of a query, those of the highest weight.

    Returns:
        query, pos, neg (lists of texts), pos_scores, neg_scores (lists of float), prompt (of the query), text_prompt
        (of pos and neg), source; in the order of the queries' ids.
    """
    taken = mined.negatives.sort_values(["query", "rank", "candidate"])
    if reranker is not None:
        taken = taken.assign(score=score_pairs(corpus, mined.queries, taken, reranker))
    else:
        taken = taken.assign(score=taken["similarity"])
    kept = mined.queries
    positives = [row[:max_positives] for row in kept["positives"]]
    if reranker is not None:
        pairs = [
            (corpus.text[a], corpus.text[p]) for a, row in zip(kept["anchor"], positives, strict=True) for p in row
        ]
        flat = reranker.score(pairs).astype(np.float64).round(SIMILARITY_DIGITS)
        scores = as_lists(flat, np.array([len(row) for row in positives], dtype=np.int64))
    else:
        scores = [row[:max_positives] for row in kept["similarities"]]
    counts = taken.groupby("query").size().reindex(kept.index, fill_value=0).to_numpy()
    negatives, negative_scores = (
        as_lists(values, counts) for values in (corpus.text[taken["candidate"]], taken["score"].to_numpy())
    )
    return pd.DataFrame(
        {
            "query": corpus.text[kept["anchor"]],
            "pos": [corpus.text[row].tolist() for row in positives],
            "neg": negatives,
            "pos_scores": scores,
            "neg_scores": negative_scores,
            "prompt": kept["prompt"].to_numpy(),
            "text_prompt": kept["text_prompt"].to_numpy(),
            "source": kept["source"].to_numpy(),
        }
    )


def write_jsonl(groups: pd.DataFrame, file: Path) -> None:
    """Write one JSON object a line, as FlagEmbedding's trainer and `datasets.load_dataset("json")` read it."""
    with file.open("w", encoding="utf-8", newline="\n") as lines:
        for start in range(0, len(groups), 10_000):
            for row in groups.iloc[start : start + 10_000].to_dict("records"):
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def rejected_candidates(corpus: Corpus, mined: Mined) -> pd.DataFrame:
    """The table `rejected`: the candidates of a sample of the queries that a rule rejected, with the first that did.

    These are the first `REJECTED` queries by their ids, which are hashes. `Mined.counts` counts the candidates of all.
    """
    rows = mined.sample[mined.sample["query"] < REJECTED]
    rows = rows[rows["rule"].ne("") & rows["rank"].gt(0)]
    return pd.DataFrame(
        {
            "query_id": corpus.id[mined.queries["anchor"].to_numpy()[rows["query"]]].astype(str),
            "text_id": corpus.id[rows["candidate"]].astype(str),
            "rank": rows["rank"].astype("int64"),
            "similarity": rows["similarity"],
            "reranker": rows["reranker"],
            "rule": rows["rule"],
        }
    ).reset_index(drop=True)
