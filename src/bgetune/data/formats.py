"""Files and databases as parts of a source: what they are and which columns they have."""

from __future__ import annotations

import ast
import atexit
import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
import pyarrow as pa

from bgetune.config.sources import Source
from bgetune.data import databases, delimited, places, textfiles, workbooks
from bgetune.data.databases import label
from bgetune.data.engine import connect, identifier, literal, numbers, path_literal
from bgetune.data.parts import Column, Part, Rows, copied, reading, wanted
from bgetune.data.textfiles import TextFile
from bgetune.errors import InputError
from bgetune.locale import _

MAX_EXAMPLE = 200
"""Characters of a row that is shown as an example."""
_NOT_BLANK = "CASE WHEN line > '!' THEN true ELSE trim(line) <> '' END"
"""Whether a line is not blank; what begins with a letter need not be trimmed to tell."""
_DELIMITERS = {r"\t": "\t", r"\x01": "\x01", r"\001": "\x01", r"\u0001": "\x01"}
"""Delimiters as they are spelled in YAML without quotes, which knows no escapes there."""


def open_place(source: Source, place: places.Place) -> Iterator[Part]:
    format_ = source.format or places.FORMATS.get(place.suffix)
    if format_ is None:
        known = ", ".join(dict.fromkeys(filter(None, places.FORMATS.values())))
        raise InputError(
            _("{file}: cannot tell the format by the name; set format: {known}").format(file=place.name, known=known)
        )
    if format_ == "parquet":
        yield _open_typed(source, place.name, f"read_parquet({path_literal(place.path)})")
    elif format_ == "arrow":
        yield _open_typed(source, place.name, copied(_arrow(place)))
    elif format_ == "xlsx":
        yield from _open_sheets(source, place) if source.table == "*" else [_open_sheet(source, place, source.table)]
    elif format_ in ("json", "jsonl"):
        yield _open_json(source, place, format_)
    else:
        yield _open_delimited(source, place, format_)


# --- delimited text -----------------------------------------------------------------------------------------------


def _open_delimited(source: Source, place: places.Place, format_: str) -> Part:
    file = TextFile(place.path, place.name, source.encoding)
    lines = _head(file)[source.skip_rows :]
    if not any(line.strip() for line in lines):
        raise InputError(
            _("{file}: no line is left after skip_rows: {rows}").format(file=place.name, rows=source.skip_rows)
        )
    delimiter = "\t" if format_ == "tsv" else None
    if source.delimiter:
        delimiter = _DELIMITERS.get(source.delimiter, source.delimiter)
    dialect = delimited.recognise(
        lines, wanted(source), header=source.header, delimiter=delimiter, escape=source.escape
    )
    filled = [text for text in delimited.records(lines, dialect, None) if text.strip()]
    if source.header:
        names = [" ".join(name.split()) for name in delimited.cut(filled[0], dialect)]
        if len(filled) == 1:
            raise InputError(
                _("{file}: there is no row after the header line; set header: false if it has none").format(
                    file=place.name
                )
            )
    else:
        widths = Counter(len(delimited.cut(text, dialect)) for text in filled)
        names = [str(number) for number in range(widths.most_common(1)[0][0])]
    width = len(names)
    cells = (delimited.cut(text, dialect) for text in filled[int(source.header) :])
    _require_text(place.name, source, _fields_of_cells(source, (dict(zip(names, row, strict=False)) for row in cells)))

    def rows(_: Collection[str], first: int | None = None) -> Rows:
        if first is None:
            clean = textfiles.clean(file, dialect, width=width, skip=source.skip_rows, rows=int(source.header))
            text, lost = textfiles.lines_sql(clean), clean.lost
        else:
            texts = [textfiles.one_line(text, dialect) for text in filled[int(source.header) :][: 2 * first]]
            text, lost = _lines(texts), None
        return f"SELECT line, {delimited.cut_sql(dialect.delimiter)} AS fields FROM {text} WHERE {_NOT_BLANK}", lost

    def hint(name: str) -> str:
        return _skip_hint(name, [delimited.cut(text, dialect) for text in lines[:20]], source)

    values = [f"fields[{number + 1}]" for number in range(width)]
    facts = {"encoding": source.encoding or textfiles.encoding_of(file), "delimiter": dialect.delimiter or "none"}
    return Part(
        name=place.name,
        columns={name: Column(cell, _items_of_text(cell)) for name, cell in zip(names, values, strict=True)},
        rows=rows,
        broken=f"CASE WHEN len(fields) <> {width} THEN 'not {width} fields in the line' END",
        example=f"line[:{MAX_EXAMPLE}]",
        facts=facts | ({"escape": "backslash"} if dialect.escape else {}),
        doubled=_doubled(names),
        hint=hint,
    )


def _lines(texts: list[str]) -> str:
    """Lines as a relation like that of `textfiles.lines_sql`."""
    return copied(pa.table({"line": pa.array(texts, pa.string())}))


def _head(file: TextFile) -> tuple[str, ...]:
    stat = file.path.stat()
    return textfiles.head(file, stat.st_size, stat.st_mtime_ns)


def _doubled(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name, count in Counter(names).items() if count > 1)


def _skip_hint(name: str, rows: Iterable[list[str]], source: Source) -> str:
    """A later row that has the column's name, as a hint."""
    for number, row in enumerate(rows):
        if number and name in (" ".join(cell.split()) for cell in row):
            return _("row {row} has it: set skip_rows: {skipped}").format(
                row=number + 1, skipped=source.skip_rows + number
            )
    return ""


# --- lists of texts -----------------------------------------------------------------------------------------------


def _items_of_text(cell: str) -> str:
    """A text as a list of one, or the items of a list written in it, as JSON or as Python writes it."""
    is_list = f"{cell}[1] = '[' AND {cell}[-1] = ']'"
    is_python = f"""{is_list} AND {cell}[2] IN ('''', '"', '{{', 'N')"""
    return (
        f"CASE WHEN {is_list} AND json_valid({cell}) THEN {_items_of_json(cell)} "
        f"WHEN {is_python} THEN coalesce({_texts_of_json(f'{_python_reader()}({cell})')}, [{cell}]) ELSE [{cell}] END"
    )


def _items_of_json(value: str) -> str:
    """The items of a JSON list as texts; a look into each takes twice as long, so only where one may be an object."""
    plain = f"from_json({value}, '[\"VARCHAR\"]')"
    return f"CASE WHEN contains({value}::VARCHAR, '{{') THEN {_texts_of_json(value)} ELSE {plain} END"


def _texts_of_json(value: str) -> str:
    title, text = (f"json_extract_string(x, '$.{key}')" for key in ("title", "text"))
    each = f"CASE WHEN json_type(x) = 'OBJECT' THEN {_titled(title, text)} ELSE json_extract_string(x, '$') END"
    return f"list_transform(from_json({value}, '[\"JSON\"]'), lambda x: {each})"


def _titled(title: str, text: str) -> str:
    """The text of an object, its title before it; null where it has no text."""
    return f"coalesce(nullif(trim({title}), '') || ' ', '') || {text}"


_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""


def _python_list(text: str) -> list | None:
    """The list of texts or objects that Python or NumPy wrote, as pandas does in CSV; None where it is none."""
    if re.search(r"""(?<!\\)(?:\\\\)*\\[^\\'"nrtxuU]""", text):
        return None  # an escape that Python never writes, of which its parser would warn
    # between NumPy's items are only blanks, across which Python would join two texts
    text = re.sub(rf"({_QUOTED}|\}}|None)(\s+(?=['\"{{N]))?", lambda one: one[1] + (", " if one[2] else ""), text)
    try:
        items = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    is_list = isinstance(items, list) and all(item is None or isinstance(item, str | dict) for item in items)
    return items if is_list else None


@cache
def _python_reader() -> str:
    """The name of the function of DuckDB that makes JSON of a list that Python wrote, and null of anything else."""

    def read(column: pa.ChunkedArray) -> pa.Array:
        lists = [text and _python_list(text) for text in column.to_pylist()]
        found = [None if items is None else json.dumps(items, ensure_ascii=False, default=str) for items in lists]
        return pa.array([text and text.encode(errors="replace").decode() for text in found], pa.string())

    connection = connect().con.cursor()  # a result of the connection itself may still be read
    connection.create_function("python_list", read, ["VARCHAR"], "VARCHAR", type="arrow", null_handling="special")
    atexit.register(connection.remove_function, "python_list")  # or DuckDB complains of a leak when Python ends
    return "python_list"


def _fields_of_cells(source: Source, rows: Iterable[Mapping[str, str]]) -> dict[str, set[str]]:
    """The fields of the objects in lists that are written in cells: column -> names."""
    fields: dict[str, set[str]] = {}
    for row, parameter in itertools.product(rows, source.LISTS):
        column = getattr(source, parameter)
        cell = row.get(column) or ""
        if cell.startswith("[") and cell.endswith("]") and "{" in cell:
            try:
                items = json.loads(cell)
            except ValueError:
                items = _python_list(cell) or []
            fields.setdefault(column, set()).update(_fields(items))
    return fields


def _fields(items: Iterable[Any]) -> set[str]:
    """The fields that objects among the items have."""
    return {str(key) for item in items if isinstance(item, dict) for key in item}


def _require_text(name: str, source: Source, fields: Mapping[str, Collection[str]]) -> None:
    """Raise InputError where a wanted column of lists holds objects that have no text."""
    for column in (getattr(source, parameter) for parameter in source.LISTS):
        if fields.get(column) and "text" not in fields[column]:
            raise InputError(
                _(
                    "{file}: column {column} holds lists of objects without `text` (they have {fields}); write lists "
                    "of texts, or name the field with the text `text`"
                ).format(file=name, column=column, fields=", ".join(sorted(fields[column])))
            )


# --- JSON ---------------------------------------------------------------------------------------------------------


def _open_json(source: Source, place: places.Place, format_: str) -> Part:
    file = TextFile(place.path, place.name, source.encoding)
    lines: Sequence[str] = _head(file)
    first = next(line for line in lines if line.strip()).strip()
    table = None
    if format_ == "json" or (first.startswith("[") and first[1:].lstrip()[:1] in ("", "{")):
        table, lines = _objects(file)
    keys = _keys(place.name, lines)
    _require_text(place.name, source, {key: fields for key, (_path, _types, fields) in keys.items()})

    def rows(_: Collection[str], first: int | None = None) -> Rows:
        lost = None
        text = table
        if first is not None:
            text = _lines(list(lines[: 2 * first]))
        elif table is None:
            clean = textfiles.clean(file)
            text, lost = textfiles.lines_sql(clean), clean.lost
        # a line that is no JSON must not reach the extraction
        valid = "CASE WHEN json_valid(line) AND json_type(line) = 'OBJECT' THEN line END"
        return f"SELECT line, {valid} AS fields FROM {text} WHERE {_NOT_BLANK}", lost

    def hint(name: str) -> str:
        looked_at = sum(bool(line.strip()) for line in lines)
        if table is None:
            filled = (line for line in textfiles.decoded(file, textfiles.encoding_of(file)) if line.strip())
            more = next(itertools.islice(filled, looked_at, None), None) is not None
        else:
            more = connect().raw_sql(f"SELECT count(*) FROM {table}").fetchall()[0][0] > looked_at
        said = _("only the first {rows} rows were looked at: put one that has {column} first")
        return said.format(rows=looked_at, column=name) if more else ""

    return Part(
        name=place.name,
        columns={key: _json_column(path, types) for key, (path, types, _held) in keys.items()},
        rows=rows,
        broken="CASE WHEN fields IS NULL THEN 'no JSON object in the line' END",
        example=f"line[:{MAX_EXAMPLE}]",
        facts={"encoding": source.encoding or textfiles.encoding_of(file)},
        hint=hint,
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
            raise InputError(
                _("{file}: one object, whose rows are under {key}; export that list alone").format(
                    file=file.name, key=lists[0]
                )
            )
    return name, lines


def _keys(name: str, lines: Iterable[str]) -> dict[str, tuple[str, set[str], set[str]]]:
    """The keys of the first lines that are JSON objects, nested ones joined by dots.

    Returns:
        Key -> its path, its types, and the fields of the objects in its lists.
    """
    keys: dict[str, tuple[str, set[str], set[str]]] = {}

    def add(row: Mapping[str, Any], prefix: str, path: str) -> None:
        for key, value in row.items():
            kind = "list" if isinstance(value, list) else "object" if isinstance(value, dict) else "scalar"
            here = f"{path}.{json.dumps(key, ensure_ascii=False)}"
            _path, types, fields = keys.setdefault(f"{prefix}{key}", (here, set(), set()))
            if value is not None:
                types.add(kind)
            if isinstance(value, list):
                fields.update(_fields(value))
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
        raise InputError(
            _("{file}, line {line}: no JSON object; the format jsonl is one object a line").format(file=name, line=1)
        )
    return keys


def _json_column(path: str, types: Collection[str]) -> Column:
    where = literal(path)
    value, kind = f"json_extract(fields, {where})", f"json_type(fields, {where})"
    text = f"json_extract_string(fields, {where})"
    items = f"CASE WHEN {kind} = 'ARRAY' THEN {_items_of_json(value)} ELSE [{text}] END"
    type_ = next((kind for kind in ("object", "list") if set(types) == {kind}), "scalar")
    return Column(text, items, f"{kind} IN ('ARRAY', 'OBJECT')", type_)


# --- tables with types --------------------------------------------------------------------------------------------


def _open_typed(source: Source, name: str, relation: str) -> Part:
    """A relation of DuckDB: structs have their fields as columns too (body.query), binary is text."""
    with reading(name):
        found = connect().con.sql(f"SELECT * FROM {relation}")
        typed = list(_typed_columns(found.columns, found.types))
    _require_text(name, source, {key: fields for key, _column, fields in typed})
    columns = {key: column for key, column, _held in typed}
    return Part(name=name, columns=columns, rows=lambda _, first=None: (f"SELECT * FROM {relation}", None))


def _typed_columns(
    names: Iterable[str], types: Iterable[Any], prefix: str = "", path: str = ""
) -> Iterator[tuple[str, Column, list[str]]]:
    """Name, column, and the fields of the objects where it holds lists of these."""
    for name, type_ in zip(names, types, strict=True):
        value = f"{path}{identifier(name)}"
        if type_.id in ("list", "array"):
            item = dict(type_.children)["child"]
            fields = [field for field, _type in item.children] if item.id in _OBJECTS else []
            items = f"list_transform({value}, lambda x: {_typed_item(item, fields)})"
            yield f"{prefix}{name}", Column(f"to_json({value})::VARCHAR", items, f"{value} IS NOT NULL", "list"), fields
        elif type_.id in _OBJECTS:
            text = f"to_json({value})::VARCHAR"
            yield f"{prefix}{name}", Column(text, f"[{text}]", f"{value} IS NOT NULL", "object"), []
            if type_.id == "struct":
                inner = dict(type_.children)
                yield from _typed_columns(inner, inner.values(), f"{prefix}{name}.", f"{value}.")
        else:
            text = _typed_text(value, type_)
            yield f"{prefix}{name}", Column(text, f"[{text}]"), []


_OBJECTS = ("struct", "map", "union")


def _typed_item(type_: Any, fields: Collection[str]) -> str:
    """The item x of a list as text."""
    if "text" not in fields:
        return _typed_text("x", type_)
    title, text = (f"struct_extract(x, '{key}')::VARCHAR" for key in ("title", "text"))
    return _titled(title if "title" in fields else "NULL", text)


def _typed_text(value: str, type_: Any) -> str:
    """A single value as text: 5 for a 5.0, since pandas makes a column of floats of numbers of which one is missing."""
    if type_.id in ("float", "double"):
        # beyond 1e37 it does not fit in the largest whole number
        is_whole = f"{value} = trunc({value}) AND abs({value}) < 1e37"
        return f"CASE WHEN {is_whole} THEN {value}::HUGEINT::VARCHAR ELSE {value}::VARCHAR END"
    return f"try(decode({value}))" if type_.id == "blob" else f"{value}::VARCHAR"


def _open_sheets(source: Source, place: places.Place) -> Iterator[Part]:
    """The sheets that have rows."""
    opened = False
    for sheet in workbooks.sheet_names(place.path, place.name):
        try:
            part = _open_sheet(source, place, sheet)
        except workbooks.NoRows:
            continue
        opened = True
        yield part
    if not opened:
        raise InputError(_("{file}: no sheet has rows; export it again").format(file=place.name))


def _open_sheet(source: Source, place: places.Place, sheet: str | None) -> Part:
    frame = _sheet(place, sheet, source.header, source.skip_rows, place.path.stat().st_mtime_ns)
    doubled = _doubled(frame.columns)
    names = list(dict.fromkeys(frame.columns))
    unique = frame.loc[:, ~frame.columns.duplicated()]
    _require_text(place.name, source, _fields_of_cells(source, unique.head(textfiles.HEAD_LINES).to_dict("records")))

    def hint(name: str) -> str:
        head = [list(frame.columns), *frame.head(20).fillna("").to_numpy().tolist()]
        return _skip_hint(name, head, source) or _sheet_hint(name, source, place)

    return Part(
        name=place.name if sheet is None else f"{place.name} {sheet}",
        columns={name: Column(f"{identifier(name)}", _items_of_text(identifier(name))) for name in names},
        rows=lambda _, first=None: (f"SELECT * FROM {copied(unique)}", None),
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
                return _("sheet {sheet} has it: set table: {sheet}").format(sheet=other)
        except InputError:
            continue
    return ""


def open_database(source: Source) -> Part:
    with databases.opened(source) as (names, _read):
        columns = {name: Column(identifier(name) + "::VARCHAR", f"[{identifier(name)}::VARCHAR]") for name in names}

    def rows(wanted_names: Collection[str], first: int | None = None) -> Rows:
        with databases.opened(source) as (_, read):
            batches = read(list(dict.fromkeys(wanted_names)))
            if first is not None:
                batches = pa.Table.from_batches(itertools.islice(batches, 1), batches.schema)
            return f"SELECT * FROM {copied(batches)}", None

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
        raise InputError(
            _("{file}: no Arrow file that can be read: {problem}").format(
                file=place.name, problem=str(error).splitlines()[0]
            )
        ) from None
