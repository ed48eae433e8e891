"""Evaluation during training: separation of dev positives from negatives, similarity drift, and retrieval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from bgetune.errors import Diverged, InputError
from bgetune.locale import _
from bgetune.metrics import retrieval, separation
from bgetune.models.prompts import NO_PROMPTS, Prompts

METRICS = {
    "auc": "area under the ROC curve: how often a dev positive scores above a dev negative",
    "average_precision": "area under the precision-recall curve of the same pairs",
    "labelled_auc": "the same area for the pairs that people labelled, alone",
    "share_0.6_0.9": "share of positives and hard negatives that score between 0.6 and 0.9",
    "mean_squared_cosine_random": "of random pairs; unit vectors that use all d dimensions have 1/d",
    "crowded_share": "share of positives and hard negatives where the middle four fifths lay before training",
    "mean_positive": "mean score of the positives",
    "mean_negative": "mean score of the hard negatives",
    "mrr@10": "mean reciprocal rank of a query's first positive among all dev texts, 0 beyond rank 10",
}
"""The columns of the training log that are measured on dev, and their meanings."""


def dev_pairs(
    heldout: pd.DataFrame, graded: pd.DataFrame, texts: pd.DataFrame, prompts: Prompts = NO_PROMPTS
) -> pd.DataFrame:
    """The dev pairs to evaluate on: mined ones (`heldout`) and those that people labelled (`graded`).

    Args:
        heldout: table `heldout`.
        graded: table `graded`.
        texts: table `texts`.
        prompts: added to the texts, by the task of each pair.

    Returns:
        Columns query, text (str, prompts included), label (0 or 1), kind (positive, hard_negative, random, labelled).
    """
    mined = heldout.loc[heldout["split"] == "dev", ["query_id", "text_id", "label", "kind"]]
    people = graded.loc[graded["split"] == "dev"].rename(columns={"a_id": "query_id", "b_id": "text_id"})
    people = people.assign(kind="labelled")[mined.columns]
    return _with_texts(pd.concat([mined, people], ignore_index=True), texts, prompts)


def graded_pairs(graded: pd.DataFrame, texts: pd.DataFrame, prompts: Prompts = NO_PROMPTS) -> pd.DataFrame:
    """The labelled and graded pairs of the train split.

    Args:
        graded: table `graded`.
        texts: table `texts`.
        prompts: as for `dev_pairs`.

    Returns:
        Columns query, text (str, prompts included), grade (0 to 1).
    """
    pairs = graded.loc[graded["split"] == "train", ["a_id", "b_id", "grade"]]
    return _with_texts(pairs.set_axis(["query_id", "text_id", "grade"], axis=1), texts, prompts)


def _with_texts(pairs: pd.DataFrame, texts: pd.DataFrame, prompts: Prompts) -> pd.DataFrame:
    known = texts.set_index("text_id")
    query, text = known.loc[pairs["query_id"]], known.loc[pairs["text_id"]]
    kinds = query["kind"].to_numpy(), text["kind"].to_numpy()
    both = {
        "query": prompts.before(*kinds) + query["text"].to_numpy(dtype=object),
        "text": prompts.before(*kinds[::-1]) + text["text"].to_numpy(dtype=object),
    }
    return pd.DataFrame(both).join(pairs.drop(columns=["query_id", "text_id"]).reset_index(drop=True))


def sample(pairs: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """A random sample of at most `most` pairs of each kind, in their order."""
    kept = [
        part if len(part) <= most else part.sample(most, random_state=seed)
        for _, part in pairs.groupby("kind", sort=True)
    ]
    return pd.concat(kept).sort_index().reset_index(drop=True) if kept else pairs


def can_be_evaluated(pairs: pd.DataFrame) -> bool:
    """Whether there are both positives and negatives (other than random ones)."""
    return pairs.loc[pairs["kind"] != "random", "label"].nunique() == 2


def crowded_band(pairs: pd.DataFrame, encode: Callable[[list[str]], np.ndarray]) -> tuple[float, float]:
    """The `separation.crowded_band` of the scores of positives and hard negatives.

    Args:
        pairs, encode: as for `dev_metrics`, with the model before training.
    """
    judged = pairs[pairs["kind"] != "random"]
    return separation.crowded_band(_scores(judged, encode)[1])


def has_drifted(measured: Mapping[str, float], before: Mapping[str, float]) -> bool:
    """Whether scores bunch more than before training: random pairs are more similar, or more pairs are in the band.

    Args:
        measured, before: as `dev_metrics` returns them; a metric that is missing is left out.
    """
    names = ("mean_squared_cosine_random", "crowded_share")
    return any(measured[name] > before[name] for name in names if name in measured and name in before)


def selection_score(
    measured: Mapping[str, float], before: Mapping[str, float], metric: str, drift_penalty: float
) -> float:
    """The score that checkpoints are chosen by: the metric, minus `drift_penalty` if the checkpoint has drifted."""
    return measured[metric] - drift_penalty * has_drifted(measured, before)


def dev_metrics(
    pairs: pd.DataFrame, encode: Callable[[list[str]], np.ndarray], band: tuple[float, float] | None = None
) -> dict[str, float]:
    """The `METRICS` of a model on dev pairs, without those that need other pairs.

    Args:
        pairs: as `dev_pairs` returns them.
        encode: n texts -> (n, d) float32 unit rows.
        band: `crowded_band` of the model before training. None: `crowded_share` is left out.

    Raises:
        InputError: if the model's vectors are not finite.
    """
    rows, scores, query, text = _scores(pairs, encode)
    label, kind = pairs["label"].to_numpy(), pairs["kind"].to_numpy()
    judged = kind != "random"
    metrics = separation_metrics(pairs, scores)
    metrics |= {name: np.mean(inside) for name, inside in separation.in_bands(scores[judged], band).items()}
    if (kind == "random").any():
        metrics["mean_squared_cosine_random"] = np.mean(scores[kind == "random"] ** 2)
    metrics["mean_positive"] = scores[judged & (label == 1)].mean()
    metrics["mean_negative"] = scores[judged & (label == 0)].mean()
    found = (kind == "positive") & (label == 1)
    if found.any():
        metrics["mrr@10"] = _mrr(rows, query[found], text[found], np.unique(text))
    return {name: float(value) for name, value in metrics.items()}


def separation_metrics(pairs: pd.DataFrame, scores: np.ndarray) -> dict[str, float]:
    """auc, average_precision and, where people labelled some, labelled_auc of dev pairs; random pairs are left out.

    Args:
        pairs: n rows, as `dev_pairs` returns them.
        scores: (n,) of these pairs; higher means more alike.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    label, kind = pairs["label"].to_numpy(), pairs["kind"].to_numpy()
    judged, labelled = kind != "random", kind == "labelled"
    metrics = {
        "auc": roc_auc_score(label[judged], scores[judged]),
        "average_precision": average_precision_score(label[judged], scores[judged]),
    }
    if len(set(label[labelled])) == 2:
        metrics["labelled_auc"] = roc_auc_score(label[labelled], scores[labelled])
    return {name: float(value) for name, value in metrics.items()}


def _scores(
    pairs: pd.DataFrame, encode: Callable[[list[str]], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of the distinct texts (n, d), cosines of the pairs (p,), and the rows of both texts of each pair (p,)."""
    texts = list(dict.fromkeys([*pairs["query"], *pairs["text"]]))
    rows = encode(texts)
    if not np.isfinite(rows).all():
        raise Diverged(_("the model gives vectors that are not finite: training has diverged; lower learning_rate"))
    number = {text: i for i, text in enumerate(texts)}
    query, text = (pairs[column].map(number).to_numpy() for column in ("query", "text"))
    return rows, (rows[query] * rows[text]).sum(axis=1), query, text


def _mrr(rows: np.ndarray, query: np.ndarray, positive: np.ndarray, corpus: np.ndarray, depth: int = 10) -> float:
    """Mean reciprocal rank of the first positive of each query in the corpus, without the query itself."""
    queries = np.unique(query)
    found = retrieval.nearest(queries.astype(str), rows[queries], corpus.astype(str), rows[corpus], depth)
    ranked = found.groupby("query_id")["text_id"].agg(list).to_dict()
    relevance = {str(q): dict.fromkeys(positive[query == q].astype(str), 1) for q in queries}
    return retrieval.evaluate(ranked, relevance, depth)["mrr"].mean()


def require_metric(metric: str, measured: Mapping[str, float]) -> None:
    """Raise an `InputError` if the metric that chooses the checkpoint is not among the measured ones."""
    if metric not in measured:
        known = [name for name in ("auc", "average_precision", "labelled_auc", "mrr@10") if name in measured]
        raise InputError(
            _("04_train: metric: {metric} cannot be measured on the dev pairs there are; choose one of {known}").format(
                metric=metric, known=", ".join(known)
            )
        )


def training_log(before: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """The table `training_log` of the log of a trainer.

    Args:
        before: step 0, epoch 0 and, where there are dev pairs, the metrics of the model before training.
        history: the trainer's entries; the names of metrics start with "eval_".
    """
    rows = [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in history]
    return log_table([before, *rows])


def log_table(rows: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """The table `training_log`: step, epoch, loss and its parts, learning rate, and the metrics; one row a step.

    Args:
        rows: dictionaries with at least `step` and `epoch`; those of one step are merged.
    """
    merged: dict[int, dict[str, float]] = {}
    for row in rows:
        merged.setdefault(int(row["step"]), {}).update(row)
    table = pd.DataFrame([merged[step] for step in sorted(merged)])
    first = [name for name in ("step", "epoch", "loss", "ranking", "orthogonality", "learning_rate") if name in table]
    table = table[first + [name for name in METRICS if name in table]]
    return table.astype({"step": "int64", **dict.fromkeys(table.columns.drop("step"), "float64")})
