"""Queries and paraphrases written by a language model behind an OpenAI-compatible endpoint.

Off unless a profile names an endpoint, because texts are sent to it. Texts travel as JSON data in the user message,
never inside the instructions. What comes back is checked (a JSON object with a list of texts) and passes the same gate
as every other paraphrase. Right answers are remembered on disk, so a run that was killed or ran out of its budget goes
on later.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache as cached
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from bgetune.augment import memo
from bgetune.errors import InputError
from bgetune.params import Generation

if TYPE_CHECKING:
    import openai

Task = Literal["queries", "paraphrases"]

LONGEST_TEXT = 4000
"""Characters of a document that are sent."""

LONGEST_ANSWER = 200
"""Characters of one query; longer ones are not queries."""


class Answer(BaseModel):
    """What the model must say."""

    model_config = ConfigDict(strict=True)

    texts: list[str]


@dataclass(frozen=True)
class Result:
    """What came of one text: texts, or the reason why there are none."""

    texts: tuple[str, ...] = ()
    reason: str = ""


class Failed(Exception):
    """A request or an answer that is worth another try: the reason, and the seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason, wait)


class OutOfBudget(Exception):
    """The run may make no further request."""


class Limits:
    """What all requests of a run share: the budget, the rate, and the sign to stop.

    Args:
        settings: with `max_requests` and `requests_per_minute`.
    """

    def __init__(self, settings: Generation):
        self.stop = threading.Event()
        self._left = settings.max_requests
        self._gap = 60 / settings.requests_per_minute if settings.requests_per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def take_turn(self) -> None:
        """Count a request, and wait for its time.

        Raises:
            OutOfBudget: if no request is left.
        """
        with self._lock:
            if self._left <= 0:
                raise OutOfBudget
            self._left -= 1
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        self.stop.wait(max(0.0, turn - time.monotonic()))


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
    pause: float = 1.0,
) -> list[Result]:
    """Ask for queries that each document answers, or for paraphrases of each query.

    Failed requests (429, 5xx, no connection, no answer in time) and answers that are malformed, cut off, empty or
    refused are tried `settings.retries` more times, with growing pauses or as long as the server asks for.

    Args:
        texts: documents or queries.
        settings: the endpoint and its limits.
        limits: shared with other calls; None: of this call alone.
        seed: sent along; few endpoints promise anything for it, so only the cache repeats a run.
        pause: seconds before the first repetition; doubled for each further one.

    Returns:
        One result a text, in their order.

    Raises:
        InputError: naming the parameter, if the endpoint is not configured, the key is missing, or the endpoint rejects
            key, model or request: what would fail for every text.
    """
    store = None if cache is None else memo.Memo(cache)
    count = settings.queries if task == "queries" else settings.paraphrases
    prompt = read_prompt(task, settings.prompt_language)
    distinct = list(dict.fromkeys(texts))
    fixed = json.dumps([settings.base_url, settings.model, settings.temperature, count, seed])
    keys = {text: memo.key(prompt, fixed, text) for text in distinct}
    known = store.find(keys.values()) if store else {}
    results = {text: Result(tuple(known[key])) for text, key in keys.items() if key in known}
    missing = [text for text in distinct if text not in results]
    if missing:
        limits = limits or Limits(settings)
        endpoint = _Endpoint(settings, limits, prompt, count, seed, pause)

        def ask(text: str) -> Result:
            result = endpoint.ask(text)
            if store and not result.reason:
                store.add({keys[text]: list(result.texts)})
            return result

        with (
            ThreadPoolExecutor(settings.concurrency) as pool,
            tqdm(total=len(missing), desc=f"generating {task}", unit="text", disable=not progress) as bar,
        ):
            futures = {pool.submit(ask, text): text for text in missing}
            try:
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    bar.update()
            except BaseException:
                limits.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    return [results[text] for text in texts]


@cached
def read_prompt(task: Task, language: str) -> str:
    """The instructions for a task: `prompts/TASK.LANGUAGE.txt` of this package."""
    return (resources.files(__package__) / "prompts" / f"{task}.{language}.txt").read_text(encoding="utf-8")


class _Endpoint:
    """One way to ask: client, instructions, and how failures are met."""

    def __init__(self, settings: Generation, limits: Limits, prompt: str, count: int, seed: int, pause: float):
        self.settings = settings
        self.limits = limits
        self.prompt = prompt
        self.count = count
        self.seed = seed
        self.pause = pause
        self._client = _client(settings)

    def ask(self, text: str) -> Result:
        """The result of a text, after as many tries as it needs and may have."""
        wait = self.pause
        for attempt in range(self.settings.retries + 1):
            try:
                self.limits.take_turn()
                return Result(self._request(text))
            except OutOfBudget:
                return Result(reason="budget")
            except Failed as failure:
                reason, asked = failure.args
            # threads that failed together do not come back together
            spread = random.Random(f"{text}/{attempt}").uniform(0.75, 1.25)
            if attempt < self.settings.retries and self.limits.stop.wait(max(wait * spread, asked)):
                return Result(reason="stopped")
            wait *= 2
        return Result(reason=reason)

    def _request(self, text: str) -> tuple[str, ...]:
        import openai

        options = {"response_format": {"type": "json_object"}} if self.settings.json_mode else {}
        message = json.dumps({"text": text[:LONGEST_TEXT], "count": self.count}, ensure_ascii=False)
        try:
            completion = self._client.chat.completions.create(
                model=self.settings.model,
                messages=[{"role": "system", "content": self.prompt}, {"role": "user", "content": message}],
                temperature=self.settings.temperature,
                seed=self.seed,
                **options,
            )
        except openai.RateLimitError as error:
            raise Failed("rate limit", _retry_after(error)) from None
        except openai.APITimeoutError:
            raise Failed("timeout") from None
        except openai.APIConnectionError:
            raise Failed("no connection") from None
        except openai.InternalServerError:
            raise Failed("server error") from None
        except openai.APIStatusError as error:
            raise InputError(self._explain(error)) from None
        except (openai.APIError, ValueError):  # a body that is no JSON, or not of the protocol
            raise Failed("malformed") from None
        return read_answer(completion)[: self.count]

    def _explain(self, error: openai.APIStatusError) -> str:
        """What a status says that no repetition will mend. The server's words are left out: they may hold the key."""
        where = f"02_backtranslate.generation: {self.settings.base_url} answered {error.status_code}"
        if error.status_code in (401, 403):
            return f"{where}: it does not accept the key in the environment variable {self.settings.key_variable}"
        if error.status_code == 404:
            return f"{where}: no such address or no model {self.settings.model}; check base_url (.../v1) and model"
        return f"{where}: it does not take the request; try json_mode: false, and check model and temperature"


def read_answer(completion: openai.types.chat.ChatCompletion) -> tuple[str, ...]:
    """The texts of an answer, without blank ones and repetitions.

    Raises:
        Failed: "refused", "cut off", "empty" or "malformed".
    """
    choices = getattr(completion, "choices", None)
    if not choices or choices[0].message is None:
        raise Failed("empty")
    choice = choices[0]
    if choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None):
        raise Failed("refused")
    if choice.finish_reason == "length":
        raise Failed("cut off")
    content = (choice.message.content or "").strip()
    if not content:
        raise Failed("empty")
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", content, re.DOTALL)
    try:
        answer = Answer.model_validate_json(fenced[1] if fenced else content)
    except ValidationError:
        raise Failed("malformed") from None
    texts = [text.strip() for text in answer.texts if text.strip() and len(text) <= LONGEST_ANSWER]
    if not texts:
        raise Failed("refused")
    return tuple(dict.fromkeys(texts))


def _client(settings: Generation) -> openai.OpenAI:
    for parameter in ("base_url", "model"):
        if not getattr(settings, parameter):
            raise InputError(f"02_backtranslate.generation: {parameter} is not set")
    key = os.environ.get(settings.key_variable)
    if not key:
        raise InputError(
            f"02_backtranslate.generation: the environment variable {settings.key_variable} is empty; put the key "
            f"there (any word for a server that wants none), or name another variable in key_variable"
        )
    import openai

    # our own repetitions count against the budget and the rate limit, the client's would not
    return openai.OpenAI(base_url=settings.base_url, api_key=key, timeout=settings.timeout, max_retries=0)


def _retry_after(error: openai.RateLimitError) -> float:
    """Seconds that the server asks to wait, a minute at most."""
    try:
        return min(60.0, float(error.response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
