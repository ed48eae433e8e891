"""Cache of translations and generated texts: a SQLite file of JSON values under hashes of all that they depend on."""

from __future__ import annotations

import json
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bgetune.locale import _
from bgetune.models.cache import content_key
from bgetune.paths import cache_root

FOLDER = Path("data/cache/augment")

key = content_key
"""A hash of several strings."""


class Memo:
    """A dictionary on disk. Every `add` is one transaction, so a killed process loses nothing that it had added.

    Threads and processes may share a file. A damaged file is replaced by a new one, with a warning. A value that does
    not match its checksum is not found.

    Args:
        file: path, or the name (str) of a file in `data/cache/augment`; created with its folder if missing.
    """

    def __init__(self, file: Path | str):
        self.file = Path(file) if isinstance(file, Path) else cache_root() / FOLDER / f"{file}.sqlite"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connect()

    def find(self, keys: Iterable[str]) -> dict[str, Any]:
        """Key -> value, of those keys that are in the cache."""
        keys = list(dict.fromkeys(keys))
        found: dict[str, Any] = {}
        with self._lock:
            for start in range(0, len(keys), 500):
                found |= self._on_intact_file(self._find, keys[start : start + 500])
        return found

    def add(self, values: Mapping[str, Any]) -> None:
        """Add values that JSON can represent."""
        texts = [(name, json.dumps(value, ensure_ascii=False)) for name, value in values.items()]
        with self._lock:
            self._on_intact_file(self._add, [(name, text, _checksum(name, text)) for name, text in texts])

    def _connect(self) -> None:
        self._database = sqlite3.connect(self.file, timeout=60, check_same_thread=False)
        self._on_intact_file(self._create)

    def _on_intact_file(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """Run an action; if the file is damaged, replace the file and run it again."""
        try:
            with self._database:
                return act(*arguments)
        except sqlite3.OperationalError:  # locked, disk full, not writable: the file may be intact
            raise
        except sqlite3.DatabaseError as error:
            warnings.warn(
                _("{file}: a damaged cache ({error}); what it held is made again").format(file=self.file, error=error),
                stacklevel=3,
            )
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
    """CRC-32 of a key and its value."""
    return zlib.crc32(value if isinstance(value, bytes) else value.encode(), zlib.crc32(name.encode()))
