"""Candidates by search, and the rules that reject them.

One search per query serves two ends: what the reranker confirms as a positive is a missed positive, the rest are
candidates for negatives. A candidate must pass every rule; the first that rejects it is recorded.

A margin below the positives is the rule that fails on a drifted model. "At most 95 % of the positive's similarity"
(NV-Retriever, arXiv 2407.15831) reads similarities that bunch: on bank questions the positives of a pretrained encoder
score .78 and the nearest neighbours .93, so it rejects nearly all candidates of nearly all queries. Here similarities
are measured after whitening (arXiv 2103.15316), which takes out what all texts have in common, and a candidate is
compared with the positives of the whole data, not with the query's own and perhaps poor one: with weak ones (the 5th
percentile) where a query has negatives enough below them, with typical ones (the median) where it would starve. On
those bank questions, with half of the known positives hidden, top 5 of 100 candidates: no rule lets in 4.8 % known
positives; the published rule 1.4 %, and it keeps negatives for 8 % of the queries; this one 0.6 %, and for 89 %.

For training, the probability of being an unknown positive (`risk`) takes its place, unless the profile gives a `margin`
or nothing can be estimated. Where a reranker vetoes, its word lowers the probability and the margin rests. Held-out
negatives, which judge, keep the margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bgetune.config.stages import HardNegatives
from bgetune.data.draw import draw
from bgetune.errors import InputError
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.negatives import risk
from bgetune.negatives.candidates import known_positive, same_cluster
from bgetune.negatives.space import SIMILARITY_DIGITS, Space
from bgetune.negatives.world import World, as_lists, queries_of

RULES = {
    "known_positive": "an edge or a label says that it means the same",
    "same_cluster": "it is in the query's cluster",
    "missed_positive": "the reranker confirms it in both directions: promoted to a positive",
    "rank": "outside rank_min to rank_max",
    "below_window": "less similar than window_low: too easy",
    "above_window": "more similar than window_high: too much like a positive",
    "margin": "not a margin below the positives, after whitening",
    "unknown_positive": "more probably an unknown positive than max_false_negatives allows",
    "veto": "the reranker doubts that it is a negative",
}
"""The rules in their order: name -> why they reject."""


REFERENCES = (0.05, 0.25, 0.5)
"""Quantiles of the positives' whitened similarities that the margin is taken from, strictest first."""

FALLBACK_MARGIN = 0.05
"""Margin where a rule is needed and the profile gives none."""

SUSPECTS = 5
"""Nearest candidates of a query that the reranker looks at in search of missed positives."""

ASKED = 200
"""Known positives, and as many sure negatives, that say how far the reranker's veto is to be trusted."""

SURE = 0.05
"""Probability of being a positive below which a candidate counts as a negative when the reranker is measured."""

LEAST_MISSED = 0.05
"""Share of the positives that a reranker is thought to let pass at least: some are known because of its own word."""


@dataclass(frozen=True)
class Mined:
    """What a search and its rules gave.

    Attributes:
        queries: one row a query and its prompts: anchor (number), prompt, text_prompt (of the texts that it is compared
            with), source, positives (lists of numbers),
            similarities and whitened (lists: the positives compared with the query).
        candidates: one row a query and candidate: query (row of `queries`), candidate (number), rank (from 1,
            0 for what the search did not find), similarity, whitened (similarity after whitening), label (people's
            grade, NaN without), risk (probability of being an unknown positive before the reranker was asked, NaN where
            it cannot be estimated), reranker (NaN where it was not asked), rule ("" for those that passed), taken
            (bool).
        cuts: whitened similarities that the margin rule allows, from the strictest; each query has one of them in the
            column cut.
        risks: how the column risk was estimated.
        expected: share of the negatives taken that are expected to be unknown positives, and its 90 % interval; None
            where it cannot be estimated.
    """

    queries: pd.DataFrame
    candidates: pd.DataFrame
    cuts: tuple[float, ...]
    risks: risk.Assessment
    expected: tuple[float, float, float] | None

    @property
    def negatives(self) -> pd.DataFrame:
        """The candidates that were taken."""
        return self.candidates[self.candidates["taken"]]


def mine(
    world: World,
    encoder: Encoder,
    rules: HardNegatives,
    reranker: Reranker | None = None,
    *,
    split: str = "train",
    verdicts: Mapping[tuple[str, str], str] | None = None,
    sample: int | None = None,
) -> Mined:
    """Candidates of every query of a split, each with the first rule that rejects it.

    Args:
        world: the run's tables.
        encoder: the model to be tuned (or, in a second round, the tuned one).
        rules: the parameters of the notebook.
        reranker: None leaves out promotion and veto.
        split: only texts of this split are queries and candidates, so nothing of dev or test is trained on.
        verdicts: (text_id, text_id) in ascending order -> "same" or "different", as people judged in the review file.
        sample: only so many queries (the first by hash), to try something out.

    Raises:
        InputError: if the split has no query with a positive.
    """
    queries = queries_of(world, split, encoder.prompts)
    if sample is not None and len(queries) > sample:
        order = [draw(rules.seed, "sample", world.id[anchor]) for anchor in queries["anchor"]]
        queries = queries.iloc[np.sort(np.argsort(order)[:sample])].reset_index(drop=True)
    if queries.empty:
        raise InputError(
            f"no positives in the {split} split: give more sources to 01_positives, or lower its thresholds"
        )
    vetoes = reranker is not None and rules.veto_score is not None
    world = _judged(world, verdicts or {})
    space = Space.of(world, queries, split, encoder)
    _add_similarities(queries, space)
    risks = risk.assess(world, queries, space, rules)
    pairs = _with_labels(world, queries, space, risk.with_risk(world, queries, space, rules, risks))
    _reject_known(world, queries, pairs, rules)
    if reranker is not None and rules.promote_score is not None:
        _find_missed_positives(world, queries, pairs, reranker, rules)
    similarity = pairs["similarity"]
    _reject(pairs, "rank", pairs["rank"] < rules.rank_min)
    if rules.window_low is not None:
        _reject(pairs, "below_window", similarity < rules.window_low)
    if rules.window_high is not None:
        _reject(pairs, "above_window", similarity > rules.window_high)
    cuts = _cuts(queries, pairs, rules)
    witness = _witness(world, queries, pairs, reranker, rules) if vetoes else risk.Witness()
    if not vetoes:
        unknown = pairs["risk"].isna() & (rules.max_false_negatives is not None)
        _reject(
            pairs,
            "margin",
            (pairs["whitened"] > queries["cut"].to_numpy()[pairs["query"]])
            & (unknown if rules.margin is None else True),
        )
    if rules.max_false_negatives is not None:
        _reject(pairs, "unknown_positive", witness.after(pairs["risk"]) > rules.max_false_negatives)
    if rules.too_few == "random":
        pairs = _with_random(world, queries, space, pairs, rules)
    _take(world, queries, pairs, reranker, rules)
    return Mined(queries, pairs, cuts, risks, risk.expected(world, queries, space, pairs, risks, witness))


def for_judging(rules: HardNegatives) -> HardNegatives:
    """The rules for negatives that judge a model: right more than hard, and not chosen by the scores that are judged.

    A margin, `FALLBACK_MARGIN` where the rules have none, instead of the probability: dev and test hold too few
    positives to estimate one.
    """
    free = {"window_low": None, "window_high": None, "sampling": "top", "too_few": "fewer", "rank_min": 1}
    margin = FALLBACK_MARGIN if rules.margin is None else rules.margin
    return rules.model_copy(update=free | {"margin": margin, "max_false_negatives": None})


def _judged(world: World, verdicts: Mapping[tuple[str, str], str]) -> World:
    """The world with people's verdicts among its labels."""
    grades = {
        pair: float(verdict == "same")
        for (a, b), verdict in verdicts.items()
        if (numbers := world.numbers(a, b))
        for pair in (numbers, numbers[::-1])
    }
    return replace(world, labels=world.labels | grades)


def _witness(
    world: World, queries: pd.DataFrame, pairs: pd.DataFrame, reranker: Reranker, rules: HardNegatives
) -> risk.Witness:
    """How often the reranker lets positives and negatives pass, from candidates that are known or all but known."""
    shares = []
    known = pairs["rule"].isin(["known_positive", "same_cluster"]) & pairs["rank"].gt(0)
    for rows in (pairs[known], pairs[~known & (pairs["risk"] <= SURE)]):
        nearest = rows.sort_values(["rank", "query"]).groupby("query").head(1)
        asked = nearest.sample(min(len(nearest), ASKED), random_state=rules.seed)
        passed = int((ask(world, queries, asked, reranker) < rules.veto_score).sum()) if len(asked) else 0
        shares.append((passed + 0.5) / (len(asked) + 1))
    return risk.Witness(max(shares[0], LEAST_MISSED), shares[1])


def _add_similarities(queries: pd.DataFrame, space: Space) -> None:
    """Add the columns similarities and whitened: each query's positives compared with it."""
    count = queries["positives"].str.len().to_numpy()
    row = np.repeat(np.arange(len(queries)), count)
    positive = np.concatenate(queries["positives"].to_numpy()).astype(np.int64)
    for name, whitened in (("similarities", False), ("whitened", True)):
        queries[name] = as_lists(space.similarity(row, positive, whitened), count)


def _with_labels(world: World, queries: pd.DataFrame, space: Space, pairs: pd.DataFrame) -> pd.DataFrame:
    """The candidates with a column `label` (grade in [0, 1], NaN where nobody judged) and, of rank 0, the texts that
    people called different from the query and that the search did not find."""
    rows = [(a, b, grade) for (a, b), grade in world.labels.items() if space.row[b] >= 0]
    judged = pd.DataFrame(rows, columns=["anchor", "candidate", "label"]).astype({"label": np.float64})
    sought = pd.DataFrame({"anchor": queries["anchor"].to_numpy(), "query": np.arange(len(queries))})
    judged = sought.merge(judged, on="anchor").sort_values(["query", "candidate"], ignore_index=True)
    key = world.pair_key(judged["query"], judged["candidate"])
    found = pd.Index(key).get_indexer(world.pair_key(pairs["query"], pairs["candidate"]))
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


def _cuts(queries: pd.DataFrame, pairs: pd.DataFrame, rules: HardNegatives) -> tuple[float, ...]:
    """Add the column cut: the strictest level of the margin that leaves a query `num_negatives` candidates."""
    levels = np.quantile(np.concatenate(queries["whitened"].to_numpy()), REFERENCES)
    levels = levels * (1 - (FALLBACK_MARGIN if rules.margin is None else rules.margin))
    passed = pairs[pairs["rule"].eq("")]
    queries["cut"] = levels[-1]
    for level in levels[-2::-1]:
        left = passed.loc[passed["whitened"] <= level].groupby("query").size()
        queries.loc[left.index[left >= rules.num_negatives], "cut"] = level
    return tuple(float(level) for level in levels)


def _reject(pairs: pd.DataFrame, rule: str, where: pd.Series) -> None:
    """Record a rule for the candidates that no earlier rule and no person decided on."""
    pairs.loc[where & pairs["rule"].eq("") & pairs["label"].isna(), "rule"] = rule


def _reject_known(world: World, queries: pd.DataFrame, pairs: pd.DataFrame, rules: HardNegatives) -> None:
    pairs.loc[known_positive(world, queries, pairs), "rule"] = "known_positive"
    if rules.cluster_rule:
        pairs.loc[same_cluster(world, queries, pairs) & pairs["rule"].eq(""), "rule"] = "same_cluster"


def _find_missed_positives(
    world: World, queries: pd.DataFrame, pairs: pd.DataFrame, reranker: Reranker, rules: HardNegatives
) -> None:
    """Ask the reranker about the nearest candidates of every query; a yes is asked again the other way round."""
    open_ = pairs[pairs["rule"].eq("") & pairs["label"].isna()]
    suspects = open_.index[open_.groupby("query").cumcount() < SUSPECTS]
    pairs.loc[suspects, "reranker"] = ask(world, queries, pairs.loc[suspects], reranker)
    yes = suspects[pairs.loc[suspects, "reranker"] >= rules.promote_score]
    back = ask(world, queries, pairs.loc[yes], reranker, backwards=True)
    both = yes[back >= rules.promote_score]
    pairs.loc[both, "reranker"] = np.minimum(pairs.loc[both, "reranker"], back[back >= rules.promote_score])
    pairs.loc[both, "rule"] = "missed_positive"


def _take(
    world: World, queries: pd.DataFrame, pairs: pd.DataFrame, reranker: Reranker | None, rules: HardNegatives
) -> None:
    """Mark the negatives; the reranker is asked only about candidates that would be taken."""
    order = _preference(world, queries, pairs, rules)
    while True:
        if reranker is not None and rules.veto_score is not None:
            _reject(pairs, "veto", pairs["reranker"] >= rules.veto_score)
        queue = pairs.loc[order]
        queue = queue[queue["rule"].eq("")]
        turn = queue.groupby("query").cumcount()
        chosen = queue[turn < rules.num_negatives]
        if reranker is None or rules.veto_score is None:
            break
        if not (chosen["reranker"].isna() & chosen["label"].isna()).any():
            break
        unknown = queue[(turn < rules.num_negatives + 2) & queue["reranker"].isna() & queue["label"].isna()]
        pairs.loc[unknown.index, "reranker"] = ask(world, queries, unknown, reranker)
    pairs["taken"] = False
    pairs.loc[chosen.index, "taken"] = True


def _preference(world: World, queries: pd.DataFrame, pairs: pd.DataFrame, rules: HardNegatives) -> pd.Index:
    """Candidates that passed so far in the order in which they are taken: people's labels first, fillers last."""
    queue = pairs[pairs["rule"].eq("")].copy()
    queue["first"] = np.where(queue["label"].notna(), 0, np.where(queue["rank"] == 0, 2, 1))
    if rules.sampling == "top":
        queue["turn"] = queue["rank"]
    else:
        anchor = world.id[queries["anchor"].to_numpy()[queue["query"]]]
        turns = [draw(rules.seed, q, c) for q, c in zip(anchor, world.id[queue["candidate"]], strict=True)]
        queue["turn"] = turns
    if rules.sampling == "band":
        place = queue.groupby("query").cumcount() / queue.groupby("query")["rank"].transform("size")
        queue["band"] = (place * rules.num_negatives).astype(int)
        queue["turn"] = queue.groupby(["query", "band"])["turn"].rank(method="first")
        return queue.sort_values(["query", "first", "turn", "band", "rank"]).index
    return queue.sort_values(["query", "first", "turn", "rank", "candidate"]).index


def _with_random(
    world: World, queries: pd.DataFrame, space: Space, pairs: pd.DataFrame, rules: HardNegatives
) -> pd.DataFrame:
    """Random texts of other clusters, of rank 0, for the queries whose candidates cannot fill `num_negatives`."""
    passed = pairs[pairs["rule"].eq("")].groupby("query").size().reindex(range(len(queries)), fill_value=0)
    # a small corpus is searched whole: what was only too easy may come back as a random text
    seen = pairs[pairs["rule"].ne("below_window")].groupby("query")["candidate"].agg(set)
    by_kind = {kind: np.flatnonzero((space.row >= 0) & (world.kind == kind)) for kind in ("document", "query")}
    rows = []
    for query in np.flatnonzero(passed < rules.num_negatives):
        anchor = queries["anchor"][query]
        pool = np.concatenate([by_kind[kind] for kind in queries["kinds"][query]])
        drawn = np.random.default_rng([rules.seed, int(world.id[anchor], 16)]).permutation(pool)
        own = seen.get(query, set()) | {anchor, *queries["positives"][query]}
        others = [text for text in drawn[:1000] if text not in own and world.cluster[text] != world.cluster[anchor]]
        rows += [(query, text) for text in others[: 2 * rules.num_negatives]]
    if not rows:
        return pairs
    query, candidate = np.array(rows).T
    filler = pd.DataFrame({"query": query, "candidate": candidate, "similarity": space.similarity(query, candidate)})
    filler["whitened"], filler["risk"] = space.similarity(query, candidate, whitened=True), np.nan
    return pd.concat([pairs, filler.assign(rank=0, label=np.nan, reranker=np.nan, rule="")], ignore_index=True)


def ask(
    world: World, queries: pd.DataFrame, pairs: pd.DataFrame, reranker: Reranker, backwards: bool = False
) -> np.ndarray:
    """Reranker scores of candidates: (n,) rounded like similarities."""
    query = world.text[queries["anchor"].to_numpy()[pairs["query"]]]
    candidate = world.text[pairs["candidate"]]
    pairs_of_text = zip(candidate, query, strict=True) if backwards else zip(query, candidate, strict=True)
    return reranker.score(list(pairs_of_text)).astype(np.float64).round(SIMILARITY_DIGITS)
