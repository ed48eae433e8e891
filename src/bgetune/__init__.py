"""bgetune: a team's own data in, a fine-tuned BGE embedding model and a threshold one can trust out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bgetune.opened import Run

__version__ = "0.2.0"


def open(folder: str | Path) -> Run:
    """A finished run: `run.tables.edges`, `run.metrics`, `run.model`, `run.scorer`; see `bgetune.opened.Run`.

    Args:
        folder: of the run, such as runs/demo; a relative one is relative to the repository.

    Raises:
        InputError: if there is no run, or none of its notebooks has finished.
    """
    from bgetune.opened import Run

    return Run(folder)
