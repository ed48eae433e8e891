"""A file of rows as a table of text, read at once: what the command lines and the review file take.

Encodings, delimiters and quotes are recognised as those of a profile's sources are. Files of text need no database.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from bgetune.data import delimited, places, textfiles
from bgetune.data.textfiles import TextFile
from bgetune.errors import InputError
from bgetune.locale import _


def read_table(path: Path, name: str, wanted: Collection[str], encoding: str | None = None) -> pd.DataFrame:
    """All rows and columns of a file, as text ("" where there is nothing).

    Args:
        path: csv, tsv or jsonl, also gzipped; anything else that a source of a profile can be with `bgetune[sources]`.
        name: what messages call it.
        wanted: columns that it should have, by which its delimiter is recognised; whether it has is not checked.
        encoding: None: recognised.

    Raises:
        InputError: naming the file, the line or column, and the remedy.
    """
    format_ = places.FORMATS.get(places.suffix_of(path.name), "csv")
    if not path.is_file() or format_ not in ("csv", "tsv", "jsonl") or path.suffix in (".zip", ".bz2", ".zst", ".xz"):
        table = read_source(str(path.absolute()), name=name)
    elif path.stat().st_size == 0:
        raise InputError(
            _("{name}: empty; the first line names the columns, for example: {columns}").format(
                name=name, columns=",".join(wanted)
            )
        )
    else:
        file = TextFile(path, name, encoding)
        table = (
            _json_lines(file) if format_ == "jsonl" else _delimited(file, wanted, "\t" if format_ == "tsv" else None)
        )
    return table


def _delimited(file: TextFile, wanted: Collection[str], delimiter: str | None) -> pd.DataFrame:
    try:
        textfiles.encoding_of(file)
    except InputError:
        raise InputError(
            _("{file}: not UTF-8, nor GB18030 or UTF-16; save it as UTF-8").format(file=file.name)
        ) from None
    dialect = delimited.recognise(textfiles.head(file), wanted, header=True, delimiter=delimiter)
    head = next(text for text in delimited.records(textfiles.head(file), dialect, None) if text.strip())
    names = [" ".join(cell.split()) for cell in delimited.cut(head, dialect)]
    if twice := next((name for name in names if name in wanted and names.count(name) > 1), None):
        raise InputError(
            _("{file}: column {name} is there twice; rename or remove one of them").format(file=file.name, name=twice)
        )
    rows = []
    line = 1
    for text in delimited.records(_lines(file), dialect, len(names)):
        if text.strip():
            fields = delimited.cut(text, dialect)
            what = _("a quote that never closes") if delimited.is_open(text, dialect) else ""
            if len(fields) != len(names):
                what = _("{found} fields, not {wanted}").format(found=len(fields), wanted=len(names))
            if what:
                raise InputError(
                    _("{file}, line {line}: cannot be read: {what}; correct the line").format(
                        file=file.name, line=line, what=what
                    )
                )
            rows.append(fields)
        line += 1 + text.count("\n")
    return pd.DataFrame(rows[1:], columns=names, dtype=str)


def _lines(file: TextFile) -> Iterator[str]:
    for number, line in enumerate(textfiles.decoded(file, textfiles.encoding_of(file)), start=1):
        if isinstance(line, bytes):
            raise InputError(
                _("{file}, line {line}: not {encoding}; save it as UTF-8").format(
                    file=file.name, line=number, encoding=textfiles.encoding_of(file)
                )
            )
        yield line.replace("\0", "")


def _json_lines(file: TextFile) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(_lines(file), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise InputError(
                    _("{file}, line {line}: no JSON object; the format jsonl is one object a line").format(
                        file=file.name, line=number
                    )
                )
            rows.append({key: _text(value) for key, value in row.items()})
    return pd.DataFrame(rows, dtype=object).fillna("").astype(str)


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_source(location: str, sql: str | None = None, *, name: str | None = None) -> pd.DataFrame:
    """All rows and columns of what a source of a profile can be, as text ("" where there is nothing).

    Args:
        location: a file, folder, pattern or address; with `sql` a database.
        sql: the query.
        name: what messages call it; None: the location.

    Raises:
        InputError: if `bgetune[sources]` is not installed, or nothing can be read there.
    """
    try:
        from bgetune.config.sources import Source
        from bgetune.data import opening
    except ModuleNotFoundError as error:
        message = _("{name}: needs {module}; pip install 'bgetune[sources]', or save it as csv")
        raise InputError(message.format(name=name or location, module=error.name)) from None
    source = Source(path=location) if sql is None else Source(url=location, query=sql)
    return opening.all_rows(source).fillna("").astype(str)
