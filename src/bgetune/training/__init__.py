"""Fine-tuning: groups and graded pairs in, a tuned model and its training log out.

    settings = TrainingSettings.of(parameters, epochs=3)
    trained = train("BAAI/bge-small-zh-v1.5", groups, cluster_of, settings, Path("checkpoints"), pairs=dev)
    save.save(trained.model, "models/mine")

By the trainer of sentence-transformers (:mod:`.sentence_transformers`) or that of BGE (:mod:`.flagembedding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bgetune.training.settings import RerankerSettings, TrainingSettings

if TYPE_CHECKING:
    import pandas as pd

    from bgetune.training.callbacks import OnEvaluation
    from bgetune.training.groups import Group
    from bgetune.training.reranking import TunedReranker
    from bgetune.training.sentence_transformers import Trained

__all__ = ["RerankerSettings", "TrainingSettings", "train", "train_reranker"]


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
    """Train by the backend that the settings name, in as many processes as they say.

    Arguments and result are those of `sentence_transformers.train`.
    """
    from bgetune.training import flagembedding, launch, sentence_transformers

    backend = sentence_transformers.train if settings.world_size == 1 else launch.train
    if settings.backend == "flagembedding":
        backend = flagembedding.train
    return backend(
        base,
        groups,
        cluster_of,
        settings,
        folder,
        pairs=pairs,
        graded=graded,
        on_evaluation=on_evaluation,
        tensorboard_dir=tensorboard_dir,
        wandb_dir=wandb_dir,
    )


def train_reranker(
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
    """Train a reranker by the backend that the settings name; arguments and result are those of `reranking.train`."""
    from bgetune.training import reranking, reranking_flagembedding

    if settings.backend == "flagembedding":
        return reranking_flagembedding.train(
            base, groups, cluster_of, settings, folder, pairs=pairs, on_evaluation=on_evaluation
        )
    return reranking.train(
        base, groups, cluster_of, settings, folder, pairs=pairs, graded=graded, on_evaluation=on_evaluation
    )
