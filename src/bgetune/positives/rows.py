"""Rows of the tables that the sources become: texts, edges, dropped rows."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from bgetune.config.sources import Source
from bgetune.data import sources, text
from bgetune.data.drops import dropped_rows
from bgetune.data.text import Normalizer

Columns = dict[str, str | type]
"""Name of a column -> its dtype."""

EDGES: Columns = {"a_id": str, "b_id": str, "source": str, "support": "int64", "weight": "float64"}
TEXTS: Columns = {"text_id": str, "text": str, "kind": str, "count": "int64"}


def make_table(rows: list[tuple], columns: Columns) -> pd.DataFrame:
    """A table of these rows and columns."""
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def with_columns(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """These columns of a table, with their dtypes and a new index."""
    return table[list(columns)].astype(columns).reset_index(drop=True)


def normalise(raw: pd.Series, normalizer: Normalizer, masked: Counter[str]) -> pd.DataFrame:
    """text_id and text (normalised and masked) of raw texts, with the index of `raw`.

    Args:
        masked: kind of personal data -> how often it was masked; the counts of these texts are added.
    """
    form, ids = {}, {}
    for value in raw.unique():
        form[value], found = normalizer.masked(value)
        ids[value] = text.text_id(form[value])
        masked.update(found)
    return pd.DataFrame({"text_id": raw.map(ids), "text": raw.map(form)}, index=raw.index).astype(str)


def in_sample(ids: pd.Series, fraction: float) -> pd.Series:
    """Whether each text is in the sample; this depends on its id alone, so that all sources agree."""
    return ids.map(lambda text_id: id_in_sample(text_id, fraction)).astype(bool)


def id_in_sample(text_id: str, fraction: float) -> bool:
    """Whether a text is in the sample of this share."""
    return int(text_id, 16) < fraction * 16**16


def count_texts(normalised: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The table `texts` of one kind: one row for each distinct text of `normalise`, with its count."""
    counted = normalised.groupby(["text_id", "text"], as_index=False).size().rename(columns={"size": "count"})
    return with_columns(counted.assign(kind=kind), TEXTS)


def merge_texts(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Several tables `texts` as one: counts are added, and a text that is a query in one of them is a query."""
    every = pd.concat([make_table([], TEXTS), *tables]).groupby("text_id", as_index=False)
    # "query" is the greater of the two kinds
    return with_columns(every.agg(text=("text", "first"), kind=("kind", "max"), count=("count", "sum")), TEXTS)


def dropped_row(source: Source, reason: str, examples: pd.Series) -> pd.DataFrame:
    """The table `dropped` for the texts of a source that are left out for one reason; empty for no texts."""
    example = examples.iloc[0] if len(examples) else ""
    return dropped_rows([(sources.label(source), reason, len(examples), example)])
