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

**Blocks.** Queries pass through search and rules in blocks of about `CANDIDATES_AT_ONCE` candidates, in the order of
their ids, which are hashes: the first block is a random sample. On it the veto is evaluated, and of it all candidates
are kept; of later blocks, the counts and what is needed further on. A corpus of one block is kept completely.
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
from bgetune.negatives.candidates import Pool, known_positive, pools_of, same_cluster
from bgetune.negatives.corpus import Corpus, as_lists, queries_of
from bgetune.negatives.doubt import most_doubtful
from bgetune.negatives.rules import FALLBACK_MARGIN, REASONS, Rules, Search
from bgetune.negatives.selection import reject, score_pairs, take, with_random
from bgetune.negatives.space import Space

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

CANDIDATES_AT_ONCE = 2_000_000
"""Maximum number of candidates in memory at one time."""

DOUBTFUL = 2000
"""Candidates for people to judge that are kept of every block of queries."""


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
            rejects it, "" if none does), taken (bool: a hard negative). All candidates of the first `complete` queries;
            of the others those that were taken, the missed positives and the most doubtful ones.
        complete: number of queries whose candidates are all in `candidates`.
        counts: exact counts over all queries. Index: the rules, "(not needed)" (passed, but enough were taken) and
            "(taken)"; columns: candidates and queries (that have one) among those that the search found, starved
            (candidates of queries without any negative).
        searched: number of candidates of all queries.
        cuts: the values of `queries.cut`, strictest first.
        risks: how the column risk was estimated.
        expected: (share, low, high): the share of the negatives taken that are expected to be unknown positives, and
            its 90 % interval; None where it cannot be estimated.
        rules: the rules that were applied.
    """

    queries: pd.DataFrame
    candidates: pd.DataFrame
    complete: int
    counts: pd.DataFrame
    searched: int
    cuts: tuple[float, ...]
    risks: risk.Assessment
    expected: tuple[float, float, float] | None
    rules: Rules

    @property
    def negatives(self) -> pd.DataFrame:
        """The candidates that were taken as hard negatives."""
        return self.candidates[self.candidates["taken"]]

    @property
    def sample(self) -> pd.DataFrame:
        """All candidates of the first `complete` queries."""
        return self.candidates[self.candidates["query"] < self.complete]


@dataclass(frozen=True)
class Task:
    """What is mined for, whatever the rules.

    Attributes:
        corpus: with the verdicts of people among its labels.
        queries: the columns of `queries_of`, similarities and whitened (see `Mined`).
        space: the vectors.
        pools: what is searched.
    """

    corpus: Corpus
    queries: pd.DataFrame
    space: Space
    pools: list[Pool]


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
        The candidates, each with the first rule that rejects it.

    Raises:
        InputError: if the split has no query with a positive, or FAISS does not know the index.
        TypeError: if `changes` names no rule.

    Example:
        >>> mine(corpus, encoder, reranker, rules, margin=0.1)
    """
    rules = replace(rules, **changes)
    task = prepare(corpus, encoder, search=search, split=split, verdicts=verdicts, sample=sample, seed=rules.seed)
    return apply_rules(task, reranker, rules)


def prepare(
    corpus: Corpus,
    encoder: Encoder,
    *,
    search: Search = Search(),
    split: str = "train",
    verdicts: Mapping[tuple[str, str], str] | None = None,
    sample: int | None = None,
    seed: int,
) -> Task:
    """The queries of a split, the vectors and the indexes, for one or several sets of rules; arguments as for `mine`.

    Raises:
        InputError: if the split has no query with a positive, or FAISS does not know the index.
    """
    queries = queries_of(corpus, split, encoder.prompts)
    if sample is not None and len(queries) > sample:
        order = [draw(seed, "sample", corpus.id[anchor]) for anchor in queries["anchor"]]
        queries = queries.iloc[np.sort(np.argsort(order)[:sample])].reset_index(drop=True)
    if queries.empty:
        raise InputError(
            _("no positives in the {split} split: give more sources to 01_positives, or lower its thresholds").format(
                split=split
            )
        )
    corpus = _with_verdicts(corpus, verdicts or {})
    space = Space.of(corpus, queries, split, encoder)
    _add_similarities(queries, space)
    return Task(corpus, queries, space, pools_of(corpus, queries, space, search, seed=seed))


def apply_rules(task: Task, reranker: Reranker | None, rules: Rules) -> Mined:
    """The candidates of all queries of a task, each with the first rule that rejects it."""
    queries = task.queries.copy()
    cuts = _levels(queries, rules)
    queries["cut"] = cuts[-1]
    task = replace(task, queries=queries)
    vetoing = None if rules.veto_score is None else reranker
    risks = risk.assess(task.corpus, queries, task.space, rules, task.pools)
    veto = None
    kept: list[pd.DataFrame] = []
    counts: list[pd.DataFrame] = []
    bins: dict[str, np.ndarray] = {}
    searched = taken = unlabelled = complete = 0
    for rows in np.array_split(np.arange(len(queries)), -(-len(queries) * risks.depth // CANDIDATES_AT_ONCE)):
        pairs = _candidates(task, risks, rows, reranker, rules, cuts)
        veto = veto or _evaluate_veto(task.corpus, queries, pairs, vetoing, rules)
        pairs = _decide(task, pairs, rows, vetoing, veto, risks.limit, rules)
        searched += len(pairs)
        counts.append(_count(pairs))
        unsure = pairs[pairs["taken"] & pairs["label"].isna()]
        taken, unlabelled = taken + int(pairs["taken"].sum()), unlabelled + len(unsure)
        inputs = risk.features(task.corpus, queries, unsure, task.space)
        for kind, found in risk.in_bins(risks.by_kind, task.corpus.kind[unsure["candidate"]], inputs).items():
            bins[kind] = bins.get(kind, 0) + found
        complete = complete or len(rows)
        kept.append(pairs if not kept else _needed(queries, pairs, rules, cuts[-1]))
    total = sum(counts[1:], counts[0])
    expected = _expected(risks, bins, veto, unlabelled / max(taken, 1))
    candidates = pd.concat(kept, ignore_index=True)
    return Mined(queries, candidates, complete, total, searched, cuts, risks, expected, rules)


def _candidates(
    task: Task,
    risks: risk.Assessment,
    rows: np.ndarray,
    reranker: Reranker | None,
    rules: Rules,
    cuts: tuple[float, ...],
) -> pd.DataFrame:
    """The candidates of some queries, with the rules that come before the veto."""
    corpus, queries = task.corpus, task.queries
    pairs = risk.with_risk(corpus, queries, task.space, rules, task.pools, risks, rows)
    pairs = _with_labels(corpus, queries, task.space, pairs, rows)
    _reject_known(corpus, queries, pairs, rules)
    if reranker is not None and rules.promote_score is not None:
        _find_missed_positives(corpus, queries, pairs, reranker, rules)
    reject(pairs, "rank", pairs["rank"] < rules.rank_min)
    if rules.window_low is not None:
        reject(pairs, "below_window", pairs["similarity"] < rules.window_low)
    if rules.window_high is not None:
        reject(pairs, "above_window", pairs["similarity"] > rules.window_high)
    _choose_cuts(queries, pairs, cuts, rules)
    return pairs


def _decide(
    task: Task,
    pairs: pd.DataFrame,
    rows: np.ndarray,
    vetoing: Reranker | None,
    veto: risk.Veto,
    limit: float | None,
    rules: Rules,
) -> pd.DataFrame:
    """The candidates of some queries with the other rules and the column taken.

    Args:
        limit: of the probability of being a positive: `risk.Assessment.limit`.
    """
    corpus, queries = task.corpus, task.queries
    if vetoing is None:
        unknown = pairs["risk"].isna() & (limit is not None)
        too_near = pairs["whitened"] > queries["cut"].to_numpy()[pairs["query"]]
        reject(pairs, "margin", too_near & (unknown if rules.margin is None else True))
    if limit is not None:
        reject(pairs, "unknown_positive", veto.after(pairs["risk"]) > limit)
    if rules.too_few == "random":
        pairs = with_random(corpus, queries, task.space, pairs, rows, rules)
    take(corpus, queries, pairs, vetoing, rules)
    return pairs


def _needed(queries: pd.DataFrame, pairs: pd.DataFrame, rules: Rules, typical: float) -> pd.DataFrame:
    """The candidates of a later block that are kept: negatives, missed positives, the most doubtful ones."""
    anchor = queries["anchor"].to_numpy()[pairs["query"]]
    doubtful = most_doubtful(pairs.assign(anchor=anchor), rules, typical).index[:DOUBTFUL]
    return pairs[pairs["taken"] | pairs["rule"].eq("missed_positive") | pairs.index.isin(doubtful)]


def _count(pairs: pd.DataFrame) -> pd.DataFrame:
    """`Mined.counts` of the candidates of some queries."""
    names = [*REASONS, "(not needed)", "(taken)"]
    fate = pairs["rule"].where(pairs["rule"].ne(""), np.where(pairs["taken"], "(taken)", "(not needed)"))
    found = pairs["rank"] > 0
    starved = ~pairs["query"].isin(pairs.loc[pairs["taken"], "query"])
    table = pd.DataFrame(
        {
            "candidates": fate[found].value_counts(),
            "queries": pairs["query"][found].groupby(fate[found]).nunique(),
            "starved": fate[starved].value_counts(),
        }
    )
    return table.reindex(names).fillna(0).astype("int64")


def _expected(
    risks: risk.Assessment, bins: Mapping[str, np.ndarray], veto: risk.Veto | None, unlabelled: float
) -> tuple[float, float, float] | None:
    """`Mined.expected`, from the negatives that nobody labelled, by bin, and their share: labels are certain."""
    if len(risks.reasons) == len(risks.by_kind):
        return None
    assert veto is not None  # there is a block
    share = risk.share(risks, bins, veto)
    return None if share is None else (share[0] * unlabelled, share[1] * unlabelled, share[2] * unlabelled)


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
    corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, reranker: Reranker | None, rules: Rules
) -> risk.Veto:
    """Estimate how often the veto lets positives and negatives pass, on known positives and certain negatives."""
    if reranker is None:
        return risk.Veto()
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


def _with_labels(
    corpus: Corpus, queries: pd.DataFrame, space: Space, pairs: pd.DataFrame, rows: np.ndarray
) -> pd.DataFrame:
    """The candidates with the columns label (grade in [0, 1] that people gave, NaN if none), reranker (NaN), rule ("").

    Texts that people called different from the query and that the search did not find are added with rank 0.
    """
    sought = pd.DataFrame({"anchor": queries["anchor"].to_numpy()[rows], "query": rows})
    judged = corpus.labelled[corpus.labelled["anchor"].between(sought["anchor"].min(), sought["anchor"].max())]
    judged = judged[space.row[judged["candidate"]] >= 0]
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


def _levels(queries: pd.DataFrame, rules: Rules) -> tuple[float, ...]:
    """The levels of whitened similarity that the margin may allow, strictest first."""
    levels = np.quantile(np.concatenate(queries["whitened"].to_numpy()), REFERENCES)
    levels = levels * (1 - (FALLBACK_MARGIN if rules.margin is None else rules.margin))
    return tuple(float(level) for level in levels)


def _choose_cuts(queries: pd.DataFrame, pairs: pd.DataFrame, levels: tuple[float, ...], rules: Rules) -> None:
    """Set the column cut: the strictest level of the margin that leaves a query `num_negatives` candidates."""
    passed = pairs[pairs["rule"].eq("")]
    for level in levels[-2::-1]:
        left = passed.loc[passed["whitened"] <= level].groupby("query").size()
        queries.loc[left.index[left >= rules.num_negatives], "cut"] = level


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
