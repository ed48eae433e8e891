"""A run's folder has one owner at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bgetune.errors import InputError
from bgetune.files import is_running, lock, remove_abandoned
from bgetune.locale import _

PATIENCE = 30
"""Seconds that the kernel of a killed run gets to notice that its run is gone; it looks once a second."""


@contextmanager
def owned(run_dir: Path) -> Iterator[int]:
    """Own a run's folder until the block ends. What a killed owner left half-written is removed first.

    Yields:
        The descriptor of the lock. A process that inherits it owns the folder too: so does a notebook's kernel.

    Raises:
        InputError: naming the process that owns the folder.
        OSError: if the folder cannot be made or written.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / ".lock"
    begun = time.monotonic()
    while (descriptor := lock(file)) is None:
        owner = file.read_text(encoding="utf-8").strip()
        if owner.isdecimal() and is_running(int(owner)):
            raise InputError(
                _(
                    "{run} is being written by another ./run_all.sh (process {owner}); wait until it has ended, or "
                    "give this run another name in its profile"
                ).format(run=run_dir, owner=owner)
            )
        if time.monotonic() - begun > PATIENCE:
            raise InputError(
                _("{run} is still being written by a notebook of a run that was stopped; try again").format(run=run_dir)
            )
        time.sleep(0.2)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        remove_abandoned(run_dir)
        yield descriptor
    finally:
        os.close(descriptor)
