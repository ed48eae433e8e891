"""The folder that a training leaves, the same for every backend and every reader."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bgetune.config.stages import Train
from bgetune.models import hub
from bgetune.paths import is_hub_name

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import SentenceTransformer


def save(model: SentenceTransformer, folder: str | Path, query_instruction: str = "", card: str = "") -> None:
    """Write a model so that `SentenceTransformer(folder)`, `FlagModel(folder)` and our `Encoder` give the same vectors.

    Safetensors weights, a pooling module, a normalisation module (added if the model has none), the instruction as
    the prompt named "query", and a README.md.

    Args:
        model: a transformer and its pooling.
        folder: made if missing.
        query_instruction: for queries that search documents: `model.encode(queries, prompt_name="query")`.
        card: Markdown of the README.md.
    """
    from sentence_transformers.sentence_transformer import modules

    if not any(isinstance(module, modules.Normalize) for module in model):
        model.append(modules.Normalize())
    model.prompts = {"query": query_instruction, "document": ""}
    model.default_prompt_name = None
    with hub.quiet():
        model.save_pretrained(str(folder), create_model_card=False)
    (Path(folder) / "README.md").write_text(card, encoding="utf-8")


def model_card(options: Train, counts: Mapping[str, int], result: pd.DataFrame, run_name: str) -> str:
    """The README.md of a tuned model. It names no file or server of the team's: it may be published.

    Args:
        options: the parameters of 04_train.
        counts: of the training data.
        result: as `forgetting.compare` returns it; its last column is this model.
        run_name: of the run, whose 05_calibrate writes the thresholds.
    """
    base = options.model if is_hub_name(options.model) or "://" in options.model else Path(options.model).name
    changed = options.model_dump(exclude_defaults=True, exclude={"model", "device", "general", "push_to_hub"})
    shown = {"epochs": options.epochs, "learning_rate": options.learning_rate, "seed": options.seed} | changed
    origin = f"\nbase_model: {base}" if is_hub_name(options.model) else ""
    run = _escape(f"runs/{run_name}")
    measures = ((name, *(f"{value:.4f}" for value in row)) for name, *row in result.itertuples())
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, sentence-similarity, feature-extraction, bgetune]{origin}
---

# {_escape(base)}, fine-tuned by bgetune

A sentence embedding model with CLS pooling and vectors of length 1: the dot product of two is their similarity.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
documents = model.encode(["..."])
queries = model.encode(["..."], prompt_name="query")  # for queries that search documents
questions = model.encode(["..."])  # for texts that are compared with their own kind
```

`FlagModel("path/to/this/folder")` of FlagEmbedding and `bgetune.models.encoder.Encoder(...)` give the same vectors.
{_instruction(options.query_instruction)}{_lengths(options.matryoshka)}
## Thresholds

Scores of this model lie elsewhere than those of its base: a threshold that was chosen for the base does not hold here.
Thresholds with their precision, and the calibration that makes scores probabilities, are in `scoring.json`, which the
notebook 05_calibrate writes for the weights of this very model: `{run}/05_calibrate/scoring.json`. It belongs beside
this folder, not into it; `bgetune.scoring.Scorer.load("{run}")` reads both.

## Training data

{_table(("what", "count"), counts.items())}

## Parameters

{_table(("parameter", "value"), shown.items())}

## On held-out pairs (dev)

{_table(("measure", *result.columns), measures)}
"""


def _instruction(text: str) -> str:
    return f"\nThe prompt `query`, put before queries that search documents: {_escape(text)}\n" if text else ""


def _lengths(lengths: Sequence[int]) -> str:
    if not lengths:
        return ""
    shown = ", ".join(map(str, lengths))
    return f"\nVectors may be cut to these lengths: {shown} (`SentenceTransformer(..., truncate_dim={lengths[0]})`).\n"


def _table(head: tuple[str, ...], rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_escape(str(cell)) for cell in line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Text of the team's in Markdown: neither HTML nor a further column nor a further line."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
