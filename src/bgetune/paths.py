"""Where things lie: the repository, the caches, and what a profile calls a location."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

from platformdirs import user_cache_dir

from bgetune.errors import InputError
from bgetune.locale import _

MODELSCOPE = "modelscope://"
"""How the location of a model begins that comes from ModelScope's hub: modelscope://BAAI/bge-small-zh-v1.5."""

_SOURCES = Path(__file__).resolve().parents[2]
IN_REPOSITORY = (_SOURCES / "notebooks").is_dir()
"""Whether this is a clone of the repository, not an installed package."""

ROOT = _SOURCES if IN_REPOSITORY else Path.cwd()
"""What relative paths are relative to: the repository; outside of one the working folder."""


def cache_root() -> Path:
    """Where caches lie (`data/`, `models/`): the folder that BGETUNE_CACHE names, else the repository, else the user's
    cache folder."""
    default = ROOT if IN_REPOSITORY else user_cache_dir("bgetune")
    return Path(os.environ.get("BGETUNE_CACHE", default))


def work_root() -> Path:
    """Below this folder lie working files that end with their process; see `bgetune.files.private_folder`."""
    return cache_root() / "data" / "cache" / "work"


def locate(location: str | Path) -> Path:
    """The path of a file or folder: absolute, relative to the repository, or demo:// (made when missing).

    Raises:
        InputError: if a demo:// location is unknown. Whether the file exists is not checked.
    """
    if str(location).startswith("demo://"):
        return _demo().resolve(str(location))
    if any(len(os.fsencode(part)) > 255 for part in Path(location).parts):
        raise InputError(
            _("{beginning}...: longer than any file's name; give a path").format(beginning=str(location)[:60])
        )
    return ROOT / Path(location).expanduser()


def is_hub_name(location: str) -> bool:
    """Whether a model location is a hub name such as BAAI/bge-small-zh-v1.5: two plain parts, no such folder; or one
    of ModelScope's."""
    if location.startswith(MODELSCOPE):
        return True
    if location.startswith(("demo://", "/", ".", "~")):
        return False
    return location.count("/") == 1 and not locate(location).exists()


def prepare_demo(world: str) -> None:
    """Make everything of a demo world that is not made yet."""
    _demo().prepare(world)


def _demo() -> ModuleType:
    """The package of the demo world: below everything else, so it is looked up by name."""
    try:
        return import_module("bgetune_demo")
    except ModuleNotFoundError:
        raise InputError(_("demo://: the demo world comes with bgetune's repository, not with the package")) from None
