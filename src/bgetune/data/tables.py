"""The tables that cross from one notebook to the next: their columns, types and rules.

`check` is called on every read and write, so a notebook never works on a table of another shape.
"""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from bgetune.errors import InputError

SOURCES = {
    "given": 1.0,
    "co_click": 0.9,
    "rewrite": 0.8,
    "qa": 0.8,
    "synonym": 0.8,
    "recall": 0.7,
    "back_translation": 0.6,
    "generated": 0.5,
    "neighbor": 0.4,
}
"""The pyramid of trust: where an edge of the positive graph comes from, and how far its weight can reach."""

SPLITS = ("train", "dev", "test")
KINDS = ("query", "document")


def _text_id(**rules) -> pa.Column:
    return pa.Column(str, pa.Check.str_matches(r"^[0-9a-f]{16}$"), **rules)


def _not_itself(table: pd.DataFrame) -> pd.Series:
    return table["a_id"] != table["b_id"]


SCHEMAS = {
    # one row a distinct normalised text; `count` is how often the sources mention it (searches, rows)
    "texts": pa.DataFrameSchema(
        {
            "text_id": _text_id(unique=True),
            "text": pa.Column(str, pa.Check.str_length(min_value=1)),
            "kind": pa.Column(str, pa.Check.isin(KINDS)),
            "count": pa.Column("int64", pa.Check.ge(1)),
        },
        strict=True,
    ),
    # the positive graph: a_id < b_id; one row a pair and source
    "edges": pa.DataFrameSchema(
        {
            "a_id": _text_id(),
            "b_id": _text_id(),
            "source": pa.Column(str, pa.Check.isin(list(SOURCES))),
            "support": pa.Column("int64", pa.Check.ge(1)),
            "weight": pa.Column("float64", [pa.Check.gt(0), pa.Check.le(1)]),
        },
        checks=pa.Check(lambda table: table["a_id"] < table["b_id"], name="a_id < b_id"),
        unique=["a_id", "b_id", "source"],
        strict=True,
    ),
    "clusters": pa.DataFrameSchema(
        {
            "text_id": _text_id(unique=True),
            "cluster_id": _text_id(),
            "split": pa.Column(str, pa.Check.isin(SPLITS)),
        },
        strict=True,
    ),
    # labelled pairs of both kinds: grade 1 = same, 0 = different; `origin` is pairs (0/1 labels) or graded
    "graded": pa.DataFrameSchema(
        {
            "a_id": _text_id(),
            "b_id": _text_id(),
            "grade": pa.Column("float64", pa.Check.in_range(0, 1)),
            "origin": pa.Column(str, pa.Check.isin(["pairs", "graded"])),
            "split": pa.Column(str, pa.Check.isin(SPLITS)),
        },
        checks=pa.Check(_not_itself, name="a_id != b_id"),
        unique=["a_id", "b_id"],
        strict=True,
    ),
    # pairs that no training sees: positives by the graph, hard negatives by the miner, random pairs; labelled pairs
    # of people are in `graded`
    "heldout": pa.DataFrameSchema(
        {
            "query_id": _text_id(),
            "text_id": _text_id(),
            "label": pa.Column("int64", pa.Check.isin([0, 1])),
            "kind": pa.Column(str, pa.Check.isin(["positive", "hard_negative", "random"])),
            "split": pa.Column(str, pa.Check.isin(["dev", "test"])),
        },
        unique=["query_id", "text_id"],
        strict=True,
    ),
    # what the miner did not take, with the first rule that rejected it
    "rejected": pa.DataFrameSchema(
        {
            "query_id": _text_id(),
            "text_id": _text_id(),
            "rank": pa.Column("int64", pa.Check.ge(1)),
            "similarity": pa.Column("float64"),
            "reranker": pa.Column("float64", nullable=True),
            "rule": pa.Column(str),
        },
        strict=True,
    ),
    # what was translated or generated: what the gate measured, and the rule that dropped it ("" = kept)
    "paraphrases": pa.DataFrameSchema(
        {
            "origin_id": _text_id(),
            "text_id": _text_id(),
            "text": pa.Column(str),
            "source": pa.Column(str, pa.Check.isin(["back_translation", "generated"])),
            "via": pa.Column(str),
            "pivot_text": pa.Column(str),
            "support": pa.Column("int64", pa.Check.ge(1)),
            "asks": pa.Column(bool),
            "change": pa.Column("float64", pa.Check.in_range(0, 1)),
            "fluency": pa.Column("float64", nullable=True),
            "agreement": pa.Column("float64", nullable=True),
            "similarity": pa.Column("float64", nullable=True),
            "own_similarity": pa.Column("float64", nullable=True),
            "other_similarity": pa.Column("float64", nullable=True),
            "reranker": pa.Column("float64", nullable=True),
            "reason": pa.Column(str),
        },
        unique=["origin_id", "text"],
        strict=True,
    ),
    # what the tuned model gets most wrong on test: `missed` (same meaning, rejected) and `accepted` (another meaning),
    # with the cosines of both models and the calibrated probability
    "mistakes": pa.DataFrameSchema(
        {
            "side": pa.Column(str, pa.Check.isin(["missed", "accepted"])),
            "query": pa.Column(str),
            "text": pa.Column(str),
            "before": pa.Column("float64"),
            "after": pa.Column("float64"),
            "probability": pa.Column("float64"),
        },
        strict=True,
    ),
    # rows that a stage did not use, counted by reason: nothing is lost in silence
    "dropped": pa.DataFrameSchema(
        {"source": pa.Column(str), "reason": pa.Column(str), "rows": pa.Column("int64"), "example": pa.Column(str)},
        strict=True,
    ),
}


def check(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table with its columns in order and of the right type.

    Args:
        name: a key of `SCHEMAS`; a table without a schema is returned as it is.

    Raises:
        InputError: naming table, column and the first offending value.
    """
    schema = SCHEMAS.get(name)
    if schema is None:
        return table
    try:
        # a fresh index: pandera cannot report duplicates under a repeated one
        return schema.validate(table.reset_index(drop=True))[list(schema.columns)]
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        raise InputError(f"table {name}: {error}") from None
