"""The learning rate that is best on dev, by successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943)."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bgetune import files
from bgetune.errors import Diverged, InputError
from bgetune.locale import _
from bgetune.models.cache import content_key
from bgetune.training import evaluation, train
from bgetune.training.groups import Group
from bgetune.training.settings import TrainingSettings

SHARE = 1 / 8
"""Share of the whole training that each rate gets in the first round; later twice as much each time, at most half."""


def rounds(count: int) -> list[tuple[int, float]]:
    """For each round of a search among `count` rates: how many train, and on which share of the whole training."""
    found: list[tuple[int, float]] = []
    while count > 1:
        found.append((count, min(SHARE * 2 ** len(found), 0.5)))
        count = -(-count // 2)
    return found


def choose_learning_rate(
    base: str | Path,
    groups: Sequence[Group],
    cluster_of: Mapping[str, int],
    settings: TrainingSettings,
    rates: Sequence[float],
    folder: Path,
    *,
    pairs: pd.DataFrame | None,
    graded: pd.DataFrame | None = None,
) -> tuple[TrainingSettings, pd.DataFrame]:
    """Train with each rate for a short time, with the better half for twice as long, and so on until one is left.

    A short training is a whole one, with its warm-up and its fall to 0, on a random part of the groups: the first steps
    of the long training would only tell which rate learns fastest at its peak. A rate with which training diverges
    loses.

    Args:
        base, groups, cluster_of, settings, pairs, graded: as for `train`.
        rates: those to try beside that of the settings; none: the settings stay as they are.
        folder: for checkpoints; a search that was killed continues.

    Returns:
        The settings with the rate that is best on dev, and a row for each short training: round, learning_rate, and the
        metric on dev (NaN: diverged), the best of a round last.

    Raises:
        InputError: where there are no dev pairs to choose by, or training diverges with every rate.
    """
    if rates and (pairs is None or not evaluation.can_be_evaluated(pairs)):
        raise InputError(
            _(
                "04_train.learning_rates: there are no dev pairs of both labels to choose by; raise dev_fraction in "
                "01_positives, or leave learning_rates empty"
            )
        )
    left, rows = sorted({settings.learning_rate, *rates}), []
    for number, (count, share) in enumerate(rounds(len(left)), start=1):
        sample = _sample(len(groups), settings, share)
        some = None if graded is None else graded.iloc[_sample(len(graded), settings, share)]
        chosen = [groups[row] for row in sample]
        epochs = math.ceil(share * settings.epochs)
        steps = -(-len(chosen) // (settings.batch_size * settings.world_size)) * epochs
        short = replace(settings, epochs=epochs, eval_steps=-(-steps // 2), patience=None)
        metric = {
            rate: _metric(base, chosen, cluster_of, replace(short, learning_rate=rate), folder, pairs, some)
            for rate in left
        }
        left = sorted(left, key=lambda rate: metric[rate] if math.isfinite(metric[rate]) else -math.inf)
        rows += [(number, rate, metric[rate]) for rate in left]
        left = left[count // 2 :]
    if rows and not math.isfinite(rows[-1][-1]):
        raise Diverged(
            _(
                "04_train.learning_rates: training diverges with each of them; give lower ones, or set precision to "
                "float32"
            )
        )
    tried = pd.DataFrame(rows, columns=["round", "learning_rate", settings.metric])
    return replace(settings, learning_rate=left[0]), tried


def _sample(count: int, settings: TrainingSettings, share: float) -> np.ndarray:
    """Row numbers, ascending, of as many of `count` rows as give the share of the training in whole epochs."""
    wanted = share * settings.epochs
    size = max(round(wanted / math.ceil(wanted) * count), min(settings.batch_size, count))
    return np.sort(np.random.default_rng(settings.seed).permutation(count)[:size])


def _metric(
    base: str | Path,
    groups: Sequence[Group],
    cluster_of: Mapping[str, int],
    settings: TrainingSettings,
    folder: Path,
    pairs: pd.DataFrame,
    graded: pd.DataFrame | None,
) -> float:
    """The metric on dev after a training, NaN if it diverges. The folder keeps it; checkpoints are deleted."""
    from bgetune.training.sentence_transformers import checkpoint_key

    key = content_key(*checkpoint_key(base, groups, cluster_of, settings, pairs, graded))
    file, checkpoints = folder / f"{key}.json", folder / key
    if not file.is_file():
        try:
            trained = train(base, groups, cluster_of, settings, checkpoints, pairs=pairs, graded=graded)
            found = float(trained.log.set_index("step").loc[trained.best_step, settings.metric])
        except Diverged:
            found = math.nan
        files.write_atomic(file, json.dumps(found))
        shutil.rmtree(checkpoints, ignore_errors=True)
    return float(json.loads(file.read_text(encoding="utf-8")))
