"""Which of the candidates that passed the rules become negatives."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bgetune.data.draw import draw
from bgetune.models.reranker import Reranker
from bgetune.negatives.corpus import Corpus
from bgetune.negatives.rules import Rules
from bgetune.negatives.space import SIMILARITY_DIGITS, Space

POOL = 1000
"""Random texts that are drawn for a query with too few negatives, until enough of them are of other clusters."""


def reject(pairs: pd.DataFrame, rule: str, where: pd.Series) -> None:
    """Record a rule for the candidates that no earlier rule rejected and no person labelled."""
    pairs.loc[where & pairs["rule"].eq("") & pairs["label"].isna(), "rule"] = rule


def take(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, vetoing: Reranker | None, rules: Rules) -> None:
    """Add the column taken. The reranker (None: no veto) scores only candidates that would be taken."""
    order = _preference(corpus, queries, pairs, rules)
    while True:
        if vetoing is not None:
            reject(pairs, "veto", pairs["reranker"] >= rules.veto_score)
        queue = pairs.loc[order]
        queue = queue[queue["rule"].eq("")]
        turn = queue.groupby("query").cumcount()
        chosen = queue[turn < rules.num_negatives]
        if vetoing is None or not (chosen["reranker"].isna() & chosen["label"].isna()).any():
            break
        unknown = queue[(turn < rules.num_negatives + 2) & queue["reranker"].isna() & queue["label"].isna()]
        pairs.loc[unknown.index, "reranker"] = score_pairs(corpus, queries, unknown, vetoing)
    pairs["taken"] = False
    pairs.loc[chosen.index, "taken"] = True


def _preference(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, rules: Rules) -> pd.Index:
    """Index of the candidates that passed, in the order in which they are taken: labelled first, random texts last."""
    queue = pairs[pairs["rule"].eq("")].copy()
    queue["first"] = np.where(queue["label"].notna(), 0, np.where(queue["rank"] == 0, 2, 1))
    if rules.sampling == "top":
        queue["turn"] = queue["rank"]
    else:
        anchor = corpus.id[queries["anchor"].to_numpy()[queue["query"]]]
        queue["turn"] = [draw(rules.seed, q, c) for q, c in zip(anchor, corpus.id[queue["candidate"]], strict=True)]
    if rules.sampling == "band":
        place = queue.groupby("query").cumcount() / queue.groupby("query")["rank"].transform("size")
        queue["band"] = (place * rules.num_negatives).astype(int)
        queue["turn"] = queue.groupby(["query", "band"])["turn"].rank(method="first")
        return queue.sort_values(["query", "first", "turn", "band", "rank"]).index
    return queue.sort_values(["query", "first", "turn", "rank", "candidate"]).index


def with_random(
    corpus: Corpus, queries: pd.DataFrame, space: Space, pairs: pd.DataFrame, rows: np.ndarray, rules: Rules
) -> pd.DataFrame:
    """The candidates and, with rank 0, random texts of other clusters for queries with fewer than `num_negatives`."""
    passed = pairs[pairs["rule"].eq("")].groupby("query").size().reindex(rows, fill_value=0)
    # a small corpus is searched completely: a candidate that was only too easy may be drawn as a random text
    seen = pairs[pairs["rule"].ne("below_window")].groupby("query")["candidate"].agg(set)
    inside, is_query = space.row >= 0, corpus.kind == "query"
    pools = {("document",): inside & ~is_query, ("query",): inside & is_query, ("document", "query"): inside}
    pools = {kinds: np.flatnonzero(texts) for kinds, texts in pools.items()}
    added = []
    for query in rows[passed.to_numpy() < rules.num_negatives]:
        anchor = queries["anchor"][query]
        pool = pools[queries["kinds"][query]]
        rng = np.random.default_rng([rules.seed, int(corpus.id[anchor], 16)])
        drawn = pool[rng.choice(len(pool), min(len(pool), POOL), replace=False)]
        own = seen.get(query, set()) | {anchor, *queries["positives"][query]}
        others = [text for text in drawn if text not in own and corpus.cluster[text] != corpus.cluster[anchor]]
        added += [(query, text) for text in others[: 2 * rules.num_negatives]]
    if not added:
        return pairs
    query, candidate = np.array(added).T
    filler = pd.DataFrame({"query": query, "candidate": candidate, "similarity": space.similarity(query, candidate)})
    filler["whitened"], filler["risk"] = space.similarity(query, candidate, whitened=True), np.nan
    return pd.concat([pairs, filler.assign(rank=0, label=np.nan, reranker=np.nan, rule="")], ignore_index=True)


def score_pairs(
    corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, reranker: Reranker, backwards: bool = False
) -> np.ndarray:
    """Reranker scores of n pairs of a query and a candidate: (n,) float64 in [0, 1], rounded like similarities.

    Args:
        pairs: columns query (row of `queries`), candidate (text number).
        backwards: score (candidate, query) instead of (query, candidate).
    """
    query = corpus.text[queries["anchor"].to_numpy()[pairs["query"]]]
    candidate = corpus.text[pairs["candidate"]]
    pairs_of_text = zip(candidate, query, strict=True) if backwards else zip(query, candidate, strict=True)
    return reranker.score(list(pairs_of_text)).astype(np.float64).round(SIMILARITY_DIGITS)
