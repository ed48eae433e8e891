"""Tables and sentences of the report: how many candidates each rule rejects and what each rule gains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bgetune.locale import _
from bgetune.locale.words import said
from bgetune.metrics.truth import same_meaning
from bgetune.models.encoder import Encoder
from bgetune.models.index import recall, resolve
from bgetune.models.reranker import Reranker
from bgetune.negatives.corpus import Corpus
from bgetune.negatives.mining import Mined, apply_rules, prepare
from bgetune.negatives.risk import Risk
from bgetune.negatives.rules import REASONS, Rules, Search
from bgetune.negatives.selection import score_pairs

EXPECTED = ("expected_false_negatives", "expected_false_negatives_low", "expected_false_negatives_high")


def rule_yields(mined: Mined) -> pd.DataFrame:
    """How many candidates each rule rejects, how many are taken, and how many are left.

    Returns:
        rule, candidates, share (of all candidates), queries (that lost one or more candidates by the rule), why.
    """
    why = REASONS | {"(not needed)": "passed, but enough were taken", "(taken)": "hard negatives"}
    table = mined.counts[["candidates", "queries"]].rename_axis("rule").reset_index()
    table.insert(2, "share", table["candidates"] / max(int(table["candidates"].sum()), 1))
    return table.assign(why=table["rule"].map(why))


def coverage(mined: Mined) -> dict[str, float]:
    """How many negatives the queries have.

    Returns:
        queries, with_negatives (share of the queries with a negative), full (share with `num_negatives`),
        negatives_per_query, similarity (mean of the negatives). Where it can be estimated, expected_false_negatives
        (the share of the negatives that are expected to be unknown positives) and its 90 % interval (_low, _high).
    """
    count = mined.negatives.groupby("query").size().reindex(range(len(mined.queries)), fill_value=0)
    return {
        "queries": len(count),
        "with_negatives": float((count > 0).mean()),
        "full": float((count == mined.rules.num_negatives).mean()),
        "negatives_per_query": float(count.mean()),
        "similarity": float(mined.negatives["similarity"].mean()),
    } | ({} if mined.expected is None else dict(zip(EXPECTED, mined.expected, strict=True)))


def risk_table(corpus: Corpus, mined: Mined, truth: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Expected shares of unknown positives: among the nearest texts, without any rule, and among the negatives.

    Returns:
        Two rows: what, expected (share), low, high (90 % interval), true (share by the truth, NaN without one).
    """
    wanted = mined.rules.num_negatives
    unknown = mined.sample[~mined.sample["rule"].isin(["known_positive", "same_cluster"])]
    unknown = unknown[unknown["label"].isna() & unknown["rank"].gt(0)]
    nearest = unknown[unknown.groupby("query").cumcount() < wanted]
    rows = []
    for what, expected, pairs in (
        (f"the {wanted} nearest texts of each query", mined.risks.nearest, nearest),
        ("the hard negatives", mined.expected, mined.negatives),
    ):
        true = np.nan if truth is None else false_negatives(corpus, mined, truth, pairs)
        rows.append((what, *(expected or (np.nan,) * 3), true))
    return pd.DataFrame(rows, columns=["what", "expected", "low", "high", "true"])


def risk_sentence(mined: Mined) -> str:
    """A sentence with the expected share of false negatives, or why it cannot be estimated."""
    if mined.expected is not None:
        share, low, high = mined.expected
        part = _("of the positives among {kind} texts about {share:.0%} are known ({low:.0%} to {high:.0%})")
        known = "; ".join(
            part.format(kind=_(kind), share=risk.known_share, low=risk.interval[0], high=risk.interval[1])
            for kind, risk in mined.risks.by_kind.items()
            if isinstance(risk, Risk)
        )
        served = coverage(mined)["with_negatives"]
        none = "" if served else _(" No text was safe enough: training goes without hard negatives.")
        limit = ""
        if mined.risks.limit is not None:
            limit = _(" A text becomes a negative up to a probability of {limit:.1%} of being a positive.")
            limit = limit.format(limit=mined.risks.limit)
        sentence = _("Expected false negatives: {share:.1%} of the negatives ({low:.1%} to {high:.1%}); {known}.")
        return sentence.format(share=share, low=low, high=high, known=known) + limit + none
    reasons = "; ".join(f"{_(kind)}: {said(reason)}" for kind, reason in mined.risks.reasons.items())
    sentence = _(
        "The share of false negatives cannot be estimated ({reasons}). "
        "Where no reranker vetoes, a margin below the known positives decides instead."
    )
    return sentence.format(reasons=reasons or _("no candidates"))


def as_row(values: Mapping[str, float]) -> pd.DataFrame:
    """A table of one row."""
    return pd.DataFrame([dict(values)])


def advice(mined: Mined, least: float = 0.8) -> str:
    """Which parameter to change if less than the share `least` of the queries have negatives; "" otherwise."""
    share = coverage(mined)["with_negatives"]
    if share >= least:
        return ""
    starved = mined.counts["starved"]
    counts = starved[starved.index.isin(REASONS)]
    remedies = {
        "known_positive": _("search deeper (rank_max)"),
        "same_cluster": _("search deeper (rank_max), or look for clusters that grew too large in 01_positives"),
        "missed_positive": _("raise promote_score: the reranker may be too generous"),
        "rank": _("lower rank_min"),
        "below_window": _("lower window_low, or set it to null"),
        "above_window": _("raise window_high, or set it to null: this model's scores bunch above it"),
        "margin": _("lower margin or set it to null, or search deeper (rank_max)"),
        "unknown_positive": _(
            "raise max_false_negatives, or join more positives: a reranker, more sources, review.csv"
        ),
        "veto": _("raise veto_score, or search deeper (rank_max)"),
    }
    worst = counts.idxmax() if counts.any() else "rank"
    sentence = _(
        "Only {share:.0%} of the {queries:,} queries have a hard negative; the others train by their positives alone. "
        "Of their candidates the rule {rule} took most ({taken:,} of {candidates:,}): {remedy}; or too_few: random."
    )
    return sentence.format(
        share=share,
        queries=len(mined.queries),
        rule=worst,
        taken=counts[worst],
        candidates=int(starved.sum()),
        remedy=remedies[worst],
    )


def similarities(mined: Mined) -> dict[str, dict[str, np.ndarray]]:
    """Similarities of positives, candidates (of the first `Mined.complete` queries) and negatives, for a plot.

    Returns:
        Title of a panel (as the model scores; after whitening) -> name of a group of pairs -> (n,) float64.
    """
    panels = {}
    for title, positives, column in (
        ("As the model scores", "similarities", "similarity"),
        ("With the common drift taken out", "whitened", "whitened"),
    ):
        panels[title] = {
            "positives": np.concatenate(mined.queries[positives].to_numpy()),
            "nearest candidates": mined.sample.loc[mined.sample["rank"] > 0, column].to_numpy(),
            "negatives taken": mined.negatives[column].to_numpy(),
        }
    return panels


def search_quality(
    corpus: Corpus, encoder: Encoder, search: Search = Search(), *, seed: int, sample: int = 500, k: int = 20
) -> pd.DataFrame:
    """Recall of an approximate index and of a precision other than float32, on a sample of the training texts.

    Args:
        seed: of the sample, and of an index that needs training.
        sample: number of texts to search with.
        k: number of nearest texts to compare.

    Returns:
        A row for the index if it is not exact, and a row for the precision if it is not float32: what, texts (that are
        searched), queries, overlap (the share of the exact `k` nearest texts that are found).
    """
    texts = corpus.text[corpus.split == "train"]
    drawn = np.sort(np.random.default_rng(seed).permutation(len(texts))[:sample])
    rows = []
    flat = Search(index="Flat", memory_mb=search.memory_mb)
    factory = resolve(search.index, search.search_params, len(texts))[0]
    if factory != "Flat":
        vectors = encoder.encode(texts.tolist())
        found, exact = (way.over(vectors, seed=seed).search(vectors[drawn], k)[1] for way in (search, flat))
        rows.append((f"index {factory} for Flat", len(texts), len(drawn), recall(found, exact)))
    if encoder.precision != "float32":
        reference = Encoder(
            encoder.folder,
            prompts=encoder.prompts,
            max_length=encoder.max_length,
            device=encoder.device,
            cache_dir=None,
        )
        vectors, exact_vectors = (some.encode(texts[drawn].tolist(), progress=False) for some in (encoder, reference))
        found, exact = (flat.over(rows_, seed=seed).search(rows_, k)[1] for rows_ in (vectors, exact_vectors))
        rows.append((f"{encoder.precision} for float32", len(drawn), len(drawn), recall(found, exact)))
    return pd.DataFrame(rows, columns=["what", "texts", "queries", f"overlap of the {k} nearest"])


def examples(corpus: Corpus, mined: Mined, count: int = 8) -> pd.DataFrame:
    """`count` queries, spread over the data, each with a positive and its hard negatives, as texts."""
    served = sorted(mined.negatives["query"].unique())
    rows = []
    for query in served[:: max(len(served) // count, 1)][:count]:
        taken = mined.negatives[mined.negatives["query"] == query].sort_values("rank")
        row = mined.queries.loc[query]
        negatives = [
            f"{corpus.text[n]} ({s:.2f})" for n, s in zip(taken["candidate"], taken["similarity"], strict=True)
        ]
        positive = f"{corpus.text[row['positives'][0]]} ({row['similarities'][0]:.2f})"
        rows.append((corpus.text[row["anchor"]], positive, "; ".join(negatives)))
    return pd.DataFrame(rows, columns=["query", "a positive (similarity)", "hard negatives (similarity)"])


def false_negatives(corpus: Corpus, mined: Mined, truth: Mapping[str, str], pairs: pd.DataFrame | None = None) -> float:
    """The share of the negatives that truly mean the same as their query; NaN if the truth knows none of them.

    Args:
        truth: text_id -> meaning; see `bgetune.metrics.truth`.
        pairs: rows of `mined.candidates` to evaluate instead of the negatives.
    """
    pairs = mined.negatives if pairs is None else pairs
    query = corpus.id[mined.queries["anchor"].to_numpy()[pairs["query"]]]
    negative = corpus.id[pairs["candidate"]]
    return float(same_meaning(pd.Series(query, dtype=str), pd.Series(negative, dtype=str), truth).mean())


def ablation(
    corpus: Corpus,
    encoder: Encoder,
    reranker: Reranker | None = None,
    rules: Rules = Rules(),
    *,
    search: Search = Search(),
    truth: Mapping[str, str] | None = None,
    verdicts: Mapping[tuple[str, str], str] | None = None,
    sample: int = 300,
) -> pd.DataFrame:
    """Ablation: mine for a sample of the queries with rules turned off.

    Args:
        truth: text_id -> meaning; see `bgetune.metrics.truth`.
        verdicts: see `mining.mine`.
        sample: number of queries.

    Returns:
        One row for each setting: setting, the values of `coverage`; with a reranker, doubted (share of the negatives
        that it scores 0.5 or higher); with a truth, false_negatives (share).
    """
    safe = {"max_false_negatives": None}
    settings: dict[str, dict[str, Any]] = {
        "all rules": {},
        "without the cluster rule": {"cluster_rule": False},
        "without the window": {"window_low": None, "window_high": None},
        "probability instead of the veto": {"veto_score": None},
        "margin instead of both": {"veto_score": None, **safe, "margin": rules.for_evaluation().margin},
        "neither probability, margin nor veto": {"veto_score": None, **safe, "margin": None},
        "without any of them": {
            "cluster_rule": False, "window_low": None, "window_high": None, "margin": None, "veto_score": None,
            "promote_score": None, **safe,
        },
    }  # fmt: skip
    rows = []
    task = prepare(corpus, encoder, search=search, verdicts=verdicts, sample=sample, seed=rules.seed)
    for name, change in settings.items():
        mined = apply_rules(task, reranker, replace(rules, **change))
        row: dict[str, Any] = {"setting": name, **coverage(mined)}
        if reranker is not None:
            row["doubted"] = float(
                pd.Series(score_pairs(corpus, mined.queries, mined.negatives, reranker)).ge(0.5).mean()
            )
        if truth is not None:
            row["false_negatives"] = false_negatives(corpus, mined, truth)
        rows.append(row)
    return pd.DataFrame(rows)
