"""A source opened: its parts, their columns, and the wanted columns as one view of DuckDB."""

from __future__ import annotations

import difflib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from bgetune.config.sources import Source
from bgetune.data import databases, delimited, missing, places, textfiles, workbooks
from bgetune.data.databases import label
from bgetune.data.delimited import Dialect
from bgetune.data.engine import connect, identifier, literal, numbers, path_literal
from bgetune.data.textfiles import TextFile
from bgetune.errors import InputError

MAX_EXAMPLE = 200
"""Characters of a row that is shown as an example."""


_NOT_BLANK = "CASE WHEN line > '!' THEN true ELSE trim(line) <> '' END"
"""Whether a line is not blank; what begins with a letter need not be trimmed to tell."""


@dataclass(frozen=True)
class Column:
    """A column of a part, as SQL.

    Attributes:
        text: its value as text.
        items: its values as a list of texts.
        nested: SQL test of a row whose value is a list or an object; "" where that cannot be.
        type: scalar, list, object.
    """

    text: str
    items: str
    nested: str = ""
    type: str = "scalar"


@dataclass(frozen=True)
class Part:
    """A file of a source, a sheet, or what a database gave.

    Attributes:
        name: what messages call it.
        columns: by name, in order.
        rows: SQL that selects its rows; called when they are read, since a file may have to be rewritten first.
        broken: SQL: why a row is none, or null.
        example: SQL: a row as text.
        facts: what was recognised: what it is -> its value.
        doubled: names that two columns have.
        hint: where the wanted columns could be, for the message that one is not there.
    """

    name: str
    columns: Mapping[str, Column]
    rows: Callable[[Collection[str]], tuple[str, tuple[str, int, str] | None]]
    broken: str = "NULL::VARCHAR"
    example: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    doubled: tuple[str, ...] = ()
    hint: Callable[[str], str] = lambda name: ""


@dataclass(frozen=True)
class Opened:
    """A source whose parts and their columns are known."""

    source: Source
    parts: tuple[Part, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.parts[0].columns)

    def require(self, names: Iterable[str]) -> None:
        """Raise InputError for a column that is not there, or there twice, or holds no single values."""
        for part, name in itertools.product(self.parts, list(names)):
            if name in part.doubled:
                raise InputError(f"{part.name}: column {name} is there twice; rename or remove one of them")
            parameters = [key for key in type(self.source).model_fields if getattr(self.source, key) == name]
            if name not in part.columns:
                there = ", ".join(part.columns)
                near = difflib.get_close_matches(name, part.columns, n=1, cutoff=0.6)
                hint = f"; did you mean {near[0]}?" if near else "."
                raise InputError(
                    f"{part.name}: no column {name}; it has {there}{hint} {part.hint(name)}Map the columns in the "
                    f"profile, for example {parameters[0]}: {near[0] if near else next(iter(part.columns))}"
                )
            _require_values(part, name, lists=not set(parameters).isdisjoint(self.source.LISTS))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What DuckDB cannot read, said in one line."""
    try:
        yield
    except duckdb.Error as error:
        raise InputError(f"{name}: cannot be read: {str(error).splitlines()[0]}; is the format right?") from None


def wanted(source: Source) -> list[str]:
    """The columns of a source that its parameters name."""
    names = [getattr(source, name) for name in type(source).model_fields if name.endswith("_column")]
    return [name for name in names if name is not None]


def open_source(source: Source) -> Opened:
    """Look at the beginnings of a source: where its parts are and which columns they have.

    Raises:
        InputError: naming the file and the remedy.
    """
    if source.url:
        return Opened(source, (_open_database(source),))
    found = places.places(source.path)
    return Opened(source, tuple(part for place in found for part in _open_place(source, place)))


def _open_place(source: Source, place: places.Place) -> Iterator[Part]:
    format_ = source.format or places.FORMATS.get(place.suffix)
    if format_ is None:
        known = ", ".join(dict.fromkeys(filter(None, places.FORMATS.values())))
        raise InputError(f"{place.name}: cannot tell the format by the name; set format: {known}")
    if format_ == "parquet":
        yield _open_typed(place.name, f"read_parquet({path_literal(place.path)})")
    elif format_ == "arrow":
        yield _open_typed(place.name, _copied(_arrow(place)))
    elif format_ == "xlsx":
        names = workbooks.sheet_names(place.path, place.name) if source.table == "*" else [source.table]
        for name in names:
            yield _open_sheet(source, place, name)
    elif format_ in ("json", "jsonl"):
        yield _open_json(source, place, format_)
    else:
        yield _open_delimited(source, place, format_)


# --- delimited text -----------------------------------------------------------------------------------------------


def _open_delimited(source: Source, place: places.Place, format_: str) -> Part:
    file = TextFile(place.path, place.name, source.encoding)
    lines = _head(file)[source.skip_rows :]
    if not any(line.strip() for line in lines):
        raise InputError(f"{place.name}: no line is left after skip_rows: {source.skip_rows}")
    delimiter = source.delimiter or ("\t" if format_ == "tsv" else None)
    dialect = delimited.recognise(
        lines, wanted(source), header=source.header, delimiter=delimiter, escape=source.escape
    )
    filled = [text for text in delimited.records(lines, dialect, None) if text.strip()]
    if source.header:
        names = [" ".join(name.split()) for name in delimited.cut(filled[0], dialect)]
        if len(filled) == 1:
            raise InputError(f"{place.name}: there is no row after the header line; set header: false if it has none")
    else:
        widths = Counter(len(delimited.cut(text, dialect)) for text in filled)
        names = [str(number) for number in range(widths.most_common(1)[0][0])]
    width = len(names)

    def rows(_: Collection[str]) -> tuple[str, tuple[str, int, str] | None]:
        clean = textfiles.clean(file, dialect, width=width, skip=source.skip_rows, rows=int(source.header))
        text = textfiles.lines_sql(clean)
        return f"SELECT line, {delimited.cut_sql(dialect.delimiter)} AS fields FROM {text} WHERE {_NOT_BLANK}", clean.lost

    def hint(name: str) -> str:
        return _skip_hint(name, [delimited.cut(text, dialect) for text in lines[:20]], source)

    cells = [f"fields[{number + 1}]" for number in range(width)]
    facts = {"encoding": source.encoding or textfiles.encoding_of(file), "delimiter": dialect.delimiter or "none"}
    return Part(
        name=place.name,
        columns={name: Column(cell, _items_of_text(cell)) for name, cell in zip(names, cells, strict=True)},
        rows=rows,
        broken=f"CASE WHEN len(fields) <> {width} THEN 'not {width} fields in the line' END",
        example=f"line[:{MAX_EXAMPLE}]",
        facts=facts | ({"escape": "backslash"} if dialect.escape else {}),
        doubled=_doubled(names),
        hint=hint,
    )


def _head(file: TextFile) -> tuple[str, ...]:
    stat = file.path.stat()
    return textfiles.head(file, stat.st_size, stat.st_mtime_ns)


def _doubled(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name, count in Counter(names).items() if count > 1)


def _items_of_text(cell: str) -> str:
    """A text as a list of one, or the items of a JSON list written in it."""
    is_list = f"{cell}[1] = '[' AND {cell}[-1] = ']' AND json_valid({cell})"
    return f"CASE WHEN {is_list} THEN from_json({cell}, '[\"VARCHAR\"]') ELSE [{cell}] END"


def _skip_hint(name: str, rows: Iterable[list[str]], source: Source) -> str:
    """A later row that has the column's name, as a hint."""
    for number, row in enumerate(rows):
        if number and name in (" ".join(cell.split()) for cell in row):
            return f"Row {number + 1} has it: set skip_rows: {source.skip_rows + number}. "
    return ""


# --- JSON ---------------------------------------------------------------------------------------------------------


def _open_json(source: Source, place: places.Place, format_: str) -> Part:
    file = TextFile(place.path, place.name, source.encoding)
    lines = _head(file)
    first = next(line for line in lines if line.strip()).strip()
    table = None
    if format_ == "json" or (first.startswith("[") and first[1:].lstrip()[:1] in ("", "{")):
        table, lines = _objects(file)
    keys = _keys(place.name, lines)

    def rows(_: Collection[str]) -> tuple[str, tuple[str, int, str] | None]:
        lost = None
        text = table
        if table is None:
            clean = textfiles.clean(file)
            text, lost = textfiles.lines_sql(clean), clean.lost
        # a line that is no JSON must not reach the extraction
        valid = "CASE WHEN json_valid(line) AND json_type(line) = 'OBJECT' THEN line END"
        return f"SELECT line, {valid} AS fields FROM {text} WHERE {_NOT_BLANK}", lost

    return Part(
        name=place.name,
        columns={name: _json_column(path, types) for name, (path, types) in keys.items()},
        rows=rows,
        broken="CASE WHEN fields IS NULL THEN 'no JSON object in the line' END",
        example=f"line[:{MAX_EXAMPLE}]",
        facts={"encoding": source.encoding or textfiles.encoding_of(file)},
    )


def _objects(file: TextFile) -> tuple[str, list[str]]:
    """A table of the objects in a JSON file, a list of them or one after the other, and the first ones."""
    clean = textfiles.clean(file)
    name = f"objects_{next(numbers)}"
    compression = "gzip" if textfiles.is_zipped(clean.path) else "none"
    with reading(file.name):
        connect().raw_sql(
            f"CREATE TABLE {name} AS SELECT replace(replace(json::VARCHAR, chr(10), ' '), chr(13), ' ') AS line "
            f"FROM read_json_objects({path_literal(clean.path)}, format = 'auto', compression = '{compression}')"
        )
        found = connect().raw_sql(f"SELECT line FROM {name} LIMIT {textfiles.HEAD_LINES}").fetchall()
    lines = [line for (line,) in found]
    if len(lines) == 1:
        row = json.loads(lines[0])
        lists = [key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if isinstance(row, dict) and lists:
            raise InputError(f"{file.name}: one object, whose rows are under {lists[0]}; export that list alone")
    return name, lines


def _keys(name: str, lines: Iterable[str]) -> dict[str, tuple[str, set[str]]]:
    """The keys of the first lines that are JSON objects, nested ones joined by dots: their path and types."""
    keys: dict[str, tuple[str, set[str]]] = {}

    def add(row: Mapping[str, Any], prefix: str, path: str) -> None:
        for key, value in row.items():
            kind = "list" if isinstance(value, list) else "object" if isinstance(value, dict) else "scalar"
            here = f"{path}.{json.dumps(key, ensure_ascii=False)}"
            types = keys.setdefault(f"{prefix}{key}", (here, set()))[1]
            if value is not None:
                types.add(kind)
            if kind == "object" and path.count(".") < 4:
                add(value, f"{prefix}{key}.", here)

    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            add(row, "", "$")
    if not keys:
        raise InputError(f"{name}, line 1: no JSON object; the format jsonl is one object a line")
    return keys


def _json_column(path: str, types: Collection[str]) -> Column:
    where = literal(path)
    value, kind = f"json_extract(fields, {where})", f"json_type(fields, {where})"
    text = f"json_extract_string(fields, {where})"
    items = f"CASE WHEN {kind} = 'ARRAY' THEN from_json({value}, '[\"VARCHAR\"]') ELSE [{text}] END"
    type_ = next((kind for kind in ("object", "list") if set(types) == {kind}), "scalar")
    return Column(text, items, f"{kind} IN ('ARRAY', 'OBJECT')", type_)


# --- tables with types --------------------------------------------------------------------------------------------


def _open_typed(name: str, relation: str) -> Part:
    """A relation of DuckDB: structs have their fields as columns too (body.query), binary is text."""
    with reading(name):
        found = connect().con.sql(f"SELECT * FROM {relation}")
        columns = dict(_typed_columns(found.columns, found.types))
    return Part(name=name, columns=columns, rows=lambda _: (f"SELECT * FROM {relation}", None))


def _typed_columns(names: Iterable[str], types: Iterable[Any], prefix: str = "", path: str = "") -> Iterator[tuple[str, Column]]:
    for name, type_ in zip(names, types, strict=True):
        value = f"{path}{identifier(name)}"
        if type_.id in ("list", "array"):
            items = f"list_transform({value}, lambda x: x::VARCHAR)"
            yield f"{prefix}{name}", Column(f"to_json({value})::VARCHAR", items, f"{value} IS NOT NULL", "list")
        elif type_.id in ("struct", "map", "union"):
            text = f"to_json({value})::VARCHAR"
            yield f"{prefix}{name}", Column(text, f"[{text}]", f"{value} IS NOT NULL", "object")
            if type_.id == "struct":
                inner = dict(type_.children)
                yield from _typed_columns(inner, inner.values(), f"{prefix}{name}.", f"{value}.")
        else:
            text = f"try(decode({value}))" if type_.id == "blob" else f"{value}::VARCHAR"
            yield f"{prefix}{name}", Column(text, f"[{text}]")


def _open_sheet(source: Source, place: places.Place, sheet: str | None) -> Part:
    frame = _sheet(place, sheet, source.header, source.skip_rows, place.path.stat().st_mtime_ns)
    doubled = _doubled(frame.columns)
    names = list(dict.fromkeys(frame.columns))
    unique = frame.loc[:, ~frame.columns.duplicated()]

    def hint(name: str) -> str:
        head = [list(frame.columns), *frame.head(20).fillna("").to_numpy().tolist()]
        return _skip_hint(name, head, source) or _sheet_hint(name, source, place)

    return Part(
        name=place.name if sheet is None else f"{place.name} {sheet}",
        columns={name: Column(f"{identifier(name)}", _items_of_text(identifier(name))) for name in names},
        rows=lambda _: (f"SELECT * FROM {_copied(unique)}", None),
        facts={"sheets": ", ".join(workbooks.sheet_names(place.path, place.name))},
        doubled=doubled,
        hint=hint,
    )


@cache
def _sheet(place: places.Place, sheet: str | None, header: bool, skip_rows: int, _version: int) -> pd.DataFrame:
    return workbooks.read(place.path, place.name, sheet, header=header, skip_rows=skip_rows)


def _sheet_hint(name: str, source: Source, place: places.Place) -> str:
    """Another sheet that has the column, as a hint."""
    for other in workbooks.sheet_names(place.path, place.name) if source.table is None else ():
        try:
            if name in workbooks.read(place.path, place.name, other).columns:
                return f"Sheet {other} has it: set table: {other}. "
        except InputError:
            continue
    return ""


def _open_database(source: Source) -> Part:
    with databases.opened(source) as (names, _):
        columns = {name: Column(identifier(name) + "::VARCHAR", f"[{identifier(name)}::VARCHAR]") for name in names}

    def rows(wanted_names: Collection[str]) -> tuple[str, None]:
        with databases.opened(source) as (_, read):
            return f"SELECT * FROM {_copied(read(list(dict.fromkeys(wanted_names))))}", None

    return Part(name=label(source), columns=columns, rows=rows, doubled=_doubled(names))


def _arrow(place: places.Place) -> pa.Table:
    """The rows of a file of Hugging Face's datasets: an Arrow stream, or an Arrow file."""
    try:
        with pa.memory_map(str(place.path)) as file:
            try:
                return pa.ipc.open_stream(file).read_all()
            except pa.ArrowInvalid:
                return pa.ipc.open_file(file).read_all()
    except pa.ArrowInvalid as error:
        raise InputError(f"{place.name}: no Arrow file that can be read: {str(error).splitlines()[0]}") from None


def _copied(data: pd.DataFrame | pa.Table | pa.RecordBatchReader) -> str:
    """A table of the working database with the data."""
    name = f"copy_{next(numbers)}"
    connection = connect().con
    connection.register("incoming", data)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
    connection.unregister("incoming")
    return name


# --- the view -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """A view of the wanted columns (missing: null), with `broken` (why a row is none) and `example`.

    Attributes:
        view: its name.
        counted: columns that NAME_raw has with the values that were read as missing for their spelling.
        lost: what of the files is no row: (source, reason, rows, example).
    """

    source: Source
    view: str
    counted: tuple[str, ...]
    lost: tuple[tuple[str, str, int, str], ...]


def view(
    source: Source | Opened,
    columns: Mapping[str, str | None],
    *,
    ids: Collection[str] = (),
    counted: Collection[str] = (),
    lists: Collection[str] = (),
) -> Raw:
    """The wanted columns of a source as a view of the working database.

    Args:
        source: opened already or not.
        columns: name -> column of the source, None: null.
        ids: those whose missing values people spell in many ways (ids, addresses, times, titles).
        counted: those of them that stand in NAME_raw, too, spelled as they are.
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
        selects.append(_select(part, rows, columns, ids, counted, lists))
    name = f"source_{next(numbers)}"
    with reading(label(source)):
        connect().raw_sql(f"CREATE VIEW {name} AS {' UNION ALL '.join(selects)}")
    return Raw(source, name, tuple(one for one in counted if one in given), tuple(lost))


def _require_values(part: Part, column: str, *, lists: bool) -> None:
    kind = part.columns[column].type
    inner = [name for name in part.columns if name.startswith(f"{column}.")]
    if kind == "object":
        named = f"name one of its fields: {', '.join(inner)}" if inner else "make a column of text of it"
        raise InputError(f"{part.name}: column {column} holds objects; {named}")
    if kind == "list" and not lists:
        raise InputError(
            f"{part.name}: column {column} holds lists, which this kind of source does not take; write a row for each "
            f"item (kinds that take lists: groups, qa and pairs in b_column, synonyms, corpus)"
        )


def _select(
    part: Part,
    rows: str,
    columns: Mapping[str, str | None],
    ids: Collection[str],
    counted: Collection[str],
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
            clean = missing.id_sql if name in ids else missing.text_sql
            values.append(f"{clean(identifier(name))} AS {identifier(name)}")
            if name in counted:
                values.append(f"nullif({identifier(name)}, '') AS {identifier(name + '_raw')}")
            if found.nested:
                why = literal(f"column {column}: a list or an object, not one value")
                nested.append(f"WHEN {found.nested} THEN {why}")
    broken = f"coalesce({part.broken}, CASE {' '.join(nested)} END)" if nested else part.broken
    shown = ", ".join(part.columns[column].text for column in columns.values() if column)
    example = part.example or f"concat_ws(' ', {shown})[:{MAX_EXAMPLE}]"
    inner = f"SELECT {', '.join(texts)}, {broken} AS broken, {example} AS example FROM ({rows})"
    return f"SELECT {', '.join(values)}, broken, example FROM ({inner})"
