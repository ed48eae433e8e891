"""Columns of a table of the team's, and what kind of values they hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property

from bgetune.data.letters import has_words, share

TIME = re.compile(
    r"\d{4}\s?[-/.年]\s?\d{1,2}\s?[-/.月]\s?\d{1,2}.*|\d{1,2}:\d{2}(:\d{2}.*)?|1\d{9}(\.\d+)?|1\d{12}|1\d{15}|(19|20)\d{12}"
    r"|\d{1,2}/(\d{1,2}|[A-Za-z]{3})/\d{4}.*"
)
URL = re.compile(r"(https?://|www\.)\S+|[\w.-]+\.(com|cn|net|org|io|html?)(/\S*)?|/\S*", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column and some of its values, missing ones left out."""

    name: str
    values: tuple[str, ...]
    share: float = 1.0

    def like(self, pattern: re.Pattern) -> float:
        """Share of the values that are of a form as a whole."""
        return sum(pattern.fullmatch(value) is not None for value in self.values) / max(len(self.values), 1)

    @cached_property
    def kind(self) -> str:
        """list, time, number, url, text (words of a language), id, or empty."""
        if not self.values:
            return "empty"
        if share(map(_is_list, self.values)) > 0.8:
            return "list"
        if self.like(TIME) > 0.8:
            return "time"
        if share(map(_is_number, self.values)) > 0.9:
            return "number"
        if self.like(URL) > 0.7:
            return "url"
        return "text" if share(map(has_words, self.values)) > 0.5 else "id"

    @cached_property
    def length(self) -> float:
        """Mean characters of a value."""
        return sum(map(len, self.values)) / max(len(self.values), 1)

    @cached_property
    def distinct(self) -> set[str]:
        return set(self.values)


def _is_list(value: str) -> bool:
    if not value.startswith("["):
        return False
    try:
        return isinstance(json.loads(value), list)
    except ValueError:
        return False


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[-+]?\d+([.,]\d+)?%?|[-+]?\d*\.\d+([eE][-+]?\d+)?", value) is not None
