"""Training by FlagEmbedding's own trainer, in a process of its own."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bgetune.errors import Diverged, InputError
from bgetune.locale import _
from bgetune.models import hub, layout, processes
from bgetune.models.tokens import shorten
from bgetune.training import checkpoints, devices, evaluation, events, tracking
from bgetune.training.callbacks import OnEvaluation
from bgetune.training.groups import Group
from bgetune.training.sentence_transformers import Trained, checkpoint_key
from bgetune.training.settings import RerankerSettings, TrainingSettings, uses_bfloat16
from bgetune.training.trainer import LOGS, encoder_of, load

MODULE = "FlagEmbedding.finetune.embedder.encoder_only.base"


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
    """Fine-tune with the official trainer; arguments and result as for `sentence_transformers.train`.

    Checkpoints and evaluations come once an epoch; the best by `settings.metric` is the model. Graded pairs are not
    used: the official trainer has no loss for them. A training that was killed starts again: the trainer (1.4) cannot
    load its own checkpoints. Its log is `flagembedding.log` beside the checkpoints.

    Raises:
        InputError: if the trainer has no such pooling as the model's, stops with an error (with the end of its log), or
            its loss is not finite.
    """
    if tensorboard_dir is not None:
        events.require()
    if wandb_dir is not None:
        tracking.require()
    devices.require(settings)
    if pairs is not None and not evaluation.can_be_evaluated(pairs):
        pairs = None
    source = hub.fetch(base)
    layout.official_pooling(source)
    weights = sum(file.stat().st_size for file in source.glob(f"*{hub.WEIGHTS}"))
    key = checkpoint_key(base, groups, cluster_of, settings, pairs, None)
    folder = checkpoints.prepare(folder, key, (settings.epochs + 1) * weights / 1e9)
    data = folder / "train.jsonl"
    filled = fill(groups, cluster_of, settings.negatives, settings.seed)
    write_groups(shortened(filled, source, settings.max_length), data)
    steps = math.ceil(len(groups) / (settings.batch_size * settings.world_size)) * settings.epochs
    environment = processes.environment(settings.processes, settings.nodes)
    states, history = run(command(source, data, folder, settings, steps), folder, steps, environment)
    for path in states.values():
        layout.copy_modules(source, path)  # the trainer saves the transformer alone, which would be read as CLS
    model_of = partial(load, max_length=settings.max_length, device=settings.device)
    before: dict[str, float] = {"step": 0, "epoch": 0.0}
    evaluations: list[dict[str, float]] = []
    if pairs is not None:
        encode = encoder_of(model_of(source), settings.batch_size)
        band = evaluation.crowded_band(pairs, encode)
        before |= evaluation.dev_metrics(pairs, encode, band)
        evaluation.require_metric(settings.metric, before)
        for step in sorted(states):
            found = evaluation.dev_metrics(pairs, encoder_of(model_of(states[step]), settings.batch_size), band)
            evaluations.append({"step": step, "epoch": step * settings.epochs / steps, **found})
            if on_evaluation is not None:
                on_evaluation(evaluation.training_log(before, [*history, *evaluations]))
    scores = {
        int(found["step"]): evaluation.selection_score(found, before, settings.metric, settings.drift_penalty)
        for found in evaluations
    }
    best = max(scores, key=lambda step: scores[step]) if scores else max(states)
    log = evaluation.training_log(before, [*history, *evaluations])
    if tensorboard_dir is not None:
        events.write(tensorboard_dir, log)
    with tracking.run(wandb_dir) as tracked:
        if tracked is not None:
            tracking.write(tracked, log)
    return Trained(model_of(states[best]), log, best)


def run(
    command: list[str], folder: Path, steps: int, environment: dict[str, str]
) -> tuple[dict[int, Path], list[dict[str, Any]]]:
    """Run an official trainer, unless it has run to its end before.

    Args:
        command: its command line.
        folder: where it writes its checkpoints, one an epoch.
        steps: number of steps of the whole training.
        environment: of its processes.

    Returns:
        The checkpoints by their step, and the trainer's log.

    Raises:
        InputError: if it stops with an error, or its loss is not finite.
    """
    last = checkpoints.latest(folder)
    if last is None or _state(last)["global_step"] < steps:
        for old in folder.glob("checkpoint-*"):
            shutil.rmtree(old)
        _run(command, folder / "flagembedding.log", steps, environment)
    states = {_state(path)["global_step"]: path for path in folder.glob("checkpoint-*")}
    history = _state(states[max(states)])["log_history"]
    if any("loss" in entry and not math.isfinite(float(entry["loss"])) for entry in history):
        raise Diverged(
            _("04_train: the loss of FlagEmbedding is not finite: training has diverged; lower learning_rate")
        )
    return states, history


def fill(groups: Sequence[Group], cluster_of: Mapping[str, int], negatives: int, seed: int) -> list[Group]:
    """Fill short lists of negatives with random texts of other clusters.

    The trainer divides by zero on an empty list and repeats negatives on a short one.

    Args:
        groups: training groups.
        cluster_of: cluster number of every text in them.
        negatives: number of negatives that each group gets at least.
        seed: seed of the choice.
    """
    rng = np.random.default_rng(seed)
    corpus = rng.permutation(sorted({text for group in groups for text in (group.query, *group.positives)})).tolist()
    filled = []
    for group in groups:
        own = {cluster_of[text] for text in (group.query, *group.positives, *group.negatives)}
        start = int(rng.integers(len(corpus)))
        others = (text for text in chain(corpus[start:], corpus[:start]) if cluster_of[text] not in own)
        drawn = tuple(islice(others, max(0, negatives - len(group.negatives))))
        filled.append(replace(group, negatives=group.negatives + drawn))
    return filled


def shortened(groups: Sequence[Group], source: Path, max_length: int) -> list[Group]:
    """Groups whose texts are cut behind the tokens that the trainer reads."""
    from transformers import AutoTokenizer

    with hub.loading(source, "model"):
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)

    def short(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(shorten(tokenizer, texts, max_length))

    return [
        replace(
            group, query=short([group.query])[0], positives=short(group.positives), negatives=short(group.negatives)
        )
        for group in groups
    ]


def write_groups(groups: Sequence[Group], file: Path) -> None:
    """Write groups in FlagEmbedding's format. It has prompts for queries only: other texts are written with theirs."""
    rows = [
        {"query": g.query, "pos": g.prompted(g.positives), "neg": g.prompted(g.negatives), "prompt": g.prompt}
        for g in groups
    ]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def command(source: Path, data: Path, folder: Path, settings: TrainingSettings, steps: int) -> list[str]:
    """The command line of the official trainer.

    Args:
        source: the base model's folder.
        data: a file of groups.
        folder: for checkpoints.
        settings: how to train.
        steps: number of steps of the whole training.
    """
    arguments = shared_arguments(source, data, folder, settings, steps) | {
        "query_max_len": settings.max_length,
        "passage_max_len": settings.max_length,
        # without it the trainer would leave out the prompt of each row
        "query_instruction_for_retrieval": "",
        "query_instruction_format": "{}{}",
        "temperature": 1 / settings.scale,
        "sentence_pooling_method": layout.official_pooling(source),
        "normalize_embeddings": True,
        "negatives_cross_device": settings.world_size > 1,
    }
    return processes.command(MODULE, named(arguments), **settings.launcher)


def shared_arguments(
    source: Path, data: Path, folder: Path, settings: TrainingSettings | RerankerSettings, steps: int
) -> dict[str, Any]:
    """The arguments that the official trainers of encoders and of rerankers have in common, as for `command`."""
    cuda = settings.device != "cpu" and torch.cuda.is_available()
    return {
        "model_name_or_path": source,
        "trust_remote_code": False,
        "train_data": data,
        "cache_path": folder / "data",
        "train_group_size": settings.negatives + 1,
        "output_dir": folder,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "bf16": uses_bfloat16(settings.precision, settings.device),
        "use_cpu": not cuda,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "dataloader_pin_memory": cuda,
        "logging_steps": max(1, steps // LOGS),
        "save_strategy": "epoch",
        "save_only_model": True,
        "report_to": "none",
    }


def named(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments of a command line by their names."""
    return [part for name, value in arguments.items() for part in (f"--{name}", str(value))]


def _run(command: list[str], log: Path, steps: int, environment: dict[str, str]) -> None:
    if status := processes.run(command, log, steps, env=environment):
        end = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise InputError(
            _("04_train: FlagEmbedding stopped with status {status}; the end of {file}:").format(
                status=status, file=log
            )
            + "\n"
            + "\n".join(end)
        )


def _state(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
