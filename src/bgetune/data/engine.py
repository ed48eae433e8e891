"""The DuckDB that reads the sources: one for the process, in a private folder."""

from __future__ import annotations

import atexit
import itertools
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bgetune.files import private_folder
from bgetune.paths import work_root

MEMORY_LIMIT = "2GB"
"""Of DuckDB; beyond that it spills to disk."""
BATCH = 100_000
"""Rows of a database that are in memory at once."""

numbers = itertools.count()
"""Names of views and files: each is used once."""


if TYPE_CHECKING:
    import ibis


@cache
def connect() -> ibis.BaseBackend:
    """The DuckDB that reads the sources: one for the process, its database in a private folder. UTC."""
    import ibis  # here, since what only cuts lines needs no database

    connection = ibis.duckdb.connect(
        str(workspace() / "work.duckdb"), memory_limit=MEMORY_LIMIT, temp_directory=str(workspace())
    )
    connection.raw_sql("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    atexit.register(connection.con.close)  # while Python's functions that it calls are still there
    return connection


@cache
def workspace() -> Path:
    """Where texts lie that are not masked yet: readable by this user alone, gone with the process."""
    return private_folder(work_root())


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name of a table or column as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def path_literal(path: Path) -> str:
    """A file's path as SQL writes it: no pattern, whatever characters the name has."""
    return literal("".join(f"[{letter}]" if letter in "[*?" else letter for letter in str(path)))
