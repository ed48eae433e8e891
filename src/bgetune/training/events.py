"""The training log as TensorBoard reads it; needs the extra `tensorboard`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bgetune.errors import InputError
from bgetune.training import evaluation

if TYPE_CHECKING:
    import pandas as pd
    from torch.utils.tensorboard import SummaryWriter


def require() -> None:
    """Raise an `InputError` if the package is missing."""
    if find_spec("tensorboard") is None:
        raise InputError(
            "04_train: tensorboard: true needs a package that is not installed: pip install tensorboard. Or leave it "
            "false: the notebook shows the curves, and training_log.parquet holds them"
        )


def start(folder: Path, first: Mapping[str, float], last_step: int) -> SummaryWriter:
    """A writer of a training's event files, with the look at dev before the first step.

    Args:
        folder: for the files.
        first: what that look measured.
        last_step: of the checkpoint that the training continues from: later events of the process that was killed are
            not shown. 0: a training of its own, and files of others are deleted.
    """
    from torch.utils.tensorboard import SummaryWriter

    if last_step:
        return SummaryWriter(str(folder), purge_step=last_step + 1)
    shutil.rmtree(folder, ignore_errors=True)
    writer = SummaryWriter(str(folder))
    for name in first.keys() - {"step", "epoch"}:
        writer.add_scalar(f"eval/{name}", first[name], 0)
    return writer


def write(folder: Path, log: pd.DataFrame) -> None:
    """The event file of a training that is over.

    Args:
        log: the table `training_log`.
    """
    writer = start(folder, {}, 0)
    for name in log.columns.drop(["step", "epoch"]):
        kind = "eval" if name in evaluation.METRICS else "train"
        for step, value in log[["step", name]].dropna().itertuples(index=False):
            writer.add_scalar(f"{kind}/{name}", value, int(step))
    writer.close()
