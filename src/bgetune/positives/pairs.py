"""What people wrote down: QA, synonym lists, labelled pairs, graded relevance and further texts, as rows of the graph.

Every text is normalised and masked here, once. Labels that contradict one another are settled by majority. Pairs that
people called different are kept twice: as labelled pairs to train and judge on, and as evidence against joining two
texts in the graph.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from bgetune.config.sources import GradedSource, PairSource, Source, Sources
from bgetune.data import qrels, sources, text
from bgetune.data.draw import draw
from bgetune.data.tables import SOURCES
from bgetune.data.text import STANDARD, Normalizer
from bgetune.errors import InputError

LEXICON_CONFIDENCE = 0.75
"""How far a pair that only a replaced synonym makes is trusted, relative to a pair of the list itself."""
MAX_COMPLETE = 12
"""A group of more texts is joined by a chain instead of an edge for every two of them."""

_READERS = {
    **{"qa": sources.read_pairs, "pairs": sources.read_pairs, "graded": sources.read_pairs},
    **{"groups": sources.read_groups, "triplets": sources.read_triplets, "qrels": qrels.read_qrels},
}
"""Kind of source -> what reads its pairs."""

_EDGES = {"a_id": str, "b_id": str, "source": str, "support": "int64", "weight": "float64"}
_GRADED = {"a_id": str, "b_id": str, "grade": "float64", "origin": str, "use": str}
_LABELLED = {
    **{"a_id": str, "b_id": str, "grade": "float64", "origin": str, "use": str},
    **{"edge": str, "judged": bool, "name": str, "shown": str},
}
_TEXTS = {"text_id": str, "text": str, "kind": str, "count": "int64"}


@dataclass(frozen=True)
class Collected:
    """Everything the sources but the click logs say.

    Attributes:
        texts: text_id, text, kind, count: one row a text; a text that is a query somewhere is a query.
        edges: a_id < b_id, source (qa, synonym, given), support (rows that say so), weight: as `tables` has it.
        graded: a_id, b_id, grade in [0, 1], origin (pairs or graded), use (all, train, heldout): one row a pair.
        different: a_id < b_id of the pairs that people called different (grade 0), held-out ones left out.
        synonyms: the lists of normalised words, for `lexicon_edges`.
        heldout: text_ids that must not be trained on.
        train_only: text_ids that must not be judged on.
        dropped: source, reason, rows, example.
        rows: how many rows each source has, used or not.
        masked: how often each kind of personal data was masked.
    """

    texts: pd.DataFrame
    edges: pd.DataFrame
    graded: pd.DataFrame
    different: pd.DataFrame
    synonyms: list[tuple[str, ...]]
    heldout: frozenset[str]
    train_only: frozenset[str]
    dropped: pd.DataFrame
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
    """Read QA, synonyms, pairs, graded pairs and corpora, and bring them into the pipeline's form.

    Args:
        normalizer: the form that texts are brought into.
        positive_grade: from this grade on a graded pair means the same.
        hub_cap: an answer to more distinct questions than this says nothing about any of them. None: no cap.
        sample_fraction: share of the first texts that is looked at, always the same ones.

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
            corpora += [(source, further, "document") for further in documents]
            a = _clean(table.a, normalizer, masked)
            b = _clean(table.b, normalizer, masked)
            pairs, dropped_here = _labelled(a, b, table.label, source, kind, positive_grade)
            pairs, too_many = _without_hubs(pairs, b, source, hub_cap if kind not in ("pairs", "graded") else None)
            pairs = pairs[_sampled(pairs.a_id, sample_fraction)]
            rows.append(pairs)
            drops += [dropped, dropped_here, too_many]
            for side, side_kind in ((a, "query"), (b, "query" if kind == "pairs" else "document")):
                texts.append(_texts(side.loc[pairs.index], side_kind))
    lists, list_texts, list_drops = _synonyms(given, normalizer, masked, sample_fraction)
    texts.append(list_texts)
    drops += list_drops
    for source in given.corpus:
        table, dropped = sources.read_corpus(source)
        corpora.append((source, table, source.kind))
        drops.append(dropped)
    for source, table, kind in corpora:
        clean = _clean(table.text, normalizer, masked)
        empty = clean.text == ""
        drops.append(_drop(source, "no text", table.text[empty]))
        texts.append(_texts(clean[~empty & _sampled(clean.text_id, sample_fraction)], kind))

    labelled = pd.concat([_frame([], _LABELLED), *rows], ignore_index=True)
    graded, edges, different, conflicts = _settle(labelled, positive_grade)
    ids = ([text.text_id(word) for word in words] for words in lists)
    return Collected(
        texts=_merge_texts(texts),
        edges=pd.concat([edges, _connect(ids, "synonym", 1.0)], ignore_index=True),
        graded=graded,
        different=different,
        synonyms=lists,
        heldout=_ids(labelled, "heldout"),
        train_only=_ids(labelled, "train"),
        dropped=pd.concat([sources.dropped_rows([]), *drops, conflicts], ignore_index=True),
        rows={name: rows for table in drops for name, rows in table.attrs.get("rows", {}).items()},
        masked=masked,
    )


def assign_graded_splits(
    graded: pd.DataFrame, clusters: pd.DataFrame, *, positive_grade: float = 0.75, dev_fraction: float = 0.5
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labelled pairs to train, dev and test, after the clusters of their texts.

    A pair of a `heldout` source is dev or test, like its first text's cluster if that is one of them, else by a hash
    of its first text, which no further data changes; with a text that is trained on it is dropped. A pair of a `train`
    source is train, and dropped with a text that is held out. Any other pair is as held out as the more held-out one
    of its texts (test before dev before train): training sees neither that text nor the pair.

    Args:
        graded: a_id, b_id, grade, origin, use (see `Collected`).
            A pair may have become another row's when near-duplicate texts were merged: it is kept once, and not at all
            if the grades disagree by half the range.
        clusters: text_id, cluster_id, split; texts that are not in it count as not trained on.
        positive_grade: from this grade on a pair means the same (`label` 1).
        dev_fraction: share of dev where the hash decides.

    Returns:
        The table `graded` of `tables` (a_id, b_id, grade, label, origin, split), and the pairs dropped, with `reason`.
    """
    home = clusters.set_index("text_id").split
    a, b = graded.a_id.map(home), graded.b_id.map(home)
    heldout, train = graded.use == "heldout", graded.use == "train"
    drawn = pd.Series(
        np.where([draw("split", key) < dev_fraction for key in graded.a_id], "dev", "test"), graded.index, dtype=str
    )
    by_text = pd.Series(
        np.select([(a == "test") | (b == "test"), (a == "dev") | (b == "dev")], ["test", "dev"], "train"), graded.index
    )
    split = by_text.mask(heldout, a.where(a.isin(["dev", "test"]), drawn))
    reason = pd.Series("", graded.index, dtype=str)
    key = [frozenset(pair) for pair in zip(graded.a_id, graded.b_id, strict=True)]
    grades = graded.grade.groupby(key)
    reason[graded.assign(key=key).duplicated("key")] = "the same pair once more"
    reason[grades.transform("max") - grades.transform("min") >= 0.5] = "the same pair with another grade"
    reason[heldout & ((a == "train") | (b == "train"))] = "a held-out pair with a text that is trained on"
    reason[train & (split != "train")] = "a pair for training with a text that is held out"
    label = (graded.grade >= positive_grade).astype("int64")
    kept = graded.assign(label=label, split=split.astype(str))[reason == ""]
    columns = ["a_id", "b_id", "grade", "label", "origin", "split"]
    return kept[columns].reset_index(drop=True), graded.assign(reason=reason)[reason != ""].reset_index(drop=True)


def lexicon_edges(texts: pd.DataFrame, synonyms: Iterable[Sequence[str]]) -> pd.DataFrame:
    """Pairs of known texts that become one another when synonyms in them are replaced.

    Only texts that exist are joined, so a replacement that nobody would write makes nothing. A word that begins or ends
    with a Latin letter or digit must stand alone.

    Args:
        texts: text_id, text.
        synonyms: lists of normalised words (`Collected.synonyms`).

    Returns:
        Edges of source synonym.
    """
    first_of = {word: words[0] for words in synonyms for word in words}
    lengths: dict[str, list[int]] = {}
    for length, letter in sorted({(len(word), word[0]) for word in first_of}, reverse=True):
        lengths.setdefault(letter, []).append(length)
    # the words themselves have their edges already
    queries = texts[~texts.text.isin(first_of.keys())].sort_values("text_id")
    groups: dict[str, list[str]] = {}
    for text_id, value in zip(queries.text_id, queries.text, strict=True):
        groups.setdefault(_canonical(value, first_of, lengths), []).append(text_id)
    return _connect((ids for ids in groups.values() if len(ids) > 1), "synonym", LEXICON_CONFIDENCE)


# --- labelled pairs -----------------------------------------------------------------------------------------------


def _labelled(
    a: pd.DataFrame, b: pd.DataFrame, label: pd.Series, source: PairSource, kind: str, positive_grade: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The usable rows of one source: a_id, b_id, grade, origin, use, edge (source of an edge, or "") and name."""
    if kind == "graded":
        low, high = _grade_range(label, source)
        grade, outside = (label - low) / (high - low), (label < low) | (label > high)
        why = f"grade outside {low:g} to {high:g}"
        positive = grade >= positive_grade
    else:
        grade, outside, why = label, ~label.isin([0, 1]), "label is neither 0 nor 1"
        positive = grade == 1
    reasons = {
        "grade unknown": label.isin(source.unknown_grades if kind == "graded" else []),
        why: outside,
        "no text": (a.text == "") | (b.text == ""),
        "both texts are the same": a.text_id == b.text_id,
    }
    usable = pd.Series(True, a.index)
    drops = []
    shown = a.text + " | " + b.text
    for reason, bad in reasons.items():
        drops.append(_drop(source, reason, shown[usable & bad]))
        usable &= ~bad
    edge = "given" if kind in ("pairs", "graded") else "qa"
    table = pd.DataFrame(
        {
            "a_id": a.text_id,
            "b_id": b.text_id,
            "grade": grade.astype(float),
            "origin": "graded" if kind == "graded" else "pairs",
            "use": source.use,
            "edge": np.where(positive, edge, ""),
            "judged": kind != "qa" or source.label_column is not None or source.use == "heldout",
            "name": sources.label(source),
            "shown": shown,
        }
    )[usable]
    if table.empty:
        told = "; ".join(f"{row.reason}: {row.rows} rows" for row in pd.concat(drops).itertuples())
        raise InputError(f"{sources.label(source)}: no pair can be used ({told}); correct the file, or the columns")
    return table, pd.concat(drops)


def _grade_range(label: pd.Series, source: GradedSource) -> tuple[float, float]:
    known = label[~label.isin(source.unknown_grades)]
    low, high = source.grade_range or (known.min(), known.max())
    if source.grade_range is None:
        _warn_of_odd_grades(known, source)
    if not low < high:
        raise InputError(
            f"{sources.label(source)}: column {source.label_column} only holds the grade {low:g}; give grade_range, "
            f"the lowest and highest grade there could be"
        )
    return float(low), float(high)


def _warn_of_odd_grades(grades: pd.Series, source: GradedSource) -> None:
    """Warn where the highest or the lowest grade lies so far from the others that it could be a code."""
    values = sorted(grades.unique())
    if len(values) < 3:
        return
    odd = [values[-1]] if values[-1] - values[-2] > 2 * (values[-2] - values[0]) else []
    odd += [values[0]] if values[0] < 0 <= values[1] else []
    for value in odd:
        warnings.warn(
            f"{sources.label(source)}: {source.label_column} {value:g} is far from the other grades ({values[0]:g} to "
            f"{values[-1]:g}); if it means that nobody judged, set unknown_grades: [{value:g}], else grade_range",
            stacklevel=2,
        )


def _without_hubs(
    pairs: pd.DataFrame, b: pd.DataFrame, source: PairSource, cap: int | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs without answers that fit everything."""
    if cap is None:
        return pairs, _drop(source, "", pd.Series(dtype=str))
    hub = pairs.groupby("b_id").a_id.transform("nunique") > cap
    return pairs[~hub], _drop(source, f"an answer to more than {cap} questions", b.text[pairs.index][hub])


def _settle(
    labelled: pd.DataFrame, positive_grade: float
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One row a pair: `graded`, edges, pairs called different, and what was dropped.

    Labels 0 and 1 of one pair: the majority, none in a tie. Grades: their mean. A label counts more than a grade. A
    pair is held out if one of its sources is; else it is for training only if one of its sources is.
    """
    a, b = labelled.a_id, labelled.b_id
    labelled = labelled.assign(
        low=a.where(a < b, b),
        high=b.where(a < b, a),
        positive=labelled.edge != "",
        rank=labelled.use.map({"heldout": 0, "train": 1, "all": 2}),
    )
    pairs = labelled.groupby(["low", "high", "origin"], sort=False, as_index=False).agg(
        a_id=("a_id", "first"),
        b_id=("b_id", "first"),
        grade=("grade", "mean"),
        rows=("grade", "size"),
        judged=("judged", "max"),
        rank=("rank", "min"),
        name=("name", "first"),
        shown=("shown", "first"),
    )
    label = pairs.origin == "pairs"
    tie = label & (pairs.grade == 0.5)
    outvoted = (np.minimum(pairs.grade, 1 - pairs.grade) * pairs.rows).round().where(label & ~tie, 0).astype(int)
    drops = [
        *_drop_counts("labelled 0 and 1 equally often", pairs[tie], pairs.rows[tie]),
        *_drop_counts("label contradicts the majority", pairs[outvoted > 0], outvoted[outvoted > 0]),
    ]
    pairs["grade"] = pairs.grade.where(~label, pairs.grade.round())
    pairs["use"] = pairs["rank"].map({0: "heldout", 1: "train", 2: "all"})
    order = pairs[~tie].sort_values("origin", ascending=False, kind="stable")  # pairs before graded
    pairs = order.drop_duplicates(["low", "high"]).sort_index()

    seen = pairs[pairs.use != "heldout"]
    different = seen[seen.grade == 0].drop(columns=["a_id", "b_id"]).rename(columns={"low": "a_id", "high": "b_id"})
    positive = seen[seen.grade >= positive_grade]
    edges = labelled[labelled.positive].merge(positive[["low", "high"]], on=["low", "high"])
    edges = edges.groupby(["low", "high", "edge"], as_index=False).agg(
        support=("grade", "size"), grade=("grade", "mean")
    )
    edges = edges.assign(weight=edges.edge.map(SOURCES).astype(float) * edges.grade)
    edges = edges.rename(columns={"low": "a_id", "high": "b_id", "edge": "source"})
    return (
        _typed(pairs[pairs.judged], _GRADED),
        _typed(edges, _EDGES),
        _typed(different, {"a_id": str, "b_id": str}),
        sources.dropped_rows(drops),
    )


# --- synonyms -----------------------------------------------------------------------------------------------------


def _merge_lists(lists: list[list[str]]) -> tuple[list[tuple[str, ...]], dict[str, int]]:
    """Lists that share two words or more are one; a word that two lists share alone has several meanings.

    Returns:
        The lists without ambiguous words, and for each ambiguous word in how many lists it was.
    """
    united = DisjointSet(range(len(lists)))
    holders: dict[str, list[int]] = {}
    for number, words in enumerate(lists):
        for word in words:
            holders.setdefault(word, []).append(number)
    shared = Counter(pair for numbers in holders.values() for pair in itertools.combinations(numbers, 2))
    for (first, second), words in shared.items():
        if words > 1:
            united.merge(first, second)
    merged: dict[int, dict[str, None]] = {}
    for number, words in enumerate(lists):
        merged.setdefault(united[number], {}).update(dict.fromkeys(words))
    count = Counter(word for words in merged.values() for word in words)
    ambiguous = {word: lists_ for word, lists_ in count.items() if lists_ > 1}
    kept = [tuple(word for word in words if word not in ambiguous) for words in merged.values()]
    return [words for words in kept if len(words) > 1], ambiguous


def _synonyms(
    given: Sources, normalizer: Normalizer, masked: Counter[str], sample_fraction: float
) -> tuple[list[tuple[str, ...]], pd.DataFrame, list[pd.DataFrame]]:
    """All synonym lists as one: words that can be told apart, their texts, and what was dropped."""
    lists: list[list[str]] = []
    origin: dict[str, str] = {}
    drops = []
    for source in given.synonyms:
        table, dropped = sources.read_synonyms(source)
        words = _clean(table.words.explode(), normalizer, masked)
        reasons = words.text.map(text.junk_reason)
        drops.append(dropped)
        drops += [
            _drop(source, f"synonym that says nothing: {reason}", words.text[reasons == reason])
            for reason in sorted(reasons.dropna().unique())
        ]
        usable = words.text[reasons.isna()]
        for group in _grouped(zip(usable.index, usable, strict=True)).values():
            if len(unique := list(dict.fromkeys(group))) > 1:
                lists.append(unique)
                origin.update(dict.fromkeys(unique, sources.label(source)))
    merged, ambiguous = _merge_lists(lists)
    drops.append(
        sources.dropped_rows(
            (name, "synonym in several lists: which meaning?", len(words), words[0])
            for name, words in _grouped((origin[word], word) for word in ambiguous).items()
        )
    )
    ids = {word: text.text_id(word) for words in merged for word in words}
    merged = [words for words in merged if _in_sample(ids[words[0]], sample_fraction)]
    flat = [word for words in merged for word in words]
    frame = pd.DataFrame({"text_id": [ids[word] for word in flat], "text": flat}, dtype=str)
    return merged, _texts(frame, "query"), drops


def _grouped(items: Iterable[tuple[Hashable, str]]) -> dict[Hashable, list[str]]:
    groups: dict[Hashable, list[str]] = {}
    for key, value in items:
        groups.setdefault(key, []).append(value)
    return groups


def _canonical(value: str, first_of: dict[str, str], lengths: dict[str, list[int]]) -> str:
    """The text with every synonym, the longest first from the left, replaced by the first word of its list (marked).

    Args:
        first_of: word -> first word of its list.
        lengths: first letter -> lengths of the words that begin with it, falling.
    """
    parts, position = [], 0
    while position < len(value):
        part = mark = value[position]
        for length in lengths.get(part, ()):
            word = value[position : position + length]
            if word in first_of and _stands_alone(value, position, position + length):
                # the mark keeps app, put in for another word, from making apple of what follows
                part, mark = word, f"\0{first_of[word]}\0"
                break
        parts.append(mark)
        position += len(part)
    return "".join(parts)


def _stands_alone(value: str, start: int, end: int) -> bool:
    """Whether no Latin word or number is cut at either end."""
    before = start > 0 and _is_latin(value[start - 1]) and _is_latin(value[start])
    after = end < len(value) and _is_latin(value[end]) and _is_latin(value[end - 1])
    return not (before or after)


def _is_latin(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _connect(groups: Iterable[Iterable[str]], source: str, confidence: float) -> pd.DataFrame:
    """Edges between all texts of each group of ids, or a chain through a group too large for that."""
    support: Counter[tuple[str, str]] = Counter()
    for group in groups:
        ids = list(dict.fromkeys(group))
        pairs = itertools.combinations(ids, 2) if len(ids) <= MAX_COMPLETE else itertools.pairwise(ids)
        support.update((min(pair), max(pair)) for pair in pairs)
    rows = [(*pair, source, rows, SOURCES[source] * confidence) for pair, rows in sorted(support.items())]
    return _frame(rows, _EDGES)


# --- tables -------------------------------------------------------------------------------------------------------


def _clean(raw: pd.Series, normalizer: Normalizer, masked: Counter[str]) -> pd.DataFrame:
    """text_id and text (normalised and masked) of raw texts, with their index; what was masked is added to `masked`."""
    form, ids = {}, {}
    for value in raw.unique():
        form[value], found = normalizer.masked(value)
        ids[value] = text.text_id(form[value])
        masked.update(found)
    return pd.DataFrame({"text_id": raw.map(ids), "text": raw.map(form)}, index=raw.index).astype(str)


def _sampled(ids: pd.Series, fraction: float) -> pd.Series:
    """Whether each text is in the sample: decided by its id alone, so that samples of one text agree everywhere."""
    return ids.map(lambda text_id: _in_sample(text_id, fraction)).astype(bool)


def _in_sample(text_id: str, fraction: float) -> bool:
    return int(text_id, 16) < fraction * 16**16


def _texts(clean: pd.DataFrame, kind: str) -> pd.DataFrame:
    counted = clean.groupby(["text_id", "text"], as_index=False).size().rename(columns={"size": "count"})
    return _typed(counted.assign(kind=kind), _TEXTS)


def _merge_texts(tables: list[pd.DataFrame]) -> pd.DataFrame:
    every = pd.concat([_frame([], _TEXTS), *tables]).groupby("text_id", as_index=False)
    # "query" is the greater of the two kinds
    return _typed(every.agg(text=("text", "first"), kind=("kind", "max"), count=("count", "sum")), _TEXTS)


def _frame(rows: list[tuple], columns: dict[str, str | type]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _typed(table: pd.DataFrame, columns: dict[str, str | type]) -> pd.DataFrame:
    return table[list(columns)].astype(columns).reset_index(drop=True)


def _ids(labelled: pd.DataFrame, use: str) -> frozenset[str]:
    some = labelled[labelled.use == use]
    return frozenset(some.a_id) | frozenset(some.b_id)


def _drop(source: Source, reason: str, examples: pd.Series) -> pd.DataFrame:
    example = examples.iloc[0] if len(examples) else ""
    return sources.dropped_rows([(sources.label(source), reason, len(examples), example)])


def _drop_counts(reason: str, pairs: pd.DataFrame, rows: pd.Series) -> Iterator[tuple[str, str, int, str]]:
    for name, group in pairs.groupby("name", sort=False):
        yield name, reason, rows[group.index].sum(), group.shown.iloc[0]
