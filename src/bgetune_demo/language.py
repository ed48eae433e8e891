"""Sentences of a meaning: in Chinese, as people type it, and in English."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from bgetune_demo.lexicon import Forms, Lexicon, Meaning


@dataclass(frozen=True)
class Sentence:
    """One Chinese sentence and an English one of the same meaning."""

    zh: str
    en: str


def stream(*names: object) -> random.Random:
    """A random number generator for one purpose, so that changing one part of the world does not change others."""
    return random.Random("/".join(str(name) for name in names))


def _pick(groups: tuple[Forms, ...], rng: random.Random, loose: float = 0.1) -> tuple[str, str]:
    """A Chinese form and an English one; with probability ``loose`` the English comes from any group."""
    group = rng.choice(groups)
    english = rng.choice(groups) if rng.random() < loose else group
    return rng.choice(group.zh), rng.choice(english.en)


def _slip(text: str, lexicon: Lexicon, rng: random.Random) -> str:
    """The text with one typing error, if it contains a word that is often mistyped."""
    slips = [(right, wrong) for right, wrong in lexicon.typos if right in text]
    return text.replace(*rng.choice(slips), 1) if slips else text


def compose(
    lexicon: Lexicon, meaning: Meaning, rng: random.Random, formal: bool = False, slips: float = 0.06
) -> Sentence:
    """A sentence of ``meaning``. Formal ones, as titles of documents, have no small talk, typing errors or slang."""
    cut = slice(0, 2) if formal else slice(None)
    zh, en = _pick(lexicon.aspects[meaning.aspect][cut], rng)
    cut = slice(0, 1) if formal else slice(None)
    action_zh, action_en = _pick(lexicon.actions[meaning.action][cut], rng)
    object_zh, object_en = _pick(lexicon.objects[meaning.object][cut], rng)
    zh = zh.format(o=object_zh, a=action_zh)
    en = en.format(o=object_en, a=action_en)
    if meaning.circumstance:
        where_zh, where_en = _pick(lexicon.circumstances[meaning.circumstance][cut], rng)
        zh, en = where_zh + zh, f"{en} {where_en}"
    if not formal:
        if rng.random() < 0.15:
            zh = rng.choice(lexicon.openers) + zh
        if rng.random() < 0.12:
            zh += rng.choice(lexicon.closers)
        if rng.random() < slips:
            zh = _slip(zh, lexicon, rng)
    return Sentence(zh, en)


def sentences(
    lexicon: Lexicon,
    meaning: Meaning,
    count: int,
    rng: random.Random,
    formal: bool = False,
    slips: float = 0.06,
    without: Collection[str] = (),
) -> list[Sentence]:
    """Up to ``count`` sentences of ``meaning`` with distinct Chinese, none of it in ``without``.

    There are fewer only if the lexicon has no more of them; the search stops after ``20 * count`` attempts.
    """
    found: dict[str, Sentence] = {}
    for _ in range(20 * count):
        sentence = compose(lexicon, meaning, rng, formal, slips)
        if sentence.zh not in without:
            found.setdefault(sentence.zh, sentence)
        if len(found) == count:
            break
    return list(found.values())


def answers(lexicon: Lexicon, meaning: Meaning, number: int) -> list[str]:
    """The company's answers to ``meaning``; ``number`` is used for days, prices or times."""
    words = {
        "o": lexicon.objects[meaning.object][0].zh[0],
        "a": lexicon.actions[meaning.action][0].zh[0],
        "s": lexicon.services[meaning.service],
        "n": number,
    }
    where = lexicon.circumstances[meaning.circumstance][0].zh[0] + "的情况:" if meaning.circumstance else ""
    return [where + answer.format(**words) for answer in lexicon.answers[meaning.aspect]]


def article(title: str, answer: str) -> str:
    """A short article: its title and an answer."""
    return f"{title}。{answer}"


def elsewhere(lexicon: Lexicon) -> list[Meaning]:
    """Meanings that no text of the world has, made from its words, in a stable order.

    The encoder is pre-trained on sentences of these.
    """
    known = {(m.object, m.action, m.aspect) for m in lexicon.meanings}
    homes = {m.object: m.service for m in lexicon.meanings}
    used = sorted({m.action for m in lexicon.meanings})
    return [
        Meaning(service, name, action, aspect)
        for name, service in homes.items()
        for action in used
        for aspect in lexicon.aspects
        if (name, action, aspect) not in known
    ]
