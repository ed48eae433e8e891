"""The settings of a training: how a model learns, apart from its data and folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from bgetune.models import hub

if TYPE_CHECKING:
    from bgetune.config.stages import Train

LossScope = Literal["per_query", "across_queries"]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. The parameters of 04_train with the same names say what each one means, and its range.

    Attributes:
        epochs: passes over all groups; always a number, see `groups.default_epochs`.
        processes, nodes, rendezvous: those of `launcher`.
    """

    backend: Literal["sentence_transformers", "flagembedding"]
    max_length: int
    device: str
    precision: Literal["auto", "float32", "bfloat16"]
    seed: int
    loss: Literal["ranking", "gist"]
    scale: float
    loss_scope: LossScope
    symmetric: bool
    orthogonality_weight: float
    matryoshka: Sequence[int]
    guide: str | None
    guide_margin: float
    graded_loss: Literal["none", "cosent", "angle", "cosine"]
    mixing: Literal["proportional", "round_robin"]
    positives: int | None
    negatives: int
    epochs: int
    batch_size: int
    mini_batch_size: int | None
    learning_rate: float
    warmup: float
    weight_decay: float
    lora_rank: int | None
    gradient_checkpointing: bool
    eval_steps: int | None
    metric: Literal["auc", "average_precision", "labelled_auc", "mrr@10"]
    drift_penalty: float
    patience: int | None
    processes: int = 1
    nodes: int = 1
    rendezvous: str | None = None

    @property
    def world_size(self) -> int:
        """Number of processes on all machines."""
        return self.processes * self.nodes

    @property
    def launcher(self) -> dict[str, Any]:
        """The arguments of `processes.command`."""
        return {"processes": self.processes, "nodes": self.nodes, "rendezvous": self.rendezvous}

    @classmethod
    def of(cls, parameters: Train, *, epochs: int) -> Self:
        """The settings that the parameters of 04_train ask for.

        Args:
            parameters: with an attribute of the same name for each setting.
            epochs: the number of epochs; the parameter may leave it open.
        """
        launcher = parameters.launcher.model_dump()
        given = {field.name: getattr(parameters, field.name) for field in fields(cls) if field.name not in launcher}
        return cls(**(given | launcher | {"epochs": epochs}))


@dataclass(frozen=True)
class RerankerSettings:
    """How to train a reranker. Of the parameters of 04_train, those named ``reranker_...`` count where there is one."""

    backend: Literal["sentence_transformers", "flagembedding"]
    max_length: int
    device: str
    precision: Literal["auto", "float32", "bfloat16"]
    seed: int
    loss: Literal["binary", "lambda", "listnet"]
    graded_loss: Literal["none", "cosent", "angle", "cosine"]
    mixing: Literal["proportional", "round_robin"]
    negatives: int
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    gradient_checkpointing: bool

    @classmethod
    def of(cls, parameters: Train) -> Self:
        """The settings that the parameters of 04_train ask for."""
        given = parameters.model_dump()
        return cls(**{field.name: given.get(f"reranker_{field.name}", given[field.name]) for field in fields(cls)})


def uses_bfloat16(precision: str, device: str) -> bool:
    """Whether to compute in bfloat16 by autocast: weights, gradients, AdamW and the loss stay in float32.

    Args:
        precision: "auto" (where the device supports it), "float32" or "bfloat16".
        device: see `hub.torch_device`.
    """
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    place = hub.torch_device(device)
    if place.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return place == "cpu" and hub.precision("auto", place) == "bfloat16"
