"""What was translated or generated before: a SQLite file of JSON answers under hashes of everything they depend on."""

from __future__ import annotations

import json
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bgetune.models.cache import content_key
from bgetune.paths import cache_root

FOLDER = Path("data/cache/augment")

key = content_key
"""A hash that differs where any of the strings differs."""


class Memo:
    """A dictionary on disk. Every `add` is one transaction: a killed process keeps what it had added, whole.

    Threads and processes may share a file. A damaged file is removed, with a warning, and begun anew; a value that does
    not match its checksum is not found.

    Args:
        file: made, with its folder, when missing; a name is a file of `data/cache/augment`.
    """

    def __init__(self, file: Path | str):
        self.file = Path(file) if isinstance(file, Path) else cache_root() / FOLDER / f"{file}.sqlite"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connect()

    def find(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those keys that are known."""
        keys = list(dict.fromkeys(keys))
        found = {}
        with self._lock:
            for start in range(0, len(keys), 500):
                found |= self._on_a_whole_file(self._find, keys[start : start + 500])
        return found

    def add(self, values: Mapping[str, Any]) -> None:
        """Keep values, which JSON must be able to hold."""
        texts = [(name, json.dumps(value, ensure_ascii=False)) for name, value in values.items()]
        with self._lock:
            self._on_a_whole_file(self._add, [(name, text, _checksum(name, text)) for name, text in texts])

    def _connect(self) -> None:
        self._database = sqlite3.connect(self.file, timeout=60, check_same_thread=False)
        self._on_a_whole_file(self._create)

    def _on_a_whole_file(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """What an action returns, on a new file if this one is damaged."""
        try:
            with self._database:
                return act(*arguments)
        except sqlite3.OperationalError:  # locked, a full disk, no right to write: the file may be whole
            raise
        except sqlite3.DatabaseError as error:
            warnings.warn(f"{self.file}: a damaged cache ({error}); what it held is made again", stacklevel=3)
        self._database.close()
        for name in (self.file.name, f"{self.file.name}-journal"):
            self.file.with_name(name).unlink(missing_ok=True)
        self._database = sqlite3.connect(self.file, timeout=60, check_same_thread=False)
        with self._database:
            self._create()
            return act(*arguments)

    def _create(self) -> None:
        columns = "key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL"
        self._database.execute(f"CREATE TABLE IF NOT EXISTS answers ({columns})")

    def _find(self, keys: list[str]) -> dict[str, Any]:
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, CAST(value AS BLOB), checksum FROM answers WHERE key IN ({marks})"
        rows = self._database.execute(query, keys).fetchall()
        return {name: json.loads(value) for name, value, checksum in rows if checksum == _checksum(name, value)}

    def _add(self, rows: list[tuple[str, str, int]]) -> None:
        self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)


def _checksum(name: str, value: str | bytes) -> int:
    return zlib.crc32(value if isinstance(value, bytes) else value.encode(), zlib.crc32(name.encode()))
