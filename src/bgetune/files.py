"""Files and folders: written at once or not at all, private, locked, hashed, linked."""

from __future__ import annotations

import atexit
import glob
import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from bgetune.errors import InputError, reason
from bgetune.locale import _


def write_atomic(file: Path, text: str) -> None:
    """Write UTF-8 text to a temporary name and rename it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(file)
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, file)
    finally:
        remove(temporary)


def temporary_name(target: Path) -> Path:
    """Where this process writes what becomes `target`: beside it, so that a rename is enough."""
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed have left below a folder under a `temporary_name`."""
    for part in list(folder.rglob(".*.part")):
        process = part.name.split(".")[-2]
        if process.isdecimal() and not is_running(int(process)):
            remove(part)


def is_running(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def lock(file: Path) -> int | None:
    """Lock a file for this process and those that inherit the descriptor: until it is closed, or the last one ends.

    Returns:
        The file's descriptor, or None where another process holds the lock.

    Raises:
        InputError: if the file system has no locks.
    """
    from filelock import lock_descriptor

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    held = False
    try:
        held = lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        raise InputError(
            _("{file}: this file system cannot lock files ({reason}); take a local disk").format(
                file=file, reason=reason(error)
            )
        ) from None
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None


def private_folder(parent: Path, prefix: str = "") -> Path:
    """A new folder below `parent` that no other user can read, removed when this process ends.

    Those that killed processes have left there are removed first: a process holds a lock as long as it lives.

    Args:
        prefix: of the folder's name; only folders with it are looked at.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned_private(parent, prefix)
    folder = parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
    descriptor = lock(
        folder.with_name(f"{folder.name}.lock")
    )  # before the folder is there, so that nobody takes it for abandoned
    folder.mkdir(mode=0o700)
    atexit.register(_remove_private, folder, descriptor)
    return folder


def remove_abandoned_private(parent: Path, prefix: str = "") -> None:
    """Remove the private folders below `parent` whose processes were killed."""
    for left in parent.glob(f"{prefix}*"):
        if left.is_dir():
            with suppress(PermissionError):  # another user's
                _remove_private(left)


def _remove_private(folder: Path, descriptor: int | None = None) -> None:
    """Remove a private folder and its lock: this process's own, or one whose process has ended."""
    file = folder.with_name(f"{folder.name}.lock")
    held = lock(file) if descriptor is None else descriptor
    if held is not None:
        shutil.rmtree(folder, ignore_errors=True)
        file.unlink(missing_ok=True)
        os.close(held)


def describe(path: Path) -> dict[str, Any]:
    """Size, time of change and SHA-256 of a file, or of all files below a folder."""
    if not path.exists():
        raise InputError(_("{path}: no such file or folder; correct the path").format(path=path))
    return {**_stat(path), "sha256": sha256(path)}


def is_pattern(location: str) -> bool:
    """Whether a location may stand for several files: `data/log-*.csv`."""
    return any(letter in location for letter in "*?[")


def fitting(pattern: Path) -> str:
    """The names of the files that fit a pattern, one a line."""
    return "\n".join(name for name in sorted(glob.glob(str(pattern), recursive=True)) if Path(name).is_file())


def fingerprint(path: Path, known: dict[str, Any]) -> str:
    """The SHA-256 of a path; the known one while size and time of change are the known ones."""
    return known["sha256"] if _stat(path).items() <= known.items() and "sha256" in known else sha256(path)


def sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and contents of its files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for part in files_below(path):
        digest.update(f"{part.relative_to(path)}\0{sha256(part)}\n".encode())
    return digest.hexdigest()


def files_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _stat(path: Path) -> dict[str, int]:
    stats = [file.stat() for file in ([path] if path.is_file() else files_below(path))]
    return {
        "bytes": sum(stat.st_size for stat in stats),
        "mtime_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


LINKED = (".parquet", ".safetensors", ".onnx")
"""Ends of names of large files, which nobody edits in place."""


def link(source: Path, target: Path) -> None:
    """Hard links to the large files of a file or folder; a copy of the others, which a person may edit (`review.csv`,
    an executed notebook), and where there can be no link."""
    for file in [source] if source.is_file() else files_below(source):
        copy = target if file == source else target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        if file.suffix in LINKED:
            with suppress(OSError):
                os.link(file, copy)
                continue
        shutil.copy2(file, copy)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
