"""A training as a run of Weights & Biases, live by the callback of transformers; needs the extra `wandb`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.training import evaluation

if TYPE_CHECKING:
    import pandas as pd

PROJECT = "bgetune"
"""The project where `WANDB_PROJECT` names none."""


def require() -> None:
    """Raise an `InputError` if the package or the key of an account is missing.

    Without an account or a network, ``WANDB_MODE=offline`` writes files that ``wandb sync`` uploads later.
    """
    if find_spec("wandb") is None:
        raise InputError(
            _("04_train: wandb: true needs a package that is not installed: pip install wandb. Or leave it false")
        )
    if os.environ.get("WANDB_MODE", "online") == "online" and not os.environ.get("WANDB_API_KEY"):
        raise InputError(
            _("04_train: wandb: true needs a key in the environment variable WANDB_API_KEY; or set WANDB_MODE=offline")
        )


@contextmanager
def run(folder: Path | None) -> Iterator[Any]:
    """A run of W&B as long as the block lasts, with the name of our run; None where there is no folder.

    Inside, transformers' `WandbCallback` logs to it.

    Args:
        folder: of the stage, runs/NAME/04_train: W&B keeps its files in ``wandb`` there.

    Raises:
        InputError: if W&B refuses, in its words.
    """
    if folder is None or int(os.environ.get("RANK", "0")) != 0:
        yield None
        return
    require()
    import wandb

    settings = wandb.Settings(silent=True, console="off", save_code=False)
    project, name = os.environ.get("WANDB_PROJECT", PROJECT), folder.resolve().parent.name
    try:
        tracked = wandb.init(project=project, name=name, dir=str(folder), settings=settings)
    except wandb.Error as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            _("04_train: wandb: true: Weights & Biases refuses the run: {reason}; set WANDB_MODE=offline").format(
                reason=reason
            )
        ) from None
    with tracked:
        yield tracked


def write(tracked: Any, log: pd.DataFrame) -> None:
    """Log a finished training to a run of W&B, under the names of its callback.

    Args:
        tracked: the run.
        log: the table `training_log`.
    """
    for step, row in log.set_index("step").iterrows():
        found = {
            f"{'eval' if name in evaluation.METRICS else 'train'}/{name}": value for name, value in row.dropna().items()
        }
        tracked.log(found | {"train/global_step": step})
