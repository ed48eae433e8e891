"""Hard-negative mining: search the nearest texts of every query and apply the rules that reject candidates.

One search per query has two results: candidates that the reranker confirms are missed positives, the others are
candidates for negatives. A candidate must pass every rule; the first rule that rejects it is recorded.

**Margin.** The published rule, "at most 95 % of the positive's similarity" (NV-Retriever, arXiv 2407.15831), fails
where similarities bunch: on bank questions a pretrained encoder gives positives a mean similarity of .78 and the
nearest neighbours .93, so the rule rejects nearly all candidates of nearly all queries. Here, similarities are measured
after whitening (arXiv 2103.15316), which removes what all texts have in common, and a candidate is compared with the
positives of the whole data instead of the query's own: with weak ones (5th percentile) if the query has enough
candidates below them, else with typical ones (up to the median). On the bank questions, with half of the known
positives hidden and the 5 nearest of 100 candidates taken: without a rule 4.8 % of the negatives are known positives;
with the published rule 1.4 %, and 8 % of the queries have negatives; with this rule 0.6 %, and 89 % of the queries.

**Probability.** For training, the probability of being an unknown positive (`risk`) replaces the margin, unless
`margin` is given or the probability cannot be estimated. Where a reranker vetoes, its score lowers the probability and
the margin does not apply. Held-out negatives use the margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bgetune.data.draw import draw
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.negatives import risk
from bgetune.negatives.candidates import known_positive, same_cluster
from bgetune.negatives.corpus import Corpus, as_lists, queries_of
from bgetune.negatives.rules import FALLBACK_MARGIN, Rules, Search
from bgetune.negatives.space import SIMILARITY_DIGITS, Space

REFERENCES = (0.05, 0.25, 0.5)
"""Quantiles of the positives' whitened similarities that the margin is measured from, strictest first."""

SUSPECTS = 5
"""Number of nearest candidates of a query that the reranker scores to find missed positives."""

VETO_SAMPLE = 200
"""Number of known positives, and of certain negatives, on which the reranker's veto is evaluated."""

CERTAIN = 0.05
"""Probability of being a positive below which a candidate counts as a certain negative in that evaluation."""

LEAST_PASSED = 0.05
"""Minimum share of the positives that the veto is assumed to let pass: some are known only through the reranker."""


@dataclass(frozen=True)
class Mined:
    """The result of a mining.

    Attributes:
        queries: one row for each query and its prompts: the columns of `queries_of`; similarities and whitened (lists:
            cosines of the positives with the query, as the model gives them and after whitening); cut (the highest
            whitened similarity that the margin allows).
        candidates: one row for each query and candidate: query (row of `queries`), candidate (text number), rank (from
            1; 0 for texts that the search did not find), similarity, whitened (similarity after whitening), label
            (grade that people gave, NaN if none), risk (probability of being an unknown positive, before the reranker's
            score; NaN where it cannot be estimated), reranker (score, NaN where none was needed), rule (the first that
            rejects it, "" if none does), taken (bool: a hard negative).
        cuts: the values of `queries.cut`, strictest first.
        risks: how the column risk was estimated.
        expected: (share, low, high): the share of the negatives taken that are expected to be unknown positives, and
            its 90 % interval; None where it cannot be estimated.
        rules: the rules that were applied.
    """

    queries: pd.DataFrame
    candidates: pd.DataFrame
    cuts: tuple[float, ...]
    risks: risk.Assessment
    expected: tuple[float, float, float] | None
    rules: Rules

    @property
    def negatives(self) -> pd.DataFrame:
        """The candidates that were taken as hard negatives."""
        return self.candidates[self.candidates["taken"]]


def mine(
    corpus: Corpus,
    encoder: Encoder,
    reranker: Reranker | None = None,
    rules: Rules = Rules(),
    *,
    search: Search = Search(),
    split: str = "train",
    verdicts: Mapping[tuple[str, str], str] | None = None,
    sample: int | None = None,
    **changes: Any,
) -> Mined:
    """Mine hard negatives for every query of a split.

    Args:
        corpus: the run's tables.
        encoder: the model to tune (or, in a later round, the tuned one).
        reranker: promotes missed positives and vetoes negatives. None: neither.
        rules: which candidates become negatives.
        search: how the nearest texts are found.
        split: only texts of this split are queries and candidates, so that training sees nothing of dev or test.
        verdicts: (text_id, text_id) in ascending order -> "same" or "different", as people labelled them in the review
            file.
        sample: mine for this number of queries (drawn by hash) instead of all, for a first look.
        **changes: rules to replace in this call, by name.

    Returns:
        All candidates, each with the first rule that rejects it.

    Raises:
        InputError: if the split has no query with a positive, or FAISS does not know the index.
        TypeError: if `changes` names no rule.

    Example:
        >>> mine(corpus, encoder, reranker, rules, margin=0.1)
    """
    rules = replace(rules, **changes)
    queries = queries_of(corpus, split, encoder.prompts)
    if sample is not None and len(queries) > sample:
        order = [draw(rules.seed, "sample", corpus.id[anchor]) for anchor in queries["anchor"]]
        queries = queries.iloc[np.sort(np.argsort(order)[:sample])].reset_index(drop=True)
    if queries.empty:
        raise InputError(
            _("no positives in the {split} split: give more sources to 01_positives, or lower its thresholds").format(
                split=split
            )
        )
    vetoing = None if rules.veto_score is None else reranker
    corpus = _with_verdicts(corpus, verdicts or {})
    space = Space.of(corpus, queries, split, encoder)
    _add_similarities(queries, space)
    risks = risk.assess(corpus, queries, space, rules, search)
    pairs = _with_labels(corpus, queries, space, risk.with_risk(corpus, queries, space, rules, search, risks))
    _reject_known(corpus, queries, pairs, rules)
    if reranker is not None and rules.promote_score is not None:
        _find_missed_positives(corpus, queries, pairs, reranker, rules)
    similarity = pairs["similarity"]
    _reject(pairs, "rank", pairs["rank"] < rules.rank_min)
    if rules.window_low is not None:
        _reject(pairs, "below_window", similarity < rules.window_low)
    if rules.window_high is not None:
        _reject(pairs, "above_window", similarity > rules.window_high)
    cuts = _cuts(queries, pairs, rules)
    veto = risk.Veto() if vetoing is None else _evaluate_veto(corpus, queries, pairs, vetoing, rules)
    if vetoing is None:
        unknown = pairs["risk"].isna() & (rules.max_false_negatives is not None)
        _reject(
            pairs,
            "margin",
            (pairs["whitened"] > queries["cut"].to_numpy()[pairs["query"]])
            & (unknown if rules.margin is None else True),
        )
    if rules.max_false_negatives is not None:
        _reject(pairs, "unknown_positive", veto.after(pairs["risk"]) > rules.max_false_negatives)
    if rules.too_few == "random":
        pairs = _with_random(corpus, queries, space, pairs, rules)
    _take(corpus, queries, pairs, vetoing, rules)
    return Mined(queries, pairs, cuts, risks, risk.expected(corpus, queries, space, pairs, risks, veto), rules)


def _with_verdicts(corpus: Corpus, verdicts: Mapping[tuple[str, str], str]) -> Corpus:
    """The corpus with the verdicts of the review file among its labels."""
    grades = {
        pair: float(verdict == "same")
        for (a, b), verdict in verdicts.items()
        if (numbers := corpus.numbers(a, b))
        for pair in (numbers, (numbers[1], numbers[0]))
    }
    return replace(corpus, labels=corpus.labels | grades)


def _evaluate_veto(
    corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, reranker: Reranker, rules: Rules
) -> risk.Veto:
    """Estimate how often the veto lets positives and negatives pass, on known positives and certain negatives."""
    shares = []
    known = pairs["rule"].isin(["known_positive", "same_cluster"]) & pairs["rank"].gt(0)
    for rows in (pairs[known], pairs[~known & (pairs["risk"] <= CERTAIN)]):
        nearest = rows.sort_values(["rank", "query"]).groupby("query").head(1)
        drawn = nearest.sample(min(len(nearest), VETO_SAMPLE), random_state=rules.seed)
        passed = int((score_pairs(corpus, queries, drawn, reranker) < rules.veto_score).sum()) if len(drawn) else 0
        shares.append((passed + 0.5) / (len(drawn) + 1))
    return risk.Veto(max(shares[0], LEAST_PASSED), shares[1])


def _add_similarities(queries: pd.DataFrame, space: Space) -> None:
    """Add the columns similarities and whitened: the cosines of each query with its positives."""
    count = queries["positives"].str.len().to_numpy()
    row = np.repeat(np.arange(len(queries)), count)
    positive = np.concatenate(queries["positives"].to_numpy()).astype(np.int64)
    for name, whitened in (("similarities", False), ("whitened", True)):
        queries[name] = as_lists(space.similarity(row, positive, whitened), count)


def _with_labels(corpus: Corpus, queries: pd.DataFrame, space: Space, pairs: pd.DataFrame) -> pd.DataFrame:
    """The candidates with the columns label (grade in [0, 1] that people gave, NaN if none), reranker (NaN), rule ("").

    Texts that people called different from the query and that the search did not find are added with rank 0.
    """
    rows = [(a, b, grade) for (a, b), grade in corpus.labels.items() if space.row[b] >= 0]
    judged = pd.DataFrame(rows, columns=["anchor", "candidate", "label"]).astype({"label": np.float64})
    sought = pd.DataFrame({"anchor": queries["anchor"].to_numpy(), "query": np.arange(len(queries))})
    judged = sought.merge(judged, on="anchor").sort_values(["query", "candidate"], ignore_index=True)
    key = corpus.pair_key(judged["query"], judged["candidate"])
    found = pd.Index(key).get_indexer(corpus.pair_key(pairs["query"], pairs["candidate"]))
    pairs = pairs.assign(label=np.where(found >= 0, judged["label"].to_numpy()[found], np.nan) if len(key) else np.nan)
    extra = judged[judged["label"].eq(0) & ~np.isin(np.arange(len(judged)), found)]
    if len(extra):
        query, candidate = extra["query"].to_numpy(), extra["candidate"].to_numpy(dtype=np.int64)
        added = {
            "query": query,
            "candidate": candidate,
            "similarity": space.similarity(query, candidate),
            "rank": 0,
            "whitened": space.similarity(query, candidate, whitened=True),
            "risk": 0.0,
            "label": 0.0,
        }
        pairs = pd.concat([pairs, pd.DataFrame(added)], ignore_index=True)
    return pairs.assign(reranker=np.nan, rule="")


def _cuts(queries: pd.DataFrame, pairs: pd.DataFrame, rules: Rules) -> tuple[float, ...]:
    """Add the column cut: the strictest level of the margin that leaves a query `num_negatives` candidates.

    Returns:
        All levels, strictest first.
    """
    levels = np.quantile(np.concatenate(queries["whitened"].to_numpy()), REFERENCES)
    levels = levels * (1 - (FALLBACK_MARGIN if rules.margin is None else rules.margin))
    passed = pairs[pairs["rule"].eq("")]
    queries["cut"] = levels[-1]
    for level in levels[-2::-1]:
        left = passed.loc[passed["whitened"] <= level].groupby("query").size()
        queries.loc[left.index[left >= rules.num_negatives], "cut"] = level
    return tuple(float(level) for level in levels)


def _reject(pairs: pd.DataFrame, rule: str, where: pd.Series) -> None:
    """Record a rule for the candidates that no earlier rule rejected and no person labelled."""
    pairs.loc[where & pairs["rule"].eq("") & pairs["label"].isna(), "rule"] = rule


def _reject_known(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, rules: Rules) -> None:
    """Record the rules known_positive and same_cluster."""
    pairs.loc[known_positive(corpus, queries, pairs), "rule"] = "known_positive"
    if rules.cluster_rule:
        pairs.loc[same_cluster(corpus, queries, pairs) & pairs["rule"].eq(""), "rule"] = "same_cluster"


def _find_missed_positives(
    corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, reranker: Reranker, rules: Rules
) -> None:
    """Record the rule missed_positive: the nearest candidates of every query that score high in both directions."""
    open_ = pairs[pairs["rule"].eq("") & pairs["label"].isna()]
    suspects = open_.index[open_.groupby("query").cumcount() < SUSPECTS]
    pairs.loc[suspects, "reranker"] = score_pairs(corpus, queries, pairs.loc[suspects], reranker)
    high = suspects[pairs.loc[suspects, "reranker"] >= rules.promote_score]
    back = score_pairs(corpus, queries, pairs.loc[high], reranker, backwards=True)
    both = high[back >= rules.promote_score]
    pairs.loc[both, "reranker"] = np.minimum(pairs.loc[both, "reranker"], back[back >= rules.promote_score])
    pairs.loc[both, "rule"] = "missed_positive"


def _take(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, vetoing: Reranker | None, rules: Rules) -> None:
    """Add the column taken. The reranker (None: no veto) scores only candidates that would be taken."""
    order = _preference(corpus, queries, pairs, rules)
    while True:
        if vetoing is not None:
            _reject(pairs, "veto", pairs["reranker"] >= rules.veto_score)
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


def _with_random(
    corpus: Corpus, queries: pd.DataFrame, space: Space, pairs: pd.DataFrame, rules: Rules
) -> pd.DataFrame:
    """The candidates and, with rank 0, random texts of other clusters for queries with fewer than `num_negatives`."""
    passed = pairs[pairs["rule"].eq("")].groupby("query").size().reindex(range(len(queries)), fill_value=0)
    # a small corpus is searched completely: a candidate that was only too easy may be drawn as a random text
    seen = pairs[pairs["rule"].ne("below_window")].groupby("query")["candidate"].agg(set)
    by_kind = {kind: np.flatnonzero((space.row >= 0) & (corpus.kind == kind)) for kind in ("document", "query")}
    rows = []
    for query in np.flatnonzero(passed < rules.num_negatives):
        anchor = queries["anchor"][query]
        pool = np.concatenate([by_kind[kind] for kind in queries["kinds"][query]])
        drawn = np.random.default_rng([rules.seed, int(corpus.id[anchor], 16)]).permutation(pool)
        own = seen.get(query, set()) | {anchor, *queries["positives"][query]}
        others = [text for text in drawn[:1000] if text not in own and corpus.cluster[text] != corpus.cluster[anchor]]
        rows += [(query, text) for text in others[: 2 * rules.num_negatives]]
    if not rows:
        return pairs
    query, candidate = np.array(rows).T
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
