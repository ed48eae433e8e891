"""What happens during a training: progress bar, epochs of the sampler, early stopping, and the drift guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bgetune.locale import _
from bgetune.training import evaluation

if TYPE_CHECKING:
    from bgetune.training.losses import RankingLoss
    from bgetune.training.sampler import MixedBatchSampler

OnEvaluation = Callable[[pd.DataFrame], None]
"""Is called with the training log so far after every evaluation on dev."""

LARGEST_FACTOR = 32
"""How many times its value the weight of the orthogonality regularisation may become."""


class Progress(TrainerCallback):
    """Shows a progress bar on stderr."""

    def __init__(self, label: str | None = None):
        self.label = _("training") if label is None else label

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self.label,
            unit=_("step"),
            disable=not state.is_world_process_zero,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_kwargs: Any,
    ) -> None:
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self.bar.close()


class EpochSetter(TrainerCallback):
    """Tells the sampler its epoch; accelerate does not when a training continues on several processes."""

    def __init__(self, sampler: MixedBatchSampler):
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self.sampler.set_epoch(int(state.global_step * args.num_train_epochs // state.max_steps))


class EarlyStopping(TrainerCallback):
    """Stops a training whose last `patience` evaluations on dev brought no better score; also evaluates at the end.

    It reads the trainer's log alone, so a training that continues stops where an uninterrupted one does.

    Args:
        before: the metrics of the model before training.
        patience: number of evaluations; None: never stop.
        on_evaluation: is called after each evaluation.
    """

    def __init__(self, before: Mapping[str, float], patience: int | None, on_evaluation: OnEvaluation | None):
        self.before = before
        self.patience = patience
        self.on_evaluation = on_evaluation

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        if state.global_step == state.max_steps:
            control.should_evaluate = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        control.should_training_stop |= self.is_over(state)
        if self.on_evaluation is not None and state.is_world_process_zero:
            self.on_evaluation(evaluation.training_log(self.before, state.log_history))

    def is_over(self, state: TrainerState) -> bool:
        """Whether the last `patience` evaluations brought no better score."""
        values = [entry["eval_choice"] for entry in state.log_history if "eval_choice" in entry]
        return self.patience is not None and len(values) - 1 - int(np.argmax(values)) >= self.patience


class DriftGuard(TrainerCallback):
    """Raises the weight of the orthogonality regularisation while dev shows more drift than before training.

    It reads the trainer's log alone, so a training that continues has the weight of an uninterrupted one.
    """

    def __init__(self, loss: RankingLoss, before: Mapping[str, float], weight: float):
        self.loss = loss
        self.before = before
        self.weight = weight

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self.on_evaluate(args, state, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        entries = [entry for entry in state.log_history if "eval_choice" in entry]
        found = [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in entries]
        self.loss.orthogonality_weight = guarded_weight(found, self.before, self.weight)


def guarded_weight(evaluations: Sequence[Mapping[str, float]], before: Mapping[str, float], weight: float) -> float:
    """The weight after some evaluations on dev: each that shows drift doubles it, each other one halves it.

    Args:
        evaluations: metrics of each evaluation, in order.
        before: metrics of the model before training.
        weight: the weight at the start, which is also the lowest; the highest is `LARGEST_FACTOR` times as much.
    """
    times = 1
    for measured in evaluations:
        times = min(2 * times, LARGEST_FACTOR) if evaluation.has_drifted(measured, before) else max(times // 2, 1)
    return weight * times
