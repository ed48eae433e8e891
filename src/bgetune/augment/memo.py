"""What was translated or generated before: a SQLite file of JSON answers under hashes of everything they depend on."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bgetune.errors import InputError
from bgetune.models.cache import content_key
from bgetune.paths import cache_root

FOLDER = Path("data/cache/augment")

key = content_key
"""A hash that differs where any of the strings differs."""


class Memo:
    """A dictionary on disk. Every `add` is one transaction: a killed process keeps what it had added, whole.

    Threads and processes may share a file.

    Args:
        file: made, with its folder, when missing; a name is a file of `data/cache/augment`.

    Raises:
        InputError: if the file is no SQLite database.
    """

    def __init__(self, file: Path | str):
        self.file = Path(file) if isinstance(file, Path) else cache_root() / FOLDER / f"{file}.sqlite"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(self.file, timeout=60, check_same_thread=False)
        try:
            with self._database:
                self._database.execute("CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.file}: not a cache of bgetune ({error}); delete it") from None

    def find(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those keys that are known."""
        keys = list(dict.fromkeys(keys))
        found = {}
        with self._lock:
            for start in range(0, len(keys), 500):
                block = keys[start : start + 500]
                marks = ",".join("?" * len(block))
                rows = self._database.execute(f"SELECT key, value FROM memo WHERE key IN ({marks})", block)
                found.update((name, json.loads(value)) for name, value in rows)
        return found

    def add(self, values: Mapping[str, Any]) -> None:
        """Keep values, which JSON must be able to hold."""
        rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in values.items()]
        with self._lock, self._database:
            self._database.executemany("INSERT OR REPLACE INTO memo VALUES (?, ?)", rows)
