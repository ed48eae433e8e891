"""A new model beside the old, on the same traffic: which decisions change, and what it means for stored vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.locale import N_, _
from bgetune.runs.manifest import artifact_path, find
from bgetune.scoring.adapter import Adapter
from bgetune.scoring.scorer import Scorer, corpus, prompts_for

EXAMPLES = 10
"""Pairs shown whose probability changed most."""

FITTED = 2000
"""Most texts of the corpus that an adapter is fitted on, and at most half of them."""

QUERIES = 300
"""Most test queries that the indexes are measured with."""

WORDS = (
    *(N_("old_accepts"), N_("new_accepts"), N_("changed"), N_("newly_accepted"), N_("newly_rejected")),
    *(N_("old"), N_("new"), N_("rebuilt"), N_("old model"), N_("ridge"), N_("procrustes")),
)
"""Names of columns and rows here, for the catalogues: `tables.table` looks them up."""


@dataclass(frozen=True)
class Shadow:
    """Decisions of two runs on the same pairs.

    Attributes:
        pairs: number.
        same_vectors: whether vectors of one model can be compared with vectors of the other.
        rank_correlation: Spearman's, of the cosines.
        decisions: a row each precision that either run was asked for: ``precision, old_accepts, new_accepts, changed,
            newly_accepted, newly_rejected``, shares of the pairs; None where a run does not guarantee it.
        examples: ``query, document, old, new``: the largest changes of the calibrated probability; the texts with
            personal data masked as in either run.
    """

    pairs: int
    same_vectors: bool
    rank_correlation: float | None
    decisions: list[dict[str, float | None]]
    examples: list[dict[str, Any]]


def compare(old: Scorer, new: Scorer, pairs: pd.DataFrame) -> Shadow:
    """Score the same pairs with both runs.

    Args:
        pairs: ``query, document``; one or more, none of them empty.
    """
    from scipy.stats import spearmanr

    runs = {"old": old, "new": new}
    cosines = {name: scorer.similarity(pairs["query"], pairs["document"]) for name, scorer in runs.items()}
    asked = {name: _guaranteed(scorer) for name, scorer in runs.items()}
    decisions = []
    for precision in sorted(asked["old"].keys() | asked["new"].keys()):
        row: dict[str, float | None] = {"precision": precision}
        accepts = {}
        for name in runs:
            if (threshold := asked[name].get(precision)) is not None:
                accepts[name] = cosines[name] >= threshold
            row[f"{name}_accepts"] = float(accepts[name].mean()) if name in accepts else None
        both = len(accepts) == len(runs)
        row["changed"] = float((accepts["old"] != accepts["new"]).mean()) if both else None
        row["newly_accepted"] = float((accepts["new"] & ~accepts["old"]).mean()) if both else None
        row["newly_rejected"] = float((accepts["old"] & ~accepts["new"]).mean()) if both else None
        decisions.append(row)
    probabilities = pd.DataFrame({name: scorer.calibrate(cosines[name]) for name, scorer in runs.items()})
    change = (probabilities["new"] - probabilities["old"]).abs().sort_values(ascending=False, kind="stable")
    shown = change.index[:EXAMPLES]
    # users' texts: what one of the runs masks is shown nowhere
    texts = pairs[["query", "document"]].iloc[shown].map(lambda text: new.normal(old.normal(text)))
    examples = texts.reset_index(drop=True).join(probabilities.loc[shown].reset_index(drop=True))
    constant = any(np.ptp(values) == 0 for values in cosines.values())
    return Shadow(
        pairs=len(pairs),
        same_vectors=same_vectors(old, new),
        rank_correlation=None if constant else float(spearmanr(cosines["old"], cosines["new"]).statistic),
        decisions=decisions,
        examples=examples.to_dict("records"),
    )


def same_vectors(old: Scorer, new: Scorer) -> bool:
    """Whether both runs give a text the same vector: same weights, prompts, length and form of the texts."""
    same = ("fingerprint", "max_length", "prompts")
    return old.settings["normalization"] == new.settings["normalization"] and all(
        old.settings["model"][key] == new.settings["model"][key] for key in same
    )


def _guaranteed(scorer: Scorer) -> dict[float, float]:
    """Each wanted precision with its threshold, None where it is not guaranteed."""
    return {row["precision"]: row["threshold"] for row in scorer.settings["thresholds"]["precision"]}


def indexes(old: Scorer, new: Scorer, *, k: int = 10, seed: int = 42) -> tuple[dict[str, Adapter], pd.DataFrame]:
    """Adapters for the old vectors of the new run's corpus, and what each index finds for the new run's test queries.

    Adapters are fitted on a random part of the corpus and applied to all of it, as in an index that is not rebuilt.

    Returns:
        method -> adapter, and a table: ``recall`` and ``mrr`` at k, by what the index holds: ``rebuilt`` (the new
        model's vectors), the adapters, ``old`` (the old model's vectors as they are, where they have the dimension of
        the new), ``old model`` (the old model's vectors for its own queries). Empty if there are no test queries.

    Raises:
        InputError: if `bgetune[notebooks]` is not installed, which the measures need.
    """
    try:
        from bgetune.metrics import retrieval
        from bgetune.scoring import pairs as judged_pairs, search
    except ModuleNotFoundError as error:
        message = _("an adapter is measured with {module}; pip install 'bgetune[notebooks]'")
        raise InputError(message.format(module=error.name)) from None
    tables = {name: pd.read_parquet(artifact_path(new.run_dir, name)) for name in ("texts", "clusters")}
    graded = None
    if find(new.run_dir, "graded", before=None) is not None:
        graded = pd.read_parquet(artifact_path(new.run_dir, "graded"))
    searched = corpus(tables["texts"])
    clusters = tables["clusters"]
    relevance = judged_pairs.relevance(clusters, pd.Index(searched["text_id"]), clusters, graded)
    queries = search.sample_queries(tables["texts"], clusters, relevance, "test", QUERIES, seed)
    vectors, asked = {}, {}
    for name, scorer in (("old", old), ("new", new)):
        before_query, before_text = prompts_for(scorer.encoder.prompts, searched)
        vectors[name] = scorer.encoder.encode(searched["text"].tolist(), prompt=before_text, progress=False)
        if len(queries):
            asked[name] = scorer.encoder.encode(queries["text"].tolist(), prompt=before_query, progress=False)
    count = min(FITTED, -(-len(searched) // 2))
    part = np.random.default_rng(seed).permutation(len(searched))[:count]
    models = old.settings["model"]["fingerprint"], new.settings["model"]["fingerprint"]
    adapters = {
        method: Adapter.fit(vectors["old"][part], vectors["new"][part], models=models, method=method)
        for method in ("procrustes", "ridge")
    }
    held = {"rebuilt": vectors["new"]} | {name: made.apply(vectors["old"]) for name, made in adapters.items()}
    if vectors["old"].shape == vectors["new"].shape:
        held["old"] = vectors["old"]
    rows = {}
    if len(queries):
        indexed = {name: (asked["new"], values) for name, values in held.items()}
        for name, (questions, values) in (indexed | {"old model": (asked["old"], vectors["old"])}).items():
            found = retrieval.nearest(queries["text_id"], questions, searched["text_id"], values, k)
            ranked = {query: part["text_id"].tolist() for query, part in found.groupby("query_id", sort=False)}
            rows[name] = retrieval.evaluate(ranked, {query: relevance[query] for query in ranked}, k).mean()
    return adapters, pd.DataFrame(rows).T.reindex(columns=["recall", "mrr"])


def as_json(shadow: Shadow, table: pd.DataFrame | None) -> dict[str, Any]:
    """The comparison for programs."""
    return asdict(shadow) | ({} if table is None else {"indexes": table.to_dict("index")})
