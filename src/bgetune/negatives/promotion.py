"""Missed positives: what the reranker or the tuned model confirms joins the graph, what is in doubt a person judges."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bgetune.config.stages import HardNegatives
from bgetune.graph import recall
from bgetune.metrics.truth import same_meaning
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.negatives.mining import Mined
from bgetune.negatives.world import World


def missed_positives(world: World, mined: Mined) -> pd.DataFrame:
    """Pairs that the reranker confirmed in both directions: a_id < b_id, score (of the weaker direction), source."""
    confirmed = mined.candidates[mined.candidates["rule"] == "missed_positive"]
    a, b = world.id[mined.queries["anchor"].to_numpy()[confirmed["query"]]], world.id[confirmed["candidate"]]
    pairs = pd.DataFrame({"a_id": np.minimum(a, b), "b_id": np.maximum(a, b), "score": confirmed["reranker"]})
    pairs = pairs.groupby(["a_id", "b_id"], as_index=False)["score"].min().assign(source="recall")
    return pairs.sort_values(["score", "a_id", "b_id"], ascending=[False, True, True], ignore_index=True)


def mutual_neighbors(
    world: World, encoder: Encoder, reranker: Reranker | None = None, veto: float | None = None
) -> pd.DataFrame:
    """Pairs of training texts of two clusters that are each other's nearest: a_id < b_id, score (cosine), source.

    A base model's nearest neighbour is as likely a near-miss as a paraphrase; a model that was tuned on the team's own
    positives is a better witness, but no reranker. Training again with such pairs is self-training. Measured (two
    rounds in `tests/benchmarks/bench_separation.py`), it lowers drift and does not raise the AUC; on the demo world,
    which is full of near-misses, it lowers that, too. So it is off unless asked for.

    Args:
        encoder: of a tuned model.
        reranker, veto: where there are both, a pair that scores below `veto` in a direction is left out.
    """
    train = np.flatnonzero(world.split == "train")
    found = recall.propose(world.id[train], encoder.encode(world.text[train].tolist()), neighbors=1, similarity=0)
    cluster = pd.Series(world.cluster, index=world.id)
    found = found[found["a_id"].map(cluster).to_numpy() != found["b_id"].map(cluster).to_numpy()]
    found = found.rename(columns={"similarity": "score"}).assign(source="neighbor").reset_index(drop=True)
    if reranker is not None and veto is not None:
        texts = pd.DataFrame({"text_id": world.id, "text": world.text})
        found = found[recall.read(found, texts, reranker)["score"] >= veto]
    return found.reset_index(drop=True)


def doubtful(world: World, mined: Mined, rules: HardNegatives, refused: pd.DataFrame | None = None) -> pd.DataFrame:
    """Candidates that a person should look at: what may be a missed positive, the likeliest first.

    Args:
        refused: pairs that `promote` did not join.

    Returns:
        query, candidate (texts), similarity, reranker, reason; at most `review_limit` rows, one a pair of texts.
    """
    rows = mined.candidates[mined.candidates["label"].isna()].copy()
    rows["a"], rows["b"] = mined.queries["anchor"].to_numpy()[rows["query"]], rows["candidate"]
    if rows["reranker"].notna().any():
        rows = rows[
            ~rows["rule"].isin(["known_positive", "same_cluster"])
            & (rows["reranker"] >= (0.5 if rules.veto_score is None else rules.veto_score))
        ]
        confirmed = rows["rule"].eq("missed_positive")
        rows["reason"] = np.where(
            confirmed,
            "the reranker confirms it, its cluster was not joined",
            np.where(
                rows["reranker"] >= (2 if rules.promote_score is None else rules.promote_score),
                "the reranker confirms it in one direction only",
                "the reranker is not sure",
            ),
        )
        rows = rows.sort_values(["reranker", "similarity", "a", "b"], ascending=[False, False, True, True])
    else:
        near = rows["taken"] & (rows["whitened"] > mined.cuts[-1])
        rows = rows[near | rows["rule"].isin(["margin", "unknown_positive", "above_window"])]
        reasons = [f"a positive with probability {risk:.2f}" for risk in rows["risk"]]
        rows = rows.assign(reason=np.where(rows["risk"].isna(), "as similar as the typical positive", reasons))
        rows = rows.sort_values(["risk", "whitened", "a", "b"], ascending=[False, False, True, True])
    if refused is not None and len(refused):
        reasons = {(row.a_id, row.b_id): row.reason for row in refused.itertuples()}
        keys = [tuple(sorted(pair)) for pair in zip(world.id[rows["a"]], world.id[rows["b"]], strict=True)]
        rows["reason"] = [reasons.get(key, reason) for key, reason in zip(keys, rows["reason"], strict=True)]
    rows["low"], rows["high"] = rows[["a", "b"]].min(axis=1), rows[["a", "b"]].max(axis=1)
    rows = rows.drop_duplicates(["low", "high"]).head(rules.review_limit)
    texts = {"query": world.text[rows["a"]], "candidate": world.text[rows["b"]]}
    return pd.DataFrame(texts | {name: rows[name].to_numpy() for name in ("similarity", "reranker", "reason")})


def shown(world: World, missed: pd.DataFrame, truth: Mapping[str, str] | None = None, count: int = 10) -> pd.DataFrame:
    """The surest and the least sure of the missed positives as texts; with a truth, whether each is right."""
    rows = pd.concat([missed.head(count // 2), missed.iloc[count // 2 :].tail(count - count // 2)])
    text = pd.Series(world.text, index=world.id)
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
