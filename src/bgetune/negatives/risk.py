"""How likely a candidate is an unknown positive: positive-unlabelled learning from the positives that are known.

Among the neighbours of a query, some are known positives and the rest are unlabelled: unknown positives and true
negatives. Suppose a share c of the positives is known, whatever their similarity. If r(x) is the share
of known positives among all neighbours with features x, then c = r(x) wherever every neighbour is a positive, and
(Elkan and Noto 2008, doi 10.1145/1401890.1401920)::

    P(positive | x, unlabelled) = (1 - c) / c * r(x) / (1 - r(x))

The features of a query and a candidate are put into one number, the index, by logistic regression of "known":

- similarity to the query after whitening;
- logarithm of the rank, since a similarity means less where the texts lie close together;
- support: mean similarity to the query and to its known positives. A known candidate is not compared with itself; for
  every other candidate one of the positives is left out as well, so that known and unlabelled ones are treated alike.

r is fitted as an isotonic function of the index. c is estimated on the candidates of the highest index, where nearly
all are positives. If the encoder is so poor that even its nearest neighbours are mixed, c is too low and P too high:
the error is on the side of fewer negatives. All values are means over bootstrap samples of the clusters, which also
give the intervals.

The limit on P is chosen so that the share of positives among the negatives that are taken stays within
`max_false_negatives`. Their mean P is too low for that, because the nearest candidates within a limit are those whose
features mislead: among 20 intents of CLINC150, half of the texts known (all-MiniLM-L6-v2), it was 1.8 % where 6.1 %
were positives. The known positives within the limit show it (`_positives`): 5.1 % expected. Target .05 with 20, 60 and
150 intents and in the demo world with 30 texts a meaning: expected 5.1, 4.6, 4.4 and 4.8 %, true 6.1, 4.3, 5.5 and 3.4
%. FlagEmbedding's miner takes 27 % with 60 intents and 11 % in the demo world, at lower similarity; the relative margin
of sentence-transformers 66 % and 9 %, for 45 % and 20 % of the queries (`tests/benchmarks/bench_separation.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from bgetune.negatives.candidates import Pool, called_different, find_candidates, known_positive, same_cluster
from bgetune.negatives.corpus import Corpus
from bgetune.negatives.rules import Rules
from bgetune.negatives.space import Space

LEAST_KNOWN = 60
"""Minimum number of known positives among the candidates for an estimate."""

LEAST_CLUSTERS = 5
"""Minimum number of clusters of the queries for an estimate: c differs from cluster to cluster."""

LEAST_CONTRAST = 2.0
"""Minimum ratio of the share of known positives among the candidates of the highest index to that among all."""

TOP_SHARES = (0.05, 0.1, 0.2, 0.4)
"""Shares of the known positives that the candidates of the highest index hold: c is the best of these estimates."""

MEMBERS = 10
"""Maximum number of known positives of a query that a candidate is compared with."""

SAMPLED_QUERIES = 1000
"""Number of queries on whose candidates the risk is estimated."""

SERVED = 0.9
"""Share of the queries with enough safe negatives at which the search stops going deeper."""

DEEPEST = 1600
"""Maximum depth of the search for safe negatives (and at most half of all texts)."""

MULTIPLES = (5, 4, 3, 2.5, 2, 1.75, 1.5, 1.25, 1, 0.7, 0.5, 0.25)
"""Limits of the probability of a single negative that are tried, as multiples of `max_false_negatives`."""

LARGEST_LIMIT = 0.5
"""Largest such limit: what is more likely a positive than not never becomes a negative."""

SPARE = 4
"""Safe candidates beyond `rank_max` that are kept, as a multiple of `num_negatives`: a reranker may veto some."""

BINS = 200
"""Quantiles of the index, and of that of known positives, at which r may step."""

SAMPLES = 100
"""Number of bootstrap samples of the clusters."""


@dataclass(frozen=True)
class Risk:
    """The probability of being an unknown positive as a function of the features.

    Attributes:
        centre, scale, weights: (3,) float64: index = (features - centre) / scale @ weights.
        edges: (bins - 1,) float64: bounds of the bins of the index, ascending.
        curves: (samples, bins) float64: P(positive | unlabelled) in each bin, one row for each bootstrap sample.
        known_shares: (samples,) float64: c, the share of the positives that is known; first of the data as they are.
        clusters: (units,) int64: the clusters that the bootstrap draws, ascending.
        drawn: (samples, units) int64: how often each of them is in each sample.
    """

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    edges: np.ndarray
    curves: np.ndarray
    known_shares: np.ndarray
    clusters: np.ndarray
    drawn: np.ndarray

    @property
    def known_share(self) -> float:
        """c, the share of the positives that is known."""
        return float(self.known_shares[0])

    @property
    def interval(self) -> tuple[float, float]:
        """90 % interval of c."""
        low, high = np.quantile(self.known_shares, [0.05, 0.95])
        return float(low), float(high)

    def unknown(self, known: np.ndarray, cluster: np.ndarray) -> np.ndarray:
        """Expected number of unknown positives among candidates that were chosen without a look at who is known.

        Of k known positives among them, the positives in all are k / c. Half a positive is added, so that none found
        does not mean none there.

        Args:
            known: (n,) bool.
            cluster: (n,) int: cluster of the query.

        Returns:
            (samples,) float64, at most the number of unlabelled candidates.
        """
        unit = np.searchsorted(self.clusters, cluster)
        found, unlabelled = (
            self.drawn @ np.bincount(unit[rows], minlength=len(self.clusters)) for rows in (known, ~known)
        )
        return np.minimum((1 - self.known_shares) / self.known_shares * (found + 0.5), unlabelled)

    def bin(self, features: np.ndarray) -> np.ndarray:
        """The bin of each row of features (n, 3): (n,) int64."""
        return np.searchsorted(self.edges, (features - self.centre) / self.scale @ self.weights, side="right")


def fit(features: np.ndarray, known: np.ndarray, cluster: np.ndarray, seed: int = 0) -> Risk | str:
    """Fit to the candidates of a sample of queries.

    Args:
        features: (n, 3) float64 as `features` returns them.
        known: (n,) bool: known positives.
        cluster: (n,) int: cluster of the query; the bootstrap draws whole clusters.
        seed: of the bootstrap.

    Returns:
        The risk, or the reason why it cannot be estimated.
    """
    from sklearn.linear_model import LogisticRegression

    if known.sum() < LEAST_KNOWN:
        return f"{known.sum():,} known positives among the nearest texts of the queries; {LEAST_KNOWN} are needed"
    if known.all():
        return "all near texts are known positives: there is nothing to choose from"
    clusters, numbers = np.unique(cluster, return_inverse=True)
    units = len(clusters)
    if units < LEAST_CLUSTERS:
        return f"all known positives are in {units} clusters; {LEAST_CLUSTERS} are needed"
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    rows = (features - centre) / scale
    weights = LogisticRegression(C=10.0).fit(rows, known).coef_[0]
    index = rows @ weights
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=SAMPLES)
    drawn[0] = 1  # the first sample is the data as it is
    tops = [_top(values, known, numbers, drawn, share) for values in (index, *rows.T[[0, 2]]) for share in TOP_SHARES]
    c = max(tops, key=lambda shares: np.quantile(shares, 0.05))  # by a low quantile: the largest would be so by chance
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
    positive[:, 0] += 1  # no probability is 0, however low the index
    total[:, 0] += 1
    share = np.array([_isotonic(p, t) for p, t in zip(positive, total, strict=True)])
    share = np.minimum(share, c[:, None])  # r cannot exceed c: what does is noise
    curves = (1 - c[:, None]) / c[:, None] * share / (1 - share).clip(min=1e-9)
    return Risk(centre, scale, weights, edges, curves.clip(0, 1), c, clusters, drawn)


def _top(values: np.ndarray, known: np.ndarray, unit: np.ndarray, drawn: np.ndarray, share: float) -> np.ndarray:
    """The share of known positives among the candidates of the highest values, in each sample: (samples,) float64.

    These are as many candidates as hold the given share of the known positives, and at least `LEAST_KNOWN` of them.
    """
    wanted = max(LEAST_KNOWN, share * known.sum())
    order = np.argsort(-values, kind="stable")
    top = order[: int(np.searchsorted(np.cumsum(known[order]), wanted)) + 1]
    total, positive = (np.bincount(unit[rows], minlength=drawn.shape[1]) for rows in (top, top[known[top]]))
    return (drawn @ positive / (drawn @ total).clip(min=1)).clip(1e-6, 1 - 1e-6)


def _by_bin(bins: np.ndarray, unit: np.ndarray, drawn: np.ndarray, size: int) -> np.ndarray:
    """Number of candidates in each bin in each sample: (samples, bins) float64."""
    from scipy.sparse import coo_matrix

    counts = coo_matrix((np.ones(len(bins)), (unit, bins)), shape=(drawn.shape[1], size)).tocsr()
    return np.asarray((counts.T @ drawn.T).T)


def _isotonic(positive: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Isotonic regression of the share positive / total of each bin, weighted by total: (bins,) float64."""
    from sklearn.isotonic import isotonic_regression

    return isotonic_regression(positive / total.clip(min=1e-9), sample_weight=total.clip(min=1e-9), y_min=0, y_max=1)


@dataclass(frozen=True)
class Veto:
    """What a reranker's veto lets pass.

    Attributes:
        positives, negatives: share of the positives and of the negatives that pass. Both 1: there is no veto.
    """

    positives: float = 1.0
    negatives: float = 1.0

    def after(self, probability: np.ndarray) -> np.ndarray:
        """The probability of being a positive, given that a candidate passed the veto (Bayes)."""
        positive, negative = probability * self.positives, (1 - probability) * self.negatives
        return positive / (positive + negative)


@dataclass(frozen=True)
class Assessment:
    """The risks of the candidates of a split.

    Attributes:
        by_kind: kind of the candidate (query, document) -> its risk, or the reason why it cannot be estimated.
        depth: number of texts to search for each query so that enough are safe.
        limit: highest probability with which a text may become a negative, so that of all negatives together at most
            `max_false_negatives` are expected to be positives; None: no limit.
        factor: (samples,) float64: how many times more of the nearest candidates within the limit are positives than
            their probabilities say: see `_positives`. 1 without a limit, or where it cannot be estimated.
        nearest: (share, low, high): expected share of unknown positives among the `num_negatives` nearest unlabelled
            candidates of the queries, with its 90 % interval; None where it cannot be estimated.
    """

    by_kind: dict[str, Risk | str]
    depth: int
    limit: float | None
    factor: np.ndarray
    nearest: tuple[float, float, float] | None = None

    @property
    def reasons(self) -> dict[str, str]:
        """Kind -> why its risk cannot be estimated."""
        return {kind: risk for kind, risk in self.by_kind.items() if isinstance(risk, str)}


def assess(corpus: Corpus, queries: pd.DataFrame, space: Space, rules: Rules, pools: Sequence[Pool]) -> Assessment:
    """Estimate the risk on a sample of the queries, searching deeper until most of them have safe negatives."""
    rows = np.sort(np.random.default_rng(rules.seed).permutation(len(queries))[:SAMPLED_QUERIES])
    depth = rules.rank_max
    deepest = max(min(DEEPEST, int((space.row >= 0).sum()) // 2), depth)
    while True:
        pairs = find_candidates(queries, space, pools, depth=depth, rows=rows)
        known = known_positive(corpus, queries, pairs)
        if rules.cluster_rule:
            known |= same_cluster(corpus, queries, pairs)
        judged = called_different(corpus, queries, pairs)
        inputs = features(corpus, queries, pairs, space)
        kinds = corpus.kind[pairs["candidate"]]
        clusters = corpus.cluster[queries["anchor"].to_numpy()[pairs["query"]]]
        found = {
            kind: fit(inputs[chosen], known[chosen], clusters[chosen], rules.seed)
            for kind in sorted(set(kinds))
            if (chosen := (kinds == kind) & ~judged).any()
        }
        bins = _bins(found, kinds, inputs)
        pairs = pairs.assign(known=known, kind=kinds, cluster=clusters, bin=bins, risk=_probability(found, kinds, bins))
        pairs = pairs[~judged]
        limit, within = _limit(found, pairs, rules)
        enough = pairs[~pairs["known"] & ~(pairs["risk"] > (limit or 1))].groupby("query").size()
        enough = enough >= rules.num_negatives
        served = enough.sum() >= SERVED * len(rows) and not any(isinstance(risk, str) for risk in found.values())
        if limit is None or served or known.sum() < LEAST_KNOWN or depth >= deepest:
            break
        depth = min(2 * depth, deepest)
    nearest = _positives(found, pairs, None, rules.num_negatives)
    factor = np.ones(SAMPLES) if within is None else within[0] / within[1].clip(min=1e-9)
    return Assessment(found, depth, limit, factor, None if nearest is None else _summary(nearest[1]))


def _limit(
    by_kind: Mapping[str, Risk | str], pairs: pd.DataFrame, rules: Rules
) -> tuple[float | None, tuple[np.ndarray, np.ndarray] | None]:
    """The highest limit with which at most `max_false_negatives` of the negatives are expected to be positives.

    Returns:
        The limit, None for none, and the `_positives` within it.
    """
    if rules.max_false_negatives is None:
        return None, None
    limits = [min(multiple * rules.max_false_negatives, LARGEST_LIMIT) for multiple in MULTIPLES]
    for limit in limits:
        found = _positives(by_kind, pairs, limit, rules.num_negatives)
        if found is not None and found[0].mean() <= rules.max_false_negatives:
            break
    return limit, found


def _positives(
    by_kind: Mapping[str, Risk | str], pairs: pd.DataFrame, limit: float | None, count: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The share of positives among the nearest unlabelled candidates of each query, in two ways.

    The mean probability is too low where candidates are chosen by it: the nearest of those within a limit are those
    whose features are misleading. The known positives tell by how much. They are chosen like the others, as if nobody
    knew them, and each stands for (1 - c) / c unknown ones. (Without a limit the mean probability is right, and this
    count too low in small clusters, of which hardly any positive is left when enough unlabelled ones are found.)

    Args:
        pairs: candidates of a sample of queries by rank: query, risk, known, kind, cluster (of the query).
        limit: highest risk; None: no limit.
        count: number of unlabelled candidates to choose for each query.

    Returns:
        By the known positives, and by the mean probability: (samples,) float64 each; None where not estimated.
    """
    near = pairs if limit is None else pairs[pairs["risk"] <= limit]
    unlabelled = ~near["known"]
    near = near[unlabelled.groupby(near["query"]).cumsum() - unlabelled < count]
    by_known, by_probability = np.zeros(SAMPLES), np.zeros(SAMPLES)
    for kind, rows in near.groupby("kind"):
        risk = by_kind.get(str(kind))
        if not isinstance(risk, Risk):
            return None
        known = rows["known"].to_numpy()
        by_known += risk.unknown(known, rows["cluster"].to_numpy())
        by_probability += risk.curves @ np.bincount(rows["bin"].to_numpy()[~known], minlength=risk.curves.shape[1])
    total = max(int((~near["known"]).sum()), 1)
    return by_known / total, by_probability / total


def _summary(samples: np.ndarray) -> tuple[float, float, float]:
    """Mean and 90 % interval of the values of bootstrap samples."""
    low, high = np.quantile(samples, [0.05, 0.95])
    return float(samples.mean()), float(low), float(high)


def with_risk(
    corpus: Corpus,
    queries: pd.DataFrame,
    space: Space,
    rules: Rules,
    pools: Sequence[Pool],
    risks: Assessment,
    rows: np.ndarray,
) -> pd.DataFrame:
    """The candidates of queries with a column risk: P(positive | unlabelled), NaN where it cannot be estimated.

    Beyond `rank_max`, only the nearest safe candidates are kept.
    """
    pairs = find_candidates(queries, space, pools, depth=risks.depth, rows=rows)
    inputs = features(corpus, queries, pairs, space)
    kinds = corpus.kind[pairs["candidate"]]
    pairs["risk"] = _probability(risks.by_kind, kinds, _bins(risks.by_kind, kinds, inputs))
    if risks.depth > rules.rank_max:
        deep = pairs["rank"].gt(rules.rank_max)
        safe = pairs[deep & pairs["risk"].le(risks.limit)]
        safe = safe[~known_positive(corpus, queries, safe) & ~same_cluster(corpus, queries, safe)]
        safe = safe[safe.groupby("query").cumcount() < SPARE * rules.num_negatives]
        pairs = pd.concat([pairs[~deep], safe]).sort_values(["query", "rank"], ignore_index=True)
    return pairs


def _bins(by_kind: Mapping[str, Risk | str], kinds: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The bin of candidates of some kinds and features: (n,) int64, 0 where nothing was estimated."""
    bins = np.zeros(len(kinds), dtype=np.int64)
    for kind, risk in by_kind.items():
        if isinstance(risk, Risk):
            bins[kinds == kind] = risk.bin(inputs[kinds == kind])
    return bins


def _probability(by_kind: Mapping[str, Risk | str], kinds: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """P(positive | unlabelled) of candidates of some kinds in some bins: (n,) float64, NaN where not estimated."""
    probability = np.full(len(kinds), np.nan)
    for kind, risk in by_kind.items():
        if isinstance(risk, Risk):
            probability[kinds == kind] = risk.curves.mean(axis=0)[bins[kinds == kind]]
    return probability


def in_bins(by_kind: Mapping[str, Risk | str], kinds: np.ndarray, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Kind -> number of candidates in each bin of the index: (bins,) int64; in one bin where nothing was estimated."""
    bins = _bins(by_kind, kinds, inputs)
    estimated = {kind: risk for kind, risk in by_kind.items() if isinstance(risk, Risk)}
    size = {kind: risk.curves.shape[1] for kind, risk in estimated.items()}
    return {kind: np.bincount(bins[kinds == kind], minlength=size.get(kind, 1)) for kind in sorted(set(kinds))}


def share(risks: Assessment, counts: Mapping[str, np.ndarray], veto: Veto) -> tuple[float, float, float] | None:
    """Expected share of positives among negatives that passed the veto, and its 90 % interval; None: not estimated.

    Args:
        counts: the negatives as `in_bins` counts them.
    """
    sums = np.zeros(SAMPLES)
    for kind, bins in counts.items():
        risk = risks.by_kind.get(kind)
        if not isinstance(risk, Risk):
            return None
        sums += veto.after(risk.curves) @ bins
    total = max(int(sum(bins.sum() for bins in counts.values())), 1)
    return _summary((sums / total * risks.factor).clip(max=1))


def features(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, space: Space) -> np.ndarray:
    """The features of candidates: whitened similarity, log of the rank, support.

    Args:
        queries: as `queries_of` returns them.
        pairs: columns query, candidate, rank, whitened; rank 0 (not found by the search) counts as after the last rank.

    Returns:
        (n, 3) float64.
    """
    rank = pairs["rank"].to_numpy()
    rank = np.where(rank > 0, rank, rank.max(initial=0) + 1)
    return np.column_stack([pairs["whitened"], np.log(rank), _support(corpus, queries, pairs, space)])


def _support(corpus: Corpus, queries: pd.DataFrame, pairs: pd.DataFrame, space: Space) -> np.ndarray:
    """Mean whitened similarity of candidates to the query and to its known positives but one: (n,) float64."""
    asked, query = np.unique(pairs["query"], return_inverse=True)
    owner, flat = _members(corpus, queries, space, asked)
    count = np.bincount(owner, minlength=len(asked))
    start = np.concatenate([[0], np.cumsum(count)])
    texts, base = space.whitened, space.start[asked]
    sums = np.zeros((len(asked), texts.shape[1]), dtype=np.float32)
    np.add.at(sums, owner, texts[base[owner] + space.row[flat]])
    candidate = pairs["candidate"].to_numpy()
    found = pd.Index(corpus.pair_key(owner, flat)).get_indexer(corpus.pair_key(query, candidate))
    left_out = np.where(found >= 0, found, start[query] + candidate % count[query].clip(min=1))
    support = pairs["whitened"].to_numpy(dtype=np.float64).copy()
    several = np.flatnonzero(count[query] > 1)
    for part in np.array_split(several, len(several) // 1024 + 1):
        start_of = base[query[part]]
        others = sums[query[part]] - texts[start_of + space.row[flat[left_out[part]]]]
        total = np.einsum("pd,pd->p", others, texts[start_of + space.row[candidate[part]]])
        support[part] = (support[part] + total) / count[query[part]]
    return support


def _members(corpus: Corpus, queries: pd.DataFrame, space: Space, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Known positives of queries in their split, at most `MEMBERS` of each: by edges, then by cluster.

    Returns:
        Positions in `rows`, ascending, and text numbers.
    """
    anchor = queries["anchor"].to_numpy()[rows]
    by_edge = [positives[:MEMBERS] for positives in queries["positives"].to_numpy()[rows]]
    order, begin = corpus.members
    first = begin[corpus.cluster[anchor]]
    size = np.minimum(begin[corpus.cluster[anchor] + 1] - first, 2 * MEMBERS)
    inside = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    every = np.arange(len(rows))
    known = pd.DataFrame(
        {
            "owner": np.concatenate([np.repeat(every, [len(row) for row in by_edge]), np.repeat(every, size)]),
            "text": np.concatenate([np.array([*chain(*by_edge)], np.int64), order[np.repeat(first, size) + inside]]),
        }
    )
    known = known[(known["text"] != anchor[known["owner"]]) & (space.row[known["text"]] >= 0)].drop_duplicates()
    known = known[known.groupby("owner").cumcount() < MEMBERS].sort_values("owner", kind="stable")
    return known["owner"].to_numpy(), known["text"].to_numpy()
