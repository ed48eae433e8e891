"""Weak positives from documents alone: two parts of one document that do not overlap.

A title and the body, a heading and its section, a sentence and the text beside it (inverse cloze task, Lee et al. 2019,
arXiv 1906.00300), two spans (cropping, as in Contriever, arXiv 2112.09118). They say less than a click or a person:
what stands together in a document is about one thing, but need not mean the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import pandas as pd

from bgetune.data.draw import draw
from bgetune.data.drops import dropped_rows
from bgetune.data.tables import SOURCES
from bgetune.data.text import Normalizer, text_id
from bgetune.locale import N_
from bgetune.positives.rows import EDGES, TEXTS, make_table

FEWEST = 4
"""Characters of a part; shorter ones say nothing."""

WHOLE = 0.5
"""Weight of the edge to the whole document, as a share of that between two parts: it holds the part word for word, and
a model that learns from it learns to compare words (arXiv 1906.00300 keeps one tenth of such pairs)."""

_MARKUP_HEADING = re.compile(r"<h[1-6][^>]*>(.*?)</h[1-6]>", re.DOTALL | re.IGNORECASE)
_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[。！？!?；;])(?=.)|(?<=[.])\s+|\s*\n\s*", re.DOTALL)


@dataclass(frozen=True)
class Within:
    """Positives within documents.

    Attributes:
        texts: the table `texts` of the parts; the first of a pair is a query.
        edges: a_id < b_id, source (same_document), support, weight.
        dropped: source, reason, rows (number of pairs), example.
    """

    texts: pd.DataFrame
    edges: pd.DataFrame
    dropped: pd.DataFrame


def within(
    documents: pd.DataFrame,
    normalizer: Normalizer,
    seed: int,
    *,
    when: Literal["auto", "always", "never"] = "always",
    needed: bool = True,
) -> Within:
    """Positives within documents.

    A part that stands in several documents (a heading such as "Overview", a phrase of the house) is no evidence.

    Args:
        documents: title ("" for none) and text, as the sources hold them, with line breaks and markup.
        normalizer: of the run.
        seed: of the sentence and of the place where a document is cut.
        when: auto takes documents apart only if `needed`.
        needed: whether nothing else gives positives.
    """
    if when == "never" or (when == "auto" and not needed):
        documents = documents.head(0)
    found: dict[str, set[tuple[str, str]]] = {}
    for title, text in zip(documents["title"], documents["text"], strict=True):
        whole = normalizer(f"{title} {text}".strip())
        ways = {(normalizer(a), normalizer(b)) for a, b in parts(title, text, seed)}
        found.setdefault(whole, set()).update((a, b) for a, b in ways if min(len(a), len(b)) >= FEWEST and a != b)
    homes = Counter(part for ways in found.values() for part in {part for pair in ways for part in pair})
    edges: list[tuple[str, str, float]] = []
    kinds: dict[str, str] = {}
    repeated: list[str] = []
    for whole, ways in sorted(found.items()):
        for a, b in sorted(ways):
            if homes[a] > 1 or homes[b] > 1:
                repeated.append(a if homes[a] > 1 else b)
                continue
            kinds |= {b: kinds.get(b, "document"), a: "query"}
            edges += [(a, b, 1.0), *([(a, whole, WHOLE)] if whole not in (a, b) else [])]
    ids = {text: text_id(text) for pair in edges for text in pair[:2]}
    rows = [(*sorted((ids[a], ids[b])), "same_document", 1, SOURCES["same_document"] * share) for a, b, share in edges]
    reason = N_("a part that stands in several documents")
    return Within(
        make_table([(ids[text], text, kind, 1) for text, kind in kinds.items()], TEXTS),
        make_table(rows, EDGES).drop_duplicates(["a_id", "b_id"], ignore_index=True),
        dropped_rows([("documents", reason, len(repeated), min(repeated))] if repeated else []),
    )


def parts(title: str, text: str, seed: int) -> Iterator[tuple[str, str]]:
    """Pairs of parts of one document, the shorter first: as a user would ask for the other.

    Args:
        title: "" for none.
        text: with its line breaks; headings are those of Markdown (`## ...`) or HTML (`<h2>`).
        seed: of what is drawn.
    """
    text = _MARKUP_HEADING.sub(lambda found: f"\n# {found[1]}\n", text)
    headings = list(_HEADING.finditer(text))
    body = _HEADING.sub("", text)
    if title.strip() and body.strip():
        yield title, body
    for heading, following in zip_longest(headings, headings[1:]):
        section = text[heading.end() : following.start() if following else None]
        if section.strip():
            yield heading[1], section
    sentences = [sentence for sentence in _SENTENCE_END.split(body) if len(sentence.strip()) >= FEWEST]
    if len(sentences) < 2:
        return
    place = int(draw(seed, "sentence", text) * len(sentences))
    before, after = "\n".join(sentences[:place]), "\n".join(sentences[place + 1 :])
    yield sentences[place], max(before, after, key=len)
    cut = 1 + int(draw(seed, "cut", text) * (len(sentences) - 1))
    first, second = "\n".join(sentences[:cut]), "\n".join(sentences[cut:])
    yield min(first, second, key=len), max(first, second, key=len)
