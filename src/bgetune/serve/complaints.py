"""What is wrong with a request, in one sentence: of its body in the words that profiles use, or of its address."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException

from bgetune.config.complaints import COMPLAINTS, describe, shown
from bgetune.errors import joined
from bgetune.locale import _


def of_body(issue: Mapping[str, Any], model: type[BaseModel]) -> str:
    """A complaint of FastAPI (see `RequestValidationError.errors`) about a body that should be a model's."""
    place = tuple(part for part in issue["loc"] if part not in ("body", "a text", "a list"))
    name, names = ".".join(map(str, place)), ", ".join(model.model_fields)
    if issue["type"] == "json_invalid":
        words = _("the body is no JSON (at character {place}); send an object with {names}")
        return words.format(place=place[0] + 1, names=names)
    if isinstance(issue["input"], bytes):  # FastAPI leaves a body as it is that is not said to be JSON
        return _("the body is not said to be JSON; send the header {header}").format(
            header="`Content-Type: application/json`"
        )
    if not place:
        words = _("the body is {value}, no object; send an object with {names}")
        return words.format(value=shown(_cut(issue["input"])), names=names)
    if issue["type"] == "extra_forbidden":
        unknown = _("unknown key {name}").format(name=shown(_cut(name), quoted=False))
        return joined(unknown, _("known here: {names}").format(names=names))
    if issue["type"] == "list_type":  # the other form that it may have is a text
        return _("{name} is {texts!r:.80}; give a text, or a list of texts").format(name=name, texts=issue["input"])
    if issue["type"] == "string_too_long":
        return _("{name} has {length:,} characters; at most {most:,} are read; send less").format(
            name=name, length=len(issue["input"]), most=issue["ctx"]["max_length"]
        )
    if issue["type"] == "string_unicode":
        return _("{name} holds half a character (a lone surrogate); send text in UTF-8").format(name=name)
    if issue["type"] in ("missing", "too_short", "too_long"):  # what was found is the whole body, or a long list
        problem = _(COMPLAINTS[issue["type"]]).format(**issue.get("ctx", {}))
        return _("{place}: {problem}").format(place=name, problem=problem)
    return describe({**issue, "loc": place, "input": _cut(issue["input"])}, model)


def of_address(error: HTTPException, *, method: str, path: str, routes: Iterable[str]) -> str:
    """An error that comes before a route: no such path or method, or a body that no one can read."""
    path = shown(_cut(path), quoted=False)
    if error.status_code == 404:
        return _("there is no {path}; known here: {names}").format(path=path, names=", ".join(routes))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "POST")
        return _("{path} does not take {method}; send {allowed}").format(path=path, method=method, allowed=allowed)
    if error.status_code == 400:
        return _("the body cannot be read; send a JSON object in UTF-8")
    return str(error.detail)


def _cut(value: Any) -> Any:
    """A value, or the beginning of a long one: to look through megabytes for secrets would hold up all requests."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= 80 else text[:81]
