"""A source opened: its parts, and the wanted columns of all of them as one view of DuckDB."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from bgetune.config.sources import Source
from bgetune.data import missing, places
from bgetune.data.databases import label
from bgetune.data.engine import connect, identifier, literal, numbers
from bgetune.data.formats import MAX_EXAMPLE, open_database, open_place
from bgetune.data.parts import Opened, Part, reading
from bgetune.errors import InputError
from bgetune.locale import _


def open_source(source: Source) -> Opened:
    """Look at the beginnings of a source: where its parts are and which columns they have.

    Raises:
        InputError: naming the file and the remedy.
    """
    if source.url:
        return Opened(source, (open_database(source),))
    if source.path is None:
        raise InputError(
            _("{table}: a table of 01_positives.engine, which notebook 01 alone reads; give path or url").format(
                table=source.table
            )
        )
    found = places.places(source.path)
    return Opened(source, tuple(part for place in found for part in open_place(source, place)))


# --- the view -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """A view of the wanted columns (missing: null), with `broken` (why a row is none) and `example`.

    Attributes:
        view: its name.
        ids: columns that NAME_raw has with the values that were read as missing for their spelling.
        lost: what of the files is no row: (source, reason, rows, example).
    """

    source: Source
    view: str
    ids: tuple[str, ...]
    lost: tuple[tuple[str, str, int, str], ...]


def view(
    source: Source | Opened,
    columns: Mapping[str, str | None],
    *,
    ids: Collection[str] = (),
    parsed: Collection[str] = (),
    lists: Collection[str] = (),
) -> Raw:
    """The wanted columns of a source as a view of the working database.

    Args:
        source: opened already or not.
        columns: name -> column of the source, None: null.
        ids: those whose missing values people spell in many ways (ids, addresses, times, titles).
        parsed: those of which only what can be read as a time or number counts, so that no spelling is looked for.
        lists: those that may hold a list of texts, as lists; in others a list makes the row broken.

    Raises:
        InputError: where a column is not there or holds no single values, or a file cannot be read.
    """
    opened = source if isinstance(source, Opened) else open_source(source)
    source = opened.source
    given = {name: column for name, column in columns.items() if column is not None}
    opened.require(given.values())
    lost, selects = [], []
    for part in opened.parts:
        rows, bad = part.rows(given.values())
        lost += [(label(source), *bad)] if bad else []
        selects.append(_select(part, rows, columns, ids, parsed, lists))
    name = f"source_{next(numbers)}"
    with reading(label(source)):
        connect().raw_sql(f"CREATE VIEW {name} AS {' UNION ALL '.join(selects)}")
    return Raw(source, name, tuple(one for one in ids if one in given), tuple(lost))


def _select(
    part: Part,
    rows: str,
    columns: Mapping[str, str | None],
    ids: Collection[str],
    parsed: Collection[str],
    lists: Collection[str],
) -> str:
    values, texts, nested = [], [], []
    for name, column in columns.items():
        found = part.columns[column] if column else None
        if found is None:
            values.append(f"NULL::VARCHAR{'[]' if name in lists else ''} AS {identifier(name)}")
        elif name in lists:
            texts.append(f"{found.items} AS {identifier(name)}")
            values.append(identifier(name))
        else:
            texts.append(f"trim({found.text}) AS {identifier(name)}")
            clean = missing.id_sql if name in ids else _filled if name in parsed else missing.text_sql
            values.append(f"{clean(identifier(name))} AS {identifier(name)}")
            if name in ids:
                values.append(f"{_filled(identifier(name))} AS {identifier(name + '_raw')}")
            if found.nested:
                why = literal(f"column {column}: a list or an object, not one value")
                nested.append(f"WHEN {found.nested} THEN {why}")
    broken = f"coalesce({part.broken}, CASE {' '.join(nested)} END)" if nested else part.broken
    shown = ", ".join(part.columns[column].text for column in columns.values() if column)
    example = part.example or f"concat_ws(' ', {shown})[:{MAX_EXAMPLE}]"
    inner = f"SELECT {', '.join(texts)}, {broken} AS broken, {example} AS example FROM ({rows})"
    return f"SELECT {', '.join(values)}, broken, example FROM ({inner})"


def all_rows(source: Source) -> pd.DataFrame:
    """All rows of a source with all its columns that have a name, as text (None where there is nothing); lists as JSON.

    Raises:
        InputError: where it cannot be read.
    """
    return pd.concat([_texts(part) for part in open_source(source).parts], ignore_index=True)


def first_rows(source: Source, rows: int) -> pd.DataFrame:
    """The first rows of a source, like `all_rows`: only the beginning is read, and of several parts only the first."""
    return _texts(open_source(source).parts[0], rows)


def _filled(value: str) -> str:
    return f"nullif({value}, '')"


def _texts(part: Part, first: int | None = None) -> pd.DataFrame:
    named = {name: column for name, column in part.columns.items() if name}
    found, _lost = part.rows(list(named), first)
    texts = ", ".join(f"{column.text} AS {identifier(name)}" for name, column in named.items())
    limit = "" if first is None else f"LIMIT {first}"
    with reading(part.name):
        query = f"SELECT {texts} FROM ({found}) WHERE ({part.broken}) IS NULL {limit}"
        return connect().con.execute(query).df().astype(object).set_axis(list(named), axis=1)
