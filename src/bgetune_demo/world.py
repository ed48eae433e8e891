"""The tables of the demo world, whose truth is known: documents, QA pairs, synonyms, labelled and graded pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bgetune_demo.language import answers, article, sentences, stream
from bgetune_demo.lexicon import Lexicon, Meaning, load, near_misses

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class World:
    """The sizes of a world. Equal sizes and seeds make equal bytes."""

    name: str
    seed: int
    services: int | None  #: how many services of the lexicon, in its order; None is all
    queries: int  #: distinct query sentences of one meaning
    log_rows: int  #: at least this many rows of the click log
    users: int
    labelled: int  #: pairs labelled 0 or 1
    graded: int  #: queries that get a document of every grade
    parallel: int  #: parallel sentences of one meaning
    encoder_steps: int
    reranker_steps: int
    translator_steps: int
    days: int = 28  #: what the log covers


STANDARD = World(
    "standard",
    seed=17,
    services=None,
    queries=14,
    log_rows=22_000,
    users=1_500,
    labelled=400,
    graded=120,
    parallel=40,
    encoder_steps=150,
    reranker_steps=300,
    translator_steps=800,
)
SMALL = World(
    "small",
    seed=5,
    services=3,
    queries=10,
    log_rows=3_500,
    users=250,
    labelled=120,
    graded=40,
    parallel=40,
    encoder_steps=70,
    reranker_steps=190,
    translator_steps=300,
)


@dataclass
class Tables:
    """The world while it is made; ``meaning`` holds every text of its tables so far."""

    lexicon: Lexicon
    world: World
    meaning: dict[str, tuple[str, str]] = field(default_factory=dict)  #: text -> (meaning, service)
    queries: dict[Meaning, list[str]] = field(default_factory=dict)
    titles: dict[Meaning, list[str]] = field(default_factory=dict)  #: of clickable documents, FAQ questions last
    answers: dict[Meaning, list[str]] = field(default_factory=dict)

    def note(self, text: str, meaning: str, service: str) -> str:
        """Record the meaning of ``text``, and return the text. A second meaning is an error of the lexicon."""
        known = self.meaning.setdefault(text, (meaning, service))
        if known != (meaning, service):
            raise AssertionError(f"{text!r} means {known} and {(meaning, service)}: make the lexicon's words distinct.")
        return text


def make(world: World) -> Tables:
    """Sentences, titles and answers of every meaning. No text is given to two meanings."""
    lexicon = load(world.services)
    tables = Tables(lexicon, world)
    drafts = {}
    for meaning in lexicon.meanings:
        rng = stream(world.seed, "documents", meaning.id)
        titles = [s.zh for s in sentences(lexicon, meaning, 3, rng, formal=True)]
        queries = [s.zh for s in sentences(lexicon, meaning, world.queries, rng, without=titles)]
        drafts[meaning] = titles, queries
    owners = Counter(text for parts in drafts.values() for part in parts for text in set(part))
    for meaning, (titles, queries) in drafts.items():
        # two meanings may share a text, as when a typing error turns one word into another: such texts are left out
        tables.titles[meaning] = [tables.note(t, meaning.id, meaning.service) for t in titles if owners[t] == 1]
        tables.queries[meaning] = [tables.note(q, meaning.id, meaning.service) for q in queries if owners[q] == 1]
        number = stream(world.seed, "number", meaning.id).randint(2, 9)
        replies = answers(lexicon, meaning, number)
        tables.answers[meaning] = [tables.note(a, meaning.id, meaning.service) for a in replies]
    return tables


def corpus(tables: Tables) -> pd.DataFrame:
    """``doc_id, text``: page titles and FAQ questions, a short article for each meaning, the popular pages."""
    import pandas as pd

    texts = list(tables.lexicon.popular)
    for meaning, titles in tables.titles.items():
        text = article(titles[0], tables.answers[meaning][1])
        texts += [*titles, tables.note(text, meaning.id, meaning.service)]
    for text in tables.lexicon.popular:
        tables.note(text, "", "")
    return pd.DataFrame({"doc_id": [f"d{i:05d}" for i in range(len(texts))], "text": texts})


def qa(tables: Tables) -> pd.DataFrame:
    """``question, answer``: one of each for every meaning, a second wording of the question for every third."""
    import pandas as pd

    rows = []
    for number, (meaning, titles) in enumerate(tables.titles.items()):
        rows.append((titles[-1], tables.answers[meaning][0]))
        if number % 3 == 0:
            rows.append((tables.queries[meaning][0], tables.answers[meaning][0]))
    return pd.DataFrame(rows, columns=["question", "answer"])


def synonyms(tables: Tables) -> pd.DataFrame:
    """``words``: sets of words that say the same, then sets of whole queries that do, separated by ``|``."""
    import pandas as pd

    lexicon, rows = tables.lexicon, []
    homes = {meaning.object: meaning.service for meaning in lexicon.meanings}
    used = {meaning.action for meaning in lexicon.meanings}
    sets = [(name, homes[name], groups) for name, groups in lexicon.objects.items()]
    sets += [(name, "", groups) for name, groups in lexicon.actions.items() if name in used]
    for name, service, groups in sets:
        rows.append("|".join(tables.note(word, f"word.{name}", service) for group in groups for word in group.zh))
    rng = stream(tables.world.seed, "synonyms")
    for meaning in rng.sample(lexicon.meanings, len(lexicon.meanings) // 5):
        rows.append("|".join(rng.sample(tables.queries[meaning], 3)))
    return pd.DataFrame({"words": rows})


def pairs(tables: Tables) -> pd.DataFrame:
    """``text_a, text_b, label``: half say the same, most others are near-misses, the rest merely other questions."""
    import pandas as pd

    rng = stream(tables.world.seed, "pairs")
    meanings, close = tables.lexicon.meanings, near_misses(tables.lexicon.meanings)
    rows: dict[tuple[str, str], int] = {}
    while len(rows) < tables.world.labelled:
        draw = rng.random()
        if draw < 0.5:
            a, b = rng.sample(tables.queries[rng.choice(meanings)], 2)
            label = 1
        else:
            first, second = rng.choice(close) if draw < 0.85 else rng.sample(meanings, 2)
            a, b, label = rng.choice(tables.queries[first]), rng.choice(tables.queries[second]), 0
        if (b, a) not in rows:
            rows[a, b] = label
    return pd.DataFrame([(a, b, label) for (a, b), label in rows.items()], columns=["text_a", "text_b", "label"])


def graded(tables: Tables) -> pd.DataFrame:
    """``query, document, grade``: 4 the same meaning, 3 the same but for a circumstance, 2 a near-miss, 1 the same
    service, 0 unrelated."""
    import pandas as pd

    rng = stream(tables.world.seed, "graded")
    meanings = tables.lexicon.meanings
    close: dict[Meaning, list[Meaning]] = {meaning: [] for meaning in meanings}
    for a, b in near_misses(meanings):
        close[a].append(b)
        close[b].append(a)
    wider = {m: [o for o in meanings if m.narrows(o) or o.narrows(m)] for m in meanings}
    narrow = [meaning for meaning in meanings if wider[meaning]]
    rows = []
    for turn in range(tables.world.graded):
        # Few meanings have a wider or narrower sister: every other query is about one that does.
        meaning = rng.choice(narrow if turn % 2 else [m for m in meanings if close[m]])
        beside = set(close[meaning]) | set(wider[meaning]) | {meaning}
        groups = {
            4: [meaning],
            3: wider[meaning],
            2: close[meaning],
            1: [m for m in meanings if m.service == meaning.service and m not in beside],
            0: [m for m in meanings if m.service != meaning.service],
        }
        query = rng.choice(tables.queries[meaning])
        for grade, group in groups.items():
            if group:
                rows.append((query, rng.choice(tables.titles[rng.choice(group)]), grade))
    return pd.DataFrame(rows, columns=["query", "document", "grade"]).drop_duplicates(["query", "document"])


def misses(tables: Tables) -> pd.DataFrame:
    """``meaning_a, meaning_b``: the meanings one decisive word apart, each pair once."""
    import pandas as pd

    rows = [(a.id, b.id) for a, b in near_misses(tables.lexicon.meanings)]
    return pd.DataFrame(rows, columns=["meaning_a", "meaning_b"])


def parallel(tables: Tables) -> pd.DataFrame:
    """``zh, en``: parallel sentences of every meaning, and the words alone; one Chinese text has one translation."""
    import pandas as pd

    lexicon, rows = tables.lexicon, []
    for groups in [*lexicon.objects.values(), *lexicon.actions.values()]:
        rows += [(zh, group.en[number % len(group.en)]) for group in groups for number, zh in enumerate(group.zh)]
    for meaning in lexicon.meanings:
        rng = stream(tables.world.seed, "parallel", meaning.id)
        rows += [(s.zh, s.en) for s in sentences(lexicon, meaning, tables.world.parallel, rng, slips=0.03)]
    return pd.DataFrame(rows, columns=["zh", "en"]).drop_duplicates("zh", ignore_index=True)


def truth(tables: Tables) -> pd.DataFrame:
    """``text, meaning, service`` of every text handed out so far; junk and popular pages mean nothing (empty)."""
    import pandas as pd

    rows = [(text, meaning, service) for text, (meaning, service) in tables.meaning.items()]
    return pd.DataFrame(rows, columns=["text", "meaning", "service"])
