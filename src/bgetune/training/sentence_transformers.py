"""Training by the trainer of sentence-transformers, with our batches and losses."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, WandbCallback

from bgetune.errors import Diverged
from bgetune.locale import _
from bgetune.models import hub
from bgetune.models.encoder import Encoder
from bgetune.training import checkpoints, evaluation, events, lora, tracking
from bgetune.training.callbacks import DriftGuard, EarlyStopping, EpochSetter, OnEvaluation, Progress
from bgetune.training.collator import Guide
from bgetune.training.groups import Group, blocks
from bgetune.training.losses import RankingLoss, graded_loss
from bgetune.training.sampler import ClusterBatchSampler, MixedBatchSampler
from bgetune.training.settings import RerankerSettings, TrainingSettings, uses_bfloat16
from bgetune.training.trainer import Collator, DevEvaluator, Trainer, load, training_arguments


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        model: the tuned model: the best checkpoint, or the last state where there were no dev pairs to evaluate on.
        log: the table `training_log`.
        best_step: the step of the model.
    """

    model: SentenceTransformer
    log: pd.DataFrame
    best_step: int


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
    """Fine-tune a model on groups and, together with them, on graded pairs.

    A training that was killed continues from its last checkpoint when it is called again with the same arguments, and
    ends with the weights of an uninterrupted one. Works unchanged in each process of `torchrun` or `accelerate launch`.

    Args:
        base: the model's folder, hub name or demo://.
        groups: training groups.
        cluster_of: cluster number of every text in them.
        settings: how to train.
        folder: for checkpoints.
        pairs: dev pairs to evaluate on, as `evaluation.dev_pairs` makes them. None, or pairs of one label only: no
            evaluation, and the last state is the model.
        graded: columns query, text, grade (0 to 1), as `evaluation.graded_pairs` makes them.
        on_evaluation: is called with the log after every evaluation.
        tensorboard_dir: folder for TensorBoard's event files; None: none.
        wandb_dir: folder of the stage, to log to Weights & Biases; None: nothing is logged there.

    Raises:
        InputError: a loss that is not finite (with the batch), no room for checkpoints, an unknown model, TensorBoard
            or W&B wanted but not installed.
    """
    if tensorboard_dir is not None:
        events.require()
    if wandb_dir is not None:
        tracking.require()
    model = load(base, max_length=settings.max_length, device=settings.device)
    if settings.lora_rank is not None:
        lora.add(model, settings.lora_rank, settings.seed)
    if pairs is not None and not evaluation.can_be_evaluated(pairs):
        pairs = None
    if settings.graded_loss == "none" or graded is None or graded.empty:
        graded = None
    key = checkpoint_key(base, groups, cluster_of, settings, pairs, graded)
    weights = sum(p.nelement() * p.element_size() for p in model.parameters() if p.requires_grad)
    folder = checkpoints.prepare(folder, key, 4 * 3 * weights / 1e9)  # four checkpoints, with AdamW's two moments
    last = checkpoints.latest(folder)

    data = {"groups": Dataset.from_dict({"item": range(len(groups) * settings.epochs)})}
    ranking = ranking_loss(model, settings)
    losses: dict[str, torch.nn.Module] = {"groups": ranking}
    if graded is not None:
        data["graded"] = Dataset.from_dict(
            {"query": graded["query"].tolist(), "text": graded["text"].tolist(), "label": graded["grade"].tolist()}
        )
        losses["graded"] = graded_loss(settings.graded_loss, model)
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    sampler = batch_sampler(groups, cluster_of, 0 if graded is None else len(graded), settings, processes)
    steps = len(sampler) // processes * settings.epochs
    before = {"step": 0, "epoch": 0.0}
    evaluator = stopping = None
    callbacks: list[TrainerCallback] = [Progress(), EpochSetter(sampler)]
    if pairs is not None:
        evaluator = DevEvaluator(pairs, settings, model)
        before |= evaluator.before
        stopping = EarlyStopping(before, settings.patience, on_evaluation)
        callbacks += [stopping, DriftGuard(ranking, before, settings.orthogonality_weight)]
    if tensorboard_dir is not None and rank == 0:
        callbacks.append(TensorBoardCallback(events.start(tensorboard_dir, before, checkpoints.step(last))))
    trainer = Trainer(
        model=model,
        args=training_arguments(settings, folder, steps, evaluates=evaluator is not None),
        train_dataset=DatasetDict(data),
        loss=losses,
        evaluator=evaluator,
        collator=Collator(model, groups, cluster_of, settings, guide(base, groups, settings), rank, processes),
        callbacks=callbacks,
        sampler=sampler,
    )
    with hub.quiet(), tracking.run(wandb_dir) as tracked:
        if tracked is not None:
            tracking.write(tracked, evaluation.training_log(before, []))
            trainer.add_callback(WandbCallback())
        trainer.train_from(last, stopping)
    best = trainer.state.best_global_step if evaluator is not None else None
    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # from now on it computes in float32
    if settings.lora_rank is not None:
        model = lora.merge(model, load(base, max_length=settings.max_length, device=settings.device))
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise Diverged(
            _("04_train: the weights are not finite after the last step: training has diverged; lower learning_rate")
        )
    log = evaluation.training_log(before, trainer.state.log_history)
    return Trained(model.eval(), log, int(best or trainer.state.global_step))


def ranking_loss(model: SentenceTransformer, settings: TrainingSettings) -> RankingLoss:
    """The loss of the groups."""
    return RankingLoss(
        model,
        scale=settings.scale,
        symmetric=settings.symmetric,
        scope=settings.loss_scope,
        orthogonality_weight=settings.orthogonality_weight,
        dimensions=settings.matryoshka,
        mini_batch_size=settings.mini_batch_size,
    )


def batch_sampler(
    groups: Sequence[Group],
    cluster_of: Mapping[str, int],
    graded: int,
    settings: TrainingSettings | RerankerSettings,
    processes: int = 1,
) -> MixedBatchSampler:
    """The batches of an epoch: groups of one cluster as far apart as can be, graded pairs shuffled.

    Several processes compute each batch of groups together; of graded pairs each has batches of its own.

    Args:
        groups: training groups.
        cluster_of: cluster number of every text in them.
        graded: number of graded pairs.
        settings: how to train.
        processes: number of processes of `torchrun`.
    """
    size, seed = settings.batch_size, settings.seed
    samplers = [ClusterBatchSampler(blocks(groups, cluster_of), size, seed, processes, renumber=True, together=True)]
    if graded:
        samplers.append(ClusterBatchSampler(np.arange(graded), size, seed, processes))
    offsets = [0, len(groups) * settings.epochs]
    return MixedBatchSampler(samplers, offsets[: len(samplers)], settings.mixing, seed, processes)


def guide(base: str | Path, groups: Sequence[Group], settings: TrainingSettings) -> Guide | None:
    """The guide of the gist loss: its vectors of all texts, computed once (and cached) instead of in every step."""
    if settings.loss != "gist":
        return None
    location = settings.guide or base
    encoder = Encoder(location, max_length=settings.max_length, device=settings.device, parameter="guide")
    read = ((group, [*group.positives, *group.implied, *group.negatives]) for group in groups)
    texts = list(dict.fromkeys(text for group, some in read for text in (group.anchor, *group.prompted(some))))
    return Guide(encoder.encode(texts, prompt=""), {text: i for i, text in enumerate(texts)}, settings.guide_margin)


def checkpoint_key(
    base: str | Path,
    groups: Sequence[Group],
    cluster_of: Mapping[str, int],
    settings: TrainingSettings | RerankerSettings,
    pairs: pd.DataFrame | None,
    graded: pd.DataFrame | None,
) -> list[str]:
    """Everything that the weights of a training depend on, for `checkpoints.prepare`."""
    guide = settings.guide if isinstance(settings, TrainingSettings) else None
    return [
        json.dumps(dataclasses.asdict(settings)),
        *(hub.fingerprint(hub.fetch(location)) for location in (base, guide) if location is not None),
        str(uses_bfloat16(settings.precision, settings.device)),
        json.dumps([dataclasses.astuple(group) for group in groups]),
        json.dumps(sorted(cluster_of.items())),
        *("" if table is None else table.to_csv(index=False) for table in (pairs, graded)),
        os.environ.get("WORLD_SIZE", "1"),
        checkpoints.code_hash(),
    ]
