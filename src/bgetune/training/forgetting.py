"""Forgetting: what fine-tuning costs on general text, and how averaging the weights limits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bgetune.config.sources import GeneralSource
from bgetune.data import sources
from bgetune.data.text import STANDARD, Normalizer
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.training import evaluation

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MAX_DECREASE = 0.02
"""Decrease of the AUC or correlation on general text above which we speak of forgetting."""

METRICS = {
    "general_auc": "on general text: how often a pair with the higher label scores above one with the lower",
    "general_spearman": "on general text: rank correlation of scores and grades",
    "general_mean_positive": "mean score of the general pairs with the higher label",
    "general_mean_negative": "mean score of the general pairs with the lower label",
    "general_mean": "mean score of the general pairs",
}
"""The columns of `general_scores` and their meanings."""


def read_general(
    source: GeneralSource, most: int, seed: int, *, prompt: str = "", normalizer: Normalizer = STANDARD
) -> pd.DataFrame:
    """Read labelled or graded pairs of general text.

    Args:
        source: where they are.
        most: maximum number of pairs; of more, a random sample is taken.
        seed: seed of the sample.
        prompt: prefix of every text: the model's prompt for texts of one kind.
        normalizer: the one of the run.

    Returns:
        Columns a, b (str, normalised, prompt included), label (float64).

    Raises:
        InputError: if the source cannot be read, or all its pairs have one label.
    """
    pairs, _drops = sources.read_pairs(source)
    pairs = pairs.assign(a=pairs["a"].map(normalizer), b=pairs["b"].map(normalizer))
    pairs = pairs[pairs["a"].ne("") & pairs["b"].ne("")]
    if len(pairs) > most:
        pairs = pairs.sample(most, random_state=seed).sort_index()
    if pairs["label"].nunique() < 2:
        raise InputError(
            _(
                "04_train: general: {source}: all {pairs} pairs have one label in {column}, so there is nothing "
                "to tell apart; give pairs that mean the same and others"
            ).format(source=sources.label(source), pairs=len(pairs), column=source.label_column)
        )
    return pairs.assign(a=prompt + pairs["a"], b=prompt + pairs["b"]).reset_index(drop=True)


def general_scores(pairs: pd.DataFrame, encode: Callable[[list[str]], np.ndarray]) -> dict[str, float]:
    """Measure a model on general pairs: AUC and mean scores for two labels, Spearman's correlation for grades.

    Args:
        pairs: as `read_general` returns them.
        encode: n texts -> (n, d) float32 unit rows.
    """
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    texts = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    number = {text: i for i, text in enumerate(texts)}
    rows = encode(texts)
    scores = (rows[pairs["a"].map(number)] * rows[pairs["b"].map(number)]).sum(axis=1)
    label = pairs["label"].to_numpy()
    if len(np.unique(label)) > 2:
        return {"general_spearman": float(spearmanr(scores, label)[0]), "general_mean": float(scores.mean())}
    positive = label == label.max()
    return {
        "general_auc": float(roc_auc_score(positive, scores)),
        "general_mean_positive": float(scores[positive].mean()),
        "general_mean_negative": float(scores[~positive].mean()),
    }


def merge(base: SentenceTransformer, tuned: SentenceTransformer, weight: float) -> SentenceTransformer:
    """Average the weights of two models: weight * tuned + (1 - weight) * base (LM-Cocktail, arXiv 2311.13534).

    Args:
        base: the model before training.
        tuned: the same model after training.
        weight: from 0 to 1.

    Returns:
        A new model; the other two are not changed.
    """
    import copy

    import torch

    merged = copy.deepcopy(tuned)
    before = dict(base.named_parameters())
    with torch.no_grad():
        for name, parameter in merged.named_parameters():
            parameter.lerp_(before[name], 1 - weight)
    return merged


def versions(
    tuned: SentenceTransformer, base: str | Path, *, merge_weight: float, max_length: int, device: str
) -> dict[str, SentenceTransformer]:
    """The models to compare: before, tuned and, with a `merge_weight` below 1, merged. The last one is to be saved.

    Args:
        tuned: the model after training.
        base: folder, hub name or demo:// of the model before training.
        merge_weight: see `merge`.
        max_length: maximum number of tokens read of a text.
        device: see `hub.torch_device`.
    """
    from bgetune.training.trainer import load

    before = load(base, max_length=max_length, device=device)
    models = {"before": before, "tuned": tuned}
    return models if merge_weight == 1 else models | {"merged": merge(before, tuned, merge_weight)}


def compare(
    models: Mapping[str, SentenceTransformer],
    dev: pd.DataFrame,
    general: pd.DataFrame | None,
    batch_size: int = 64,
) -> pd.DataFrame:
    """The metrics of several models on dev pairs and general pairs.

    Args:
        models: name -> model.
        dev: dev pairs, as `evaluation.dev_pairs` makes them; without both labels among them, no dev metrics.
        general: as `read_general` returns them; None for none.
        batch_size: texts encoded at a time.

    Returns:
        float64, one row a metric and one column a model.
    """
    from bgetune.training.trainer import encoder_of

    found = {}
    for name, model in models.items():
        encode = encoder_of(model, batch_size)
        found[name] = evaluation.dev_metrics(dev, encode) if evaluation.can_be_evaluated(dev) else {}
        if general is not None:
            found[name] |= general_scores(general, encode)
    return pd.DataFrame(found, dtype="float64")


def advice(result: pd.DataFrame, *, merge_weight: float, learning_rate: float, epochs: int) -> str:
    """Markdown: whether the saved model has forgotten general text, and what to do about it.

    Args:
        result: as `compare` returns it.
        merge_weight, learning_rate, epochs: the values that the model was trained with.
    """
    measure = next((name for name in ("general_auc", "general_spearman") if name in result.index), None)
    if measure is None:
        return _("*Not measured: the profile names no `general` pairs.*")
    before, after = result.loc[measure].iloc[[0, -1]]
    change = _("`{measure}` went from {before:.3f} to {after:.3f}").format(measure=measure, before=before, after=after)
    if after >= before - MAX_DECREASE:
        kept = _("General text is kept: {change} (a fall of more than {most} would be called forgetting).")
        return kept.format(change=change, most=MAX_DECREASE)
    warning = _(
        "**Warning: the model has forgotten general text.** {change}. Where it must also serve texts outside the "
        "domain, lower `merge_weight` (now {merge_weight:g}), `learning_rate` ({learning_rate:g}) or "
        "`epochs` ({epochs})."
    )
    return warning.format(change=change, merge_weight=merge_weight, learning_rate=learning_rate, epochs=epochs)
