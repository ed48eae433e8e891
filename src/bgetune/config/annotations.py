"""What the type annotations of the parameters say."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

from pydantic import BaseModel


def models_in(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def marks(annotation: Any) -> list[Any]:
    return [*getattr(annotation, "__metadata__", ()), *(m for a in typing.get_args(annotation) for m in marks(a))]


def choices(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [choice for argument in typing.get_args(annotation) for choice in choices(argument)]


def plain_type(annotation: Any) -> str:
    """The built-in type that stands for an annotation in a notebook."""
    origin = typing.get_origin(annotation) or annotation
    if origin is Literal:
        return type(typing.get_args(annotation)[0]).__name__
    if origin is typing.Annotated:
        return plain_type(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return plain_type(next(a for a in typing.get_args(annotation) if a is not type(None)))
    if origin in (list, tuple):
        return "list"
    if origin is dict or issubclass(origin, BaseModel):
        return "dict"
    return origin.__name__
