"""Asking a language model behind an OpenAI-compatible endpoint: JSON goes in as data, a list of texts comes out.

What is sent travels as JSON in the user message, never inside the instructions, and what comes back is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bgetune.augment.remote import Failed, retry_after, secret
from bgetune.config.augmentation import Endpoint
from bgetune.errors import InputError

if TYPE_CHECKING:
    import openai

LONGEST_TEXT = 4000
"""Characters of a text that are sent."""


class Answer(BaseModel):
    """What the model must say."""

    model_config = ConfigDict(strict=True)

    texts: list[str]


def connect(
    settings: Endpoint, prompt: str, *, temperature: float, seed: int, longest: int, parameter: str
) -> Callable[..., tuple[str, ...]]:
    """A function that sends its arguments as JSON below the instructions and returns the texts of the answer.

    Args:
        prompt: the instructions.
        seed: sent along; few endpoints promise anything for it, so only the cache repeats a run.
        longest: characters of a text of the answer; longer ones are left out.
        parameter: what named the endpoint, for messages.

    Raises:
        InputError: naming the parameter, if the endpoint is not configured or the key is missing; from the function, if
            the endpoint rejects key, model or request, which would fail for every text.
    """
    for name in ("base_url", "model"):
        if not getattr(settings, name):
            raise InputError(f"{parameter}: {name} is not set; give base_url (https://.../v1) and model")
    remedy = "put the key there (any word for a server that wants none), or name another variable in key_variable"
    key = secret(settings.key_variable, parameter, remedy)
    import openai

    # our own repetitions count against the budget and the rate limit, the client's would not
    client = openai.OpenAI(base_url=settings.base_url, api_key=key, timeout=settings.timeout, max_retries=0)
    options = {"response_format": {"type": "json_object"}} if settings.json_mode else {}

    def ask(*, text: str, count: int, **data: Any) -> tuple[str, ...]:
        message = json.dumps({"text": text[:LONGEST_TEXT], "count": count, **data}, ensure_ascii=False)
        try:
            completion = client.chat.completions.create(
                model=settings.model,
                messages=[{"role": "system", "content": prompt}, {"role": "user", "content": message}],
                temperature=temperature,
                seed=seed,
                **options,
            )
        except openai.RateLimitError as error:
            raise Failed("rate limit", retry_after(error.response.headers)) from None
        except openai.APITimeoutError:
            raise Failed("timeout") from None
        except openai.APIConnectionError:
            raise Failed("no connection") from None
        except openai.InternalServerError:
            raise Failed("server error") from None
        except openai.APIStatusError as error:
            raise InputError(_explain(error.status_code, settings, parameter)) from None
        except (openai.APIError, ValueError):  # a body that is no JSON, or not of the protocol
            raise Failed("malformed") from None
        return read_answer(completion, longest)[:count]

    return ask


def _explain(status: int, settings: Endpoint, parameter: str) -> str:
    """What a status says that no repetition will mend. The server's words are left out: they may hold the key."""
    where = f"{parameter}: {settings.base_url} answered {status}"
    if status in (401, 403):
        return (
            f"{where}: it does not accept the key in the environment variable {settings.key_variable}; export another"
        )
    if status == 404:
        return f"{where}: no such address or no model {settings.model}; check base_url (.../v1) and model"
    return f"{where}: it does not take the request; try json_mode: false, and check model and temperature"


def read_answer(completion: openai.types.chat.ChatCompletion, longest: int) -> tuple[str, ...]:
    """The texts of an answer, without blank ones, repetitions, and those of more than `longest` characters.

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
    texts = [text.strip() for text in answer.texts if text.strip() and len(text) <= longest]
    if not texts:
        raise Failed("refused")
    return tuple(dict.fromkeys(texts))
