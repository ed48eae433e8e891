"""The cache of the demo world: folders named by a hash of the code that makes them, complete or absent."""

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
    """Ten hexadecimal digits of a hash of the preset and the source files."""
    digest = hashlib.sha256(repr(preset).encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:10]


def build(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make a folder if it does not exist, and return it.

    It is made under a temporary name and renamed at the end, so that a killed process leaves no incomplete folder. One
    process builds at a time, and removes what a killed one left.

    Args:
        folder: the folder.
        make: fills the temporary folder that it is given.
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
