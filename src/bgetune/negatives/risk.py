"""How likely a candidate is an unknown positive: positive-unlabelled learning from the positives that are known.

Among the neighbours of a query, some are known to mean the same and the rest are unlabelled: positives that nobody
joined, and true negatives. Suppose a share c of the positives is known, whatever their similarity. If r(x) is the share
of known positives among all neighbours with features x, then c = r(x) wherever every neighbour is a positive, and
(Elkan and Noto 2008, doi 10.1145/1401890.1401920)::

    P(positive | x, unlabelled) = (1 - c) / c * r(x) / (1 - r(x))

The features of a query and a candidate are put into one number, the index, by logistic regression of "known":

- similarity to the query after whitening;
- logarithm of the rank, since a similarity means less where the texts lie close together;
- support: mean similarity to the query and to its known positives. A candidate that is itself known is not compared
  with itself, and for any other one of the positives is left out, too, so that known and unlabelled are treated alike.

r is isotonic in the index. c is taken from the candidates of the highest index, where nearly all are positives. Where
the encoder is so poor that even its nearest neighbours are mixed, c comes out too low and P too high: the estimate errs
on the side of fewer negatives. All is averaged over bootstrap samples of the clusters, which also give the intervals.

Measured with the known intents of CLINC150, half and a fifth of the texts of an intent known (all-MiniLM-L6-v2): the
five nearest are positives in 91 % and 94 % (expected 94 % and 96 %), the negatives that are taken in 2.9 % and 3.6 %
(2.1 % and 2.5 %), at a mean similarity of .45 and .44; FlagEmbedding's miner takes 39 % at .43. By similarity alone,
P <= 0.05 would hold for all such candidates together (4.6 %), but of the nearest five of them 39 % would be positives:
choosing the nearest chooses where the similarity misjudges. Pairs with P >= 0.8 were positives in 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bgetune.config.stages import HardNegatives
from bgetune.negatives.candidates import find_candidates, known_positive, same_cluster
from bgetune.negatives.space import Space
from bgetune.negatives.world import World

LEAST_KNOWN = 60
"""Known positives among the candidates without which nothing is estimated."""

LEAST_CLUSTERS = 5
"""Clusters of the queries without which nothing is estimated: c differs from cluster to cluster."""

LEAST_CONTRAST = 2.0
"""How much more often the candidates of the highest index must be known positives than the average one."""

TOP_SHARES = (0.05, 0.1, 0.2, 0.4)
"""Shares of the known positives that the candidates hold from which c is read: few and pure, or many and certain."""

MEMBERS = 10
"""Known positives of a query that a candidate is compared with, at most."""

SAMPLED_QUERIES = 1000
"""Queries from whose candidates the risk is learnt."""

SERVED = 0.9
"""Share of the queries that must have safe negatives before the search goes no deeper."""

DEEPEST = 1600
"""Texts of a query that are searched for safe negatives, at most (and at most half of all)."""

CANDIDATES_AT_ONCE = 2_000_000

SPARE = 4
"""Safe candidates beyond `rank_max` that are kept, as a multiple of the negatives wanted: a reranker may veto some."""

BINS = 200
SAMPLES = 100


@dataclass(frozen=True)
class Risk:
    """The probability of being an unknown positive as a function of the features.

    Attributes:
        centre, scale, weights: (3,) standardise the features and add them up to the index.
        edges: (bins - 1,) of the index, ascending.
        curves: (samples, bins) P(positive | unlabelled) in each bin, one row a bootstrap sample of the
            clusters.
        known_share: c, the share of the positives that is known.
        interval: 90 % interval of c.
    """

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    edges: np.ndarray
    curves: np.ndarray
    known_share: float
    interval: tuple[float, float]

    def bin(self, features: np.ndarray) -> np.ndarray:
        """The bin of each row of features (n, 3): (n,) int64."""
        return np.searchsorted(self.edges, (features - self.centre) / self.scale @ self.weights, side="right")

    def probability(self, features: np.ndarray) -> np.ndarray:
        """P(positive | unlabelled) of each row of features (n, 3): (n,) float64."""
        return self.curves.mean(axis=0)[self.bin(features)]


def fit(features: np.ndarray, known: np.ndarray, cluster: np.ndarray, seed: int = 0) -> Risk | str:
    """Fit to the candidates of a sample of queries.

    Args:
        features: (n, 3) as `features` returns them.
        known: (n,) bool: known positives.
        cluster: (n,) number of the query's cluster; whole clusters are drawn for the bootstrap.
        seed: of the bootstrap.

    Returns:
        The risk, or a sentence that says why it cannot be estimated.
    """
    from sklearn.linear_model import LogisticRegression

    if known.sum() < LEAST_KNOWN:
        return f"{known.sum():,} known positives among the nearest texts of the queries; {LEAST_KNOWN} are needed"
    if known.all():
        return "all near texts are known positives: there is nothing to choose from"
    numbers = np.unique(cluster, return_inverse=True)[1]
    units = numbers.max() + 1
    if units < LEAST_CLUSTERS:
        return f"all known positives are in {units} clusters; {LEAST_CLUSTERS} are needed"
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    rows = (features - centre) / scale
    weights = LogisticRegression(C=10.0).fit(rows, known).coef_[0]
    index = rows @ weights
    lots = np.random.default_rng(seed)
    drawn = lots.multinomial(units, np.full(units, 1 / units), size=SAMPLES)
    drawn[0] = 1  # the first sample is the data as it is
    tops = [_top(values, known, numbers, drawn, share) for values in (index, *rows.T[[0, 2]]) for share in TOP_SHARES]
    c = max(tops, key=lambda shares: np.quantile(shares, 0.05))  # not the largest, which would be so by chance
    if c[0] < LEAST_CONTRAST * known.mean():
        return (
            f"similarity hardly tells the known positives apart: {c[0]:.1%} of the most similar candidates are known, "
            f"of all {known.mean():.1%}"
        )
    edges = np.unique(
        np.concatenate([np.quantile(values, np.linspace(0, 1, BINS)[1:-1]) for values in (index, index[known])])
    )
    bins = np.searchsorted(edges, index, side="right")
    total, positive = (_by_bin(bins[rows_], numbers[rows_], drawn, len(edges) + 1) for rows_ in (slice(None), known))
    positive[:, 0] += 1  # nothing is certain, however low the index
    total[:, 0] += 1
    share = np.array([_isotonic(p, t) for p, t in zip(positive, total, strict=True)])
    share = np.minimum(share, c[:, None])  # r cannot exceed c: what does is noise
    curves = (1 - c[:, None]) / c[:, None] * share / (1 - share).clip(min=1e-9)
    low, high = np.quantile(c, [0.05, 0.95])
    return Risk(centre, scale, weights, edges, curves.clip(0, 1), float(c[0]), (float(low), float(high)))


def _top(values: np.ndarray, known: np.ndarray, unit: np.ndarray, drawn: np.ndarray, share: float) -> np.ndarray:
    """The share of known positives among the candidates of the highest values, in each sample: (samples,).

    So many candidates that they hold this share of the known positives, `LEAST_KNOWN` at least.
    """
    wanted = max(LEAST_KNOWN, share * known.sum())
    order = np.argsort(-values, kind="stable")
    top = order[: int(np.searchsorted(np.cumsum(known[order]), wanted)) + 1]
    total, positive = (np.bincount(unit[rows], minlength=drawn.shape[1]) for rows in (top, top[known[top]]))
    return (drawn @ positive / (drawn @ total).clip(min=1)).clip(1e-6, 1 - 1e-6)


def _by_bin(bins: np.ndarray, unit: np.ndarray, drawn: np.ndarray, size: int) -> np.ndarray:
    """How many candidates fall into each bin in each sample: (samples, bins)."""
    from scipy.sparse import coo_matrix

    counts = coo_matrix((np.ones(len(bins)), (unit, bins)), shape=(drawn.shape[1], size)).tocsr()
    return np.asarray((counts.T @ drawn.T).T)


def _isotonic(positive: np.ndarray, total: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import isotonic_regression

    return isotonic_regression(positive / total.clip(min=1e-9), sample_weight=total.clip(min=1e-9), y_min=0, y_max=1)


@dataclass(frozen=True)
class Witness:
    """A second opinion on candidates, such as a reranker's veto.

    Attributes:
        positives, negatives: the share of positives and of negatives that it lets pass. Both 1: it says nothing.
    """

    positives: float = 1.0
    negatives: float = 1.0

    def after(self, probability: np.ndarray) -> np.ndarray:
        """The probability of being a positive of those that passed (Bayes)."""
        positive, negative = probability * self.positives, (1 - probability) * self.negatives
        return positive / (positive + negative)


@dataclass(frozen=True)
class Assessment:
    """The risks of the candidates of a split.

    Attributes:
        by_kind: kind of the candidate (query, document) -> its risk, or the reason why it cannot be estimated.
        depth: how deep the search must go for safe negatives.
        nearest: expected share of unknown positives among the nearest candidates that nothing is known of (as many as
            negatives are wanted), with its interval; None where it cannot be estimated.
    """

    by_kind: dict[str, Risk | str]
    depth: int
    nearest: tuple[float, float, float] | None = None

    @property
    def reasons(self) -> dict[str, str]:
        """Kind -> why its risk cannot be estimated."""
        return {kind: risk for kind, risk in self.by_kind.items() if isinstance(risk, str)}


def assess(world: World, queries: pd.DataFrame, space: Space, rules: HardNegatives) -> Assessment:
    """Estimate the risk from a sample of the queries, searching deeper until most of them have safe negatives.

    Args:
        rules: rank_max, num_negatives, max_false_negatives, cluster_rule and what `find_candidates` reads.
    """
    rows = np.sort(np.random.default_rng(rules.seed).permutation(len(queries))[:SAMPLED_QUERIES])
    limit, depth = rules.max_false_negatives, rules.rank_max
    deepest = max(min(DEEPEST, int((space.row >= 0).sum()) // 2), depth)
    while True:
        pairs = find_candidates(world, queries, space, rules, depth, rows)
        known = known_positive(world, queries, pairs)
        if rules.cluster_rule:
            known |= same_cluster(world, queries, pairs)
        judged = _different(world, queries, pairs)
        inputs = features(world, queries, pairs, space)
        kinds = world.kind[pairs["candidate"]]
        clusters = world.cluster[queries["anchor"].to_numpy()[pairs["query"]]]
        found = {
            kind: fit(inputs[chosen], known[chosen], clusters[chosen], rules.seed)
            for kind in sorted(set(kinds))
            if (chosen := (kinds == kind) & ~judged).any()
        }
        pairs["risk"] = _probability(found, kinds, inputs)
        open_ = ~known & ~judged
        enough = pairs[open_ & ~(pairs["risk"] > (limit or 1))].groupby("query").size() >= rules.num_negatives
        served = enough.sum() >= SERVED * len(rows) and not any(isinstance(risk, str) for risk in found.values())
        if limit is None or served or known.sum() < LEAST_KNOWN or depth >= deepest:
            break
        depth = min(2 * depth, deepest)
    nearest = np.flatnonzero(open_)[pairs[open_].groupby("query").cumcount() < rules.num_negatives]
    return Assessment(found, depth, _share(found, kinds[nearest], inputs[nearest], Witness()))


def with_risk(
    world: World, queries: pd.DataFrame, space: Space, rules: HardNegatives, risks: Assessment
) -> pd.DataFrame:
    """The candidates of all queries with a column `risk`: P(positive | unlabelled), NaN where it cannot be estimated.

    Of what lies deeper than `rank_max`, only the nearest safe candidates are kept.
    """
    parts = []
    for rows in np.array_split(np.arange(len(queries)), -(-len(queries) * risks.depth // CANDIDATES_AT_ONCE)):
        pairs = find_candidates(world, queries, space, rules, risks.depth, rows)
        inputs = features(world, queries, pairs, space)
        pairs["risk"] = _probability(risks.by_kind, world.kind[pairs["candidate"]], inputs)
        if risks.depth > rules.rank_max:
            deep = pairs["rank"].gt(rules.rank_max)
            safe = pairs[deep & pairs["risk"].le(rules.max_false_negatives)]
            safe = safe[~known_positive(world, queries, safe) & ~same_cluster(world, queries, safe)]
            safe = safe[safe.groupby("query").cumcount() < SPARE * rules.num_negatives]
            pairs = pd.concat([pairs[~deep], safe]).sort_values(["query", "rank"])
        parts.append(pairs)
    return pd.concat(parts, ignore_index=True)


def expected(
    world: World, queries: pd.DataFrame, space: Space, pairs: pd.DataFrame, risks: Assessment, witness: Witness
) -> tuple[float, float, float] | None:
    """Share of the negatives taken that are expected to be unknown positives, with its 90 % interval.

    None where it cannot be estimated. People's labels count as certain.
    """
    if len(risks.reasons) == len(risks.by_kind):
        return None
    taken = pairs[pairs["taken"] & pairs["label"].isna()]
    inputs = features(world, queries, taken, space)
    share = _share(risks.by_kind, world.kind[taken["candidate"]], inputs, witness)
    if share is None:
        return None
    certain = len(taken) / max(int(pairs["taken"].sum()), 1)
    return tuple(value * certain for value in share)


def _different(world: World, queries: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Which candidates a person called different from their query: (n,) bool."""
    different = np.array([pair for pair, grade in world.labels.items() if grade == 0], dtype=np.int64).reshape(-1, 2)
    anchor = queries["anchor"].to_numpy()[pairs["query"]]
    return pd.Index(world.pair_key(anchor, pairs["candidate"])).isin(world.pair_key(*different.T))


def _probability(by_kind: dict[str, Risk | str], kinds: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    probability = np.full(len(kinds), np.nan)
    for kind, risk in by_kind.items():
        if isinstance(risk, Risk):
            probability[kinds == kind] = risk.probability(inputs[kinds == kind])
    return probability


def _share(
    by_kind: dict[str, Risk | str], kinds: np.ndarray, inputs: np.ndarray, witness: Witness
) -> tuple[float, float, float] | None:
    """Mean of the probabilities of candidates and its 90 % interval; None where a kind cannot be estimated."""
    sums = np.zeros(SAMPLES)
    for kind in set(kinds):
        if not isinstance(by_kind.get(kind), Risk):
            return None
        risk, rows = by_kind[kind], inputs[kinds == kind]
        sums += witness.after(risk.curves) @ np.bincount(risk.bin(rows), minlength=risk.curves.shape[1])
    low, high = np.quantile(sums, [0.05, 0.95]) / max(len(kinds), 1)
    return float(sums.mean() / max(len(kinds), 1)), float(low), float(high)


def features(world: World, queries: pd.DataFrame, pairs: pd.DataFrame, space: Space) -> np.ndarray:
    """What the probability is read from: whitened similarity, log of the rank, support.

    Args:
        queries: as `world.queries_of` returns them.
        pairs: columns query, candidate, rank, whitened; rank 0 (not found by the search) counts as behind the last.

    Returns:
        (n, 3) float64.
    """
    rank = pairs["rank"].to_numpy()
    rank = np.where(rank > 0, rank, rank.max(initial=0) + 1)
    return np.column_stack([pairs["whitened"], np.log(rank), _support(world, queries, pairs, space)])


def _support(world: World, queries: pd.DataFrame, pairs: pd.DataFrame, space: Space) -> np.ndarray:
    """Mean whitened similarity of candidates to the query and to its known positives but one: (n,)."""
    members = _members(world, queries, space)
    count = np.array([len(row) for row in members])
    start = np.concatenate([[0], np.cumsum(count)])
    flat = np.concatenate([*members, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    texts = space.whitened_texts
    sums = np.zeros((len(queries), texts.shape[1]), dtype=np.float32)
    owner = np.repeat(np.arange(len(queries)), count)
    np.add.at(sums, owner, texts[space.start[owner] + space.row[flat]])
    query, candidate = pairs["query"].to_numpy(), pairs["candidate"].to_numpy()
    found = pd.Index(world.pair_key(owner, flat)).get_indexer(world.pair_key(query, candidate))
    left_out = np.where(found >= 0, found, start[query] + candidate % count[query].clip(min=1))
    support = pairs["whitened"].to_numpy(dtype=np.float64).copy()
    asked = np.flatnonzero(count[query] > 1)
    for part in np.array_split(asked, len(asked) // 1024 + 1):
        start_of = space.start[query[part]]
        others = sums[query[part]] - texts[start_of + space.row[flat[left_out[part]]]]
        total = np.einsum("pd,pd->p", others, texts[start_of + space.row[candidate[part]]])
        support[part] = (support[part] + total) / count[query[part]]
    return support


def _members(world: World, queries: pd.DataFrame, space: Space) -> list[np.ndarray]:
    """The known positives of each query in its split, at most `MEMBERS`: its own ones, then those of its cluster."""
    by_cluster = pd.Series(np.flatnonzero(space.row >= 0)).groupby(world.cluster[space.row >= 0]).agg(list)
    members = []
    for anchor, positives in queries[["anchor", "positives"]].itertuples(index=False):
        known = dict.fromkeys([*positives[:MEMBERS], *by_cluster[world.cluster[anchor]][: 2 * MEMBERS]])
        known.pop(anchor, None)
        members.append(np.array(list(known)[:MEMBERS], dtype=np.int64))
    return members
