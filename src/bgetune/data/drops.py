"""Rows that are not used, counted by reason, with an example that may be shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from bgetune.data.text import mask_personal_data, normalize
from bgetune.errors import InputError, joined
from bgetune.locale import _
from bgetune.locale.words import said

ROUNDED = "rounded by Excel, so that different ones are one: format the column as text before saving"
"""Said of ids such as 1.23457E+18."""
ROUNDED_FORM = r"[0-9]([.][0-9]+)?E[+][0-9]{2}"


def dropped_rows(rows: Iterable[tuple[str, str, int, Any]]) -> pd.DataFrame:
    """A `dropped` table (see `tables.SCHEMAS`) of (source, reason, rows, example), examples masked and shortened."""
    rows = [(source, reason, int(count), _shown(example)) for source, reason, count, example in rows if count]
    table = pd.DataFrame(rows, columns=["source", "reason", "rows", "example"])
    return table.astype({"source": str, "reason": str, "rows": "int64", "example": str})


def counted_drops(
    name: str,
    counts: Sequence[Sequence[Any]],
    ids: Sequence[str],
    lost: Iterable[tuple[str, str, int, str]] = (),
) -> pd.DataFrame:
    """The `dropped` table of a source whose rows were counted by reason.

    `attrs["rows"]` says how many rows the source has in all: {name of the source: rows}.

    Args:
        name: of the source.
        counts: a row for each reason, None for used rows: reason, rows, example; for each of `ids` how many were
            read as missing and an example; for each of `ids` how many were rounded and an example.
        ids: columns of a click log that are no texts.
        lost: what of the files is no row: (source, reason, rows, example).

    Raises:
        InputError: if no row can be used.
    """
    dropped = [*lost, *((name, why, rows, example) for why, rows, example, *_more in counts if why)]
    for number, column in enumerate(ids):
        for at, said_of in ((number, "read as missing"), (len(ids) + number, ROUNDED)):
            found = [row[3 + 2 * at : 5 + 2 * at] for row in counts if row[0] is None]
            dropped += [(name, f"{column} {said_of} (the row is used)", rows, value) for rows, value in found]
    table = dropped_rows(dropped)
    table.attrs["rows"] = {name: int(sum(row[1] for row in counts) + sum(rows for *_source, rows, _value in lost))}
    if all(why for why, *_rest in counts):
        each = _("{reason}: {rows} rows, such as {example!r}")
        reasons = [
            each.format(reason=said(row.reason), rows=row.rows, example=row.example) for row in table.itertuples()
        ]
        raise InputError(
            _("{source}: no row can be used ({reasons}); correct the file, or the columns").format(
                source=name, reasons=joined(*reasons) or _("there are none")
            )
        )
    return table


def _shown(example: Any) -> str:
    text = mask_personal_data(normalize("" if example is None else str(example)))[0]
    return text if len(text) <= 60 else text[:59] + "…"
