"""The trainer of sentence-transformers with our batches, losses and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.trainer import BaseTrainer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from transformers import PrinterCallback, ProgressCallback, TrainingArguments
from transformers.trainer_callback import TrainerState
from transformers.utils.notebook import NotebookProgressCallback

from bgetune.errors import Diverged
from bgetune.locale import _
from bgetune.models import hub
from bgetune.models.encoder import Encoder
from bgetune.models.tokens import preprocessor, shorten
from bgetune.training import evaluation, lora
from bgetune.training.callbacks import EarlyStopping
from bgetune.training.collator import GroupCollator, Guide
from bgetune.training.groups import Group, describe_batch
from bgetune.training.sampler import MixedBatchSampler
from bgetune.training.settings import RerankerSettings, TrainingSettings, uses_bfloat16

if TYPE_CHECKING:
    import pandas as pd

LOGS = 60
"""About how many values of the loss a training logs."""


def load(base: str | Path, *, max_length: int, device: str) -> SentenceTransformer:
    """The model to train: float32 weights, at most `max_length` tokens.

    Args:
        base: a folder, hub name or demo://.
        max_length: maximum number of tokens read of a text.
        device: see `hub.torch_device`.

    Raises:
        InputError: if the model cannot be loaded.
    """
    model = Encoder(base, max_length=max_length, device=device, cache_dir=None).model
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def encoder_of(model: SentenceTransformer, batch_size: int) -> Callable[[list[str]], np.ndarray]:
    """A function: n texts, prompts included -> (n, d) float32 unit rows."""

    def encode(texts: list[str]) -> np.ndarray:
        return model.encode(
            shorten(model.tokenizer, texts, model.max_seq_length or 512),
            prompt="",
            batch_size=batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
        )

    return encode


def training_arguments(
    settings: TrainingSettings, folder: Path, steps: int, *, evaluates: bool
) -> SentenceTransformerTrainingArguments:
    """The arguments of the trainer of sentence-transformers.

    Args:
        settings: how to train.
        folder: for checkpoints.
        steps: number of steps of the whole training.
        evaluates: whether there are dev pairs to evaluate on, so that the best checkpoint is kept.
    """
    shared = shared_arguments(settings, folder, steps, evaluates=evaluates, eval_steps=settings.eval_steps)
    arguments = SentenceTransformerTrainingArguments(activation_checkpointing=settings.gradient_checkpointing, **shared)
    stay_on_one_gpu(arguments)
    return arguments


def stay_on_one_gpu(arguments: TrainingArguments) -> None:
    """With several GPUs in one process the trainer would take DataParallel: slower, and it splits the label matrix."""
    arguments._n_gpu = min(arguments.n_gpu, 1)


def shared_arguments(
    settings: TrainingSettings | RerankerSettings,
    folder: Path,
    steps: int,
    *,
    evaluates: bool,
    eval_steps: int | None = None,
) -> dict[str, Any]:
    """The arguments that the trainers of encoders and of rerankers have in common.

    Args:
        settings, folder, steps, evaluates: as for `training_arguments`.
        eval_steps: steps between two evaluations; None: a tenth of the training.
    """
    cuda = settings.device != "cpu" and torch.cuda.is_available()
    every = min(steps, eval_steps or -(-steps // 10))
    return {
        "output_dir": str(folder),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "bf16": uses_bfloat16(settings.precision, settings.device),
        "use_cpu": hub.torch_device(settings.device) == "cpu",  # given explicitly, or bfloat16 asks for a GPU
        "dataloader_pin_memory": cuda,
        "logging_strategy": "steps",
        "logging_steps": max(1, steps // LOGS),
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "load_best_model_at_end": evaluates,
        "metric_for_best_model": "eval_choice" if evaluates else None,
        "greater_is_better": True if evaluates else None,
        "report_to": "none",
        "disable_tqdm": True,
    }


class Checked(BaseTrainer):
    """A trainer without its own progress bar and model card; it stops at a loss that is not finite."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        for callback in (ProgressCallback, NotebookProgressCallback, PrinterCallback):
            self.remove_callback(callback)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Do nothing: the pipeline writes its own model card."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **options)
        value = loss[0] if isinstance(loss, tuple) else loss
        if not torch.isfinite(value):
            raise Diverged(self.divergence_message(value.item(), inputs))
        return loss

    def divergence_message(self, loss: float, inputs: Mapping[str, Any]) -> str:
        """The message for a loss that is not finite."""
        raise NotImplementedError


class CheckedTrainer(Checked, SentenceTransformerTrainer):
    """Of sentence encoders."""


class Batched(Checked):
    """A trainer of groups and graded pairs.

    Args:
        sampler: makes the batches.
        collator: makes the model's input of a batch.
        args, options: further arguments of the trainer.
    """

    def __init__(self, *args: Any, sampler: MixedBatchSampler, collator: Any, **options: Any):
        self.sampler = sampler
        self.collator = collator
        super().__init__(*args, data_collator=collator, **options)

    def train_from(self, checkpoint: Path | None, stopping: EarlyStopping | None) -> None:
        """Train from a checkpoint, or from the start; a training that had stopped early by then is not continued."""
        if stopping is not None and checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            if stopping.is_over(state):
                self.state = state
                self._load_best_model()
                return
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def get_batch_sampler(self, *args: Any, **options: Any) -> None:
        """None: `get_multi_dataset_batch_sampler` makes the batches of all data sets."""

    def get_multi_dataset_batch_sampler(self, *args: Any, **options: Any) -> Any:
        return self.sampler

    def _load_best_model(self) -> None:
        """Load the best checkpoint. The trainer's own method would go on with the last state after an error."""
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


class Trainer(Batched, SentenceTransformerTrainer):
    """The trainer of an encoder."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if getattr(self.model.transformers_model, "peft_config", None):
            lora.read(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint)

    def divergence_message(self, loss: float, inputs: Mapping[str, Any]) -> str:
        items = inputs["items"].tolist() if "items" in inputs else None
        place = describe_batch(self.collator.groups.groups, items)
        return _(
            "04_train: the loss is {loss} in step {step}, {place}. Training has diverged: lower learning_rate, or set "
            "precision to float32"
        ).format(loss=loss, step=self.state.global_step + 1, place=place)


class Collator:
    """Batches of groups by `GroupCollator`, batches of graded pairs as sentence-transformers makes them."""

    def __init__(
        self,
        model: SentenceTransformer,
        groups: Sequence[Group],
        cluster_of: Mapping[str, int],
        settings: TrainingSettings,
        guide: Guide | None,
        rank: int = 0,
        processes: int = 1,
    ):
        self.groups = GroupCollator(
            preprocessor(model),
            groups,
            cluster_of,
            epochs=settings.epochs,
            seed=settings.seed,
            positives=settings.positives,
            negatives=settings.negatives,
            guide=guide,
            rank=rank,
            processes=processes,
        )
        self.pairs = SentenceTransformerDataCollator(preprocessor(model))
        self.valid_label_columns = self.pairs.valid_label_columns

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        if "item" in rows[0]:
            return {"dataset_name": rows[0]["dataset_name"], **self.groups([row["item"] for row in rows])}
        return self.pairs(rows)


class DevEvaluator(SentenceEvaluator):
    """Calls `evaluation.dev_metrics` for the trainer, and adds the score that checkpoints are chosen by as `choice`.

    Attributes:
        before: the metrics of the model before training.
    """

    def __init__(self, pairs: pd.DataFrame, settings: TrainingSettings, model: SentenceTransformer):
        super().__init__()
        self.pairs = pairs
        self.settings = settings
        encode = encoder_of(model, settings.batch_size)
        self.band = evaluation.crowded_band(pairs, encode)
        self.before = evaluation.dev_metrics(pairs, encode, self.band)
        evaluation.require_metric(settings.metric, self.before)

    def __call__(
        self, model: BaseModel, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        assert isinstance(model, SentenceTransformer)
        found = evaluation.dev_metrics(self.pairs, encoder_of(model, self.settings.batch_size), self.band)
        score = evaluation.selection_score(found, self.before, self.settings.metric, self.settings.drift_penalty)
        return found | {"choice": score}
