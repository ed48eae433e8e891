"""Where the demo world lies once made: folders named by a hash of what made them, complete or absent."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from bgetune.paths import cache_root


def root() -> Path:
    """The folder above ``data/demo`` and ``models/demo``: ``$BGETUNE_CACHE``, or the repository."""
    return cache_root().expanduser().resolve()


def key(preset: object, sources: Iterable[Path]) -> str:
    """Ten hexadecimal digits that change with the preset or with any of the source files."""
    digest = hashlib.sha256(repr(preset).encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:10]


def build(folder: Path, make: Callable[[Path], None]) -> Path:
    """``folder``, made by ``make(temporary folder)`` if it is not there.

    The work is renamed into place when it is complete, so a build that is killed leaves nothing that looks made. One
    process builds at a time; what a killed one left is cleared by the next.
    """
    if folder.is_dir():
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.part")
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            try:
                make(draft)
                draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return folder
