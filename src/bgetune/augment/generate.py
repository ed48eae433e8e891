"""Queries and paraphrases written by a language model behind an OpenAI-compatible endpoint.

Off unless a profile names an endpoint, because texts are sent to it. Texts travel as JSON data in the user message,
never inside the instructions. What comes back is checked (a JSON object with a list of texts) and passes the same gate
as every other paraphrase. Right answers are remembered on disk, so a run that was killed or ran out of its budget goes
on later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache as cached
from importlib import resources
from pathlib import Path
from typing import Literal

import pandas as pd

from bgetune.augment import chat, memo
from bgetune.augment.remote import PAUSE, Limits, Request, Result, ask_all
from bgetune.config.augmentation import Generation

Task = Literal["queries", "paraphrases"]

LONGEST_ANSWER = 200
"""Characters of one query; longer ones are not queries."""


def generate_for(
    settings: Generation | None, *, documents: pd.DataFrame, queries: pd.DataFrame, seed: int = 42
) -> tuple[dict[Task, pd.DataFrame], dict[Task, pd.DataFrame]]:
    """Queries for documents and paraphrases of queries, as far as the settings ask for them, under one budget.

    Args:
        settings: None, or without an endpoint, generates nothing.
        documents: rows of the table of texts.
        queries: likewise.

    Returns:
        By task: what came back (`origin_id`, `text`, `via` = the model's name), and how each text fared (`origin_id`,
        `text`, `reason`, empty for success).
    """
    if settings is None or settings.base_url is None:
        return {}, {}
    generated, fates = {}, {}
    limits = Limits(settings)
    for task, table, count in (
        ("queries", documents, settings.queries),
        ("paraphrases", queries, settings.paraphrases),
    ):
        if count:
            results = generate(table["text"].tolist(), task, settings, limits=limits, seed=seed)
            fates[task] = table[["text_id", "text"]].set_axis(["origin_id", "text"], axis=1)
            fates[task]["reason"] = [result.reason for result in results]
            rows = [
                (origin, text, settings.model)
                for origin, result in zip(table["text_id"], results, strict=True)
                for text in result.texts
            ]
            generated[task] = pd.DataFrame(rows, columns=["origin_id", "text", "via"])
    return generated, fates


def generate(
    texts: Sequence[str],
    task: Task,
    settings: Generation,
    *,
    limits: Limits | None = None,
    seed: int = 42,
    cache: Path | str | None = "generated",
    progress: bool = True,
    pause: float = PAUSE,
) -> list[Result]:
    """Ask for queries that each document answers, or for paraphrases of each query.

    Args:
        texts: documents or queries.
        settings: the endpoint and its limits.
        limits: shared with other calls; None: of this call alone.
        seed, pause: see `bgetune.augment.chat.connect` and `bgetune.augment.remote.ask_all`.

    Returns:
        One result a text, in their order.

    Raises:
        InputError: naming the parameter, if the endpoint is not configured, the key is missing, or the endpoint rejects
            key, model or request: what would fail for every text.
    """
    count = settings.queries if task == "queries" else settings.paraphrases
    prompt = read_prompt(task, settings.prompt_language)

    def connect() -> Request:
        ask = chat.connect(
            settings,
            prompt,
            temperature=settings.temperature,
            seed=seed,
            longest=LONGEST_ANSWER,
            parameter="02_backtranslate.generation",
        )
        return lambda text: ask(text=text, count=count)

    fixed = json.dumps([settings.base_url, settings.model, settings.temperature, count, seed])
    results = ask_all(
        {text: memo.key(prompt, fixed, text) for text in texts},
        connect,
        settings,
        limits or Limits(settings),
        cache=cache,
        label=f"generating {task}",
        progress=progress,
        pause=pause,
    )
    return [results[text] for text in texts]


@cached
def read_prompt(task: str, language: str) -> str:
    """The instructions for a task: `prompts/TASK.LANGUAGE.txt` of this package."""
    return (resources.files(__package__) / "prompts" / f"{task}.{language}.txt").read_text(encoding="utf-8")
