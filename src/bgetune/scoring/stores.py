"""Cosine thresholds in the terms of vector stores: what each calls its bound, and the number to write there.

Every bound is rounded to six digits to the strict side, so that a store never accepts what the threshold does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bgetune.locale import LANGUAGES, N_, _, translator
from bgetune.metrics import worth

DIGITS = 6
HEADS = (N_("cosine"), N_("meaning"), N_("store"), N_("compares"), N_("write"))
"""Of the columns of a model card's tables."""


@dataclass(frozen=True)
class Store:
    """A vector store, or one of its ways to give a bound.

    Attributes:
        name: of the store, with what the field or index must be.
        line: how the bound is written; `{}` is the number.
        formula: what the store compares, in terms of the cosine.
        reported: the same as a function of the cosine.
        rises: whether it rises with the cosine: a similarity, whose bound is a minimum; else a distance.
    """

    name: str
    line: str
    formula: str
    reported: Callable[[float], float]
    rises: bool = True

    def bound(self, cosine: float) -> float:
        """The number to write for a cosine threshold."""
        scale = 10**DIGITS
        # without the last bits of float arithmetic, which would take a whole unit: 1 - 0.9 is 0.09999999999999998
        exact = round(self.reported(cosine) * scale, 6)
        return float(np.ceil(exact) if self.rises else np.floor(exact)) / scale

    def written(self, cosine: float) -> str:
        """The line with its number."""
        return self.line.replace("{}", f"{self.bound(cosine):.{DIGITS}f}")


def _same(cosine: float) -> float:
    return cosine


def _shifted(cosine: float) -> float:
    return (1 + cosine) / 2


STORES = {
    "elasticsearch_min_score": Store(
        N_("Elasticsearch, dense_vector with similarity cosine"), '"min_score": {}', "(1 + cosine) / 2", _shifted
    ),
    "elasticsearch_knn_similarity": Store(
        N_("Elasticsearch, inside of knn"), '"knn": {..., "similarity": {}}', "cosine", _same
    ),
    "opensearch_min_score": Store(
        N_("OpenSearch 2.19 or later, knn_vector with space_type cosinesimil"),
        '"min_score": {}',
        "(1 + cosine) / 2",
        _shifted,
    ),
    "milvus_radius": Store(
        N_("Milvus, metric COSINE"),
        'search_params={"params": {"radius": {}}}',
        N_("cosine, more than the bound"),
        _same,
    ),
    "qdrant_score_threshold": Store("Qdrant, Distance.COSINE", "score_threshold={}", "cosine", _same),
    "pgvector_distance": Store(
        N_("pgvector, cosine distance"), "WHERE embedding <=> $1 <= {}", "1 - cosine", lambda cosine: 1 - cosine, False
    ),
    "faiss_inner_product": Store("FAISS, METRIC_INNER_PRODUCT", "distances >= {}", "cosine", _same),
    "faiss_l2": Store(
        N_("FAISS, METRIC_L2 (squared distances)"),
        "distances <= {}",
        "2 - 2 cosine",
        lambda cosine: 2 - 2 * cosine,
        False,
    ),
}
"""What `scoring.json` calls a bound -> the store."""


def bounds(guarantees: Sequence[Mapping[str, Any]], origin: str | None = None) -> list[dict[str, Any]]:
    """The thresholds of the precisions that are guaranteed, with their meaning and their bounds in every store.

    Args:
        guarantees: with ``precision, confidence, threshold, recall``, as `Thresholds.to_dict` gives them.
        origin: of the pairs that they were chosen on; what no person made is named in their meaning.
    """
    return [
        {
            "precision": row["precision"],
            "confidence": row["confidence"],
            "cosine": row["threshold"],
            "meaning": meaning(row, worth.mark(origin)),
            "bounds": {name: store.bound(row["threshold"]) for name, store in STORES.items()},
        }
        for row in guarantees
        if row["threshold"] is not None
    ]


def meaning(guarantee: Mapping[str, Any], mark: str = "") -> str:
    """A precision guarantee in one sentence, which ends with the mark of the pairs that it holds for (see `worth`)."""
    sentence = _(
        "of the pairs with this cosine or more, at least {precision:.0%} mean the same (with {confidence:.0%} "
        "confidence); they are {recall:.0%} of the pairs that do"
    )
    said = sentence.format(**{name: guarantee[name] for name in ("precision", "confidence", "recall")})
    return _("{sentence}; measured on {pairs}").format(sentence=said, pairs=mark) if mark else said


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What to write: a row for each store, a column for each guaranteed precision. Empty where none is guaranteed.

    Args:
        rows: as `bounds` returns them.
    """
    if not rows:
        return pd.DataFrame(columns=[N_("store"), N_("compares")])
    names = {"store": [s.name for s in STORES.values()], "compares": [s.formula for s in STORES.values()]}
    head = _("precision {precision:g}")
    lines = {
        head.format(precision=row["precision"]): [s.written(row["cosine"]) for s in STORES.values()] for row in rows
    }
    return pd.DataFrame(names | lines)


def section(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown for a model card: the thresholds as numbers, and the line of every store for the first of them."""
    if not rows:
        return _("The calibration pairs guarantee no precision; `scoring.json` says how many more it takes.") + "\n"
    numbers = "\n".join(f"| {row['cosine']:.{DIGITS}f} | {row['meaning']} |" for row in rows)
    first = rows[0]
    lines = "\n".join(
        f"| {_(store.name)} | {_(store.formula)} | `{store.written(first['cosine'])}` |" for store in STORES.values()
    )
    cosine, means, store, compares, write = map(_, HEADS)
    own = _("Of this model's vectors alone; a threshold of its base, or of another model, means nothing here.")
    there = _("In a vector store, for the precision of {precision:.0%} (the others: `scoring.json`, `stores`):")
    return f"""{own}

| {cosine} | {means} |
| --- | --- |
{numbers}

{there.format(precision=first["precision"])}

| {store} | {compares} | {write} |
| --- | --- | --- |
{lines}
"""


def complete(card: str, rows: Sequence[Mapping[str, Any]], caution: str = "") -> str:
    """A model card, in any language, with the numbers in its section Thresholds, before what that says already.

    Args:
        caution: what to think of these numbers, to stand first (see `worth.caution`).
    """
    first = f"**{caution}**\n\n" if caution else ""
    titles = "|".join(re.escape(translator(language).gettext("Thresholds")) for language in LANGUAGES)
    return re.sub(rf"(?m)^## ({titles})\n\n", lambda found: f"{found.group()}{first}{section(rows)}\n", card, count=1)
