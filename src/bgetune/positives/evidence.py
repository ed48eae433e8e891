"""Positive pairs of a click log: those in the counts of `clicks` that noise alone cannot explain.

A click is a mis-click with probability `misclick_rate`. Of n users of a query, k or more click a wrong document with
the probability of a binomial tail, P(K >= k | n, misclick_rate). A click is evidence if this is below `SIGNIFICANCE`:
two of two users are enough, one of one is not, two of sixty are noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.special import betainc

from bgetune.data.tables import SOURCES
from bgetune.positives.clicks import Counts

SIGNIFICANCE = 0.02
"""Maximum probability of evidence under noise alone."""

EACH_WAY = 0.05
"""The same for evidence that must hold in both directions."""

SEEN = 0.3
"""Minimum probability that users who see a result that answers their query click it; the least that studies of click
models assume (informational searches: 0.4)."""

SUBJECT_CHANGE = 0.5
"""Maximum share of rewrites that are about another subject than the query."""

WALK = 300
"""Documents of a query that a walk may go on to, those with the most users: n of them make n^2 steps, and a query that
was answered by thousands of pages says of none that it belongs to another."""

BLOCK = 200_000
"""Number of pairs of queries made at a time: the memory of larger arrays costs more time than the work in them."""

ROUNDS = 4
"""Number of times that queries are assigned to families: rewrites are better evidence once more queries are known."""


@dataclass(frozen=True)
class Mined:
    """Pairs from a click log.

    Attributes:
        edges: a, b (rows of `Counts.texts`), source (co_click or rewrite), support (distinct users), confidence
            in (0, 1].
        weak: the same columns: pairs with too few users, which a reranker may confirm; the most probable first.
        dropped: reason, rows (number of pairs), example.
        different: a, b, support (distinct users who passed the document over): see `_different`.
    """

    edges: pd.DataFrame
    weak: pd.DataFrame
    dropped: pd.DataFrame
    different: pd.DataFrame


def mine(
    counts: Counts,
    *,
    min_support: int,
    min_npmi: float,
    min_jaccard: float,
    hub_cap: int,
    misclick_rate: float,
) -> Mined:
    """Mine query-title pairs, co-click pairs and rewrites that noise alone cannot explain.

    Documents clicked for the same queries form a family (the pages about one question). Clicks on the documents of a
    family and rewrites to and from its queries are independent evidence of what a query means. Each query is assigned
    to the family for which this evidence is least probable under noise, if it has at least `min_support` users. Edges
    are the clicks, co-clicks and rewrites within a family.

    Args:
        min_support: minimum number of distinct users.
        min_npmi: minimum normalised pointwise mutual information of query and document, in [-1, 1] (0: chance).
        min_jaccard: minimum overlap of the clicks of two queries, in [0, 1] (weighted Jaccard of their documents).
        hub_cap: maximum number of distinct queries of a document; documents with more are no evidence.
        misclick_rate: probability that a click is on a wrong document.
    """
    clicks, hubs = _without_hubs(counts.clicks, hub_cap)
    document, _ = pd.factorize(clicks["document"])
    clicks = clicks.assign(number=document, total=clicks.groupby("query")["users"].transform("sum"))
    chance = _npmi(clicks) < min_npmi
    log = _Log(clicks[~chance], counts.rewrites, len(counts.texts), document.max(initial=-1) + 1, misclick_rate)
    family, home, noise = _meanings(log, min_support)

    clicks = clicks.assign(family=family[clicks["number"]], home=home[clicks["query"]], noise=noise[clicks["query"]])
    taken = clicks.loc[~chance & (clicks["family"] == clicks["home"]), ["query", "document", "users", "total", "noise"]]
    titled = taken[(taken["document"] >= 0) & (taken["document"] != taken["query"])]
    rewrites = counts.rewrites
    kept = rewrites[(home[rewrites["query"]] == home[rewrites["rewrite"]]) & (home[rewrites["query"]] >= 0)]
    sure = 1 - noise
    title_pairs = _frame(titled["query"], titled["document"], titled["users"], 1 - titled["noise"], source="co_click")
    co_click = _without(_co_click(taken, min_jaccard), title_pairs)
    confidence = sure[kept["query"]] * sure[kept["rewrite"]]
    rewritten = _frame(kept["query"], kept["rewrite"], kept["users"], confidence, source="rewrite")
    edges = pd.concat([title_pairs, co_click, _unique(rewritten)], ignore_index=True)
    open_clicks = clicks[~chance & (clicks["home"] < 0) & (clicks["document"] >= 0)]
    open_rewrites = rewrites[(home[rewrites["query"]] < 0) | (home[rewrites["rewrite"]] < 0)]
    searches = rewrites.groupby("query")["users"].transform("sum")[open_rewrites.index]
    share = open_clicks["users"] / (open_clicks["total"] + 1), open_rewrites["users"] / (searches + 2)
    weak = [
        _untitled(clicks[~chance]),
        _frame(open_clicks["query"], open_clicks["document"], open_clicks["users"], share[0], source="co_click"),
        _frame(open_rewrites["query"], open_rewrites["rewrite"], open_rewrites["users"], share[1], source="rewrite"),
    ]
    weak = _unique(pd.concat(weak)).sort_values("confidence", ascending=False, kind="stable", ignore_index=True)
    found = [
        (f"clicks on a document of more than {hub_cap} distinct queries", int(hubs["users"].sum())),
        ("query and document that meet no more often than by chance", int(chance.sum())),
        ("query and document: too few users to tell from mis-clicks", len(open_clicks)),
        (
            "query and document: a mis-click, most users of the query want something else",
            int((~chance & (clicks["home"] >= 0)).sum()) - len(taken),
        ),
        ("rewrite: too few users to tell from a change of subject", len(open_rewrites)),
        ("rewrite: a change of subject", len(rewrites) - len(kept) - len(open_rewrites)),
    ]
    dropped = pd.DataFrame(
        [(reason, rows, "") for reason, rows in found if rows], columns=["reason", "rows", "example"]
    )
    different = _different(counts, clicks.groupby("document")["family"].first(), home)
    return Mined(edges, weak, dropped, different)


def _different(counts: Counts, family: pd.Series, home: np.ndarray) -> pd.DataFrame:
    """Queries and titles that users saw above what they clicked, so often without a click that they do not belong.

    Of n users who saw a result that answers their query, k or fewer click it with probability P(K <= k | n, `SEEN`).
    One title of one query is seldom seen by many, so the users are added up: those of the query who saw documents of
    the title's family, and those of all queries of a family who saw documents of another.

    Args:
        family: document -> its family.
        home: (queries,) family of each query or -1.

    Returns:
        a < b (rows of `Counts.texts`), support (distinct users who passed the title over).
    """
    if counts.skips.empty:
        return pd.DataFrame({"a": [], "b": [], "support": []}, dtype="int64")
    shown = counts.skips.merge(counts.clicks[["query", "document", "users"]], "outer", ["query", "document"]).fillna(0)
    shown = shown.astype("int64").set_axis(["query", "document", "passed", "clicked"], axis=1)
    own = shown["document"].map(family)
    alone = own.isna()  # never clicked, or clicked after everything
    shown = shown.assign(family=own.where(~alone, -1 - pd.factorize(shown["document"])[0]), home=home[shown["query"]])
    different = _seldom(shown, ["query", "family"])
    away = (shown["home"] >= 0) & (shown["home"] != shown["family"])
    different |= away & _seldom(shown, ["home", "family"])
    shown = shown[different & (shown["passed"] > 0) & (shown["document"] >= 0)]
    used = counts.texts["count"].to_numpy() > 0
    a, b = np.sort(shown[["query", "document"]].to_numpy(), axis=1).T
    pairs = pd.DataFrame({"a": a, "b": b, "support": shown["passed"].to_numpy()})
    return pairs[(a != b) & used[a] & used[b]].drop_duplicates(["a", "b"], ignore_index=True)


def _seldom(shown: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Whether results were clicked too seldom for ones that answer the query, all with equal keys together."""
    users = shown.groupby(keys)[["passed", "clicked"]].transform("sum")
    chance = betainc(np.maximum(users["passed"], 1), users["clicked"] + 1, 1 - SEEN)  # P(K <= clicked | both, SEEN)
    return pd.Series((chance <= SIGNIFICANCE) & (users["passed"] > 0), shown.index)


def kept_apart(counts: Counts, mined: Mined, people: pd.DataFrame, different: pd.DataFrame) -> pd.DataFrame:
    """a_id < b_id of pairs that must not be joined: what people called different, and what users passed over.

    People's word counts more: a pair that is one of their edges is not kept apart for what users did.

    Args:
        people: a_id, b_id of the edges of other sources than the log.
        different: a_id, b_id of what people called different.
    """
    ids = counts.texts["text_id"].to_numpy()
    a, b = ids[mined.different["a"]], ids[mined.different["b"]]
    passed = pd.DataFrame({"a_id": np.minimum(a, b), "b_id": np.maximum(a, b)}, dtype=str)
    joined = pd.MultiIndex.from_frame(passed).isin(pd.MultiIndex.from_frame(people[["a_id", "b_id"]]))
    return pd.concat([different[["a_id", "b_id"]], passed[~joined]], ignore_index=True)


def _frame(a: ArrayLike, b: ArrayLike, support: ArrayLike, confidence: ArrayLike, *, source: str) -> pd.DataFrame:
    """A table a < b, source, support, confidence of n pairs in any direction; arrays are (n,)."""
    first, second = np.asarray(a, dtype="int64"), np.asarray(b, dtype="int64")
    sources = pd.Series(source, range(len(first)), dtype=str)
    pairs = {"a": np.minimum(first, second), "b": np.maximum(first, second), "source": sources}
    evidence = {"support": np.asarray(support, dtype="int64"), "confidence": np.asarray(confidence, dtype=float)}
    return pd.DataFrame({**pairs, **evidence}, copy=False)


def _unique(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row for each pair of two texts and source, with the highest support and confidence."""
    parts = [pairs.head(0)]
    for source, some in pairs[pairs["a"] != pairs["b"]].groupby("source", sort=True):
        columns = {"support": (np.maximum, some["support"]), "confidence": (np.maximum, some["confidence"])}
        a, b, support, confidence = _reduce(some["a"].to_numpy(), some["b"].to_numpy(), columns)
        parts.append(_frame(a, b, support, confidence, source=str(source)))
    return pd.concat(parts, ignore_index=True)


def _without(pairs: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The pairs that are not among `others`."""
    if pairs.empty or others.empty:
        return pairs
    width = max(pairs["b"].max(), others["b"].max()) + 1
    key, known = (pairs["a"] * width + pairs["b"]).to_numpy(), np.sort(others["a"] * width + others["b"])
    # faster than np.isin, because both are sorted
    nearest = known[np.searchsorted(known, key).clip(max=len(known) - 1)]
    return pairs[nearest != key]


def _reduce(a: np.ndarray, b: np.ndarray, columns: Mapping[str, tuple[np.ufunc, ArrayLike]]) -> tuple[np.ndarray, ...]:
    """Distinct pairs, ascending, and for each column (ufunc, values) the values of equal pairs reduced by the ufunc."""
    key = a * (b.max(initial=0) + 1) + b
    order = np.argsort(key, kind="stable")  # several times as fast as np.lexsort((b, a))
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    reduced = (how.reduceat(np.asarray(values)[order], first) for how, values in columns.values())
    return a[order[first]], b[order[first]], *reduced


def _without_hubs(clicks: pd.DataFrame, hub_cap: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clicks on documents of at most `hub_cap` distinct queries, and the other clicks."""
    hub = clicks.groupby("document")["query"].transform("size") > hub_cap
    return clicks[~hub].reset_index(drop=True), clicks[hub]


def _npmi(clicks: pd.DataFrame) -> pd.Series:
    """Normalised pointwise mutual information of each query and document: log(p(q, d) / p(q) p(d)) / -log p(q, d)."""
    everything = max(clicks["users"].sum(), 1)
    pair = clicks["users"] / everything
    document = clicks.groupby("document")["users"].transform("sum") / everything
    return np.log(pair / (clicks["total"] / everything * document)) / -np.log(pair).clip(upper=-1e-9)


class _Log:
    """The counts as sparse matrices.

    Attributes:
        clicks: (queries, documents) users.
        examined: the same, each count times the relative examination of its clicks.
        rewrites: two (queries, queries): users from query to rewrite, and the transpose.
        total: (queries,) float64: users with a click, summed over the documents.
        audience, audience_share: (documents, queries): users, and their shares of the users of the query.
        misclick_rate: probability of a mis-click.
    """

    def __init__(
        self, clicks: pd.DataFrame, rewrites: pd.DataFrame, queries: int, documents: int, misclick_rate: float
    ):
        self.clicks = coo_matrix(
            (clicks["users"].astype(float), (clicks["query"], clicks["number"])), shape=(queries, documents)
        ).tocsr()
        there = coo_matrix(
            (rewrites["users"].astype(float), (rewrites["query"], rewrites["rewrite"])), shape=(queries, queries)
        ).tocsr()
        self.rewrites = there, there.T.tocsr()
        # Results of high ranks get more clicks without meaning (position bias): mis-clicks are distributed over the
        # clicks like the examination of their ranks.
        examined = (
            clicks["examination"] / max(np.average(clicks["examination"], weights=clicks["users"]), 1e-9)
            if len(clicks)
            else 1
        )
        self.examined = coo_matrix(
            (clicks["users"] * examined, (clicks["query"], clicks["number"])), shape=(queries, documents)
        ).tocsr()
        self.total = np.zeros(queries)
        self.total[clicks["query"]] = clicks["total"]
        self.audience = self.clicks.T.tocsr()
        self.audience_share = csr_matrix(self.audience.multiply(1 / np.maximum(self.total, 1)))
        self.misclick_rate = misclick_rate


def _meanings(log: _Log, min_support: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Families of documents and queries.

    Returns:
        (documents,) int64 family of each document, (queries,) int64 family of each query or -1, and (queries,) float64
        probability of the evidence for it under noise.
    """
    family, home, noise = _families(log), np.full(len(log.total), -1), np.ones(len(log.total))
    for _ in range(ROUNDS if log.clicks.nnz else 0):
        home, noise = _assign(log, family, home, min_support)
        if (home < 0).all():
            break
        family = _adopt(log, family, home, min_support)
    return family, home, noise


def _adopt(log: _Log, family: np.ndarray, home: np.ndarray, min_support: int) -> np.ndarray:
    """The families after documents of families without queries have joined the family whose queries click them.

    The queries of the family must click the document clearly more often than by mistake, and no other family may click
    it more. A click counts as its share of the query's clicks; otherwise the mis-clicks of a popular query would
    decide.
    """
    families = family.max(initial=-1) + 1
    at_home = _indicator(home, families)
    reach = at_home.T @ log.total
    alone = np.flatnonzero(reach[family] == 0)
    shares = log.audience_share[alone]
    share, users = (shares @ at_home).tocoo(), (log.audience[alone] @ at_home).tocoo()  # of one structure
    everyone = np.asarray(shares.sum(axis=1)).ravel()
    table = pd.DataFrame({"document": alone[share.row], "family": share.col, "share": share.data, "users": users.data})
    often = table["users"] / np.maximum(reach[table["family"]], 1) >= 1.5 * log.misclick_rate
    large = table["share"] / everyone[share.row] >= 0.3
    table = table[often & large & (table["users"] >= min_support)]
    table = table.sort_values(["document", "share", "family"], ascending=[True, False, True]).drop_duplicates(
        "document"
    )
    family = family.copy()
    family[table["document"]] = table["family"]
    return family


def _assign(log: _Log, family: np.ndarray, home: np.ndarray, min_support: int) -> tuple[np.ndarray, np.ndarray]:
    """Family of each query, or -1, and the probability of the evidence under noise; `home` is the assignment so far."""
    families = family.max(initial=-1) + 1
    in_family = _indicator(family, families)
    successes, examined = log.clicks @ in_family, log.examined @ in_family  # of one structure, so their data align
    rate = np.minimum(log.misclick_rate * examined.data / successes.data, 0.5)
    doubt = _log_noise(successes, log.total, rate)
    if (home >= 0).any():
        at_home = _indicator(home, families)
        for rewrites in log.rewrites:
            users = (rewrites @ at_home).tocsr()
            trials = np.asarray(users.sum(axis=1)).ravel()
            popularity = np.asarray(users.sum(axis=0)).ravel() / max(trials.sum(), 1)
            rate = np.maximum(log.misclick_rate, SUBJECT_CHANGE * popularity)[users.indices]
            successes, doubt = successes + users, doubt + _log_noise(users, trials, rate)
    found = doubt.tocoo()
    clear = found.data <= np.log(SIGNIFICANCE)
    if not clear.any():
        return np.full(len(home), -1), np.ones(len(home))
    query, to, log_noise = found.row[clear], found.col[clear], found.data[clear]
    users = np.asarray(successes.tocsr()[query, to]).ravel()
    query, to, log_noise, users = (values[users >= min_support] for values in (query, to, log_noise, users))
    best = _least(query, log_noise, -users, to)
    home, noise = np.full(len(home), -1), np.ones(len(home))
    home[query[best]], noise[query[best]] = to[best], np.exp(log_noise[best])
    return home, noise


def _least(groups: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Positions of the smallest entry of each group by the first key, among equal ones by the second, and so on.

    Args:
        groups: (n,) ascending, not negative.
        keys: (n,) each; no two entries of a group are equal in all of them.
    """
    left = np.arange(len(groups))
    for key in keys:
        start = np.flatnonzero(np.diff(groups[left], prepend=-1))
        least = np.minimum.reduceat(key[left], start)
        left = left[key[left] == np.repeat(least, np.diff(start, append=len(left)))]
    return left


def _indicator(groups: np.ndarray, count: int) -> csr_matrix:
    """(n, count) matrix with a one where row i belongs to group j; -1 is no group."""
    rows = np.flatnonzero(groups >= 0)
    return csr_matrix((np.ones(len(rows)), (rows, groups[rows])), shape=(len(groups), count))


def _log_noise(successes: csr_matrix, trials: np.ndarray, rate: np.ndarray) -> csr_matrix:
    """log P(K >= successes | trials of the row, rate of the entry) for the entries of `successes`."""
    rows = np.repeat(np.arange(len(trials)), np.diff(successes.indptr))
    data = np.log(_noise(successes.data, trials[rows], rate))
    return csr_matrix((data, successes.indices, successes.indptr), shape=successes.shape)


def _noise(successes: np.ndarray, trials: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
    """P(K >= successes | trials, rate): upper binomial tail, extended to fractions (incomplete beta); never 0."""
    return np.maximum(betainc(successes, np.maximum(trials - successes, 0) + 1, rate), 1e-300)


def _families(log: _Log) -> np.ndarray:
    """The family of each document: (documents,) int64. Documents clicked for the same queries are of one family.

    A random walk goes from a document to its queries and on to other documents that were clicked for them. Two
    documents are of one family if more steps lead from one to the other than mis-clicks explain, in both directions:
    many steps lead to a popular page but few lead from it to any one document, and the mis-clicks of one query are few
    among the steps of all others.
    """
    documents = log.clicks.shape[1]
    clicks = log.clicks.tocoo()
    most = _first_of_each(clicks.row, -clicks.data, clicks.col, count=WALK)
    row, column, users = clicks.row[most], clicks.col[most], clicks.data[most]
    again = np.where(log.total[row] > 1, users, 0.0)
    steps = again / np.maximum(log.total[row] - 1, 1)
    place = (row, column)
    visits = coo_matrix((again, place), clicks.shape).tocsr()
    walk = (visits.T @ coo_matrix((steps, place), clicks.shape).tocsr()).tocoo()
    others = np.bincount(column, again, minlength=documents)
    leads = (walk.row != walk.col) & (walk.data > 0)
    row, column, users = walk.row[leads], walk.col[leads], walk.data[leads]
    clear = _noise(users, others[row], log.misclick_rate) <= EACH_WAY
    joined = coo_matrix((clear.astype(float), (row, column)), shape=(documents, documents)).tocsr()
    joined = joined.multiply(joined.T)
    return connected_components(joined, directed=False)[1].astype(np.int64)


def _first_of_each(groups: np.ndarray, *keys: np.ndarray, count: int) -> np.ndarray:
    """Positions of the first `count` entries of each group by the keys, in the order of the entries."""
    order = np.lexsort((*keys[::-1], groups))
    start = np.flatnonzero(np.diff(groups[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    return np.sort(order[place < count])


def _co_click(taken: pd.DataFrame, min_jaccard: float) -> pd.DataFrame:
    """Pairs of queries with clicks on one document: n (n - 1) / 2 pairs for n queries, at most the hub cap."""
    taken = taken.sort_values(["document", "query"], kind="stable")
    query, users, sure = taken["query"].to_numpy(), taken["users"].to_numpy(), 1 - taken["noise"].to_numpy()
    share = users / taken["total"].to_numpy()
    found = [[query[:0], query[:0], users[:0], share[:0]]]
    for left, right in _pair_blocks(taken["document"].to_numpy(), query):
        a, b, support, common, confidence = _reduce(
            query[left],
            query[right],
            {
                "support": (np.add, np.minimum(users[left], users[right])),
                "common": (np.add, np.minimum(share[left], share[right])),
                "confidence": (np.maximum, sure[left] * sure[right]),
            },
        )
        alike = common / (2 - common) >= min_jaccard
        found.append([a[alike], b[alike], support[alike], confidence[alike]])
    a, b, support, confidence = map(np.concatenate, zip(*found, strict=True))
    return _frame(a, b, support, confidence, source="co_click")


def _untitled(clicks: pd.DataFrame) -> pd.DataFrame:
    """Pairs of queries with clicks on one page without a title, if one of them has no family."""
    clicks = clicks[clicks["document"] < 0].sort_values(["document", "query"], kind="stable")
    query, users, unsure = clicks["query"].to_numpy(), clicks["users"].to_numpy(), clicks["home"].to_numpy() < 0
    share = users / (clicks["total"].to_numpy() + 1)
    found = [[query[:0], query[:0], users[:0], share[:0]]]
    for left, right in _pair_blocks(clicks["document"].to_numpy(), query):
        some = unsure[left] | unsure[right]
        left, right = left[some], right[some]
        found.append([query[left], query[right], np.minimum(users[left], users[right]), share[left] * share[right]])
    a, b, support, confidence = map(np.concatenate, zip(*found, strict=True))
    return _frame(a, b, support, confidence, source="co_click")


def _pair_blocks(document: np.ndarray, query: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions (i, j), i < j, of all pairs of clicks on one document, in blocks of about `BLOCK` pairs.

    All pairs with one query at i are in one block, so a pair of queries with several common documents is, too. Blocks
    ascend in the query at i.

    Args:
        document, query: (n,) int64 each, sorted by document, then query.
    """
    order = np.argsort(query, kind="stable")
    count = np.searchsorted(document, document[order], side="right") - order - 1
    begins = np.flatnonzero(np.diff(query[order], prepend=-1))
    before = (np.cumsum(count) - count)[begins]
    cuts = begins[np.flatnonzero(np.diff(before // BLOCK, prepend=-1))]
    for first, last in itertools.pairwise([*cuts, len(order)]):
        clicks, pairs = order[first:last], count[first:last]
        left = np.repeat(clicks, pairs)
        right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        yield left, right


def to_tables(counts: Counts, pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of `mine` as edges of the positive graph: a_id < b_id, source, support, weight.

    The weight is the weight of the source (`tables.SOURCES`) times the confidence.
    """
    ids = counts.texts["text_id"].to_numpy()
    a, b = ids[pairs["a"]], ids[pairs["b"]]
    weight = pairs["source"].map(SOURCES).astype(float) * pairs["confidence"]
    edges = {"a_id": np.minimum(a, b), "b_id": np.maximum(a, b), "source": pairs["source"], "support": pairs["support"]}
    return pd.DataFrame({**edges, "weight": weight}).sort_values(["a_id", "b_id", "source"], ignore_index=True)
