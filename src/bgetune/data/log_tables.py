# ruff: noqa: PD003, PD004 (isnull and notnull are Ibis's here)
"""Click logs that are counted where they lie: tables and Parquet folders of an engine, read as files are.

What `sources.read_clicks` says in DuckDB's SQL of texts, this module says of typed columns as Ibis expressions.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import ibis
import pandas as pd

from bgetune.config import engines
from bgetune.config.sources import ClickSource
from bgetune.data import backends, labels, missing, places, times
from bgetune.data.backends import Engine
from bgetune.data.databases import label
from bgetune.data.drops import ROUNDED_FORM, counted_drops
from bgetune.data.parts import Column, Opened, Part
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.paths import locate

LOG_IDS = ("user_id", "session_id", "url", "title")
"""Columns of a click log that are no texts: what is missing in them is spelled in many ways, and counted."""
TEXTS = ("query", *LOG_IDS)
UNREAD = ("rank", "dwell")
"""Columns of numbers without which a row is used: what cannot be read is counted."""
MAX_EXAMPLE = 200
"""Characters of a row that is shown as an example."""
_BLANKS = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""What DuckDB's trim takes away."""
_TIME = r"^(19[89]|20)[0-9]{2}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}.*)?$"
_OFFSET = r"^.*:[0-9.]+ *(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
"""A time's offset from UTC at the end of a text."""
_NUMBER = r"^[+-]?[0-9]+([.][0-9]*)?$"


def read(source: ClickSource, engine: str) -> tuple[ibis.Table, pd.DataFrame]:
    """A click log of an engine, lazily: the columns and the table `dropped` of `sources.read_clicks`.

    Raises:
        InputError: naming the table and the column, and the remedy.
    """
    at = backends.connect(engine)
    table = open_table(source, at)
    given = {name: table[column] for name, column in source.columns().items() if column is not None}
    raw = {name: _filled(value) for name, value in given.items() if name in TEXTS}
    clean = {name: _named(value, missing.WIDE if name in LOG_IDS else missing.NARROW) for name, value in raw.items()}
    nothing = ibis.null("string")
    session = clean.get("session_id", nothing)
    each = ibis.coalesce(ibis.literal("session ") + session, ibis.literal("row ") + at.row_number().cast("string"))
    alone = ibis.literal(label(source) + " ") + each
    values = {
        "time": _time(source, at, given["time"]) if "time" in given else ibis.null("timestamp"),
        "user_id": clean.get("user_id", alone),
        "session_id": session,
        "query": _filled(_unbracketed(clean["query"])),
        "url": clean["url"],
        "title": clean.get("title", nothing),
        "rank": _rank(given["rank"]) if "rank" in given else ibis.null("int64"),
        "dwell": _number(given["dwell"]) if "dwell" in given else ibis.null("float64"),
    }
    if "clicked" in given:
        values["clicked"] = _clicked(given["clicked"])
    shown = [ibis.coalesce(value.cast("string") + " ", "") for value in given.values()]
    example = functools.reduce(operator.add, shown).rstrip().substr(0, MAX_EXAMPLE)
    ids = [name for name in LOG_IDS if name in raw]
    rows = table.select(
        **values,
        **{f"{name}_raw": raw[name] for name in ids},
        **{f"{name}_id": clean[name] for name in ids},
        **{f"{name}_text": given[name].cast("string") if name in given else nothing for name in UNREAD},
        example=example,
    )
    whys = [(rows[column].isnull(), why) for column, why in source.required().items()]
    rows = rows.mutate(reason=ibis.cases(*whys, else_=ibis.null("string")))
    with backends.reading(label(source)):
        counts = _counts(rows, ids)
    used = rows.filter(rows.reason.isnull()).select(*values)
    return used, counted_drops(label(source), counts, ids, unread=UNREAD)


def open_table(source: ClickSource, at: Engine) -> ibis.Table:
    """The table or Parquet folder of a source, whose columns are there and have types that can be read.

    Raises:
        InputError: where it is not there, or a column is missing or of another type.
    """
    name = label(source)
    with backends.reading(name):
        if source.path is not None:
            path = source.path if places.is_remote(source.path) else locate(source.path).as_uri()
            table = at.backend.read_parquet(path)
        else:
            assert source.table, "a source of an engine has a path or a table"
            database, _dot, simple = source.table.rpartition(".")
            table = at.backend.table(simple, database=database or None)
        table = at.with_zones(table)
    _require(source, table, at)
    return table


def check(source: ClickSource, engine: str) -> None:
    """Check what can be checked in a moment: that a database has the table, and what Spark needs; it is not started.

    Raises:
        InputError: naming what is missing, and the remedy.
    """
    times.zone_of(source.timezone)
    backends.require(engine)
    if engines.kind(engine) == "database":
        open_table(source, backends.connect(engine))


def first_rows(source: ClickSource, engine: str, rows: int) -> pd.DataFrame:
    """Some rows of a source with all its columns as text (None where there is nothing)."""
    table = open_table(source, backends.connect(engine))
    with backends.reading(label(source)):
        found = table.limit(rows).to_pandas()
    return found.astype(object).map(lambda value: None if pd.isna(value) is True else str(value))


def _require(source: ClickSource, table: ibis.Table, at: Engine) -> None:
    columns = {
        name: Column(
            "", "", type="object" if type_.is_struct() or type_.is_map() else "list" if type_.is_array() else "scalar"
        )
        for name, type_ in table.schema().items()
    }
    part = Part(name=label(source), columns=columns, rows=lambda *_: ("", None))
    Opened(source, (part,)).require(name for name in source.columns().values() if name is not None)
    for name, column in source.columns().items():
        type_ = None if column is None else table.schema()[column]
        if type_ is None:
            continue
        wanted = ""
        if name in TEXTS and not (type_.is_string() or type_.is_integer() or type_.is_uuid()):
            wanted = _("text or whole numbers")
        elif name == "time" and not (
            type_.is_temporal() or type_.is_integer() or (type_.is_string() and at.casts_safely)
        ):
            wanted = _("timestamps, or seconds since 1970,")
        elif name in ("rank", "dwell", "clicked") and not (
            type_.is_string() or type_.is_numeric() or type_.is_boolean()
        ):
            wanted = _("numbers or text")
        if wanted:
            raise InputError(
                _(
                    "{source}: column {column} is of type {type}; make {wanted} of it in a view, and name that in table"
                ).format(source=label(source), column=column, type=type_, wanted=wanted)
            )


# --- values -------------------------------------------------------------------------------------------------------


def _filled(value: ibis.Value) -> ibis.Value:
    """A column as trimmed text; null where nothing is left."""
    text = value if value.type().is_string() else value.cast("string")
    return text.re_replace(f"^[{_BLANKS}]+|[{_BLANKS}]+$", "").nullif("")


def _unbracketed(text: ibis.Value) -> ibis.Value:
    """A text without SogouQ's brackets around it."""
    return ibis.ifelse(text.startswith("[") & text.endswith("]"), text.substr(1, text.length() - 2), text)


def _fits(text: ibis.Value, pattern: str) -> ibis.Value:
    """Whether a pattern, from ^ to $, fits a text. (Not re_search: PostgreSQL has a function for it since 15 only.)"""
    return text.re_replace(pattern, "") == ""


def _named(text: ibis.Value, words: tuple[str, ...]) -> ibis.Value:
    """A text; null where it is one of the words that stand for a missing one."""
    folded = text.lower() if words is missing.WIDE else text
    return ibis.ifelse(folded.isin(words), ibis.null("string"), text)


def _number(value: ibis.Value) -> ibis.Value:
    """A column as decimal numbers; null for a text that is none."""
    if value.type().is_string():
        value = _filled(value)
        value = ibis.ifelse(_fits(value, _NUMBER), value, ibis.null("string"))
    value = value.cast("float64")
    return ibis.ifelse(value.isnan(), ibis.null("float64"), value) if value.type().is_floating() else value


def _rank(value: ibis.Value) -> ibis.Value:
    """A column as positions: what precedes the point; null for what begins with no digit."""
    if value.type().is_string():
        value = _filled(value).re_extract(r"^([0-9]{1,18})", 1).nullif("")
    elif not value.type().is_integer():
        value = _number(value).floor()
    value = value.cast("int64")
    return ibis.ifelse(value >= 0, value, ibis.null("int64"))


def _clicked(value: ibis.Value) -> ibis.Value:
    """Whether a result was clicked, as `labels.clicked_sql` says it: a missing value says no."""
    if value.type().is_boolean():
        return value.fill_null(False)
    if not value.type().is_string():
        return (value > 0).fill_null(False)
    text = _named(_filled(value), missing.NARROW)
    word = text.lower()
    return ibis.cases(
        (text.isnull() | word.isin(labels.SHOWN + labels.NO), False),
        (word.isin(labels.CLICKED + labels.YES), True),
        else_=_number(text) > 0,
    )


def _time(source: ClickSource, at: Engine, value: ibis.Value) -> ibis.Value:
    """A column as timestamps in UTC; null for a value that is no time."""
    zone = str(times.zone_of(source.timezone))
    type_ = value.type()
    if type_.is_timestamp() and type_.timezone is not None:
        return value.cast("timestamp")
    if type_.is_timestamp() or type_.is_date():
        return at.to_utc(value.cast("timestamp"), zone)
    if type_.is_integer():
        return at.since_1970(_microseconds(value))
    value = _filled(value)
    value = ibis.ifelse(_fits(value, _TIME), value, ibis.null("string"))
    told = _fits(value, _OFFSET)
    read = value.try_cast("timestamp('UTC')").cast("timestamp")
    return ibis.ifelse(told, read, at.to_utc(read, zone))


def _microseconds(value: ibis.Value) -> ibis.Value:
    """Seconds, milliseconds or microseconds since 1970, told by how many digits they have, as microseconds."""
    value = value.cast("int64")
    return ibis.cases(
        (value.between(10**8, 10**10 - 1), value * 10**6),
        (value.between(10**12, 10**13 - 1), value * 10**3),
        (value.between(10**14, 10**16 - 1), value),
        else_=ibis.null("int64"),
    )


def _counts(rows: ibis.Table, ids: list[str]) -> list[tuple[Any, ...]]:
    """What `counted_drops` takes, in order of the reasons."""
    told: dict[str, ibis.Value] = {}
    for name in ids:
        raw, clean = rows[f"{name}_raw"], rows[f"{name}_id"]
        told[f"{name}_missing"] = raw.count() - clean.count()
        told[f"{name}_spelled"] = raw.min(where=clean.isnull())
    for name in ids:
        raw = rows[f"{name}_raw"]
        rounded = _fits(raw, f"^{ROUNDED_FORM}$")
        told[f"{name}_rounded"] = rows.count(where=rounded)
        told[f"{name}_as"] = raw.min(where=rounded)
    for name in UNREAD:
        text, missing_number = rows[f"{name}_text"], rows[name].isnull()
        told[f"{name}_unread"] = text.count(where=missing_number)
        told[f"{name}_text"] = text.min(where=missing_number)
    counted = rows.group_by("reason").agg(
        rows=rows.count(), example=rows.example.min(where=rows.reason.notnull()), **told
    )
    found = counted.to_pandas().astype(object)
    found = found.where(found.notna(), None)
    return sorted(found.itertuples(index=False, name=None), key=lambda row: (row[0] is None, row[0] or ""))
