"""Synonym lists: edges between synonyms, and between texts that differ in synonyms only."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from bgetune.config.sources import Sources
from bgetune.data import sources, text
from bgetune.data.drops import dropped_rows
from bgetune.data.tables import SOURCES
from bgetune.data.text import Normalizer
from bgetune.positives.rows import EDGES, count_texts, dropped_row, id_in_sample, make_table, normalise

Key = TypeVar("Key", bound=Hashable)

LEXICON_CONFIDENCE = 0.75
"""Confidence in a pair that a replaced synonym makes, relative to a pair of the list itself."""
MAX_COMPLETE = 12
"""Maximum size of a group with an edge between every two texts; a larger group is joined by a chain."""


def read_lists(
    given: Sources, normalizer: Normalizer, masked: Counter[str], sample_fraction: float
) -> tuple[list[tuple[str, ...]], pd.DataFrame, list[pd.DataFrame]]:
    """Read all synonym lists, merge those that overlap, and leave out ambiguous words.

    Args:
        masked: see `rows.normalise`.
        sample_fraction: share of the lists to use, always the same ones.

    Returns:
        The lists of normalised words, their texts (table `texts`), and tables `dropped`.
    """
    lists: list[list[str]] = []
    origin: dict[str, str] = {}
    drops = []
    for source in given.synonyms:
        table, dropped = sources.read_synonyms(source)
        words = normalise(table["words"].explode(), normalizer, masked)
        reasons = words["text"].map(text.junk_reason)
        drops.append(dropped)
        drops += [
            dropped_row(source, f"synonym that says nothing: {reason}", words["text"][reasons == reason])
            for reason in sorted(reasons.dropna().unique())
        ]
        usable = words["text"][reasons.isna()]
        for group in _grouped(zip(usable.index, usable, strict=True)).values():
            if len(unique := list(dict.fromkeys(group))) > 1:
                lists.append(unique)
                origin.update(dict.fromkeys(unique, sources.label(source)))
    merged, ambiguous = _merge_lists(lists)
    drops.append(
        dropped_rows(
            (name, "synonym in several lists: which meaning?", len(words), words[0])
            for name, words in _grouped((origin[word], word) for word in ambiguous).items()
        )
    )
    ids = {word: text.text_id(word) for words in merged for word in words}
    merged = [words for words in merged if id_in_sample(ids[words[0]], sample_fraction)]
    flat = [word for words in merged for word in words]
    frame = pd.DataFrame({"text_id": [ids[word] for word in flat], "text": flat}, dtype=str)
    return merged, count_texts(frame, "query"), drops


def _merge_lists(lists: list[list[str]]) -> tuple[list[tuple[str, ...]], dict[str, int]]:
    """Merge lists that share two words or more. A word that two lists share alone is ambiguous.

    Returns:
        The lists without ambiguous words, and ambiguous word -> number of lists that hold it.
    """
    united = DisjointSet(range(len(lists)))
    holders: dict[str, list[int]] = {}
    for number, words in enumerate(lists):
        for word in words:
            holders.setdefault(word, []).append(number)
    shared = Counter(pair for numbers in holders.values() for pair in itertools.combinations(numbers, 2))
    for (first, second), common in shared.items():
        if common > 1:
            united.merge(first, second)
    merged: dict[int, dict[str, None]] = {}
    for number, words in enumerate(lists):
        merged.setdefault(united[number], {}).update(dict.fromkeys(words))
    holding = Counter(word for group in merged.values() for word in group)
    ambiguous = {word: count for word, count in holding.items() if count > 1}
    kept = [tuple(word for word in group if word not in ambiguous) for group in merged.values()]
    return [words for words in kept if len(words) > 1], ambiguous


def _grouped(items: Iterable[tuple[Key, str]]) -> dict[Key, list[str]]:
    """Key -> its values, in order."""
    groups: dict[Key, list[str]] = {}
    for key, value in items:
        groups.setdefault(key, []).append(value)
    return groups


def lexicon_edges(texts: pd.DataFrame, synonyms: Iterable[Sequence[str]]) -> pd.DataFrame:
    """Edges between texts that become equal when synonyms in them are replaced.

    Only existing texts are joined, so a replacement that nobody would write has no effect. A synonym that begins or
    ends with a Latin letter or digit must be a whole word in the text.

    Args:
        texts: text_id, text.
        synonyms: lists of normalised words (`Collected.synonyms`).

    Returns:
        Edges (a_id < b_id) of source synonym.
    """
    first_of = {word: words[0] for words in synonyms for word in words}
    lengths: dict[str, list[int]] = {}
    for length, letter in sorted({(len(word), word[0]) for word in first_of}, reverse=True):
        lengths.setdefault(letter, []).append(length)
    # the words themselves have their edges already
    queries = texts[~texts["text"].isin(first_of.keys())].sort_values("text_id")
    groups: dict[str, list[str]] = {}
    for text_id, value in zip(queries["text_id"], queries["text"], strict=True):
        groups.setdefault(_canonical(value, first_of, lengths), []).append(text_id)
    return connect((ids for ids in groups.values() if len(ids) > 1), LEXICON_CONFIDENCE)


def _canonical(value: str, first_of: dict[str, str], lengths: dict[str, list[int]]) -> str:
    """The text with every synonym replaced by the first word of its list, from the left, the longest match first.

    Args:
        first_of: word -> first word of its list.
        lengths: first character -> lengths of the words that begin with it, descending.
    """
    parts, position = [], 0
    while position < len(value):
        part = mark = value[position]
        for length in lengths.get(part, ()):
            word = value[position : position + length]
            if word in first_of and _stands_alone(value, position, position + length):
                # between marks, so that an inserted word (app) does not make a new one with what follows (apple)
                part, mark = word, f"\0{first_of[word]}\0"
                break
        parts.append(mark)
        position += len(part)
    return "".join(parts)


def _stands_alone(value: str, start: int, end: int) -> bool:
    """Whether value[start:end] cuts no Latin word or number in two."""
    before = start > 0 and _is_latin(value[start - 1]) and _is_latin(value[start])
    after = end < len(value) and _is_latin(value[end]) and _is_latin(value[end - 1])
    return not (before or after)


def _is_latin(character: str) -> bool:
    """Whether it is an ASCII letter or digit."""
    return character.isascii() and character.isalnum()


def connect(groups: Iterable[Iterable[str]], confidence: float) -> pd.DataFrame:
    """Edges of source synonym within each group of text_ids.

    A group of more than `MAX_COMPLETE` texts gets a chain of edges instead of one for every two texts.

    Args:
        confidence: factor of the weight, in (0, 1].
    """
    support: Counter[tuple[str, str]] = Counter()
    for group in groups:
        ids = list(dict.fromkeys(group))
        pairs = itertools.combinations(ids, 2) if len(ids) <= MAX_COMPLETE else itertools.pairwise(ids)
        support.update((min(pair), max(pair)) for pair in pairs)
    rows = [(*pair, "synonym", rows, SOURCES["synonym"] * confidence) for pair, rows in sorted(support.items())]
    return make_table(rows, EDGES)
