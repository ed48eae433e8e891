"""Files and folders: written at once or not at all, hashed, linked."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from bgetune.errors import InputError


def write_atomic(file: Path, text: str) -> None:
    """Write UTF-8 text to a temporary name and rename it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def describe(path: Path) -> dict[str, Any]:
    """Size, time of change and SHA-256 of a file, or of all files below a folder."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return {**_stat(path), "sha256": sha256(path)}


def fingerprint(path: Path, known: dict[str, Any]) -> str:
    """The SHA-256 of a path; the known one while size and time of change are the known ones."""
    return known["sha256"] if _stat(path).items() <= known.items() else sha256(path)


def sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and contents of its files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in files_below(path):
        digest.update(f"{file.relative_to(path)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def files_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _stat(path: Path) -> dict[str, int]:
    stats = [file.stat() for file in ([path] if path.is_file() else files_below(path))]
    return {
        "bytes": sum(stat.st_size for stat in stats),
        "mtime_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def link(source: Path, target: Path) -> None:
    """A hard link to a file, or to each file below a folder; a copy where there can be none."""
    for file in [source] if source.is_file() else files_below(source):
        copy = target if file == source else target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        try:
            os.link(file, copy)
        except OSError:
            shutil.copy2(file, copy)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
