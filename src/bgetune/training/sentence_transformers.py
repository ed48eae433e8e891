"""Training by the trainer of sentence-transformers, with our batches and losses."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import TrainerState
from transformers.utils.notebook import NotebookProgressCallback

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.models import hub
from bgetune.models.encoder import Encoder
from bgetune.models.tokens import preprocessor, shorten
from bgetune.training import checkpoints, evaluation, events, lora
from bgetune.training.collator import GroupCollator, Guide
from bgetune.training.groups import Group, blocks, with_epochs
from bgetune.training.losses import RankingLoss, graded_loss
from bgetune.training.sampler import ClusterBatchSampler, MixedBatchSampler

if TYPE_CHECKING:
    from transformers import TrainerControl

LOGS = 60
"""About how many values of the loss a training logs."""

Watch = Callable[[pd.DataFrame], None]
"""Is shown the training log so far, after every look at dev."""


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes:
        model: the tuned model: the best checkpoint, or the last state where there was nothing to judge by.
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
    options: Train,
    folder: Path,
    *,
    pairs: pd.DataFrame | None = None,
    graded: pd.DataFrame | None = None,
    watch: Watch | None = None,
    events_in: Path | None = None,
) -> Trained:
    """Fine-tune a model on groups and, together with them, on graded pairs.

    A training that was killed continues from its last checkpoint when it is called again with the same arguments, and
    ends with the weights of an unbroken one. Works unchanged in each process of `torchrun` or `accelerate launch`.

    Args:
        base: the model's folder, hub name or demo://.
        groups: training groups.
        cluster_of: cluster number of every text in them.
        options: the parameters of 04_train.
        folder: for checkpoints.
        pairs: dev pairs to judge by, as `evaluation.dev_pairs` makes them. None, or pairs of one label only: no looks
            at dev, and the last state is the model.
        graded: columns query, text, grade (0 to 1), as `evaluation.graded_pairs` makes them.
        watch: is shown the log after every look at dev.
        events_in: folder for TensorBoard's event files; None: none.

    Raises:
        InputError: a loss that is not finite (with the batch), no room for checkpoints, an unknown model, TensorBoard
            wanted but not installed.
    """
    if events_in is not None:
        events.require()
    model = load(base, options)
    if options.lora_rank is not None:
        lora.add(model, options.lora_rank, options.seed)
    if pairs is not None and not evaluation.can_be_judged(pairs):
        pairs = None
    options = with_epochs(options, groups, pairs)
    if options.graded_loss == "none" or graded is None or graded.empty:
        graded = None
    key = checkpoint_key(base, groups, cluster_of, options, pairs, graded)
    weights = sum(p.nelement() * p.element_size() for p in model.parameters() if p.requires_grad)
    folder = checkpoints.prepare(folder, key, 4 * 3 * weights / 1e9)  # four checkpoints, with AdamW's two moments
    last = checkpoints.latest(folder)

    data = {"groups": Dataset.from_dict({"item": range(len(groups) * options.epochs)})}
    losses = {"groups": ranking_loss(model, options)}
    if graded is not None:
        data["graded"] = Dataset.from_dict(
            {"query": graded["query"].tolist(), "text": graded["text"].tolist(), "label": graded["grade"].tolist()}
        )
        losses["graded"] = graded_loss(options.graded_loss, model)
    sampler = batch_sampler(groups, cluster_of, 0 if graded is None else len(graded), options)
    steps = len(sampler) // sampler.processes * options.epochs
    first = {"step": 0, "epoch": 0.0}
    evaluator = None
    callbacks = [Progress(), Epochs(sampler)]
    judge = None
    if pairs is not None:
        evaluator = DevEvaluator(pairs, options, model)
        first |= evaluator.before
        judge = Judge(first, options.patience, watch)
        callbacks += [judge, DriftGuard(losses["groups"], first, options.orthogonality_weight)]
    if events_in is not None and int(os.environ.get("RANK", "0")) == 0:
        callbacks.append(TensorBoardCallback(events.start(events_in, first, checkpoints.step(last))))
    trainer = Trainer(
        model=model,
        args=training_arguments(options, folder, steps, judged=evaluator is not None),
        train_dataset=DatasetDict(data),
        loss=losses,
        evaluator=evaluator,
        data_collator=Collator(model, groups, cluster_of, options, guide(base, groups, options)),
        callbacks=callbacks,
        sampler=sampler,
    )
    with hub.quiet():
        trainer.train_from(last, judge)
    best = trainer.state.best_global_step if evaluator is not None else None
    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # from now on it computes in float32
    if options.lora_rank is not None:
        model = lora.merge(model, load(base, options))
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise InputError(
            "04_train: the weights are not finite after the last step: training has diverged; lower learning_rate"
        )
    return Trained(model.eval(), training_log(first, trainer.state.log_history), int(best or trainer.state.global_step))


def load(base: str | Path, options: Train) -> SentenceTransformer:
    """The model to train: float32 weights, at most `max_length` tokens."""
    model = Encoder(base, max_length=options.max_length, device=options.device, cache_dir=None).model
    model.max_seq_length = min(options.max_length, model.max_seq_length or options.max_length)
    return model


def encoder_of(model: SentenceTransformer, batch_size: int) -> Callable[[list[str]], np.ndarray]:
    """A function: n texts, prompts included -> (n, d) float32 unit rows."""
    options = {"prompt": "", "batch_size": batch_size, "normalize_embeddings": True, "show_progress_bar": False}
    return lambda texts: model.encode(shorten(model.tokenizer, texts, model.max_seq_length or 512), **options)


def uses_bfloat16(options: Train) -> bool:
    """Whether to compute in bfloat16 by autocast: weights, gradients, AdamW and the loss stay in float32."""
    if options.precision != "auto":
        return options.precision == "bfloat16"
    device = hub.torch_device(options.device)
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return device == "cpu" and hub.precision("auto", device) == "bfloat16"


def ranking_loss(model: SentenceTransformer, options: Train) -> RankingLoss:
    return RankingLoss(
        model,
        scale=options.scale,
        symmetric=options.symmetric,
        scope=options.loss_scope,
        orthogonality_weight=options.orthogonality_weight,
        dimensions=options.matryoshka,
        mini_batch_size=options.mini_batch_size,
    )


def batch_sampler(
    groups: Sequence[Group], cluster_of: Mapping[str, int], graded: int, options: Train
) -> MixedBatchSampler:
    """The batches of an epoch: groups by `blocks`, graded pairs shuffled, mixed as `options.mixing` says."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    deal = partial(ClusterBatchSampler, batch_size=options.batch_size, seed=options.seed, processes=processes)
    samplers = [deal(blocks(groups, cluster_of), renumber=True)]
    if graded:
        samplers.append(deal(np.arange(graded)))
    offsets = [0, len(groups) * options.epochs]
    return MixedBatchSampler(samplers, offsets[: len(samplers)], options.mixing, options.seed, processes)


def guide(base: str | Path, groups: Sequence[Group], options: Train) -> Guide | None:
    """The guide of the gist loss: its vectors of all texts, computed once (and cached) instead of in every step."""
    if options.loss != "gist":
        return None
    encoder = Encoder(options.guide or base, max_length=options.max_length, device=options.device, parameter="guide")
    texts = [t for group in groups for t in (group.anchor, *group.prompted([*group.positives, *group.negatives]))]
    texts = list(dict.fromkeys(texts))
    return Guide(encoder.encode(texts, prompt=""), {text: i for i, text in enumerate(texts)}, options.guide_margin)


def training_arguments(options: Train, folder: Path, steps: int, judged: bool) -> SentenceTransformerTrainingArguments:
    """What the trainer of sentence-transformers is told.

    Args:
        folder: for checkpoints.
        steps: of the whole training.
        judged: whether there are dev pairs, so that the best checkpoint is kept.
    """
    cuda = options.device != "cpu" and torch.cuda.is_available()
    every = min(steps, options.eval_steps or -(-steps // 10))
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        seed=options.seed,
        bf16=uses_bfloat16(options),
        activation_checkpointing=options.gradient_checkpointing,
        use_cpu=hub.torch_device(options.device) == "cpu",  # said outright, or bfloat16 asks for a GPU
        dataloader_pin_memory=cuda,
        logging_strategy="steps",
        logging_steps=max(1, steps // LOGS),
        logging_nan_inf_filter=False,
        eval_strategy="steps" if judged else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=judged,
        metric_for_best_model="eval_choice" if judged else None,
        greater_is_better=True if judged else None,
        report_to="none",
        disable_tqdm=True,
    )


class CheckedTrainer(SentenceTransformerTrainer):
    """The trainer without its own progress and model card; it stops at a loss that is not finite."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        for callback in (ProgressCallback, NotebookProgressCallback, PrinterCallback):
            self.remove_callback(callback)

    def add_model_card_callback(self, default_args_dict: dict) -> None:
        """None: the pipeline writes its own model card."""

    def compute_loss(self, model, inputs, *args, **options):
        loss = super().compute_loss(model, inputs, *args, **options)
        value = loss[0] if isinstance(loss, tuple) else loss
        if not torch.isfinite(value):
            raise InputError(self.diverged(value.item(), inputs))
        return loss

    def diverged(self, loss: float, inputs: Mapping) -> str:
        """The message for a loss that is not finite."""
        raise NotImplementedError


class Trainer(CheckedTrainer):
    """The trainer with our batches; one whose loss is not finite is named."""

    def __init__(self, *args, sampler: MixedBatchSampler, **options):
        self.sampler = sampler
        super().__init__(*args, **options)

    def train_from(self, checkpoint: Path | None, judge: Judge | None) -> None:
        """Train on from a checkpoint, or from the start; what had stopped early by then is not taken up again."""
        if judge is not None and checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            if judge.is_over(state):
                self.state = state
                self._load_best_model()
                return
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def get_batch_sampler(self, *args, **options) -> None:
        """None: `get_multi_dataset_batch_sampler` makes the batches of all sets."""

    def get_multi_dataset_batch_sampler(self, *args, **options) -> MixedBatchSampler:
        return self.sampler

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        if getattr(self.model.transformers_model, "peft_config", None):
            lora.read(self.model, Path(checkpoint_path))
        else:
            super()._load_from_checkpoint(checkpoint_path)

    def _load_best_model(self) -> None:
        """Without the `except` of the trainer, which would leave the last state for the best one."""
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def diverged(self, loss: float, inputs: Mapping) -> str:
        return (
            f"04_train: the loss is {loss} in step {self.state.global_step + 1}, {self._describe(inputs)}. "
            f"Training has diverged: lower learning_rate, or set precision to float32"
        )

    def _describe(self, inputs: Mapping) -> str:
        if "items" not in inputs:
            return "in a batch of graded pairs"
        return self.data_collator.groups.describe(inputs["items"].tolist())


class Collator:
    """Batches of groups by `GroupCollator`, batches of graded pairs as sentence-transformers makes them."""

    def __init__(
        self,
        model: SentenceTransformer,
        groups: Sequence[Group],
        cluster_of: Mapping[str, int],
        options: Train,
        guide: Guide | None,
    ):
        self.groups = GroupCollator(
            preprocessor(model),
            groups,
            cluster_of,
            epochs=options.epochs,
            seed=options.seed,
            positives=options.positives,
            negatives=options.negatives,
            guide=guide,
        )
        self.pairs = SentenceTransformerDataCollator(preprocessor(model))
        self.valid_label_columns = self.pairs.valid_label_columns

    def __call__(self, rows: list[dict]) -> dict:
        if "item" in rows[0]:
            return {"dataset_name": rows[0]["dataset_name"], **self.groups([row["item"] for row in rows])}
        return self.pairs(rows)


class DevEvaluator(SentenceEvaluator):
    """`evaluation.dev_metrics` as the trainer calls it, and what a checkpoint is chosen by, as `choice`.

    Attributes:
        before: the same of the model before training.
    """

    def __init__(self, pairs: pd.DataFrame, options: Train, model: SentenceTransformer):
        super().__init__()
        self.pairs = pairs
        self.options = options
        encode = encoder_of(model, options.batch_size)
        self.band = evaluation.crowded_band(pairs, encode)
        self.before = evaluation.dev_metrics(pairs, encode, self.band)
        evaluation.require_metric(options.metric, self.before)

    def __call__(self, model: SentenceTransformer, output_path=None, epoch=-1, steps=-1) -> dict[str, float]:
        found = evaluation.dev_metrics(self.pairs, encoder_of(model, self.options.batch_size), self.band)
        score = evaluation.selection_score(found, self.before, self.options.metric, self.options.drift_penalty)
        return found | {"choice": score}


class Progress(TrainerCallback):
    """A plain bar on stderr."""

    def __init__(self, label: str = "training"):
        self.label = label

    def on_train_begin(self, args, state: TrainerState, control: TrainerControl, **_):
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self.label,
            unit="step",
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args, state: TrainerState, control: TrainerControl, **_):
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state: TrainerState, control: TrainerControl, logs: dict, **_):
        if "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state: TrainerState, control: TrainerControl, **_):
        self.bar.close()


class Epochs(TrainerCallback):
    """Tells the sampler its epoch (accelerate's wrappers do not, when a training continues on several processes)."""

    def __init__(self, sampler: MixedBatchSampler):
        self.sampler = sampler

    def on_epoch_begin(self, args, state: TrainerState, control: TrainerControl, **_):
        self.sampler.set_epoch(state.global_step * args.num_train_epochs // state.max_steps)


class Judge(TrainerCallback):
    """Looks at dev after the last step, too; shows the log; stops when `patience` looks brought nothing better.

    All it knows is in the trainer's log, so a training that continues is judged as an unbroken one.
    """

    def __init__(self, first: Mapping[str, float], patience: int | None, watch: Watch | None):
        self.first = first
        self.patience = patience
        self.watch = watch

    def on_step_end(self, args, state: TrainerState, control: TrainerControl, **_):
        if state.global_step == state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args, state: TrainerState, control: TrainerControl, **_):
        control.should_training_stop |= self.is_over(state)
        if self.watch is not None and state.is_world_process_zero:
            self.watch(training_log(self.first, state.log_history))

    def is_over(self, state: TrainerState) -> bool:
        """Whether the last `patience` looks brought nothing better."""
        values = [entry["eval_choice"] for entry in state.log_history if "eval_choice" in entry]
        return self.patience is not None and len(values) - 1 - int(np.argmax(values)) >= self.patience


class DriftGuard(TrainerCallback):
    """Raises the weight of the orthogonality regularisation while dev shows more drift than before training.

    The weight follows from the trainer's log, so a training that continues has that of an unbroken one.
    """

    def __init__(self, loss: RankingLoss, first: Mapping[str, float], weight: float):
        self.loss = loss
        self.first = first
        self.weight = weight

    def on_train_begin(self, args, state: TrainerState, control: TrainerControl, **_):
        self.on_evaluate(args, state, control)

    def on_evaluate(self, args, state: TrainerState, control: TrainerControl, **_):
        looks = [entry for entry in state.log_history if "eval_choice" in entry]
        looks = [{name.removeprefix("eval_"): value for name, value in look.items()} for look in looks]
        self.loss.orthogonality_weight = guarded_weight(looks, self.first, self.weight)


def guarded_weight(looks: Sequence[Mapping[str, float]], before: Mapping[str, float], weight: float) -> float:
    """The weight after some looks at dev: doubled by each that shows drift, up to 32 times, halved by each other."""
    times = 1
    for look in looks:
        times = min(2 * times, 32) if evaluation.has_drifted(look, before) else max(times // 2, 1)
    return weight * times


def training_log(first: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """The table `training_log` out of the trainer's own log."""
    rows = [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in history]
    return evaluation.log_table([first, *rows])


def checkpoint_key(
    base: str | Path,
    groups: Sequence[Group],
    cluster_of: Mapping[str, int],
    options: Train,
    pairs: pd.DataFrame | None,
    graded: pd.DataFrame | None,
) -> list[str]:
    """All that the weights of a training follow from."""
    return [
        options.model_dump_json(exclude={"general", "merge_weight", "tensorboard", "push_to_hub", "dtype"}),
        *(hub.fingerprint(hub.fetch(location)) for location in (base, options.guide) if location is not None),
        str(uses_bfloat16(options)),
        json.dumps([dataclasses.astuple(group) for group in groups]),
        json.dumps(sorted(cluster_of.items())),
        *("" if table is None else table.to_csv(index=False) for table in (pairs, graded)),
        os.environ.get("WORLD_SIZE", "1"),
        checkpoints.code_hash(),
    ]
