"""Pairs of texts from a file or stdin, for the command lines."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from bgetune.data import labels
from bgetune.data.tabular import read_source, read_table
from bgetune.errors import InputError
from bgetune.files import is_pattern
from bgetune.locale import _


def read_pairs(
    location: str, columns: str = "query,document", label: str | None = None, sql: str | None = None
) -> pd.DataFrame:
    """The pairs of a file, or of csv on stdin; encoding and delimiter are recognised.

    Args:
        location: the file, or ``-``; with `bgetune[sources]` whatever a source of a profile can be.
        columns: names of the two text columns, separated by a comma.
        label: name of a column with 1 or 0, or words such as yes and no.
        sql: the query, where the location is a database.

    Returns:
        All columns of the file as strings, the two texts as ``query`` and ``document``, and ``label`` as integers.
        Another column that has such a name already becomes ``query.1`` and so on.

    Raises:
        InputError: naming the file, and line or column.
    """
    query, _comma, document = (part.strip() for part in columns.partition(","))
    named = [query, document, *([label] if label else [])]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise InputError(
            _("column {name!r} is named twice by --columns and --label; give each a column of its own").format(
                name=twice
            )
        )
    wanted = dict(zip(named, ("query", "document", "label"), strict=False))
    if sql is not None:
        table = _read(Path(location), location, list(wanted), sql)
    elif location != "-":
        if "://" not in location and not is_pattern(location) and not Path(location).exists():
            raise InputError(_("{location}: no such file; correct the path").format(location=location))
        table = _read(Path(location), location, list(wanted))
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "stdin.csv"
            file.write_bytes(sys.stdin.buffer.read())
            table = _read(file, "stdin", list(wanted))
    others = {name: f"{name}.1" for name in wanted.values() if name not in wanted}
    table = table.rename(columns=others | wanted)
    if label:
        numbers = table["label"].map(labels.number)
        wrong = table.index[~numbers.isin([0, 1])]
        if len(wrong):
            name, value = "stdin" if location == "-" else location, table["label"][wrong[0]]
            raise InputError(
                _("{name}, row {row}: column {label!r} is 1 or 0, not {value!r}").format(
                    name=name, row=wrong[0] + 1, label=label, value=value
                )
            )
        table["label"] = numbers.astype(int)
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
            _("{empty} of {pairs} pairs have an empty text and get no score; the first: row {first}").format(
                empty=empty.sum(), pairs=len(pairs), first=first
            ),
            file=sys.stderr,
        )
    return empty


def check_limit(limit: int) -> None:
    """Refuse a `--limit` below 1."""
    if limit < 1:
        raise InputError(_("--limit is {limit}; give 1 or more").format(limit=limit))


def at_most(pairs: pd.DataFrame, limit: int) -> pd.DataFrame:
    """The pairs, or a random sample of so many of them, always the same."""
    return pairs.sample(limit, random_state=42) if len(pairs) > limit else pairs


def check_target(file: str) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
        InputError: if its folder does not exist or may not be written to, or the file is a folder itself.
    """
    folder = Path(file).parent
    if Path(file).is_dir():
        raise InputError(_("{path}: a folder; give a file in it").format(path=file))
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InputError(
            _("{file}: nothing can be written to {folder}; make this folder, or give another").format(
                file=file, folder=folder
            )
        )


def _read(file: Path, name: str, wanted: list[str], sql: str | None = None) -> pd.DataFrame:
    elsewhere = "://" in name or (is_pattern(name) and not file.exists())
    if sql is not None or elsewhere:
        # as for files: relative patterns start at the working directory
        table = read_source(name if "://" in name else str(file.absolute()), sql, name=name)
    else:
        table = read_table(file, name, wanted)
    for column in wanted:
        if column not in table:
            there = ", ".join(table.columns)
            raise InputError(
                _("{name}: no column {column!r}; there are: {there}. Name the texts with --columns A,B").format(
                    name=name, column=column, there=there
                )
            )
    return table
