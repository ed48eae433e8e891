"""Queries, near-misses and paraphrases written by a language model at an OpenAI-compatible endpoint.

Off unless a profile names an endpoint, because texts are sent to it. Texts are sent as JSON in the user message, never
as part of the instructions. Answers are validated (a JSON object with a list of texts) and pass the same gate as all
other paraphrases. Valid answers are cached on disk, so a run that was stopped or used up its budget can continue later.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache as cached
from importlib import resources
from pathlib import Path
from typing import Literal

import pandas as pd

from bgetune.augment import chat, memo
from bgetune.augment.remote import PAUSE, Limits, Request, Result, request_all
from bgetune.config.augmentation import Generation
from bgetune.errors import InputError
from bgetune.locale import _

Task = Literal["queries", "near_misses", "paraphrases"]

LONGEST_ANSWER = 200
"""Maximum number of characters of a generated text; longer ones are left out."""


def generate_for(
    settings: Generation, tasks: Mapping[Task, pd.DataFrame], *, limits: Limits, seed: int = 42
) -> tuple[dict[Task, pd.DataFrame], dict[Task, pd.DataFrame]]:
    """Generate texts for several tasks, one after the other.

    Args:
        settings: the endpoint and the number of texts of each task. Without `base_url` nothing is generated.
        tasks: task -> rows of the table `texts`: documents to write queries or near-misses for, queries to paraphrase.
        limits: budget and rate of all requests of the run.
        seed: sent with each request.

    Returns:
        Task -> generated texts (origin_id, text, via: the model's name), and task -> outcome of each text that was sent
        (origin_id, text, reason: empty for success).

    Raises:
        InputError: see `generate`.
    """
    generated: dict[Task, pd.DataFrame] = {}
    outcomes: dict[Task, pd.DataFrame] = {}
    for task, table in tasks.items() if settings.base_url else ():
        if getattr(settings, task):
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


def outcome_table(generated: Mapping[Task, pd.DataFrame], outcomes: Mapping[Task, pd.DataFrame]) -> pd.DataFrame:
    """For the notebook, a row for each task: texts that were sent, texts that came back, texts without an answer."""
    return pd.DataFrame(
        {
            "texts that were sent": [len(sent) for sent in outcomes.values()],
            "texts that came back": [len(generated[task]) for task in outcomes],
            "texts without an answer": [int((sent["reason"] != "").sum()) for sent in outcomes.values()],
        },
        index=pd.Index(outcomes, name="task"),
    )


def require_positives(edges: pd.DataFrame, queries: pd.DataFrame, outcomes: Mapping[Task, pd.DataFrame]) -> None:
    """Raise an `InputError` if nothing says that two texts mean the same: not the data, and no generated query is left.

    Args:
        edges: of the graph, with those of the generated queries.
        queries: see `bgetune.augment.gate.check`.
        outcomes: see `generate_for`.
    """
    if len(edges):
        return
    sent = outcomes.get("queries", pd.DataFrame({"reason": []}))["reason"]
    counted = [Counter(reasons[reasons != ""]) for reasons in (sent, queries["reason"])]
    told = [", ".join(f"{_(reason)} {count:,}" for reason, count in found.most_common()) or "0" for found in counted]
    raise InputError(
        _(
            "02_backtranslate.generation: no generated query is left, and nothing else says which texts mean the same. "
            "{sent:,} documents were sent; without an answer: {failed}; dropped by the gate: {dropped}. Run again for "
            "those without an answer (the others are remembered), and see 02_backtranslate.gate for the rules"
        ).format(sent=len(sent), failed=told[0], dropped=told[1])
    )


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
    """Generate queries that each document answers, near-misses that it does not answer, or paraphrases of each query.

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
    count = getattr(settings, task)
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
