"""Databases as sources: DuckDB and SQLite files in process, every other one through Ibis."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import quote

import duckdb
import ibis
import pyarrow as pa
import sqlglot

from bgetune import paths
from bgetune.config.sources import Source
from bgetune.data import queries
from bgetune.data.engine import BATCH, identifier, literal, workspace
from bgetune.errors import InputError
from bgetune.locale import N_, _

Reader = Callable[[list[str]], pa.RecordBatchReader]

EXTRAS = {
    **{"postgres": "postgres", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"},
    **{"clickhouse": "clickhouse", "trino": "trino", "bigquery": "bigquery", "impala": "impala", "mssql": "mssql"},
}
"""Scheme of a URL -> the extra of bgetune that reads it."""
ELSEWHERE = {
    "hive": N_("Hive is read through Trino (trino://) or Impala (impala://), or export the table to Parquet"),
    "oracle": N_("export the table to Parquet or CSV"),
    "mongodb": N_("export the collection by mongoexport to .jsonl"),
}
"""What to do about databases that are not read."""


def label(source: Source) -> str:
    """How messages and tables name a source: its path, or its URL without user, password and options."""
    if source.path:
        return source.path
    url = re.sub(r"//[^/]*@", "//", source.url or "").split("?")[0]
    return f"{url} {source.table or ''}".strip()


@contextmanager
def opened(source: Source) -> Iterator[tuple[list[str], Reader]]:
    """The columns of a database's table or query, and a function that streams some of them.

    Errors, also those of the block, become one line without the password.
    """
    url = _with_secrets(source)
    scheme = url.partition("://")[0]
    file = None
    with _said(source, url), ExitStack() as stack:
        if path := embedded(source):
            file = paths.locate(path)
            if not file.is_file():
                raise InputError(
                    _("{source}: no such file ({file}); {scheme}:////... is absolute").format(
                        source=label(source), file=file, scheme=scheme
                    )
                )
        if scheme == "duckdb":
            connection = stack.enter_context(duckdb.connect(str(file or ":memory:"), read_only=file is not None))
            # it spills beside the database, else
            connection.execute(f"SET temp_directory = {literal(str(workspace()))}")
            queries.confine(connection, source.query)
            yield _from_duckdb(connection, source)
        else:
            if scheme in ELSEWHERE or (scheme not in EXTRAS and scheme != "sqlite"):
                known = ", ".join(["sqlite", "duckdb", *EXTRAS])
                remedy = _(ELSEWHERE.get(scheme, "")) or _("known are {kinds}").format(kinds=known)
                raise InputError(
                    _("{source}: {scheme}:// is not read; {remedy}").format(
                        source=label(source), scheme=scheme, remedy=remedy
                    )
                )
            backend = ibis.sqlite.connect(file) if file else _connected(url, scheme)
            stack.callback(backend.disconnect)
            queries.forbid_writing(backend)
            yield _from_ibis(backend, source)


def connect(source: Source) -> ibis.BaseBackend:
    """The server of a source, not through DuckDB: an engine, which may make temporary tables of its own.

    Raises:
        InputError: where it cannot be reached, or its driver is missing.
    """
    url = _with_secrets(source)
    with _said(source, url):
        return _connected(url, url.partition("://")[0])


@contextmanager
def _said(source: Source, url: str) -> Iterator[None]:
    """What goes wrong in the block with a database, in one line and without the password."""
    scheme = url.partition("://")[0]
    try:
        yield
    except InputError as error:
        name = label(source)
        raise (
            error
            if str(error).startswith(name)
            else InputError(_("{place}: {problem}").format(place=name, problem=error))
        ) from None
    except duckdb.PermissionException as error:
        raise InputError(
            _(
                "{source}: {file} is not there, or query does not name it as a plain text; a query reads files that it "
                "names, FROM 'data/pairs.csv', and nothing else"
            ).format(source=label(source), file=queries.refused_file(error) or _("something outside"))
        ) from None
    except ImportError as error:  # of Ibis, without the module's name, where its cause is one of Ibis's extras
        extra = EXTRAS.get(scheme, scheme)
        raise InputError(
            _("{source}: needs {module}: pip install 'bgetune[{extra}]'").format(
                source=label(source), module=_module(error), extra=extra
            )
        ) from None
    except Exception as error:  # every database has its own
        message = _message(error, source).replace(url, label(source))
        raise InputError(
            _("{source}: {message}; correct url, table or query").format(source=label(source), message=message)
        ) from None


def _module(error: ImportError) -> str:
    """The module that is missing, as the first error of the chain names it."""
    while isinstance(cause := error.__cause__ or error.__context__, ImportError):
        error = cause
    return error.name or _("a driver")


def _message(error: Exception, source: Source) -> str:
    """What a database says, in one line and without the secrets."""
    last = error.args[-1] if error.args and isinstance(error.args[-1], str) else ""
    message = (last.strip() or str(error).strip() or type(error).__name__).splitlines()[0]
    for name in re.findall(r"\$\{(\w+)\}", source.url or ""):
        for secret in filter(None, (os.environ[name], quote(os.environ[name], safe=""))):
            message = message.replace(secret, "***")
    return message


def _connected(url: str, scheme: str) -> ibis.BaseBackend:
    if EXTRAS[scheme] == "mysql":
        url = "mysql" + url.removeprefix(scheme)
        try:
            import MySQLdb  # noqa: F401
        except ModuleNotFoundError:  # a compiler and MariaDB's headers are needed for it; PyMySQL is Python
            import pymysql

            pymysql.install_as_MySQLdb()
    return ibis.connect(url)


def _from_duckdb(connection: duckdb.DuckDBPyConnection, source: Source) -> tuple[list[str], Reader]:
    # not by way of Ibis: its 12.0 calls what DuckDB 2.0 no longer has
    named = f"FROM {'.'.join(map(identifier, source.table.split('.')))}" if source.table else source.query
    assert named, "a source with a URL names a table or a query"
    rows = connection.sql(named)

    def read(names: list[str]) -> pa.RecordBatchReader:
        return rows.project(", ".join(map(identifier, names))).to_arrow_reader(BATCH)

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
        assert source.table, "a source with a URL names a table or a query"
        database, _dot, name = source.table.rpartition(".")
        table = backend.table(name, database=database or None)

    def read(names: list[str]) -> pa.RecordBatchReader:
        text = {name: table[name] if table[name].type().is_string() else table[name].cast("string") for name in names}
        return table.select(**text).to_pyarrow_batches(chunk_size=BATCH)

    return list(table.columns), read


def embedded(source: Source) -> str | None:
    """The file of a SQLite or DuckDB database, as a path relative to the repository or absolute."""
    match = re.fullmatch(r"(?:sqlite|duckdb):///(.+)", source.url or "")
    return match[1] if match else None


def _with_secrets(source: Source) -> str:
    """The URL with ${NAME} replaced by the environment's values."""

    def replace(match: re.Match) -> str:
        try:
            return quote(os.environ[match[1]], safe="")
        except KeyError:
            raise InputError(
                _("{source}: the environment has no {variable}; export {variable}=...").format(
                    source=label(source), variable=match[1]
                )
            ) from None

    return re.sub(r"\$\{(\w+)\}", replace, source.url or "")
