"""Fine-tuning a reranker on the groups and labelled pairs that the encoder is tuned on.

    settings = RerankerSettings.of(parameters)
    tuned = train("BAAI/bge-reranker-base", groups, cluster_of, settings, Path("checkpoints"), pairs=dev)
    tuned.write(Path("models/reranker"), parameters, counts={"groups": len(groups)}, run_name="mine")

By the trainer of sentence-transformers' cross-encoders; that of BGE is in :mod:`.reranking_flagembedding`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import CrossEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments, losses
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from transformers import TrainerCallback

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models import hub
from bgetune.models.shape import positions
from bgetune.models.tokens import shorten
from bgetune.training import checkpoints, evaluation, reranking_save
from bgetune.training.callbacks import EarlyStopping, EpochSetter, OnEvaluation, Progress
from bgetune.training.groups import Group, describe_batch
from bgetune.training.reranking_batches import RerankerCollator
from bgetune.training.sentence_transformers import batch_sampler, checkpoint_key
from bgetune.training.settings import RerankerSettings
from bgetune.training.trainer import Batched, shared_arguments, stay_on_one_gpu

EVALUATED = 64
"""Number of pairs scored at a time in an evaluation."""


@dataclass(frozen=True)
class TunedReranker:
    """The result of a training.

    Attributes:
        model: the tuned reranker: the checkpoint with the best average precision on dev, or the last state where there
            were no dev pairs.
        log: the table `training_log`; step 0 is the reranker before the training.
        best_step: the step of the model.
    """

    model: CrossEncoder
    log: pd.DataFrame
    best_step: int

    def write(
        self, folder: Path, parameters: Mapping[str, Any], *, counts: Mapping[str, int], run_name: str, judged: str = ""
    ) -> pd.DataFrame:
        """Write the reranker's folder and its card, see `reranking_save`.

        Args:
            folder: made if missing.
            parameters: those of 04_train by name; the card lists them.
            counts, run_name, judged: as for `reranking_save.model_card`.

        Returns:
            Its measures on dev, as `reranking_save.before_and_after` returns them.
        """
        result = reranking_save.before_and_after(self.log, self.best_step)
        reranking_save.save(self.model, folder, parameters["dtype"])
        card = reranking_save.model_card(
            str(parameters["reranker"]),
            parameters=parameters,
            counts=counts,
            result=result,
            run_name=run_name,
            judged=judged,
            max_length=self.model.max_seq_length or parameters["max_length"],
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        return result


def train(
    base: str | Path,
    groups: Sequence[Group],
    cluster_of: Mapping[str, int],
    settings: RerankerSettings,
    folder: Path,
    *,
    pairs: pd.DataFrame | None = None,
    graded: pd.DataFrame | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> TunedReranker:
    """Fine-tune a cross-encoder with one output.

    A training that was killed continues from its last checkpoint when it is called again with the same arguments, and
    ends with the weights of an uninterrupted one.

    Args:
        base: the reranker's folder, hub name or demo://.
        groups: training groups; a reranker reads texts without prompts.
        cluster_of: cluster number of every text in them.
        settings: how to train.
        folder: for checkpoints.
        pairs: dev pairs to evaluate on, as `evaluation.dev_pairs` makes them without prompts. None, or pairs of one
            label only: no evaluation, and the last state is the model.
        graded: columns query, text, grade (0 to 1), as `evaluation.graded_pairs` makes them without prompts.
        on_evaluation: is called with the log after every evaluation.

    Raises:
        InputError: a reranker with several outputs, a loss that is not finite (with the batch), no room for
            checkpoints, an unknown model.
    """
    model = load(base, settings)
    if pairs is not None and not evaluation.can_be_evaluated(pairs):
        pairs = None
    if settings.graded_loss == "none" or graded is None or graded.empty:
        graded = None
    key = checkpoint_key(base, groups, cluster_of, settings, pairs, graded)
    weights = sum(parameter.nelement() * parameter.element_size() for parameter in model.parameters())
    folder = checkpoints.prepare(folder, key, 4 * 3 * weights / 1e9)  # four checkpoints, with AdamW's two moments
    last = checkpoints.latest(folder)

    data = {"groups": Dataset.from_dict({"item": range(len(groups) * settings.epochs)})}
    loss = {"groups": loss_of(settings.loss, model)}
    if graded is not None:
        data["graded"] = Dataset.from_dict(
            {"query": graded["query"].tolist(), "text": graded["text"].tolist(), "label": graded["grade"].tolist()}
        )
        loss["graded"] = losses.BinaryCrossEntropyLoss(model)
    sampler = batch_sampler(groups, cluster_of, 0 if graded is None else len(graded), settings)
    steps = len(sampler) // sampler.processes * settings.epochs
    before = {"step": 0, "epoch": 0.0}
    evaluator = stopping = None
    callbacks: list[TrainerCallback] = [Progress(_("training the reranker")), EpochSetter(sampler)]
    if pairs is not None:
        evaluator = PairEvaluator(pairs)
        before |= evaluator.measure(model)
        stopping = EarlyStopping(before, None, on_evaluation)
        callbacks.append(stopping)
    arguments = CrossEncoderTrainingArguments(
        **shared_arguments(settings, folder, steps, evaluates=evaluator is not None)
    )
    stay_on_one_gpu(arguments)
    trainer = RerankerTrainer(
        model=model,
        args=arguments,
        train_dataset=DatasetDict(data),
        loss=loss,
        evaluator=evaluator,
        collator=collator(model, groups, cluster_of, settings),
        callbacks=callbacks,
        sampler=sampler,
    )
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    with hub.quiet():
        trainer.train_from(last, stopping)
    best = trainer.state.best_global_step if evaluator is not None else None
    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # from now on it computes in float32
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise InputError(
            _(
                "04_train: the reranker's weights are not finite after the last step: training has diverged; lower "
                "reranker_learning_rate"
            )
        )
    log = evaluation.training_log(before, trainer.state.log_history)
    return TunedReranker(model.eval(), log, int(best or trainer.state.global_step))


def load(base: str | Path, settings: RerankerSettings) -> CrossEncoder:
    """The reranker to train: float32 weights, at most `settings.max_length` tokens.

    Raises:
        InputError: if it cannot be loaded, or has several outputs.
    """
    source = hub.fetch(base, "reranker")
    length = min(settings.max_length, positions(source) or settings.max_length)
    with hub.loading(source, "reranker"):
        model = CrossEncoder(
            str(source),
            device=hub.torch_device(settings.device),
            max_length=length,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
    if model.num_labels != 1:
        raise InputError(
            _(
                "04_train: {model} has {count} outputs, and tune_reranker trains rerankers with one; give another "
                "reranker, such as BAAI/bge-reranker-base"
            ).format(model=base, count=model.num_labels)
        )
    return model


def loss_of(name: str, model: CrossEncoder) -> torch.nn.Module:
    """The loss of the groups.

    Args:
        name: "binary" (cross-entropy of each pair), "listnet" (doi 10.1145/1273496.1273513) or "lambda" (LambdaLoss,
            doi 10.1145/3269206.3271784).
        model: the model to train.
    """
    if name == "listnet":
        return losses.ListNetLoss(model)
    return losses.LambdaLoss(model) if name == "lambda" else losses.BinaryCrossEntropyLoss(model)


def collator(
    model: CrossEncoder, groups: Sequence[Group], cluster_of: Mapping[str, int], settings: RerankerSettings
) -> RerankerCollator:
    """The collator of a training."""
    return RerankerCollator(
        model.tokenizer,
        model.max_seq_length or settings.max_length,
        groups,
        cluster_of,
        epochs=settings.epochs,
        seed=settings.seed,
        negatives=settings.negatives,
        loss=settings.loss,
    )


def logits(model: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """(n,) float64 logits of n pairs (query, text), before the sigmoid."""
    short = [shorten(model.tokenizer, side, model.max_seq_length or 512) for side in zip(*pairs, strict=True)]
    found = model.predict(
        list(zip(*short, strict=True)),
        batch_size=EVALUATED,
        activation_fn=torch.nn.Identity(),
        show_progress_bar=False,
    )
    return np.asarray(found, dtype=np.float64).reshape(-1)


class PairEvaluator(SentenceEvaluator):
    """Measures a reranker on dev pairs; `choice`, by which the checkpoint is chosen, is the average precision.

    Args:
        pairs: as `evaluation.dev_pairs` makes them; random ones are left out.
    """

    def __init__(self, pairs: pd.DataFrame):
        super().__init__()
        self.pairs = pairs[pairs["kind"] != "random"]

    def measure(self, model: CrossEncoder) -> dict[str, float]:
        """auc, average_precision, labelled_auc, and the mean scores of positives and of negatives.

        Raises:
            InputError: if a score is not finite.
        """
        from scipy.special import expit

        found = logits(model, list(self.pairs[["query", "text"]].itertuples(index=False, name=None)))
        if not np.isfinite(found).all():
            raise InputError(
                _("the reranker's scores are not finite: training has diverged; lower reranker_learning_rate")
            )
        scores, positive = expit(found), self.pairs["label"].to_numpy() == 1
        means = {"mean_positive": float(scores[positive].mean()), "mean_negative": float(scores[~positive].mean())}
        return evaluation.separation_metrics(self.pairs, found) | means

    def __call__(
        self, model: BaseModel, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        assert isinstance(model, CrossEncoder)
        found = self.measure(model)
        return found | {"choice": found["average_precision"]}


class RerankerTrainer(Batched, CrossEncoderTrainer):
    """The trainer of a reranker."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        self._items = inputs.pop("items", None)
        return super().compute_loss(model, inputs, *args, **options)

    def divergence_message(self, loss: float, inputs: Mapping[str, Any]) -> str:
        place = describe_batch(self.collator.groups, self._items)
        return _(
            "04_train: the reranker's loss is {loss} in step {step}, {place}. Training has diverged: lower "
            "reranker_learning_rate, or set precision to float32"
        ).format(loss=loss, step=self.state.global_step + 1, place=place)
