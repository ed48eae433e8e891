"""Sources other than click logs: QA, synonym lists, labelled pairs, graded relevance and further texts.

Every text is normalised and masked here, once. Contradicting labels are settled by majority. Pairs that people called
different are kept twice: as labelled pairs to train and evaluate on, and as evidence against joining two texts in the
graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bgetune.config.sources import Source, Sources
from bgetune.data import qrels, sources, text
from bgetune.data.drops import dropped_rows
from bgetune.data.text import STANDARD, Normalizer
from bgetune.positives import labelled, synonyms
from bgetune.positives.labelled import LABELLED
from bgetune.positives.rows import count_texts, dropped_row, in_sample, make_table, merge_texts, normalise

_READERS: dict[str, Callable[[Any], tuple[pd.DataFrame, ...]]] = {
    **{"qa": sources.read_pairs, "pairs": sources.read_pairs, "graded": sources.read_pairs},
    **{"groups": sources.read_groups, "triplets": sources.read_triplets, "qrels": qrels.read_qrels},
}
"""Kind of source -> the function that reads its pairs: (pairs, further texts..., dropped rows)."""


@dataclass(frozen=True)
class Collected:
    """The rows that all sources except the click logs give.

    Attributes:
        texts: text_id, text, kind, count: one row for each text; a text that is a query in one source is a query.
        edges: a_id < b_id, source (qa, synonym, given), support (number of rows), weight in (0, 1].
        graded: a_id, b_id, grade in [0, 1], origin (pairs or graded), use (all, train, heldout): one row for each pair.
        different: a_id < b_id of the pairs that people called different (grade 0), without held-out ones.
        synonyms: lists of normalised words, for `synonyms.lexicon_edges`.
        heldout: text_ids that must not be used for training.
        train_only: text_ids that must not be used for evaluation.
        dropped: source, reason, rows, example.
        documents: title ("" for none) and text of the documents, as the sources hold them: what
            `bgetune.positives.documents` takes apart.
        rows: name of a source -> number of its rows, used or not.
        masked: kind of personal data -> how often it was masked.
    """

    texts: pd.DataFrame
    edges: pd.DataFrame
    graded: pd.DataFrame
    different: pd.DataFrame
    synonyms: list[tuple[str, ...]]
    heldout: frozenset[str]
    train_only: frozenset[str]
    dropped: pd.DataFrame
    documents: pd.DataFrame
    rows: dict[str, int] = field(default_factory=dict)
    masked: Counter[str] = field(default_factory=Counter)


def collect(
    given: Sources,
    *,
    normalizer: Normalizer = STANDARD,
    positive_grade: float = 0.75,
    hub_cap: int | None = None,
    sample_fraction: float = 1.0,
) -> Collected:
    """Read QA, synonyms, pairs, graded pairs and corpora, normalised and masked.

    Args:
        given: the sources.
        normalizer: normalises and masks texts.
        positive_grade: grade (0 to 1) from which on a graded pair is positive.
        hub_cap: maximum number of distinct questions of an answer; pairs of other answers are dropped. None: no cap.
        sample_fraction: share of the first texts of pairs, of the lists and of the texts to use, always the same ones.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    masked: Counter[str] = Counter()
    texts: list[pd.DataFrame] = []
    drops: list[pd.DataFrame] = []
    rows: list[pd.DataFrame] = []
    corpora: list[tuple[Source, pd.DataFrame, str]] = []
    for kind, read in _READERS.items():
        for source in getattr(given, kind):
            table, *documents, dropped = read(source)
            corpora += [(source, further.assign(title=""), "document") for further in documents]
            a = normalise(table["a"], normalizer, masked)
            b = normalise(table["b"], normalizer, masked)
            pairs, dropped_here = labelled.usable_pairs(a, b, table["label"], source, kind, positive_grade)
            cap = None if kind in ("pairs", "graded") else hub_cap
            pairs, too_many = labelled.without_hubs(pairs, b, source, cap)
            pairs = pairs[in_sample(pairs["a_id"], sample_fraction)]
            rows.append(pairs)
            drops += [dropped, dropped_here, too_many]
            for side, side_kind in ((a, "query"), (b, "query" if kind == "pairs" else "document")):
                texts.append(count_texts(side.loc[pairs.index], side_kind))
    lists, list_texts, list_drops = synonyms.read_lists(given, normalizer, masked, sample_fraction)
    texts.append(list_texts)
    drops += list_drops
    for source in given.corpus:
        table, dropped = sources.read_corpus(source)
        corpora.append((source, table, source.kind))
        drops.append(dropped)
    taken_apart = [pd.DataFrame({"title": [], "text": []}, dtype=str)]
    for source, table, kind in corpora:
        normalised = normalise((table["title"] + " " + table["text"]).str.strip(), normalizer, masked)
        empty = normalised["text"] == ""
        drops.append(dropped_row(source, "no text", table["text"][empty]))
        used = ~empty & in_sample(normalised["text_id"], sample_fraction)
        texts.append(count_texts(normalised[used], kind))
        taken_apart += [table.loc[used, ["title", "text"]]] if kind == "document" else []

    every = pd.concat([make_table([], LABELLED), *rows], ignore_index=True)
    graded, edges, different, conflicts = labelled.resolve_conflicts(every, positive_grade)
    ids = ([text.text_id(word) for word in words] for words in lists)
    return Collected(
        texts=merge_texts(texts),
        edges=pd.concat([edges, synonyms.connect(ids, 1.0)], ignore_index=True),
        graded=graded,
        different=different,
        synonyms=lists,
        heldout=_ids(every, "heldout"),
        train_only=_ids(every, "train"),
        dropped=pd.concat([dropped_rows([]), *drops, conflicts], ignore_index=True),
        documents=pd.concat(taken_apart, ignore_index=True),
        rows={name: rows for table in drops for name, rows in table.attrs.get("rows", {}).items()},
        masked=masked,
    )


def _ids(pairs: pd.DataFrame, use: str) -> frozenset[str]:
    """The text_ids of the pairs of this use."""
    some = pairs[pairs["use"] == use]
    return frozenset(some["a_id"]) | frozenset(some["b_id"])
