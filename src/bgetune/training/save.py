"""The folder that a training leaves, the same for every backend and every reader."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetune import models

if TYPE_CHECKING:
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
    with models.quiet():
        model.save_pretrained(str(folder), create_model_card=False)
    (Path(folder) / "README.md").write_text(card, encoding="utf-8")


def model_card(
    base: str, counts: Mapping[str, int], parameters: Mapping[str, Any], metrics: Mapping[str, tuple[float, float]]
) -> str:
    """The README.md of a tuned model.

    Args:
        base: what was tuned.
        counts: of the training data.
        parameters: that were not at their default.
        metrics: name -> (before, after), on dev.
    """
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, sentence-similarity, bgetune]
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

Scores of this model lie elsewhere than those of its base: a threshold that was chosen for the base does not hold here.
Take threshold and calibration from the `scoring.json` that the notebook 05_calibrate wrote for this very model.

## Training data

{_table(("what", "count"), counts.items())}

## Parameters

{_table(("parameter", "value"), parameters.items())}

## On held-out pairs (dev)

{_table(("metric", "before", "after"), ((name, f"{b:.4f}", f"{a:.4f}") for name, (b, a) in metrics.items()))}
"""


def _table(head: tuple[str, ...], rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_escape(str(cell)) for cell in line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Text of the team's in Markdown: neither HTML nor a further column nor a further line."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
