"""Training a reranker by FlagEmbedding's own trainer, in a process of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bgetune.models import hub, processes
from bgetune.training import checkpoints, evaluation, flagembedding, reranking
from bgetune.training.callbacks import OnEvaluation
from bgetune.training.groups import Group
from bgetune.training.sentence_transformers import checkpoint_key
from bgetune.training.settings import RerankerSettings

MODULE = "FlagEmbedding.finetune.reranker.encoder_only.base"


def train(
    base: str | Path,
    groups: Sequence[Group],
    cluster_of: Mapping[str, int],
    settings: RerankerSettings,
    folder: Path,
    *,
    pairs: pd.DataFrame | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> reranking.TunedReranker:
    """Fine-tune with the official trainer; arguments and result as for `reranking.train`.

    Its loss is the softmax over a positive and its negatives. Checkpoints and evaluations come once an epoch. Graded
    pairs are not used: the trainer has no loss for them. A training that was killed starts again.

    Raises:
        InputError: if the trainer stops with an error, its loss is not finite, or the reranker has several outputs.
    """
    before_tuning = reranking.load(base, settings)
    if pairs is not None and not evaluation.can_be_evaluated(pairs):
        pairs = None
    source = hub.fetch(base, "reranker")
    weights = sum(file.stat().st_size for file in source.glob(f"*{hub.WEIGHTS}"))
    key = checkpoint_key(base, groups, cluster_of, settings, pairs, None)
    folder = checkpoints.prepare(folder, key, (settings.epochs + 1) * weights / 1e9)
    data = folder / "train.jsonl"
    filled = flagembedding.fill(groups, cluster_of, settings.negatives, settings.seed)
    rows = [
        {"query": group.query, "pos": group.positives, "neg": group.negatives}
        for group in flagembedding.shortened(filled, source, settings.max_length)
    ]
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    steps = math.ceil(len(groups) / settings.batch_size) * settings.epochs
    states, history = flagembedding.run(
        command(source, data, folder, settings, steps), folder, steps, processes.environment(1)
    )

    before: dict[str, float] = {"step": 0, "epoch": 0.0}
    evaluations: list[dict[str, float]] = []
    if pairs is not None:
        evaluator = reranking.PairEvaluator(pairs)
        before |= evaluator.measure(before_tuning)
        for step in sorted(states):
            found = evaluator.measure(reranking.load(states[step], settings))
            evaluations.append({"step": step, "epoch": step * settings.epochs / steps, **found})
            if on_evaluation is not None:
                on_evaluation(evaluation.training_log(before, [*history, *evaluations]))
    best = int(max(evaluations, key=lambda found: found["average_precision"])["step"]) if evaluations else max(states)
    log = evaluation.training_log(before, [*history, *evaluations])
    return reranking.TunedReranker(reranking.load(states[best], settings), log, best)


def command(source: Path, data: Path, folder: Path, settings: RerankerSettings, steps: int) -> list[str]:
    """The command line of the official trainer.

    Args:
        source: the base reranker's folder.
        data: a file of groups.
        folder: for checkpoints.
        settings: how to train.
        steps: number of steps of the whole training.
    """
    arguments = flagembedding.shared_arguments(source, data, folder, settings, steps)
    # it reads as many tokens of a pair as both together
    lengths = {"query_max_len": settings.max_length // 2, "passage_max_len": -(-settings.max_length // 2)}
    return processes.command(MODULE, flagembedding.named(arguments | lengths))
