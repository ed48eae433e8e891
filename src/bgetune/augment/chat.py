"""Requests to a language model at an OpenAI-compatible endpoint: send JSON, receive a list of texts, or a verdict.

Texts are sent as JSON in the user message, never as part of the instructions, and answers are validated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bgetune.augment.remote import Failed, retry_after, secret
from bgetune.config.augmentation import Endpoint
from bgetune.errors import InputError
from bgetune.locale import _

if TYPE_CHECKING:
    import openai
    from openai.types.shared_params import ResponseFormatJSONObject

LONGEST_TEXT = 4000
"""Maximum number of characters of a text that are sent."""


class Answer(BaseModel):
    """The form of an answer."""

    model_config = ConfigDict(strict=True)

    texts: list[str]


class Verdict(BaseModel):
    """The form of a judge's answer."""

    verdict: Literal["same", "different", "unsure"]


def connect(
    settings: Endpoint, prompt: str, *, temperature: float, seed: int, longest: int, parameter: str
) -> Callable[..., tuple[str, ...]]:
    """Make a function that sends its keywords (text, count, ...) as JSON and returns the texts of the answer.

    Args:
        longest: maximum number of characters of a text of the answer; longer texts are left out.
        others: see `connect_with`.

    Raises:
        InputError: see `connect_with`.
    """
    ask = connect_with(
        settings,
        prompt,
        temperature=temperature,
        seed=seed,
        parameter=parameter,
        read=lambda completion: read_answer(completion, longest),
    )

    def send(*, text: str, count: int, **data: Any) -> tuple[str, ...]:
        return ask({"text": text[:LONGEST_TEXT], "count": count, **data})[:count]

    return send


def connect_with(
    settings: Endpoint,
    prompt: str,
    *,
    temperature: float,
    seed: int,
    parameter: str,
    read: Callable[[openai.types.chat.ChatCompletion], tuple[str, ...]],
) -> Callable[[dict[str, Any]], tuple[str, ...]]:
    """Make a function that sends a JSON object and returns what `read` finds in the answer.

    Args:
        settings: the endpoint.
        prompt: the instructions, sent as the system message.
        temperature: of sampling.
        seed: sent with each request. Few endpoints guarantee equal answers for it; a repeated run reads them from the
            cache.
        parameter: name of the parameter that configures the endpoint, for error messages.
        read: raises `Failed` for an answer that is of no use.

    Raises:
        InputError: naming the parameter, if the endpoint is not configured or the key is missing. The function raises
            it if the endpoint rejects the key, the model or the request, which would fail for every text, and `Failed`
            for errors that a retry may solve.
    """
    for name in ("base_url", "model"):
        if not getattr(settings, name):
            raise InputError(
                _("{parameter}: {name} is not set; give base_url (https://.../v1) and model").format(
                    parameter=parameter, name=name
                )
            )
    remedy = _("put the key there (any word for a server that wants none), or name another variable in key_variable")
    key = secret(settings.key_variable, parameter, remedy)
    import openai

    # our own retries count against the budget and the rate limit, the client's would not
    client = openai.OpenAI(base_url=settings.base_url, api_key=key, timeout=settings.timeout, max_retries=0)
    response_format: ResponseFormatJSONObject | openai.Omit = (
        {"type": "json_object"} if settings.json_mode else openai.omit
    )

    def send(data: dict[str, Any]) -> tuple[str, ...]:
        message = json.dumps(data, ensure_ascii=False)
        try:
            completion = client.chat.completions.create(
                model=str(settings.model),
                messages=[{"role": "system", "content": prompt}, {"role": "user", "content": message}],
                temperature=temperature,
                seed=seed,
                response_format=response_format,
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
        except (openai.APIError, ValueError):  # a body that is not JSON, or not of the protocol
            raise Failed("malformed") from None
        return read(completion)

    return send


def _explain(status: int, settings: Endpoint, parameter: str) -> str:
    """The message for an HTTP status that a retry does not solve, without the server's text, which may hold the key."""
    if status in (401, 403):
        words = _(
            "{parameter}: {address} answered {status}: it does not accept the key in the environment variable "
            "{variable}; export another"
        )
    elif status == 404:
        words = _(
            "{parameter}: {address} answered {status}: no such address or no model {model}; check base_url (.../v1) "
            "and model"
        )
    else:
        words = _(
            "{parameter}: {address} answered {status}: it does not take the request; try json_mode: false, and check "
            "model and temperature"
        )
    return words.format(
        parameter=parameter,
        address=settings.base_url,
        status=status,
        variable=settings.key_variable,
        model=settings.model,
    )


def read_answer(completion: openai.types.chat.ChatCompletion, longest: int) -> tuple[str, ...]:
    """The distinct texts of an answer, without blank ones and those of more than `longest` characters.

    Raises:
        Failed: "refused", "cut off", "empty" or "malformed".
    """
    try:
        answer = Answer.model_validate_json(_content(completion))
    except ValidationError:
        raise Failed("malformed") from None
    texts = [text.strip() for text in answer.texts if text.strip() and len(text) <= longest]
    if not texts:
        raise Failed("refused")
    return tuple(dict.fromkeys(texts))


def read_verdict(completion: openai.types.chat.ChatCompletion) -> tuple[str]:
    """The verdict of an answer: same, different or unsure.

    Raises:
        Failed: "refused", "cut off", "empty" or "malformed".
    """
    try:
        return (Verdict.model_validate_json(_content(completion)).verdict,)
    except ValidationError:
        raise Failed("malformed") from None


def _content(completion: openai.types.chat.ChatCompletion) -> str:
    """The JSON of an answer, without the fence of Markdown around it."""
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
    return fenced[1] if fenced else content
