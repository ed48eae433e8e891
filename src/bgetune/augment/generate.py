"""Queries and paraphrases written by a language model at an OpenAI-compatible endpoint.

Off unless a profile names an endpoint, because texts are sent to it. Texts are sent as JSON in the user message, never
as part of the instructions. Answers are validated (a JSON object with a list of texts) and pass the same gate as all
other paraphrases. Valid answers are cached on disk, so a run that was stopped or used up its budget can continue later.
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
from bgetune.augment.remote import PAUSE, Limits, Request, Result, request_all
from bgetune.config.augmentation import Generation
from bgetune.locale import _

Task = Literal["queries", "paraphrases"]

LONGEST_ANSWER = 200
"""Maximum number of characters of a generated text; longer ones are left out."""


def generate_for(
    settings: Generation | None, *, documents: pd.DataFrame, queries: pd.DataFrame, seed: int = 42
) -> tuple[dict[Task, pd.DataFrame], dict[Task, pd.DataFrame]]:
    """Generate queries for documents and paraphrases of queries, with one budget of requests.

    Args:
        settings: the endpoint and the numbers of queries and paraphrases. None, or no `base_url`: generate nothing.
        documents, queries: rows of the table `texts`.
        seed: sent with each request.

    Returns:
        Task -> generated texts (origin_id, text, via: the model's name), and task -> outcome of each text that was sent
        (origin_id, text, reason: empty for success).

    Raises:
        InputError: see `generate`.
    """
    if settings is None or settings.base_url is None:
        return {}, {}
    generated: dict[Task, pd.DataFrame] = {}
    outcomes: dict[Task, pd.DataFrame] = {}
    limits = Limits(settings)
    tasks: list[tuple[Task, pd.DataFrame, int]] = [
        ("queries", documents, settings.queries),
        ("paraphrases", queries, settings.paraphrases),
    ]
    for task, table, count in tasks:
        if count:
            results = generate(table["text"].tolist(), task, settings, limits=limits, seed=seed)
            outcomes[task] = table[["text_id", "text"]].set_axis(["origin_id", "text"], axis=1)
            outcomes[task]["reason"] = [result.reason for result in results]
            rows = [
                (origin, text, settings.model)
                for origin, result in zip(table["text_id"], results, strict=True)
                for text in result.texts
            ]
            generated[task] = pd.DataFrame(rows, columns=["origin_id", "text", "via"])
    return generated, outcomes


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
    """Generate queries that each document answers, or paraphrases of each query.

    Args:
        texts: n documents or queries.
        task: what to generate.
        settings: the endpoint, its limits and the number of texts to generate.
        limits: budget and rate shared with other calls. None: of this call alone.
        seed: sent with each request.
        cache: file of the cache (see `bgetune.augment.memo`). None: no cache.
        progress: whether to show a progress bar.
        pause: seconds before the first retry.

    Returns:
        n results, in the order of the texts.

    Raises:
        InputError: naming the parameter, if the endpoint is not configured, the key is missing, or the endpoint rejects
            the key, the model or the request.
    """
    count = settings.queries if task == "queries" else settings.paraphrases
    prompt = read_prompt(task, settings.prompt_language)

    def connect() -> Request:
        send = chat.connect(
            settings,
            prompt,
            temperature=settings.temperature,
            seed=seed,
            longest=LONGEST_ANSWER,
            parameter="02_backtranslate.generation",
        )
        return lambda text: send(text=text, count=count)

    fixed = json.dumps([settings.base_url, settings.model, settings.temperature, count, seed])
    results = request_all(
        {text: memo.key(prompt, fixed, text) for text in texts},
        connect,
        settings,
        limits or Limits(settings),
        cache=cache,
        label=_("generating {task}").format(task=task),
        progress=progress,
        pause=pause,
    )
    return [results[text] for text in texts]


@cached
def read_prompt(task: str, language: str) -> str:
    """The instructions for a task: `prompts/TASK.LANGUAGE.txt` of this package."""
    return (resources.files(__package__) / "prompts" / f"{task}.{language}.txt").read_text(encoding="utf-8")
