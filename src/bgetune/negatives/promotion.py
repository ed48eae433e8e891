"""Missed positives: confirmed pairs are added to the positive graph, doubtful ones are shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from bgetune.graph import recall
from bgetune.metrics.truth import same_meaning
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.negatives.corpus import Corpus
from bgetune.negatives.doubt import most_doubtful
from bgetune.negatives.mining import Mined
from bgetune.negatives.rules import Rules, Search


def missed_positives(corpus: Corpus, mined: Mined) -> pd.DataFrame:
    """Pairs that the reranker confirmed in both directions: a_id < b_id, score (the lower of the two), source.

    The highest score comes first.
    """
    confirmed = mined.candidates[mined.candidates["rule"] == "missed_positive"]
    a, b = corpus.id[mined.queries["anchor"].to_numpy()[confirmed["query"]]], corpus.id[confirmed["candidate"]]
    pairs = pd.DataFrame({"a_id": np.minimum(a, b), "b_id": np.maximum(a, b), "score": confirmed["reranker"]})
    pairs = pairs.groupby(["a_id", "b_id"], as_index=False)["score"].min().assign(source="recall")
    return pairs.sort_values(["score", "a_id", "b_id"], ascending=[False, True, True], ignore_index=True)


def mutual_neighbors(
    corpus: Corpus,
    encoder: Encoder,
    reranker: Reranker | None = None,
    veto: float | None = None,
    *,
    search: Search = Search(),
    seed: int = 42,
) -> pd.DataFrame:
    """Pairs of training texts of two clusters that are each other's nearest neighbour.

    Adding such pairs to the positives is self-training. The nearest neighbour by a base model is as likely a near-miss
    as a paraphrase; a model tuned on the team's own positives is more reliable, but less so than a reranker. Measured
    with two rounds (`tests/benchmarks/bench_separation.py`), it lowers the similarity drift and does not raise the AUC;
    on the demo world, which is full of near-misses, it lowers the AUC. Therefore it is off by default.

    Args:
        encoder: of a tuned model.
        reranker, veto: if both are given, a pair that scores below `veto` in a direction is left out.
        search: how the nearest texts are found.
        seed: of an index that needs training.

    Returns:
        a_id < b_id, score (cosine), source (neighbor); the highest score first.
    """
    train = np.flatnonzero(corpus.split == "train")
    vectors = encoder.encode(corpus.text[train].tolist())
    found = recall.propose(corpus.id[train], vectors, neighbors=1, similarity=0, seed=seed, **asdict(search))
    cluster = pd.Series(corpus.cluster, index=corpus.id)
    found = found[found["a_id"].map(cluster).to_numpy() != found["b_id"].map(cluster).to_numpy()]
    found = found.rename(columns={"similarity": "score"}).assign(source="neighbor").reset_index(drop=True)
    if reranker is not None and veto is not None:
        texts = pd.DataFrame({"text_id": corpus.id, "text": corpus.text})
        found = found[recall.rerank(found, texts, reranker)["score"] >= veto]
    return found.reset_index(drop=True)


def doubtful(corpus: Corpus, mined: Mined, refused: pd.DataFrame | None = None, *, limit: int) -> pd.DataFrame:
    """Candidates that may be missed positives, for people to label; the most probable first.

    Args:
        refused: pairs that `promote` did not join: a_id, b_id, reason.
        limit: maximum number of rows.

    Returns:
        query, candidate (texts), similarity, reranker, reason; one row for each pair of texts, whatever the direction.
    """
    anchor = mined.queries["anchor"].to_numpy()[mined.candidates["query"]]
    rows = most_doubtful(mined.candidates.assign(anchor=anchor), mined.rules, mined.cuts[-1])
    a, b = rows["anchor"], rows["candidate"]
    rows = rows.assign(low=np.minimum(a, b), high=np.maximum(a, b)).drop_duplicates(["low", "high"]).head(limit)
    a, b = rows["anchor"], rows["candidate"]
    reasons = [_reason(row, mined.rules) for row in rows.itertuples()]
    if refused is not None and len(refused):
        pairs = zip(refused["a_id"], refused["b_id"], strict=True)
        said = dict(zip(pairs, refused["reason"], strict=True))
        keys = zip(corpus.id[rows["low"]], corpus.id[rows["high"]], strict=True)  # numbers are in the order of the ids
        reasons = [said.get(key, reason) for key, reason in zip(keys, reasons, strict=True)]
    return pd.DataFrame(
        {
            "query": corpus.text[a],
            "candidate": corpus.text[b],
            "similarity": rows["similarity"].to_numpy(),
            "reranker": rows["reranker"].to_numpy(),
            "reason": np.array(reasons, dtype=object),
        }
    )


def _reason(row: Any, rules: Rules) -> str:
    """Why a candidate is doubtful."""
    if pd.isna(row.reranker):
        return (
            "as similar as the typical positive" if pd.isna(row.risk) else f"a positive with probability {row.risk:.2f}"
        )
    if row.rule == "missed_positive":
        return "the reranker confirms it, its cluster was not joined"
    if rules.promote_score is not None and row.reranker >= rules.promote_score:
        return "the reranker confirms it in one direction only"
    return "the reranker is not sure"


def examples(
    corpus: Corpus, missed: pd.DataFrame, truth: Mapping[str, str] | None = None, count: int = 10
) -> pd.DataFrame:
    """Missed positives of the highest and the lowest scores, as texts, `count` rows at most.

    Args:
        truth: text_id -> meaning; if given, a column says whether the two texts truly mean the same.
    """
    rows = pd.concat([missed.head(count // 2), missed.iloc[count // 2 :].tail(count - count // 2)])
    text = pd.Series(corpus.text, index=corpus.id)
    table = pd.DataFrame(
        {
            "text": rows["a_id"].map(text),
            "text to join": rows["b_id"].map(text),
            "score": rows["score"],
            "source": rows["source"],
        }
    )
    if truth is not None:
        right = same_meaning(rows["a_id"], rows["b_id"], truth)
        table["truly the same"] = right.map({1.0: "yes", 0.0: "no"}).astype(object).where(right.notna(), "unknown")
    return table
