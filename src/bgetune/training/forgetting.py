"""What a model forgets while it learns a domain: measured on general text, and brought back by merging weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from bgetune.config.sources import GeneralSource
from bgetune.config.stages import Train
from bgetune.data import sources
from bgetune.data.text import STANDARD, Normalizer
from bgetune.errors import InputError
from bgetune.training import evaluation

FALL = 0.02
"""A fall of the AUC or correlation on general text from which it is called forgetting."""

METRICS = {
    "general_auc": "on general text: how often a pair with the higher label scores above one with the lower",
    "general_spearman": "on general text: rank correlation of scores and grades",
    "general_mean_positive": "mean score of the general pairs with the higher label",
    "general_mean_negative": "mean score of the general pairs with the lower label",
    "general_mean": "mean score of the general pairs",
}
"""What `general_scores` measures, and what it says."""


def read_general(
    source: GeneralSource, most: int, seed: int, *, prompt: str = "", normalizer: Normalizer = STANDARD
) -> pd.DataFrame:
    """The general pairs: columns a, b (str, normalised, prompt included), label (float64).

    Args:
        source: where they are.
        most: of more pairs, so many are drawn by the seed.
        prompt: put before every text: the model's for texts of one kind.
        normalizer: of the run.

    Raises:
        InputError: if the source cannot be read, or all its pairs have one label.
    """
    pairs, _ = sources.read_pairs(source)
    pairs = pairs.assign(a=pairs["a"].map(normalizer), b=pairs["b"].map(normalizer))
    pairs = pairs[pairs["a"].ne("") & pairs["b"].ne("")]
    if len(pairs) > most:
        pairs = pairs.sample(most, random_state=seed).sort_index()
    if pairs["label"].nunique() < 2:
        raise InputError(
            f"04_train: general: {sources.label(source)}: all {len(pairs)} pairs have one label in "
            f"{source.label_column}, so there is nothing to tell apart; give pairs that mean the same and others"
        )
    return pairs.assign(a=prompt + pairs["a"], b=prompt + pairs["b"]).reset_index(drop=True)


def general_scores(pairs: pd.DataFrame, encode: Callable[[list[str]], np.ndarray]) -> dict[str, float]:
    """AUC and mean scores where there are two labels, Spearman's correlation and mean score where there are more.

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


def merge(base, tuned, weight: float):
    """A model between two: weight * tuned + (1 - weight) * base, number by number (LM-Cocktail, arXiv 2311.13534).

    Args:
        base: the SentenceTransformer before training.
        tuned: the same one after it; neither is changed.
        weight: from 0 to 1.
    """
    import copy

    import torch

    merged = copy.deepcopy(tuned)
    before = dict(base.named_parameters())
    with torch.no_grad():
        for name, parameter in merged.named_parameters():
            parameter.lerp_(before[name], 1 - weight)
    return merged


def versions(tuned, options: Train) -> dict:
    """The models to compare: before, tuned and, with a `merge_weight` below 1, merged. The last one is to be saved."""
    from bgetune.training.sentence_transformers import load

    base = load(options.model, options)
    models = {"before": base, "tuned": tuned}
    return models if options.merge_weight == 1 else models | {"merged": merge(base, tuned, options.merge_weight)}


def compare(models: Mapping, dev: pd.DataFrame, general: pd.DataFrame | None, batch_size: int = 64) -> pd.DataFrame:
    """What the models measure on dev pairs and general pairs: one row a measure, one column a model.

    Args:
        models: name -> SentenceTransformer.
        dev: dev pairs, as `evaluation.dev_pairs` makes them; no measures where they cannot be judged by.
        general: as `read_general` returns them; None for none.
        batch_size: texts encoded at a time.
    """
    from bgetune.training.sentence_transformers import encoder_of

    found = {}
    for name, model in models.items():
        encode = encoder_of(model, batch_size)
        found[name] = evaluation.dev_metrics(dev, encode) if evaluation.can_be_judged(dev) else {}
        if general is not None:
            found[name] |= general_scores(general, encode)
    return pd.DataFrame(found, dtype="float64")


def advice(result: pd.DataFrame, options: Train) -> str:
    """Markdown: whether the saved model has forgotten general text, and what to do about it.

    Args:
        result: as `compare` returns it.
        options: the parameters of 04_train.
    """
    measure = next((name for name in ("general_auc", "general_spearman") if name in result.index), None)
    if measure is None:
        return "*Not measured: the profile names no `general` pairs.*"
    before, after = result.loc[measure].iloc[[0, -1]]
    change = f"`{measure}` went from {before:.3f} to {after:.3f}"
    if after >= before - FALL:
        return f"General text is kept: {change} (a fall of more than {FALL} would be called forgetting)."
    return (
        f"**Warning: the model has forgotten general text.** {change}. Where it must also serve texts outside the "
        f"domain, lower `merge_weight` (now {options.merge_weight:g}), `learning_rate` ({options.learning_rate:g}) or "
        f"`epochs` ({options.epochs})."
    )
