"""The team's own data, whatever it lies in: files and databases become tables of the columns the pipeline knows.

Everything is read by DuckDB through Ibis; click logs stay lazy and stream. Files of text are looked through once
before DuckDB sees them: one that is not clean UTF-8 with one row a line is rewritten to a temporary copy that is. Rows
are then cut at the delimiters line by line, so that a stray quote can neither swallow rows nor glue them together. Rows
that cannot be used are counted: every reader returns them beside its table as `dropped`.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import itertools
import json
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import charset_normalizer
import duckdb
import ibis
import pandas as pd
import pyarrow as pa
import sqlglot

from bgetune import paths
from bgetune.data import queries
from bgetune.errors import InputError
from bgetune.files import private_folder
from bgetune.paths import work_root
from bgetune.config.sources import ClickSource, CorpusSource, GeneralSource, PairSource, Source, Sources, SynonymSource
from bgetune.data.text import mask_personal_data, normalize

MEMORY_LIMIT = "2GB"
"""Of DuckDB; beyond that it spills to disk."""
CHUNK = 8 << 20
"""Bytes of a file that are looked at at once; a line must fit in."""
BATCH = 100_000
"""Rows of a database that are in memory at once."""
HEAD_LINES = 1000
"""Lines by which delimiter and columns are recognised."""
MAX_JOINED_LINES = 200
"""Lines that one quoted field may run over."""
MAX_BAD_SHARE = 0.1
"""A file of which more lines than this cannot be decoded is in another encoding."""

_numbers = itertools.count()


@cache
def connect() -> ibis.BaseBackend:
    """The DuckDB that reads the sources: one for the process, its database in a private folder. UTC."""
    connection = ibis.duckdb.connect(
        str(_workspace() / "work.duckdb"), memory_limit=MEMORY_LIMIT, temp_directory=str(_workspace())
    )
    connection.raw_sql("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    return connection


@cache
def _workspace() -> Path:
    """Where texts lie that are not masked yet: readable by this user alone, gone with the process."""
    return private_folder(work_root())


# --- the readers --------------------------------------------------------------------------------------------------


def read_clicks(source: ClickSource) -> tuple[ibis.Table, pd.DataFrame]:
    """A click log, lazily: one row a click, or a search without one.

    Returns:
        An Ibis table in the database of `connect()`, its rows in no promised order, with the columns time (timestamp;
        UTC where the log gives an offset; times of day lie on 1970-01-01; null without a time column), user_id
        (string), session_id (string, nullable), query (string, as typed, without SogouQ's brackets), url (string, null
        in a search without a click), title (string, nullable), rank (int64, nullable), dwell (float64, seconds,
        nullable). And the table `dropped`.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    columns = {
        "query": source.query_column,
        "user_id": source.user_column,
        "session_id": source.session_column,
        "time": source.time_column,
        "url": source.url_column or source.title_column,
        "title": source.title_column,
        "rank": source.rank_column,
        "dwell": source.dwell_column,
    }
    raw = _read(source, columns)
    values = {
        "time": _TIME if source.time_column else "NULL::TIMESTAMP",
        "user_id": "user_id" if source.user_column else "coalesce(session_id, 'row ' || row_number() OVER ())",
        "session_id": "session_id",
        "query": r"nullif(trim(regexp_replace(query, '^\[(.*)\]$', '\1')), '')",
        "url": "url",
        "title": "title",
        "rank": "try_cast(regexp_extract(rank, '^[0-9]+') AS BIGINT)",
        "dwell": "try_cast(dwell AS DOUBLE)",
    }
    rules = {"no query": values["query"] + " IS NULL"}
    if source.user_column:
        rules["no user"] = "user_id IS NULL"
    if source.time_column:
        rules["time not readable"] = values["time"] + " IS NULL"
    return raw.select(values, rules)


def read_pairs(source: PairSource | GeneralSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs of texts with their labels.

    Returns:
        A table in the file's order with the columns a, b (strings as given) and label (float64, 1.0 where the source
        has no label column). And the table `dropped`.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    raw = _read(source, {"a": source.a_column, "b": source.b_column, "label": source.label_column})
    rules = {"no text": "a IS NULL OR b IS NULL"}
    label = "1.0"
    if source.label_column:
        label = "try_cast(label AS DOUBLE)"
        rules["label is no number"] = f"{label} IS NULL OR NOT isfinite({label})"
    return _frame(raw.select({"a": "a", "b": "b", "label": f"{label}::DOUBLE"}, rules))


def read_synonyms(source: SynonymSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lists of expressions that mean the same.

    Returns:
        A table in the file's order with the column words (a list of two or more strings as given). And `dropped`.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    raw = _read(source, {"words": source.words_column})
    split = f"list_transform(string_split(words, {_sql(source.separator)}), lambda x: trim(x))"
    cut = f"list_filter({split}, lambda x: x <> '')"
    return _frame(raw.select({"words": cut}, {"fewer than two words": f"coalesce(len({cut}), 0) < 2"}))


def read_corpus(source: CorpusSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Further texts.

    Returns:
        A table in the file's order with the columns text (string as given) and kind (query or document). And `dropped`.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    raw = _read(source, {"text": source.text_column})
    return _frame(raw.select({"text": "text", "kind": _sql(source.kind)}, {"no text": "text IS NULL"}))


def _frame(selected: tuple[ibis.Table, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    table, dropped = selected
    return table.to_pandas(), dropped


# an offset is honoured; then seconds, milliseconds or microseconds since 1970, digits only, and the time of a day
_TIME = """coalesce(
    try_cast(time AS TIMESTAMPTZ)::TIMESTAMP,
    CASE WHEN regexp_full_match(time, '[0-9]{9,10}([.][0-9]*)?') THEN make_timestamp((time::DOUBLE * 1e6)::BIGINT)
        WHEN regexp_full_match(time, '[0-9]{12,13}') THEN make_timestamp(time::BIGINT * 1000)
        WHEN regexp_full_match(time, '[0-9]{15,16}') THEN make_timestamp(time::BIGINT) END,
    try_strptime(time, ['%Y%m%d%H%M%S', '%Y%m%d %H:%M:%S', '%d/%b/%Y:%H:%M:%S']),
    DATE '1970-01-01' + try_cast(time AS TIME))"""


# --- before a run -------------------------------------------------------------------------------------------------


def check_sources(sources: Sources) -> None:
    """Check that every source is there, can be read and has its columns; reads only the beginnings.

    Raises:
        InputError: naming the parameter, the file and the remedy; all sources are checked first.
    """
    problems = []
    for kind in type(sources).model_fields:
        for position, source in enumerate(getattr(sources, kind)):
            try:
                check_source(source, f"sources.{kind}[{position}]")
            except InputError as error:
                problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))


def check_source(source: Source, name: str) -> None:
    """Check one source; `name` is the parameter that a message names."""
    try:
        _open(source).require(_wanted(source))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _wanted(source: Source) -> list[str]:
    """The columns of a source that its parameters name."""
    names = [getattr(source, name) for name in type(source).model_fields if name.endswith("_column")]
    return [name for name in names if name is not None]


def external_files(sources: Sources) -> list[str]:
    """The paths of all sources that are files, SQLite and DuckDB included, as the profile gives them.

    They are a notebook's inputs: it runs again when they change. What a server holds is not watched.
    """
    every = itertools.chain.from_iterable(getattr(sources, kind) for kind in type(sources).model_fields)
    return list(dict.fromkeys(path for source in every if (path := external_file(source))))


def external_file(source: Source) -> str | None:
    """The path of a source that is a file, as the profile gives it; None for a server."""
    return source.path or _embedded(source)


def label(source: Source) -> str:
    """How messages and tables name a source: its path, or its URL without user, password and options."""
    if source.path:
        return source.path
    url = re.sub(r"//[^/]*@", "//", source.url or "").split("?")[0]
    return f"{url} {source.table}" if source.table else url


def dropped_rows(rows: Iterable[tuple[str, str, int, Any]]) -> pd.DataFrame:
    """A `dropped` table (see `tables.SCHEMAS`) of (source, reason, rows, example), examples masked and shortened."""
    rows = [(source, reason, int(count), _shown(example)) for source, reason, count, example in rows if count]
    table = pd.DataFrame(rows, columns=["source", "reason", "rows", "example"])
    return table.astype({"source": str, "reason": str, "rows": "int64", "example": str})


def _shown(example: Any) -> str:
    text = mask_personal_data(normalize("" if example is None else str(example)))[0]
    return text if len(text) <= 60 else text[:59] + "…"


# --- what a source looks like to DuckDB ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Opened:
    """A source whose columns are known."""

    source: Source
    columns: tuple[str, ...]
    format: str  # csv (of any delimiter), jsonl, parquet, xlsx or database
    path: Path | None = None
    delimiter: str = ""
    skip: int = 0  # lines before the first row

    def require(self, names: Iterable[str]) -> None:
        """Raise InputError for a column that is not there."""
        for name in names:
            if name not in self.columns:
                near = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.6)
                hint = f"; did you mean {near[0]}?" if near else "."
                parameter = next(key for key in type(self.source).model_fields if getattr(self.source, key) == name)
                raise InputError(
                    f"{label(self.source)}: no column {name}; it has {', '.join(self.columns)}{hint} Map the columns "
                    f"in the profile, for example {parameter}: {near[0] if near else self.columns[0]}"
                )


@dataclass(frozen=True)
class _Raw:
    """A view of the wanted columns as text (blank: null), with `broken` (why a row is none) and `example`."""

    source: Source
    view: str
    dropped: list[tuple[str, str, int, str]]

    def select(self, values: dict[str, str], rules: dict[str, str]) -> tuple[ibis.Table, pd.DataFrame]:
        """The rows that no rule (reason -> SQL test) objects to, as a lazy table, and what was dropped.

        `attrs["rows"]` of the latter says how many rows the source has in all: {name of the source: rows}.
        """
        connection = connect()
        cases = " ".join(f"WHEN {test} THEN {_sql(reason)}" for reason, test in rules.items())
        reason = f"CASE WHEN broken IS NOT NULL THEN broken {cases} END"
        columns = ", ".join(f"{value} AS {name}" for name, value in values.items())
        view = f"{self.view}_used"
        with _reading(self.source):
            connection.raw_sql(f"CREATE VIEW {view} AS SELECT {columns} FROM {self.view} WHERE ({reason}) IS NULL")
            counts = connection.raw_sql(
                f"SELECT {reason} AS reason, count(*), min(example) FROM {self.view} GROUP BY reason ORDER BY ALL"
            ).fetchall()
        name = label(self.source)
        dropped = [*self.dropped, *((name, why, rows, example) for why, rows, example in counts if why)]
        table = dropped_rows(dropped)
        table.attrs["rows"] = {name: sum(rows for _, rows, _ in counts) + sum(rows for *_, rows, _ in self.dropped)}
        if all(why for why, *_ in counts):
            reasons = "; ".join(f"{row.reason}: {row.rows} rows, such as {row.example!r}" for row in table.itertuples())
            raise InputError(f"{name}: no row can be used ({reasons or 'there are none'}); correct the file, or the columns")
        return connection.table(view), table


def _read(source: Source, columns: dict[str, str | None]) -> _Raw:
    """The wanted columns (name -> column of the source, None: null) as a view of the working database."""
    opened = _open(source)
    opened.require(column for column in columns.values() if column is not None)
    view = f"source_{next(_numbers)}"
    dropped: list[tuple[str, str, int, str]] = []
    if opened.format in ("csv", "jsonl"):
        file, bad = _clean(opened)
        dropped += [(label(source), *bad)] if bad else []
        cut = _cut_sql(opened.delimiter) if opened.format == "csv" else "line::VARCHAR"
        rows = f"SELECT line, {cut} AS fields FROM {_lines_sql(file, opened.skip)} WHERE trim(line) <> ''"
    else:
        rows = f"SELECT * FROM {_relation(opened, columns)}"

    def value(column: str) -> str:
        if opened.format == "csv":
            return f"fields[{opened.columns.index(column) + 1}]"
        if opened.format == "jsonl":
            return f"json_extract_string(fields, {_sql('$.' + json.dumps(column, ensure_ascii=False))})"
        return f"{_identifier(column)}::VARCHAR"

    if opened.format == "csv":
        width = len(opened.columns)
        broken, example = f"CASE WHEN len(fields) <> {width} THEN 'not {width} fields in the line' END", "line[:200]"
    elif opened.format == "jsonl":
        broken = "CASE WHEN NOT json_valid(line) OR json_type(line) <> 'OBJECT' THEN 'no JSON object in the line' END"
        # a line that is no JSON must not reach the extraction
        rows = f"SELECT line, CASE WHEN json_valid(line) THEN line END AS fields FROM ({rows})"
        example = "line[:200]"
    else:
        broken = "NULL::VARCHAR"
        example = f"concat_ws(' ', {', '.join(value(c) for c in columns.values() if c)})[:200]"
    values = ", ".join(
        f"{_blank_is_null(value(column)) if column else 'NULL::VARCHAR'} AS {name}" for name, column in columns.items()
    )
    with _reading(source):
        connect().raw_sql(
            f"CREATE VIEW {view} AS SELECT {values}, {broken} AS broken, {example} AS example FROM ({rows})"
        )
    return _Raw(source, view, dropped)


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _blank_is_null(value: str) -> str:
    """A value trimmed, null where nothing is left; \\N and NULL are what databases export for null."""
    return f"CASE WHEN trim({value}) NOT IN ('', '\\N', 'NULL') THEN trim({value}) END"


@contextmanager
def _reading(source: Source) -> Iterator[None]:
    """What DuckDB cannot read, said in one line."""
    try:
        yield
    except duckdb.Error as error:
        raise InputError(f"{label(source)}: cannot be read: {str(error).splitlines()[0]}; is the format right?") from None


# --- opening: what it is, and its columns -------------------------------------------------------------------------

FORMATS = {
    ".csv": "csv", ".txt": "csv", ".log": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".xlsx": "xlsx", ".xlsm": "xlsx",
}  # fmt: skip
"""A file's format by the end of its name (without .gz)."""


def _open(source: Source) -> _Opened:
    if source.url:
        with _database(source) as (names, _):
            return _Opened(source, tuple(names), "database")
    path = paths.locate(source.path)
    if not path.is_file():
        raise InputError(f"{source.path}: no such file ({path}); correct path (relative ones start at the repository)")
    if path.stat().st_size == 0:
        raise InputError(f"{source.path}: the file is empty; export it again")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    format_ = source.format or FORMATS.get(suffix)
    if format_ is None:
        raise InputError(
            f"{source.path}: cannot tell the format by the name; set format: csv, tsv, jsonl, parquet, xlsx"
        )
    if format_ == "parquet":
        with _reading(source):
            columns = connect().raw_sql(f"DESCRIBE SELECT * FROM read_parquet({_sql(str(path))})").fetchall()
        return _Opened(source, tuple(name for name, *_ in columns), format_, path)
    if format_ == "xlsx":
        return _Opened(source, tuple(_excel(source, path, rows=1).columns), format_, path)
    lines = _head(source, path)
    if format_ == "jsonl":
        return _Opened(source, _keys(source, lines), format_, path)
    delimiter = source.delimiter or ("\t" if format_ == "tsv" else _delimiter(source, lines))
    first = next(number for number, line in enumerate(lines) if line.strip())
    names = _cut(lines[first], delimiter)
    if not source.header:
        widths = Counter(len(_cut(line, delimiter)) for line in lines[first:] if line.strip())
        names = [str(number) for number in range(widths.most_common(1)[0][0])]
        return _Opened(source, tuple(names), "csv", path, delimiter)
    if not any(line.strip() for line in lines[first + 1 :]):
        raise InputError(f"{source.path}: there is no row after the header line; set header: false if it has none")
    return _Opened(source, tuple(name.strip() for name in names), "csv", path, delimiter, skip=first + 1)


def _delimiter(source: Source, lines: list[str]) -> str:
    """The delimiter that finds most of the wanted columns, then the one that cuts most lines alike; "" for none."""
    filled = [line for line in lines if line.strip()]

    def fit(delimiter: str) -> tuple[int, float]:
        widths = Counter(len(_cut(line, delimiter)) for line in filled)
        first = _cut(filled[0], delimiter) if source.header else [str(n) for n in range(widths.most_common(1)[0][0])]
        width = len(first)
        names = {name.strip() for name in first}
        share = widths[width] / len(filled) if width > 1 else 0.0
        # one text a row: a comma in some of them is no delimiter
        found = len(names.intersection(_wanted(source))) if width > 1 and (source.header or share > 0.9) else 0
        return found, share

    best = max(("\t", ",", ";", "|", "\x01"), key=fit)
    found, share = fit(best)
    # where no wanted column is there, the message should still name the columns that are
    unnamed = source.header and filled[0].strip() not in _wanted(source)
    return best if share > 0 and (found or unnamed) else ""


def _keys(source: Source, lines: list[str]) -> tuple[str, ...]:
    """The keys of the first lines that are JSON objects."""
    keys: dict[str, None] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            keys.update(dict.fromkeys(row))
    if not keys:
        raise InputError(f"{source.path}, line 1: no JSON object; the format jsonl is one object a line")
    return tuple(keys)


def _excel(source: Source, path: Path, rows: int | None = None) -> pd.DataFrame:
    """A sheet as text; its columns are named by the header line or numbered."""
    try:
        sheet = pd.read_excel(
            path,
            sheet_name=source.table or 0,
            header=0 if source.header else None,
            dtype=str,
            keep_default_na=False,
            nrows=rows,
            engine="openpyxl",
        )
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{source.path}: not an Excel workbook that can be read: {error}; save it as .xlsx") from None
    if sheet.empty:
        raise InputError(f"{source.path}: the sheet has no rows; name another in table")
    return sheet.rename(columns=lambda name: str(name).strip())


def _relation(opened: _Opened, columns: dict[str, str | None]) -> str:
    """Something to select from for a source that is no text file."""
    if opened.format == "parquet":
        return f"read_parquet({_sql(str(opened.path))})"
    if opened.format == "xlsx":
        return _copied(_excel(opened.source, opened.path))
    with _database(opened.source) as (_, read):
        return _copied(read(list(dict.fromkeys(column for column in columns.values() if column is not None))))


def _copied(data: pd.DataFrame | pa.RecordBatchReader) -> str:
    """A table of the working database with the data."""
    name = f"copy_{next(_numbers)}"
    connection = connect().con
    connection.register("incoming", data)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
    connection.unregister("incoming")
    return name


# --- databases ----------------------------------------------------------------------------------------------------


Reader = Callable[[list[str]], pa.RecordBatchReader]


@contextmanager
def _database(source: Source) -> Iterator[tuple[list[str], Reader]]:
    """The columns of a database's table or query, and a function that streams some of them.

    Errors, also those of the block, become one line without the password.
    """
    url = _with_secrets(source)
    scheme = url.partition("://")[0]
    file = None
    try:
        with ExitStack() as stack:
            if path := _embedded(source):
                file = paths.locate(path)
                if not file.is_file():
                    raise InputError(f"{label(source)}: no such file ({file}); {scheme}:////... is absolute")
            if scheme == "duckdb":
                connection = stack.enter_context(duckdb.connect(str(file or ":memory:"), read_only=file is not None))
                # it spills beside the database, else
                connection.execute(f"SET temp_directory = {_sql(str(_workspace()))}")
                queries.confine(connection, source.query)
                yield _from_duckdb(connection, source)
            else:
                backend = ibis.sqlite.connect(file) if file else ibis.connect(url)
                stack.callback(backend.disconnect)
                queries.forbid_writing(backend)
                yield _from_ibis(backend, source)
    except InputError as error:
        name = label(source)
        raise error if str(error).startswith(name) else InputError(f"{name}: {error}") from None
    except duckdb.PermissionException as error:
        raise InputError(
            f"{label(source)}: {queries.refused_file(error) or 'something outside'} is not there, or query does not name "
            "it as a plain text; a query reads files that it names, FROM 'data/pairs.csv', and nothing else"
        ) from None
    except ModuleNotFoundError as error:
        extra = {"postgresql": "postgres"}.get(scheme, scheme)
        package = f"bgetune[{extra}]" if extra == "postgres" else f"ibis-framework[{extra}]"
        raise InputError(f"{label(source)}: needs {error.name}: pip install '{package}'") from None
    except Exception as error:  # every database has its own
        message = (str(error).strip() or type(error).__name__).splitlines()[0].replace(url, label(source))
        for name in re.findall(r"\$\{(\w+)\}", source.url):
            for secret in filter(None, (os.environ[name], quote(os.environ[name], safe=""))):
                message = message.replace(secret, "***")
        raise InputError(f"{label(source)}: {message}; correct url, table or query") from None


def _from_duckdb(connection: duckdb.DuckDBPyConnection, source: Source) -> tuple[list[str], Reader]:
    # not by way of Ibis: its 12.0 calls what DuckDB 2.0 no longer has
    rows = connection.sql(f"FROM {'.'.join(map(_identifier, source.table.split('.')))}" if source.table else source.query)

    def read(names: list[str]) -> pa.RecordBatchReader:
        return rows.project(", ".join(map(_identifier, names))).to_arrow_reader(BATCH)

    return rows.columns, read


def _from_ibis(backend: ibis.BaseBackend, source: Source) -> tuple[list[str], Reader]:
    if source.query is not None:
        # Ibis would infer the types by a temporary view, which not everyone may make. The names are enough: all columns
        # are cast to text by the database, whatever type is said here.
        query = queries.one_select(source.query, backend.dialect)
        empty = sqlglot.select("*").from_(query.subquery("q")).limit(0).sql(backend.dialect)
        with closing(backend.raw_sql(empty)) as cursor:
            names = [column[0] for column in cursor.description]
        table = backend.sql(query.sql(backend.dialect), schema=dict.fromkeys(names, "int64"))
    else:
        database, _, name = source.table.rpartition(".")
        table = backend.table(name, database=database or None)

    def read(names: list[str]) -> pa.RecordBatchReader:
        text = {name: table[name] if table[name].type().is_string() else table[name].cast("string") for name in names}
        return table.select(**text).to_pyarrow_batches(chunk_size=BATCH)

    return list(table.columns), read


def _embedded(source: Source) -> str | None:
    """The file of a SQLite or DuckDB database, as a path relative to the repository or absolute."""
    match = re.fullmatch(r"(?:sqlite|duckdb):///(.+)", source.url or "")
    return match[1] if match else None


def _with_secrets(source: Source) -> str:
    """The URL with ${NAME} replaced by the environment's values."""

    def replace(match: re.Match) -> str:
        try:
            return quote(os.environ[match[1]], safe="")
        except KeyError:
            raise InputError(f"{label(source)}: the environment has no {match[1]}; export {match[1]}=...") from None

    return re.sub(r"\$\{(\w+)\}", replace, source.url)


# --- files of text: clean UTF-8, a row a line ---------------------------------------------------------------------


def _chunks(source: Source, path: Path, size: int = CHUNK) -> Iterator[bytes]:
    """A file's bytes, unzipped, in pieces of whole lines."""
    try:
        with gzip.open(path) if _is_zipped(path) else path.open("rb") as file:
            rest = b""
            while len(block := file.read(size)) == size:
                end = block.rfind(b"\n") + 1
                if not end and len(rest) > CHUNK:
                    raise InputError(f"{source.path}: a line of more than {CHUNK >> 20} MB; is this a text file?")
                if end:
                    yield rest + block[:end]
                rest = block[end:] if end else rest + block
            if rest + block:
                yield rest + block
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{source.path}: damaged gzip file ({error}); copy or pack it again") from None


def _head(source: Source, path: Path) -> list[str]:
    """The first lines, decoded."""
    chunk = next(_chunks(source, path, 1 << 20), b"")
    encoding = source.encoding or _recognise(source, chunk)
    try:
        text = chunk.decode(encoding, errors="replace")
    except LookupError:
        raise InputError(f"{source.path}: encoding {encoding} is unknown; for example utf-8, gb18030, big5") from None
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")[:HEAD_LINES]
    if not any(line.strip() for line in lines):
        raise InputError(f"{source.path}: the file is empty; export it again")
    return lines


def _recognise(source: Source, data: bytes) -> str:
    """UTF-8 unless most lines that could tell are not; then GB18030 if that reads as Chinese.

    GB18030 can decode nearly everything, so success proves nothing; but in Chinese text nearly all characters are of
    the 3,755 that GB 2312 calls common.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    telling = [line for line in data.split(b"\n") if not line.isascii()]
    valid = sum(_decodes(line, "utf-8") for line in telling)
    if 2 * valid >= len(telling):
        return "utf-8"
    letters = [letter for letter in b"".join(telling)[:CHUNK].decode("gb18030", "replace") if letter > "\x7f"]
    common = sum(b"\xb0" <= letter.encode("gb2312", "ignore")[:1] <= b"\xd7" for letter in letters)
    if 2 * common >= len(letters):
        return "gb18030"
    raise InputError(f"{source.path}: neither UTF-8 nor GB18030;{_guess(data)} set encoding, such as big5")


def _guess(data: bytes) -> str:
    best = charset_normalizer.from_bytes(data[: 1 << 18]).best()
    return f" it could be {best.encoding};" if best else ""


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _clean(opened: _Opened) -> tuple[Path, tuple[str, int, str] | None]:
    """A file that DuckDB can cut into lines, the given one if possible, and the lines lost (reason, rows, example).

    Rewritten is what is not UTF-8, or holds NUL characters, lone carriage returns or fields that run over lines.
    """
    stat = opened.path.stat()
    return _clean_file(opened, stat.st_size, stat.st_mtime_ns)


@cache
def _clean_file(opened: _Opened, *_version: int) -> tuple[Path, tuple[str, int, str] | None]:
    encoding = opened.source.encoding and codecs.lookup(opened.source.encoding).name
    for chunk in _chunks(opened.source, opened.path):
        if encoding is None and not chunk.isascii():
            encoding = _recognise(opened.source, chunk)
        if not (
            encoding in (None, "utf-8", "utf-8-sig", "ascii")
            and _decodes(chunk, "utf-8")
            and b"\0" not in chunk
            and chunk.count(b"\r") == chunk.count(b"\r\n")
            and not (opened.format == "csv" and b'"' in chunk and _open_quotes(chunk, opened.delimiter))
        ):
            return _rewrite(opened, encoding or "utf-8")
    return opened.path, None


def _open_quotes(chunk: bytes, delimiter: str) -> bool:
    """Whether a quoted field runs on over the end of a line."""
    odd = (line for line in chunk.splitlines() if line.count(b'"') % 2)
    return any(not _grammar(delimiter).fullmatch(line.decode("utf-8")) for line in odd)


def _rewrite(opened: _Opened, encoding: str) -> tuple[Path, tuple[str, int, str] | None]:
    source = opened.source
    target = _workspace() / f"clean_{next(_numbers)}.txt"
    bad: list[tuple[int, str]] = []
    total = 0

    def lines() -> Iterator[str]:
        nonlocal total
        bad.clear()
        for total, line in enumerate(_decoded(opened, encoding), start=1):
            if isinstance(line, bytes):
                bad.append((total, line.decode(encoding, errors="replace")))
            else:
                yield line.replace("\0", "")

    for rows in (_records(lines(), opened), lines()) if opened.format == "csv" else (lines(),):
        try:
            with target.open("w", encoding="utf-8", newline="") as file:
                file.writelines(row + "\n" for row in rows)
            break
        except _StrayQuote:
            continue
    if len(bad) > MAX_BAD_SHARE * total:
        guess = _guess(next(_chunks(source, opened.path)))
        share = f"{len(bad)} of {total} lines are not"
        raise InputError(f"{source.path}, line {bad[0][0]}: not {encoding} ({share});{guess} set encoding")
    return target, (f"not {encoding}", len(bad), f"line {bad[0][0]}: {bad[0][1]}") if bad else None


def _decoded(opened: _Opened, encoding: str) -> Iterator[str | bytes]:
    """The lines of a file without their ends, as bytes where they cannot be decoded."""
    source, path = opened.source, opened.path
    if encoding.replace("_", "-").startswith("utf-16"):
        try:
            data = b"".join(_chunks(source, path)).decode(encoding)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{source.path}: not {encoding} ({error.reason} at byte {error.start}); set encoding"
            ) from None
        yield from re.split("\r\n|\r|\n", data.removeprefix("\ufeff"))
        return
    first = True
    for chunk in _chunks(source, path):
        chunk = chunk.removeprefix(codecs.BOM_UTF8) if first and encoding.startswith("utf-8") else chunk
        first = False
        chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b" " if b"\n" in chunk else b"\n").removesuffix(b"\n")
        if _decodes(chunk, encoding):
            yield from chunk.decode(encoding).split("\n")
        else:
            yield from (line.decode(encoding) if _decodes(line, encoding) else line for line in chunk.split(b"\n"))


class _StrayQuote(Exception):
    """The file's quotes do not quote fields."""


def _records(lines: Iterator[str], opened: _Opened) -> Iterator[str]:
    """Lines with the fields that run over several lines joined by blanks.

    Raises:
        _StrayQuote: where a field opens that never closes, or that would swallow whole rows.
    """
    grammar, width = _grammar(opened.delimiter), len(opened.columns)
    for line in lines:
        if '"' in line and not grammar.fullmatch(line):
            for further in itertools.islice(lines, MAX_JOINED_LINES):
                if width > 2 and len(_cut(further, opened.delimiter)) == width:
                    raise _StrayQuote
                line += " " + further
                if '"' in further and grammar.fullmatch(line):
                    break
            else:
                raise _StrayQuote
        yield line


# --- cutting a line -----------------------------------------------------------------------------------------------
# A line is RFC 4180 as a whole, a quote inside an unquoted field being a character, or all its quotes are characters.
# The patterns work alike in Python and in DuckDB (RE2).


def _field(delimiter: str) -> str:
    if not delimiter:
        return '"(?:[^"]|"")*"|[^"].*|'
    other = f"[^{re.escape(delimiter)}]"
    return f'"(?:[^"]|"")*"|{other[:-1]}"]{other}*|'


@cache
def _grammar(delimiter: str) -> re.Pattern:
    """A line that is RFC 4180."""
    one = _field(delimiter)
    return re.compile(f"(?:{one})(?:{re.escape(delimiter)}(?:{one}))*" if delimiter else one, re.DOTALL)


def _cut(line: str, delimiter: str) -> list[str]:
    """The fields of a line. Fields are only unquoted where the delimiter is one character."""
    if '"' in line and len(delimiter) <= 1 and _grammar(delimiter).fullmatch(line):
        fields = re.findall(f"{re.escape(delimiter)}({_field(delimiter)})", delimiter + line) if delimiter else [line]
        return [field[1:-1].replace('""', '"') if field.startswith('"') else field for field in fields]
    return line.split(delimiter) if delimiter else [line]


def _cut_sql(delimiter: str) -> str:
    """`_cut` of the column `line` in DuckDB."""
    plain = f"string_split(line, {_sql(delimiter)})" if delimiter else "[line]"
    if len(delimiter) > 1:
        return plain
    quotes = """length(line) - length(replace(line, '"', ''))"""
    # all fields quoted and no quote inside: the common case of quoting, much faster than by the pattern
    simple = f"""string_split(line[2:-2], {_sql(f'"{delimiter}"')})""" if delimiter else "[line[2:-2]]"
    is_simple = f"""line[1] = '"' AND line[-1] = '"' AND {quotes} = 2 * len({simple})"""
    fields = plain
    if delimiter:
        pattern = _sql(f"{re.escape(delimiter)}({_field(delimiter)})")
        fields = f"regexp_extract_all({_sql(delimiter)} || line, {pattern}, 1)"
    unquote = """lambda x: CASE WHEN x[1] = '"' THEN replace(x[2:-2], '""', '"') ELSE x END"""
    is_quoted = f"regexp_full_match(line, {_sql(_grammar(delimiter).pattern)})"
    return (
        f"CASE WHEN NOT contains(line, '\"') THEN {plain} WHEN {is_simple} THEN {simple} "
        f"WHEN {is_quoted} THEN list_transform({fields}, {unquote}) ELSE {plain} END"
    )


def _lines_sql(file: Path, skip: int) -> str:
    """The lines of a clean file as rows (`line`); a blank one is null."""
    compression = "gzip" if _is_zipped(file) else "none"
    return (
        f"read_csv({_sql(str(file))}, columns = {{'line': 'VARCHAR'}}, auto_detect = false, header = false, "
        f"skip = {skip}, delim = '', quote = '', escape = '', strict_mode = false, max_line_size = {2 * CHUNK}, "
        f"compression = '{compression}')"
    )


def _is_zipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
