"""Rows that are not used, counted by reason, with an example that may be shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from bgetune.data import labels
from bgetune.data.text import mask_personal_data, normalize
from bgetune.errors import InputError, joined
from bgetune.locale import _
from bgetune.locale.words import said

ROUNDED = "rounded by Excel, so that different ones are one: format the column as text before saving"
"""Said of ids such as 1.23457E+18."""
ROUNDED_FORM = r"[0-9]([.][0-9]+)?[eE][+][0-9]{2}"


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
    unread: Sequence[str] = (),
) -> pd.DataFrame:
    """The `dropped` table of a source whose rows were counted by reason.

    `attrs["rows"]` says how many rows the source has in all: {name of the source: rows}.

    Args:
        name: of the source.
        counts: a row for each reason, None for used rows: reason, rows, example; for each of `ids` how many were
            read as missing and an example; for each of `ids` how many were rounded and an example; for each of `unread`
            how many could not be read and an example.
        ids: columns of a click log that are no texts.
        lost: what of the files is no row: (source, reason, rows, example).
        unread: columns of numbers without which a row can be used.

    Raises:
        InputError: if no row can be used.
    """
    dropped = [*lost, *((name, why, rows, example) for why, rows, example, *_more in counts if why)]
    notes = [(column, said_of) for said_of in ("read as missing", ROUNDED) for column in ids]
    notes += [(column, "not readable as a number") for column in unread]
    used = next((row for row in counts if row[0] is None), None)
    told = zip(used[3::2], used[4::2], strict=True) if used else ()
    for (column, said_of), (rows, value) in zip(notes, told, strict=False):
        dropped.append((name, f"{column} {said_of} (the row is used)", rows, value))
    table = dropped_rows(dropped)
    table.attrs["rows"] = {name: int(sum(row[1] for row in counts) + sum(rows for *_source, rows, _value in lost))}
    if all(why for why, *_rest in counts):
        each = _("{reason}: {rows} rows, such as {example!r}")
        reasons = [
            each.format(reason=said(row.reason), rows=row.rows, example=row.example) for row in table.itertuples()
        ]
        raise InputError(
            joined(
                _("{source}: no row can be used ({reasons}); correct the file, or the columns").format(
                    source=name, reasons=joined(*reasons) or _("there are none")
                ),
                *map(_remedy, table["reason"]),
            )
        )
    return table


def _remedy(reason: str) -> str:
    """What to do about a reason that one parameter or spelling may explain; else ""."""
    if reason == "fewer than two words":
        return _("set separator to what stands between the words, such as separator: '、'")
    if reason == "label is no number":
        return _("labels are {accepted}").format(accepted=labels.accepted())
    if reason == "clicked is neither yes nor no":
        return _("clicked_column holds 1 and 0, or words such as {words}").format(
            words=", ".join(labels.CLICKED + labels.SHOWN)
        )
    return ""


def _shown(example: Any) -> str:
    text = mask_personal_data(normalize("" if example is None else str(example)))[0]
    return text if len(text) <= 60 else text[:59] + "…"
