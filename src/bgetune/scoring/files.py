"""Pairs of texts from a file or stdin, for the command lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from bgetune.errors import InputError


def read_pairs(location: str, columns: str = "query,document", label: str | None = None) -> pd.DataFrame:
    """The pairs of a csv, tsv or jsonl file (.gz too), or of csv on stdin.

    Args:
        location: the file, or ``-``.
        columns: names of the two text columns, separated by a comma.
        label: name of a column with 1 or 0.

    Returns:
        All columns of the file as strings, the two texts as ``query`` and ``document``, and ``label`` as integers.

    Raises:
        InputError: naming the file, and line or column.
    """
    name = "stdin" if location == "-" else location
    if location != "-" and not Path(location).is_file():
        raise InputError(f"{location}: no such file; correct the path")
    try:
        table = _read(location)
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{name}: empty; the first line names the columns, for example: query,document") from None
    except (pd.errors.ParserError, ValueError) as error:
        raise InputError(
            f"{name}: cannot be read: {str(error).splitlines()[0]}; save it as csv, tsv or jsonl"
        ) from None
    query, _, document = (part.strip() for part in columns.partition(","))
    wanted = {query: "query", document: "document"} | ({label: "label"} if label else {})
    for column in wanted:
        if column not in table:
            there = ", ".join(map(str, table.columns))
            raise InputError(f"{name}: no column {column!r}; there are: {there}. Name the texts with --columns A,B")
    table = table.rename(columns=wanted)
    if label:
        wrong = table.index[~table["label"].isin(["0", "1"])]
        if len(wrong):
            value = table["label"][wrong[0]]
            raise InputError(f"{name}, row {wrong[0] + 1}: column {label!r} is 1 or 0, not {value!r}")
        table["label"] = table["label"].astype(int)
    return table


def without_text(pairs: pd.DataFrame, normal: Callable[[str], str]) -> np.ndarray:
    """(n,) bool: pairs of which a text is empty in its normal form; said on stderr, for there is nothing to score.

    Args:
        pairs: as `read_pairs` returns them.
        normal: a text -> its normal form (`Scorer.normal`).
    """
    empty = ~pairs[["query", "document"]].map(lambda text: bool(normal(text))).all(axis=1).to_numpy()
    if empty.any():
        first = pairs.index[empty.argmax()] + 1
        print(
            f"{empty.sum()} of {len(pairs)} pairs have an empty text and get no score; the first: row {first}",
            file=sys.stderr,
        )
    return empty


def _read(location: str) -> pd.DataFrame:
    source = sys.stdin.buffer if location == "-" else location
    suffixes = Path(location).suffixes
    if ".jsonl" in suffixes or ".ndjson" in suffixes:
        return pd.read_json(source, lines=True, dtype=False).astype(str)
    separator = "\t" if ".tsv" in suffixes else ","
    return pd.read_csv(source, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
