"""A parser of the demo world's sentences: the meaning of a new text, such as a paraphrase.

The reverse of `bgetune_demo.language.compose`. Apart from small talk, fillers and typing errors, a text with a meaning
consists of an object's word, an action's word and the rest of a sentence of the lexicon, in any order:
刷脸支付开启失败的原因 as well as 开启刷脸支付失败的原因. With a missing or additional character it has no meaning, so
that metrics based on this are strict.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache

import pandas as pd

from bgetune.data.text import normalize
from bgetune_demo.lexicon import Forms, Lexicon, Meaning, load


def meaning_of(text: str) -> str | None:
    """The id of the one meaning that ``text`` has; None if it has none, or more than one."""
    found = meanings_of(text)
    return next(iter(found)) if len(found) == 1 else None


def keeps_meaning(origin_ids: pd.Series, paraphrases: pd.Series, truth: Mapping[str, str]) -> pd.Series:
    """Whether each paraphrase has the meaning of its original text.

    Args:
        origin_ids: (n,) text_ids of the original texts.
        paraphrases: (n,) texts.
        truth: text_id -> meaning; see `bgetune.metrics.truth`.

    Returns:
        Booleans with the index of ``origin_ids``; missing where the meaning of the original is not known or "".
    """
    meant = origin_ids.map(truth)
    kept = [meaning_of(text) == meaning for text, meaning in zip(paraphrases, meant, strict=True)]
    return pd.Series(kept, index=origin_ids.index, dtype="boolean").mask(meant.isna() | (meant == ""))


def shares(correct: pd.Series, kept: pd.Series) -> pd.DataFrame:
    """The share of paraphrases with the meaning of their original text, before and after the gate.

    Args:
        correct: (n,) booleans, missing where it is not known; see `keeps_meaning`.
        kept: (n,) booleans, what the gate accepted.

    Returns:
        Rows "ungated" and "kept" with ``paraphrases``, ``correct`` and a 95 % Wilson interval, ``low`` to ``high``.
    """
    from scipy.stats import binomtest

    rows = {}
    for name, part in {"ungated": correct, "kept": correct[kept]}.items():
        known = part.dropna().astype(bool)
        if len(known):
            test = binomtest(int(known.sum()), len(known))
            low, high = test.proportion_ci(method="wilson")
            rows[name] = (len(known), test.statistic, low, high)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["paraphrases", "correct", "low", "high"])


@cache
def meanings_of(text: str) -> frozenset[str]:
    """The ids of all possible meanings of ``text``, also of those that the world does not contain."""
    lexicon = load()
    for reading in _without_slips(_compact(text), lexicon):
        found = {meaning.id for core in _without_small_talk(reading, lexicon) for meaning in _readings(core)}
        if found:
            return frozenset(found)
    return frozenset()


def _compact(text: str) -> str:
    """The normalised text without blanks and punctuation marks, which people type at random."""
    return re.sub(r"[\s?!。,.]+", "", normalize(text))


def _without_slips(text: str, lexicon: Lexicon) -> Iterator[str]:
    """The text itself, then with each typing error corrected, then with all of them."""
    yield text
    slips = [(right, wrong) for right, wrong in lexicon.typos if wrong in text]
    for right, wrong in slips:
        yield text.replace(wrong, right)
    mended = text
    for right, wrong in slips:
        mended = mended.replace(wrong, right)
    if len(slips) > 1:
        yield mended


def _without_small_talk(text: str, lexicon: Lexicon) -> set[str]:
    """The text itself, without an opener, without a closer, and without both."""
    starts = {text, *(text.removeprefix(_compact(opener)) for opener in lexicon.openers)}
    ends = [_compact(closer) for closer in lexicon.closers]
    return starts | {start.removesuffix(end) for start in starts for end in ends}


def _readings(text: str) -> Iterator[Meaning]:
    """The meanings of a text without small talk."""
    yield from _plain_readings(text)
    for name, groups in load().circumstances.items():
        for form in _words(groups):
            if text.startswith(form):
                for meaning in _plain_readings(text.removeprefix(form)):
                    yield Meaning(meaning.service, meaning.object, meaning.action, meaning.aspect, name)


def _plain_readings(text: str) -> Iterator[Meaning]:
    lexicon, aspects = load(), _rests()
    services = {meaning.object: meaning.service for meaning in lexicon.meanings}
    for thing, object_name in _vocabulary("objects"):
        for without_object in _marked(text, thing):
            for word, action in _vocabulary("actions"):
                for rest in _marked(without_object, word):
                    for aspect in aspects.get(_rest(rest), ()):
                        yield Meaning(services[object_name], object_name, action, aspect)


def _marked(text: str, word: str) -> Iterator[str]:
    """The text with one occurrence of a word replaced by a mark, for each of them."""
    start = text.find(word)
    while start >= 0:
        yield f"{text[:start]}|{text[start + len(word) :]}"
        start = text.find(word, start + 1)


def _rest(text: str) -> str:
    """What is left without marks, blanks and words that change no meaning."""
    return re.sub(r"[|\s?]+|我|现在|一次|一下|\{[oa]\}", "", text)


@cache
def _vocabulary(kind: str) -> list[tuple[str, str]]:
    """All Chinese words of the objects or actions, and which of them they name."""
    entries: Mapping[str, tuple[Forms, ...]] = getattr(load(), kind)
    return [(word, name) for name, groups in entries.items() for word in _words(groups)]


@cache
def _rests() -> dict[str, tuple[str, ...]]:
    """Sentence without object, action and fillers -> the aspects that it can ask about."""
    found = defaultdict(list)
    for aspect, groups in load().aspects.items():
        for group in groups:
            for pattern in group.zh:
                found[_rest(pattern)].append(aspect)
    return {rest: tuple(dict.fromkeys(aspects)) for rest, aspects in found.items()}


def _words(groups: tuple[Forms, ...]) -> list[str]:
    return [form for group in groups for form in group.zh]
