"""The tables that cross from one notebook to the next: their columns, types and rules.

`check` is called on every read and write, so a notebook never works on a table of another shape.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrorReason

from bgetune.errors import InternalError

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
    # what runs on all data decided, for later runs in the same folder
    "splits": pa.DataFrameSchema(
        {"text_id": _text_id(unique=True), "split": pa.Column(str, pa.Check.isin(SPLITS))}, strict=True
    ),
    # labelled pairs of both kinds: grade 1 = same, 0 = different; `label` says which pairs mean the same, the one place
    # where `positive_grade` is applied to them; `origin` is pairs (0/1 labels) or graded
    "graded": pa.DataFrameSchema(
        {
            "a_id": _text_id(),
            "b_id": _text_id(),
            "grade": pa.Column("float64", pa.Check.in_range(0, 1)),
            "label": pa.Column("int64", pa.Check.isin([0, 1])),
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
    """The table with its columns in order and of the types that its schema names.

    An empty column has no type of its own, and pandas gives a column of whole numbers or texts several: what can take
    the schema's type without a change of any value takes it.

    Args:
        name: a key of `SCHEMAS`; a table without a schema is returned as it is.

    Raises:
        InternalError: naming table, column and the first offending value.
    """
    schema = SCHEMAS.get(name)
    if schema is None:
        return table
    # a fresh index: pandera cannot report duplicates under a repeated one
    table = table.reset_index(drop=True)
    types = {column: _plain_type(rule) for column, rule in schema.columns.items() if column in table}
    table = table.assign(**{column: _cast(table[column], dtype) for column, dtype in types.items()})
    try:
        return schema.validate(table)[list(schema.columns)]
    except pa.errors.SchemaErrors as error:
        complaints = (str(one["error"]) for kind in error.message["SCHEMA"].values() for one in kind)
        complaint = "; ".join(re.sub(" not in DataFrameSchema.*", " is not in its schema", each) for each in complaints)
        raise InternalError(f"table {name}: {complaint}") from None
    except pa.errors.SchemaError as error:
        raise InternalError(f"table {name}: {_complaint(error, table)}") from None


def _plain_type(rule: pa.Column) -> str:
    return "str" if "str" in str(rule.dtype) else str(rule.dtype)


def _cast(values: pd.Series, dtype: str) -> pd.Series:
    """The values in another type, or as they are where that would change one of them."""
    if dtype == "str":
        return values.astype(str) if all(isinstance(value, str) for value in values) else values
    try:
        cast = values.astype(dtype)
    except (TypeError, ValueError):
        return values
    same = (cast == values) | (cast.isna() & values.isna())
    return cast if same.all() else values


def _complaint(error: pa.errors.SchemaError, table: pd.DataFrame) -> str:
    """A failure in one line: column, first offending value, rule."""
    column = error.schema.name if isinstance(error.schema, pa.Column) else None
    place = f"column {column}: " if column else ""
    if error.reason_code == SchemaErrorReason.WRONG_DATATYPE:
        return f"{place}not of type {_plain_type(error.schema)}, for example {_shown(table[column].iloc[0])}"
    cases = error.failure_cases
    if not isinstance(cases, pd.DataFrame) or cases.empty:
        return place + " ".join(str(error).split())
    value = cases["failure_case"].iloc[0]
    rule = getattr(error.check, "name", None) or error.check or error.reason_code.name.lower()
    return f"{place}{_shown(value)} ({rule})"


def _shown(value: Any) -> str:
    return repr(value.item() if hasattr(value, "item") else value)
