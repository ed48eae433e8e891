"""Training in several processes, on this machine and others, started by torchrun from one that shows how it goes.

The notebook's process writes a job, a folder; `python -m bgetune.training JOB` computes it in each process of torchrun,
and the first of them writes the log, the model and what went wrong back into the folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from bgetune import files
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models import hub, processes
from bgetune.training import devices, sentence_transformers
from bgetune.training.callbacks import OnEvaluation
from bgetune.training.groups import Group
from bgetune.training.sentence_transformers import Trained
from bgetune.training.settings import TrainingSettings
from bgetune.training.trainer import load


def train(
    base: str | Path,
    groups: Sequence[Group],
    cluster_of: Mapping[str, int],
    settings: TrainingSettings,
    folder: Path,
    *,
    pairs: pd.DataFrame | None = None,
    graded: pd.DataFrame | None = None,
    on_evaluation: OnEvaluation | None = None,
    tensorboard_dir: Path | None = None,
    wandb_dir: Path | None = None,
) -> Trained:
    """Fine-tune in `settings.world_size` processes; arguments and result as for `sentence_transformers.train`.

    Raises:
        InputError: if there are fewer GPUs than processes, or what `sentence_transformers.train` raises in one of them.
        RuntimeError: if a process ends otherwise, with the cause.
    """
    devices.require(settings)
    job = folder.with_name("job")
    files.remove(job)
    job.mkdir(parents=True)
    given = {
        "base": str(base),
        "groups": [asdict(group) for group in groups],
        "cluster_of": dict(cluster_of),
        "settings": asdict(settings),
        "folder": str(folder.absolute()),
        "tensorboard_dir": None if tensorboard_dir is None else str(tensorboard_dir.absolute()),
        "wandb_dir": None if wandb_dir is None else str(wandb_dir.absolute()),
    }
    for name, table in (("pairs", pairs), ("graded", graded)):
        if table is not None:
            table.to_parquet(job / f"{name}.parquet")
    files.write_atomic(job / "job.json", json.dumps(given, ensure_ascii=False))
    seen = 0

    def look() -> None:
        nonlocal seen
        log = job / "log.parquet"
        if on_evaluation is not None and log.is_file() and (changed := log.stat().st_mtime_ns) != seen:
            seen = changed
            on_evaluation(pd.read_parquet(log))

    number = 0 if graded is None or settings.graded_loss == "none" else len(graded)
    sampler = sentence_transformers.batch_sampler(groups, cluster_of, number, settings, settings.world_size)
    steps = len(sampler) // settings.world_size * settings.epochs
    command = processes.command("bgetune.training", [str(job.absolute())], **settings.launcher)
    status = processes.run(
        command, job / "output.log", steps, look=look, env=processes.environment(settings.processes, settings.nodes)
    )
    if status:
        raise _failure(job, status)
    look()
    model = load(job / "model", max_length=settings.max_length, device=settings.device)
    result = json.loads((job / "result.json").read_text(encoding="utf-8"))
    trained = Trained(model.eval(), pd.read_parquet(job / "log.parquet"), result["best_step"])
    shutil.rmtree(job)
    return trained


def compute(job: Path) -> int:
    """What each process does: train, and the first one writes the result. Returns the exit status."""
    given = json.loads((job / "job.json").read_text(encoding="utf-8"))
    settings = TrainingSettings(**given["settings"])
    rank = processes.take_device(hub.torch_device(settings.device))
    tables = {
        name: pd.read_parquet(file) if (file := job / f"{name}.parquet").is_file() else None
        for name in ("pairs", "graded")
    }
    try:
        trained = sentence_transformers.train(
            given["base"],
            [_group(row) for row in given["groups"]],
            given["cluster_of"],
            settings,
            Path(given["folder"]),
            on_evaluation=lambda log: _write(log, job),
            **tables,
            **{name: given[name] and Path(given[name]) for name in ("tensorboard_dir", "wandb_dir")},
        )
    except InputError as error:
        files.write_atomic(job / f"error-{rank}.txt", str(error))
        return 2
    if rank == 0:
        trained.model.save_pretrained(str(job / "model"), create_model_card=False)
        _write(trained.log, job)
        files.write_atomic(job / "result.json", json.dumps({"best_step": trained.best_step}))
    return 0


def _write(log: pd.DataFrame, job: Path) -> None:
    target = job / "log.parquet"
    temporary = files.temporary_name(target)
    log.to_parquet(temporary)
    os.replace(temporary, target)


def _failure(job: Path, status: int) -> Exception:
    """What went wrong: bad input in the words of the process that met it first, else the cause in the output."""
    told = sorted(job.glob("error-*.txt"), key=lambda file: file.stat().st_mtime_ns)
    if told:
        said = told[0].read_text(encoding="utf-8")
        return InputError(said)
    output = (job / "output.log").read_text(encoding="utf-8", errors="replace")
    # torchrun ends with a table of its own; the cause is the last error before it
    causes = re.findall(r"^(?:\[rank\d+\]:\s*)?(\w*(?:Error|Exception|Interrupt)\b.*)$", output, re.MULTILINE)
    ours = [cause for cause in causes if "ChildFailedError" not in cause]
    message = _("04_train: launcher: the processes stopped with status {status}: {cause}; all they said is in {file}")
    cause = (ours or causes or [_("nothing was said")])[0]
    return RuntimeError(message.format(status=status, cause=cause, file=job / "output.log"))


def _group(row: dict[str, Any]) -> Group:
    """A group that was written as JSON, which knows no tuples."""
    texts = {name: tuple(row[name]) for name in ("positives", "negatives", "implied")}
    return Group(**{**row, **texts})
