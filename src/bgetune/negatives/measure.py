"""What the report shows: the yield of each rule, what each buys, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bgetune.config.stages import HardNegatives
from bgetune.metrics.truth import same_meaning
from bgetune.models.encoder import Encoder
from bgetune.models.index import recall, search
from bgetune.models.reranker import Reranker
from bgetune.negatives.mining import RULES, Mined, ask, for_judging, mine
from bgetune.negatives.world import World

EXPECTED = ("expected_false_negatives", "expected_false_negatives_low", "expected_false_negatives_high")


def rule_yields(mined: Mined) -> pd.DataFrame:
    """What became of the candidates: rule, candidates, share, queries (that lost one or more by it), why."""
    found = mined.candidates[mined.candidates["rank"] > 0]
    rows = []
    for rule, why in RULES.items():
        lost = found[found["rule"] == rule]
        rows.append((rule, len(lost), lost["query"].nunique(), why))
    spare = found[found["rule"].eq("") & ~found["taken"]]
    rows.append(("(not needed)", len(spare), spare["query"].nunique(), "passed, but enough were taken"))
    taken = found[found["taken"]]
    rows.append(("(taken)", len(taken), taken["query"].nunique(), "hard negatives"))
    table = pd.DataFrame(rows, columns=["rule", "candidates", "queries", "why"])
    table.insert(2, "share", table["candidates"] / max(len(found), 1))
    return table


def coverage(mined: Mined, rules: HardNegatives) -> dict[str, float]:
    """How well the queries are served: queries, with_negatives and full (shares), negatives_per_query, similarity.

    Where it can be estimated, the share of the negatives that are expected to be unknown positives, too:
    expected_false_negatives, and its 90 % interval (_low, _high).
    """
    count = mined.negatives.groupby("query").size().reindex(range(len(mined.queries)), fill_value=0)
    return {
        "queries": len(count),
        "with_negatives": float((count > 0).mean()),
        "full": float((count == rules.num_negatives).mean()),
        "negatives_per_query": float(count.mean()),
        "similarity": float(mined.negatives["similarity"].mean()),
    } | ({} if mined.expected is None else dict(zip(EXPECTED, mined.expected, strict=True)))


def risk_table(
    world: World, mined: Mined, rules: HardNegatives, truth: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """What is expected of the negatives and, without any rule, of the nearest texts; the truth where it is known.

    Returns:
        Two rows: what, expected (share of unknown positives), low, high (90 % interval), true (NaN where not known).
    """
    unknown = mined.candidates[~mined.candidates["rule"].isin(["known_positive", "same_cluster"])]
    unknown = unknown[unknown["label"].isna() & unknown["rank"].gt(0)]
    nearest = unknown[unknown.groupby("query").cumcount() < rules.num_negatives]
    rows = []
    for what, expected, pairs in (
        (f"the {rules.num_negatives} nearest texts of each query", mined.risks.nearest, nearest),
        ("the hard negatives", mined.expected, mined.negatives),
    ):
        true = np.nan if truth is None else false_negatives(world, mined, truth, pairs)
        rows.append((what, *(expected or (np.nan,) * 3), true))
    return pd.DataFrame(rows, columns=["what", "expected", "low", "high", "true"])


def risk_words(mined: Mined, rules: HardNegatives) -> str:
    """In words: what is expected of the negatives, or why nothing can be."""
    if mined.expected is not None:
        share, low, high = mined.expected
        known = "; ".join(
            f"of the positives among {kind} texts about {risk.known_share:.0%} are known "
            f"({risk.interval[0]:.0%} to {risk.interval[1]:.0%})"
            for kind, risk in mined.risks.by_kind.items()
        )
        served = coverage(mined, rules)["with_negatives"]
        none = "" if served else " No text was safe enough: training goes without hard negatives."
        return f"Expected false negatives: {share:.1%} of the negatives ({low:.1%} to {high:.1%}); {known}.{none}"
    reasons = "; ".join(f"{kind}: {reason}" for kind, reason in mined.risks.reasons.items())
    return (
        f"The share of false negatives cannot be estimated ({reasons or 'no candidates'}). "
        f"Where no reranker vetoes, a margin below the known positives decides instead."
    )


def as_row(values: Mapping[str, float]) -> pd.DataFrame:
    """A table of one row."""
    return pd.DataFrame([dict(values)])


def advice(mined: Mined, rules: HardNegatives, least: float = 0.8) -> str:
    """What to change when too few queries have negatives; "" when enough have."""
    share = coverage(mined, rules)["with_negatives"]
    if share >= least:
        return ""
    starved = mined.candidates[~mined.candidates["query"].isin(mined.negatives["query"])]
    counts = starved.loc[starved["rule"].ne(""), "rule"].value_counts()
    remedies = {
        "known_positive": "search deeper (rank_max)",
        "same_cluster": "search deeper (rank_max), or look for clusters that grew too large in 01_positives",
        "missed_positive": "raise promote_score: the reranker may be too generous",
        "rank": "lower rank_min",
        "below_window": "lower window_low, or set it to null",
        "above_window": "raise window_high, or set it to null: this model's scores bunch above it",
        "margin": "lower margin or set it to null, or search deeper (rank_max)",
        "unknown_positive": "raise max_false_negatives, or join more positives: a reranker, more sources, review.csv",
        "veto": "raise veto_score, or search deeper (rank_max)",
    }
    worst = counts.index[0] if len(counts) else "rank"
    return (
        f"Only {share:.0%} of the {len(mined.queries):,} queries have a hard negative; the others train by their "
        f"positives alone. Of their candidates the rule {worst} took most ({counts.iloc[0] if len(counts) else 0:,} of "
        f"{len(starved):,}): {remedies[worst]}; or too_few: random."
    )


def similarities(mined: Mined) -> dict[str, dict[str, np.ndarray]]:
    """Of positives, nearest candidates and negatives: similarities as the model scores, and after whitening."""
    panels = {}
    for title, positives, column in (
        ("As the model scores", "similarities", "similarity"),
        ("With the common drift taken out", "whitened", "whitened"),
    ):
        panels[title] = {
            "positives": np.concatenate(mined.queries[positives].to_numpy()),
            "nearest candidates": mined.candidates.loc[mined.candidates["rank"] > 0, column].to_numpy(),
            "negatives taken": mined.negatives[column].to_numpy(),
        }
    return panels


def search_quality(
    world: World, encoder: Encoder, rules: HardNegatives, sample: int = 500, k: int = 20
) -> pd.DataFrame:
    """What is lost by an index that is not exact and by a precision that is not float32, on a sample of the texts.

    Returns:
        One row each, none where nothing is lost: what, texts searched, queries, overlap (the share of the exact
        `k` nearest of a query that are found).
    """
    texts = world.text[world.split == "train"]
    drawn = np.sort(np.random.default_rng(rules.seed).permutation(len(texts))[:sample])
    rows = []
    if rules.index != "Flat":
        vectors = encoder.encode(texts)
        options = {"search_params": rules.search_params, "memory_mb": rules.memory_mb, "seed": rules.seed}
        found, exact = (search(vectors[drawn], vectors, k, name, **options) for name in (rules.index, "Flat"))
        rows.append((f"index {rules.index} for Flat", len(texts), len(drawn), recall(found[1], exact[1])))
    if encoder.precision != "float32":
        settings = {name: getattr(encoder, name) for name in ("prompts", "max_length", "device")} | {"cache_dir": None}
        encoders = encoder, Encoder(encoder.folder, **settings)
        found, exact = (search(v, v, k)[1] for v in (e.encode(texts[drawn], progress=False) for e in encoders))
        rows.append((f"{encoder.precision} for float32", len(drawn), len(drawn), recall(found, exact)))
    return pd.DataFrame(rows, columns=["what", "texts", "queries", f"overlap of the {k} nearest"])


def examples(world: World, mined: Mined, count: int = 8) -> pd.DataFrame:
    """Some queries, spread over the data, with a positive of each and its negatives."""
    served = sorted(mined.negatives["query"].unique())
    rows = []
    for query in served[:: max(len(served) // count, 1)][:count]:
        taken = mined.negatives[mined.negatives["query"] == query].sort_values("rank")
        row = mined.queries.loc[query]
        negatives = [f"{world.text[n]} ({s:.2f})" for n, s in zip(taken["candidate"], taken["similarity"], strict=True)]
        positive = f"{world.text[row['positives'][0]]} ({row['similarities'][0]:.2f})"
        rows.append((world.text[row["anchor"]], positive, "; ".join(negatives)))
    return pd.DataFrame(rows, columns=["query", "a positive (similarity)", "hard negatives (similarity)"])


def false_negatives(world: World, mined: Mined, truth: Mapping[str, str], pairs: pd.DataFrame | None = None) -> float:
    """The share of the negatives that truly mean the same as their query; NaN where no truth is known.

    Args:
        truth: text_id -> meaning; see `bgetune.metrics.truth`.
        pairs: rows of `mined.candidates` to judge instead of the negatives.
    """
    pairs = mined.negatives if pairs is None else pairs
    query = world.id[mined.queries["anchor"].to_numpy()[pairs["query"]]]
    negative = world.id[pairs["candidate"]]
    return float(same_meaning(pd.Series(query, dtype=str), pd.Series(negative, dtype=str), truth).mean())


def ablation(
    world: World,
    encoder: Encoder,
    rules: HardNegatives,
    reranker: Reranker | None,
    truth: Mapping[str, str] | None = None,
    verdicts: Mapping[tuple[str, str], str] | None = None,
    sample: int = 300,
) -> pd.DataFrame:
    """What each rule buys: mining a sample of the queries again with one rule turned off.

    Returns:
        One row a setting: queries with negatives, negatives a query, mean similarity, share of negatives that the
        reranker doubts (score at or over 0.5) and, with a truth, share of false negatives.
    """
    safe = {"max_false_negatives": None}
    settings = {
        "all rules": {},
        "without the cluster rule": {"cluster_rule": False},
        "without the window": {"window_low": None, "window_high": None},
        "probability instead of the veto": {"veto_score": None},
        "margin instead of both": {"veto_score": None, **safe, "margin": for_judging(rules).margin},
        "neither probability, margin nor veto": {"veto_score": None, **safe, "margin": None},
        "without any of them": {
            "cluster_rule": False, "window_low": None, "window_high": None, "margin": None, "veto_score": None,
            "promote_score": None, **safe,
        },
    }  # fmt: skip
    rows = []
    for name, change in settings.items():
        changed = rules.model_copy(update=change)
        mined = mine(world, encoder, changed, reranker, verdicts=verdicts, sample=sample)
        row = {"setting": name, **coverage(mined, changed)}
        if reranker is not None:
            row["doubted"] = float(pd.Series(ask(world, mined.queries, mined.negatives, reranker)).ge(0.5).mean())
        if truth is not None:
            row["false_negatives"] = false_negatives(world, mined, truth)
        rows.append(row)
    return pd.DataFrame(rows)
