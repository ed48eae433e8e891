"""The `query` of a source: one SELECT, run where it can read what it names and change nothing.

A profile may come from somebody else. Its query is parsed before anything runs, and the connection it runs on is read
only: in DuckDB the only files it reaches are those that the query names as plain text.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import ibis
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from bgetune.errors import InputError
from bgetune.files import fitting, is_pattern
from bgetune.locale import _
from bgetune.paths import ROOT

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # what it does not know is refused below, with a reason

READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "postgres": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}
"""What makes a session of a database refuse to write, by Ibis's name of the database."""


def _no_sql(problem: str) -> InputError:
    return InputError(_("query is not SQL that can be read: {problem}; correct it").format(problem=problem))


def _no_select(found: str) -> InputError:
    message = _("query must be one SELECT that changes nothing (WITH and UNION may be part of it), not {found}")
    return InputError(message.format(found=found))


def one_select(query: str, dialect: Any) -> exp.Query:
    """The parsed query of a database other than DuckDB.

    Raises:
        InputError: if it is no SQL, several statements, or anything else than a SELECT.
    """
    try:
        statements = [statement for statement in sqlglot.parse(query, read=dialect) if statement is not None]
    except SqlglotError as error:
        reason = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0].rstrip(". ")
        raise _no_sql(reason) from None
    if len(statements) != 1:
        raise _no_select(_("{number} statements").format(number=len(statements)))
    statement = statements[0]
    # a SELECT may hold others: WITH gone AS (DELETE ... RETURNING *) SELECT, or SELECT ... INTO
    inner = (part for part in statement.find_all(exp.DML, exp.DDL, exp.Into, exp.Command) if not _reads(part))
    changing = next(inner, None)
    if not isinstance(statement, exp.Query) or changing is not None:
        raise _no_select((changing or statement).key.upper())
    return statement


def _reads(part: exp.Expr) -> bool:
    return isinstance(part, exp.Query | exp.Values)


def forbid_writing(backend: ibis.BaseBackend) -> None:
    """Make the session of a database read only, where there is a way to."""
    if statement := READ_ONLY.get(backend.name):
        with closing(backend.raw_sql(statement)):
            pass


def confine(connection: duckdb.DuckDBPyConnection, query: str | None) -> None:
    """Check a query of DuckDB and let the connection reach the files that it names, and nothing else.

    A file is named by a text in the query (`FROM 'data/qrels.csv'`, `read_csv('data/*.csv')`), relative to the
    repository or absolute. Nothing can be installed, attached, written or fetched from the network afterwards.

    Raises:
        InputError: if the query is no SQL, several statements, or anything else than a SELECT.
    """
    connection.execute(f"SET file_search_path = {_sql(str(ROOT))}")
    named = [] if query is None else sorted(_reachable(one_duckdb_select(query)))
    connection.execute(f"SET allowed_paths = [{', '.join(map(_sql, named))}]")
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")


def one_duckdb_select(query: str) -> dict[str, Any]:
    """DuckDB's own parse of a query, as JSON.

    Raises:
        InputError: if it is no SQL, several statements, or anything else than a SELECT.
    """
    with duckdb.connect(":memory:") as connection:
        try:
            kinds = [statement.type.name for statement in connection.extract_statements(query)]
        except duckdb.Error as error:
            raise _no_sql(str(error).splitlines()[0]) from None
        if len(kinds) != 1:
            raise _no_select(_("{number} statements").format(number=len(kinds)))
        found = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchone()
    assert found is not None, "a SELECT of a constant has a row"
    parsed = json.loads(found[0])
    if kinds != ["SELECT"] or parsed["error"]:
        raise _no_select(kinds[0])
    # since 2.0 a CTE may be COPY, INSERT, UPDATE or DELETE: COPY_QUERY_NODE and so on
    for text in _texts(parsed):
        if changing := re.fullmatch(r"([A-Z]+)_QUERY_NODE", text):
            raise _no_select(_("{statement} in a WITH").format(statement=changing[1]))
    return parsed


def refused_file(error: duckdb.Error) -> str | None:
    """The file that a confined connection did not open, by its error."""
    match = re.search(r'Cannot access (?:file|directory) "(.+?)"', str(error))
    return match[1] if match else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def named_files(query: str) -> list[str]:
    """The texts of a DuckDB query that name files, or a pattern of them, as written.

    Raises:
        InputError: as `one_duckdb_select`.
    """
    return sorted(_named(one_duckdb_select(query)))


def _named(parsed: dict[str, Any]) -> dict[str, list[str]]:
    """Text of a query that names files -> the files, absolute."""
    named: dict[str, list[str]] = {}
    for text in set(_texts(parsed)):
        if text and "\0" not in text and "://" not in text:
            place = str(ROOT / Path(text).expanduser())
            if files := [place] if Path(place).is_file() else _matches(place):
                named[text] = files
    return named


def _reachable(parsed: dict[str, Any]) -> set[str]:
    """What a query may open: the texts that name files, as written and with the repository before it, and the files."""
    return {
        name for text, files in _named(parsed).items() for name in (text, str(ROOT / Path(text).expanduser()), *files)
    }


def _matches(pattern: str) -> list[str]:
    return fitting(Path(pattern)).splitlines() if is_pattern(pattern) else []


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
