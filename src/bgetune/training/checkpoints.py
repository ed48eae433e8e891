"""The folder of checkpoints of a training, and the checkpoint that it may continue from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from bgetune.errors import InputError
from bgetune.locale import _


def prepare(root: str | Path, key: Iterable[str], gigabytes: float) -> Path:
    """Make the folder for the checkpoints of a training, and delete those of other trainings.

    Args:
        root: the stage's folder of checkpoints.
        key: everything that the resulting weights depend on (parameters, data, base model, code). A training with the
            same key continues from the checkpoints there; those with another key are deleted.
        gigabytes: disk space that the checkpoints will take, in units of 10^9 bytes.

    Returns:
        The folder, below `root`.

    Raises:
        InputError: if the folder cannot be written, or the disk has less room.
    """
    root = Path(root)
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    folder = root / digest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"writable")
        probe.unlink()
    except OSError as error:
        raise InputError(
            _(
                "{folder}: training cannot write its checkpoints there ({reason}); give another run_dir, or make room"
            ).format(folder=folder, reason=error.strerror)
        ) from None
    for other in root.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)  # another process of the same training may be faster
    free = shutil.disk_usage(folder).free / 1e9
    taken = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
    if free + taken < gigabytes:
        raise InputError(
            _(
                "{folder}: the disk has {free:.1f} GB free, and the checkpoints of this training take "
                "{gigabytes:.1f} GB; make room, or give another run_dir"
            ).format(folder=folder, free=free, gigabytes=gigabytes)
        )
    return folder


def latest(folder: Path) -> Path | None:
    """The last complete checkpoint, None if there is none; a killed run may leave one without the trainer's state."""
    newest_first = sorted(folder.glob("checkpoint-*"), key=step, reverse=True)
    return next((path for path in newest_first if _is_complete(path)), None)


def step(checkpoint: Path | None) -> int:
    """The step of a checkpoint; 0 for none."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("checkpoint-"))


def clear(root: str | Path) -> None:
    """Delete all checkpoints, once the model is saved."""
    shutil.rmtree(root, ignore_errors=True)


def _is_complete(checkpoint: Path) -> bool:
    """Whether the trainer wrote its state, which it does last."""
    state = checkpoint / "trainer_state.json"
    try:
        return json.loads(state.read_text(encoding="utf-8"))["global_step"] > 0
    except (OSError, ValueError, KeyError):
        return False


def code_hash() -> str:
    """SHA-256 of the modules of training: a training does not continue from a checkpoint of other code."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
