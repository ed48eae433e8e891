"""Held-out pairs of dev and test, for evaluation and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from bgetune.data.draw import draw
from bgetune.data.tables import MADE
from bgetune.graph.outlook import EVIDENCE
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.negatives.corpus import Corpus
from bgetune.negatives.mining import mine
from bgetune.negatives.rules import Rules, Search

COLUMNS = {"query_id": str, "text_id": str, "label": "int64", "kind": str, "split": str}


def heldout_pairs(
    corpus: Corpus,
    encoder: Encoder,
    reranker: Reranker | None = None,
    rules: Rules = Rules(),
    *,
    search: Search = Search(),
    per_cluster: int,
    verdicts: Mapping[tuple[str, str], str] | None = None,
    judged: str = "held out",
) -> pd.DataFrame:
    """Pairs of dev and test clusters: positives, and at most as many hard negatives and as many random pairs.

    Hard negatives are the nearest texts of other clusters that the reranker does not doubt. The similarity window does
    not apply: it reads the scores of the base model, and pairs chosen by them would bias the comparison with it.
    Without a reranker, the margin protects from false negatives, even where training uses none. Generated texts
    and parts of documents are left out, except where `judged` names them.

    Args:
        rules: of the training negatives; `Rules.for_evaluation` says what is different here.
        per_cluster: maximum number of positive pairs of a cluster.
        verdicts: see `mining.mine`.
        judged: what the positives come from, see `bgetune.graph.outlook.judged_by`.

    Returns:
        The table `heldout` (query_id, text_id, label, kind, split); empty if dev and test hold no positive pair.
    """
    rules = rules.for_evaluation()
    source = corpus.positives["source"]
    used = ~source.isin(MADE) if judged == "held out" else source.isin(EVIDENCE[judged])
    if judged == "documents":  # a document holds its own sentences: that any model sees
        sides = [corpus.text[corpus.positives[side]] for side in ("anchor", "positive")]
        used &= np.array([a not in b and b not in a for a, b in zip(*sides, strict=True)], dtype=bool)
    natural = set(corpus.positives.loc[used, "anchor"]) | set(corpus.positives.loc[used, "positive"])
    made = (set(corpus.positives["anchor"]) | set(corpus.positives["positive"])) - natural
    corpus = replace(corpus, positives=corpus.positives[used])
    parts = []
    for split in ("dev", "test"):
        pairs = _positive_pairs(corpus, split, rules.seed, per_cluster)
        if pairs.empty:
            continue
        mined = mine(corpus, encoder, reranker, rules, search=search, split=split, verdicts=verdicts)
        hard = mined.negatives.assign(query=mined.queries["anchor"].to_numpy()[mined.negatives["query"]])
        hard = hard[hard["query"].isin(pairs["query"]) & ~hard["candidate"].isin(made)]
        hard = hard.sort_values(["query", "rank"]).drop_duplicates(["query", "candidate"])
        hard["turn"] = hard.groupby("query").cumcount()
        hard["draw"] = _pair_draws(corpus, rules.seed, hard["query"], hard["candidate"])
        hard = hard.sort_values(["turn", "draw"]).head(len(pairs))
        taken = set(zip(hard["query"], hard["candidate"], strict=True))
        random = _random_pairs(corpus, split, pairs, rules.seed, exclude=taken, made=made)
        for kind, rows in (("positive", pairs), ("hard_negative", hard), ("random", random)):
            part = {"query_id": corpus.id[rows["query"]], "text_id": corpus.id[rows["candidate"]]}
            parts.append(pd.DataFrame(part).assign(label=int(kind == "positive"), kind=kind, split=split))
    table = pd.concat([pd.DataFrame(columns=COLUMNS), *parts], ignore_index=True).astype(COLUMNS)
    return table.sort_values(["split", "kind", "query_id", "text_id"], ignore_index=True)


def _positive_pairs(corpus: Corpus, split: str, seed: int, per_cluster: int) -> pd.DataFrame:
    """Positive pairs of a split, one direction each, at most `per_cluster` of a cluster: query, candidate."""
    pairs = corpus.positives.rename(columns={"anchor": "query", "positive": "candidate"})
    pairs = pairs[(corpus.split[pairs["query"]] == split) & (corpus.split[pairs["candidate"]] == split)].copy()
    pairs["draw"] = _pair_draws(corpus, seed, pairs["query"], pairs["candidate"])
    pairs["low"], pairs["high"] = pairs[["query", "candidate"]].min(axis=1), pairs[["query", "candidate"]].max(axis=1)
    pairs = pairs.sort_values("draw").drop_duplicates(["low", "high"])
    pairs["cluster"] = corpus.cluster[pairs["query"]]
    pairs = pairs[pairs.groupby("cluster").cumcount() < per_cluster]
    return pairs[["query", "candidate"]].sort_values(["query", "candidate"], ignore_index=True)


def _random_pairs(
    corpus: Corpus, split: str, pairs: pd.DataFrame, seed: int, exclude: set[tuple[int, int]], made: set[int]
) -> pd.DataFrame:
    """For each positive pair, its query and a random text of another cluster, of the same kind as the positive.

    Adds the pairs it returns to `exclude`.
    """
    rows = []
    usable = (corpus.split == split) & ~np.isin(np.arange(len(corpus.texts)), list(made))
    pools = {kind: np.flatnonzero(usable & (corpus.kind == kind)) for kind in ("query", "document")}
    for query, own in zip(pairs["query"], pairs["candidate"], strict=True):
        pool = pools[corpus.kind[own]]
        rng = np.random.default_rng([seed, int(corpus.id[query], 16), int(corpus.id[own], 16)])
        for text in pool[rng.integers(len(pool), size=20)] if len(pool) else ():
            pair = (query, int(text))
            if corpus.cluster[text] != corpus.cluster[query] and pair not in exclude and not corpus.labels.get(pair):
                exclude.add(pair)
                rows.append(pair)
                break
    return pd.DataFrame(rows, columns=["query", "candidate"])


def _pair_draws(corpus: Corpus, seed: int, queries: pd.Series, candidates: pd.Series) -> list[float]:
    """A random number in [0, 1) for each pair that depends on seed and pair alone."""
    return [draw(seed, corpus.id[q], corpus.id[c]) for q, c in zip(queries, candidates, strict=True)]
