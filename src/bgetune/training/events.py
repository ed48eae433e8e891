"""Event files of a training for TensorBoard; needs the extra `tensorboard`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.training import evaluation

if TYPE_CHECKING:
    import pandas as pd
    from torch.utils.tensorboard import SummaryWriter


def require() -> None:
    """Raise an `InputError` if the package is missing."""
    if find_spec("tensorboard") is None:
        raise InputError(
            _(
                "04_train: tensorboard: true needs a package that is not installed: pip install tensorboard. Or "
                "leave it false: the notebook shows the curves, and training_log.parquet holds them"
            )
        )


def start(folder: Path, before: Mapping[str, float], last_step: int) -> SummaryWriter:
    """Open a writer of a training's event files, and write the metrics of the model before training.

    Args:
        folder: for the files.
        before: the metrics of the model before training.
        last_step: step of the checkpoint that the training continues from; later events of the process that was killed
            are not shown. 0: a new training, and older files are deleted.
    """
    from torch.utils.tensorboard import SummaryWriter

    if last_step:
        return SummaryWriter(str(folder), purge_step=last_step + 1)
    shutil.rmtree(folder, ignore_errors=True)
    writer = SummaryWriter(str(folder))
    for name in before.keys() - {"step", "epoch"}:
        writer.add_scalar(f"eval/{name}", before[name], 0)
    return writer


def write(folder: Path, log: pd.DataFrame) -> None:
    """Write the event file of a finished training.

    Args:
        folder: for the file.
        log: the table `training_log`.
    """
    writer = start(folder, {}, 0)
    for name in log.columns.drop(["step", "epoch"]):
        kind = "eval" if name in evaluation.METRICS else "train"
        for step, value in log[["step", name]].dropna().itertuples(index=False):
            writer.add_scalar(f"{kind}/{name}", value, int(step))
    writer.close()
