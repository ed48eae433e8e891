"""Saving a tuned reranker: one folder for every loader of cross-encoders, and its model card."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetune.locale import N_, _
from bgetune.models import hub
from bgetune.training.save import PRIVATE, escape, front, section, shown_name, table

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import CrossEncoder

USED = ("seed", "max_length", "negatives", "warmup", "weight_decay", "precision", "dtype", "graded_loss")
"""Parameters of 04_train without ``reranker_`` in their names that a reranker's training uses, too."""

MEASURES = ("auc", "average_precision", "labelled_auc", "mean_positive", "mean_negative")
"""Columns of the log that the card lists."""


def save(model: CrossEncoder, folder: str | Path, dtype: str = "float32") -> None:
    """Write a reranker so that every loader of cross-encoders gives the same scores.

    Safetensors weights, configuration and tokenizer, as transformers writes a classifier of pairs: what
    sentence-transformers (of any version), FlagEmbedding and Text Embeddings Inference load.

    Args:
        model: a cross-encoder with one output.
        folder: made if missing.
        dtype: type of the saved weights, a name of torch; the model itself is not changed.
    """
    import torch

    classifier = model.transformers_model
    assert classifier is not None  # `reranking.load` made it
    if dtype != "float32":
        classifier = copy.deepcopy(classifier).to(getattr(torch, dtype))
    with hub.quiet():
        classifier.save_pretrained(str(folder))
        model.tokenizer.save_pretrained(str(folder))


def before_and_after(log: pd.DataFrame, best_step: int) -> pd.DataFrame:
    """The measures on dev: one row a measure, columns before and tuned; empty where there were no dev pairs.

    Args:
        log: table `training_log` of the reranker; step 0 is the reranker before.
        best_step: the step of the tuned one.
    """
    steps = log.set_index("step")
    measures = [name for name in MEASURES if name in steps]
    rows = steps.loc[[0, best_step], measures] if measures else steps.loc[[0, best_step], []]
    return rows.T.set_axis(["before", "tuned"], axis=1).astype("float64")


def model_card(
    base_model: str,
    *,
    parameters: Mapping[str, Any],
    counts: Mapping[str, int],
    result: pd.DataFrame,
    run_name: str,
    max_length: int,
    judged: str = "",
) -> str:
    """The text of the README.md of a saved reranker, in the language in use. It names no file or server of the team's.

    Args:
        base_model: folder, hub name or demo:// of the reranker before training; of a folder, only its name is shown.
        parameters: the values of 04_train; those that a reranker's training uses are listed.
        counts: what the reranker was trained on -> how many.
        result: as `before_and_after` returns it.
        run_name: name of the run, whose 05_calibrate writes the thresholds.
        max_length: maximum number of tokens that it reads of a pair.
        judged: what to say of dev pairs that no person made, see `bgetune.graph.outlook.said`.
    """
    shown = {
        name: value
        for name, value in parameters.items()
        if name not in PRIVATE and (name in USED or name.startswith("reranker_"))
    }
    run = escape(f"runs/{run_name}")
    measures = ((name, *(f"{value:.4f}" for value in row)) for name, *row in result.itertuples())
    title = _("{base}, fine-tuned by bgetune").format(base=escape(shown_name(base_model)))
    what = _(
        "A reranker (cross-encoder): it reads a query and a text together, the first {length} tokens of both, and "
        "scores in [0, 1] whether they mean the same, or the text answers the query. Texts are given without prompts."
    )
    thresholds = _(
        "The scores are no probabilities, and a threshold chosen for the base does not hold here. `scoring.json`, "
        "which the notebook 05_calibrate writes, holds thresholds on these scores, and on those of model and reranker "
        'together: `{run}/05_calibrate/scoring.json`, read by `bgetune.scoring.Scorer.load("{run}")`.'
    )
    ours = _("`bgetune.models.reranker.Reranker(...)` gives the same scores; so does FlagEmbedding, called so:")
    note = f"**{judged}**\n\n" if judged else ""
    sections = [
        (_("Thresholds"), thresholds.format(run=run)),
        (_("Training data"), table((N_("what"), N_("number")), ((_(name), number) for name, number in counts.items()))),
        (_("Parameters"), table((N_("parameter"), N_("value")), shown.items())),
        (_("On held-out pairs (dev)"), note + table((N_("measure"), *result.columns), measures)),
    ]
    tags = ("sentence-transformers", "cross-encoder", "reranker", "bgetune")
    return f"""---
{front(base_model, run_name, result, task="text-ranking", tags=tags)}---

# {title}

{what.format(length=max_length)}

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("path/to/this/folder")
scores = model.predict([("...", "...")])
```

{ours}

```python
from FlagEmbedding import FlagReranker

model = FlagReranker("path/to/this/folder", max_length={max_length}, normalize=True, use_fp16=False)
scores = model.compute_score([("...", "...")])
```

{chr(10).join(section(*titled) for titled in sections)}"""
