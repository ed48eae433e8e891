"""Words and languages of texts, told by their letters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

LETTERS = re.compile(r"[^\W\d_]")
HAN = re.compile(r"[\u3400-\u9fff]")


def language(texts: Sequence[str]) -> tuple[str, float]:
    """zh, en or other, and the share of letters that are of it (Chinese characters, or a to z)."""
    letters = "".join(LETTERS.findall("".join(texts)[:200_000]))
    han = share(HAN.match(letter) is not None for letter in letters)
    latin = share(letter.isascii() for letter in letters)
    if han >= 0.5:
        return "zh", han
    return ("en", latin) if latin >= 0.9 else ("other", 1 - han - latin)


def has_words(value: str) -> bool:
    """Chinese, or words with blanks between; a single word of a language counts, an id with digits does not."""
    one_word = " " not in value.strip()
    return bool(HAN.search(value) or (LETTERS.search(value) and not (one_word and re.search(r"[\d_]", value))))


def share(tests: Iterable[bool]) -> float:
    """Share of tests that passed; 0 of none."""
    return sum(passed := list(tests)) / max(len(passed), 1)
