"""The demo world's words and meanings, read from ``lexicon.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

LEXICON = Path(__file__).with_name("lexicon.yaml")


@dataclass(frozen=True)
class Forms:
    """Words of the same meaning: ``zh`` is usually translated by one of ``en``."""

    zh: tuple[str, ...]
    en: tuple[str, ...]


@dataclass(frozen=True, order=True)
class Meaning:
    """The meaning of a cluster of texts; ``circumstance`` is empty, or restricts the question."""

    service: str
    object: str
    action: str
    aspect: str
    circumstance: str = ""

    @property
    def id(self) -> str:
        """``service.object.action.aspect``, with ``@circumstance`` at the end when there is one."""
        name = f"{self.service}.{self.object}.{self.action}.{self.aspect}"
        return f"{name}@{self.circumstance}" if self.circumstance else name

    def narrows(self, other: Meaning) -> bool:
        """Whether this is ``other`` with a circumstance added."""
        same = (self.object, self.action, self.aspect) == (other.object, other.action, other.aspect)
        return same and bool(self.circumstance) and not other.circumstance


@dataclass(frozen=True)
class Lexicon:
    """Words by id, sentence patterns by aspect, and the meanings people ask about."""

    services: Mapping[str, str]
    objects: Mapping[str, tuple[Forms, ...]]
    actions: Mapping[str, tuple[Forms, ...]]
    aspects: Mapping[str, tuple[Forms, ...]]
    circumstances: Mapping[str, tuple[Forms, ...]]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    typos: tuple[tuple[str, str], ...]
    answers: Mapping[str, tuple[str, ...]]
    popular: tuple[str, ...]
    meanings: tuple[Meaning, ...]


def _split(text: str) -> tuple[str, ...]:
    return tuple(form.strip() for form in text.split(" / "))


def _forms(lines: list[str]) -> tuple[Forms, ...]:
    sides = [line.split(" = ") for line in lines]
    return tuple(Forms(_split(zh), _split(en)) for zh, en in sides)


@cache
def load(services: int | None = None) -> Lexicon:
    """The lexicon, cut to the first ``services`` services (all of them when None)."""
    import yaml

    raw = yaml.safe_load(LEXICON.read_text(encoding="utf-8"))
    kept = dict(list(raw["services"].items())[:services])
    objects, meanings = {}, []
    for service, entry in kept.items():
        for name, lines in entry["objects"].items():
            objects[name] = _forms(lines["words"])
            for action, asks in lines.items():
                if action != "words":
                    parts = (ask.partition("@") for ask in asks.split())
                    meanings += [Meaning(service, name, action, aspect, where) for aspect, _, where in parts]
    return Lexicon(
        services={service: entry["words"] for service, entry in kept.items()},
        objects=objects,
        actions={key: _forms(lines) for key, lines in raw["actions"].items()},
        aspects={key: _forms(lines) for key, lines in raw["aspects"].items()},
        circumstances={key: _forms(lines) for key, lines in raw["circumstances"].items()},
        openers=_split(raw["openers"]),
        closers=_split(raw["closers"]),
        typos=tuple(tuple(slip.split(" = ")) for slip in raw["typos"]),
        answers={key: tuple(texts) for key, texts in raw["answers"].items()},
        popular=_split(raw["popular"]),
        meanings=tuple(meanings),
    )


def near_misses(meanings: tuple[Meaning, ...]) -> list[tuple[Meaning, Meaning]]:
    """Pairs of meanings of one service that differ in one decisive word: the object, the action or the aspect.

    A meaning and the same one with a circumstance are no near-miss, because one partly answers the other.
    """

    def one_apart(a: Meaning, b: Meaning) -> bool:
        same = (a.object == b.object) + (a.action == b.action) + (a.aspect == b.aspect)
        return a.service == b.service and a.circumstance == b.circumstance and same == 2

    return [(a, b) for a, b in combinations(meanings, 2) if one_apart(a, b)]
