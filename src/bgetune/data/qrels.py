"""Relevance judgements by ids, with queries and documents in files of their own, as labelled pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from bgetune import paths
from bgetune.config.sources import CorpusSource, QrelsSource
from bgetune.data import opening, places
from bgetune.data.drops import dropped_rows
from bgetune.data.engine import connect
from bgetune.data.parts import Opened
from bgetune.errors import InputError, joined
from bgetune.locale import _
from bgetune.locale.words import said

_IDS = ("_id", "id", "qid", "pid", "docid", "query_id", "doc_id")
_QUERY_IDS = ("query-id", "query_id", "qid")
_DOCUMENT_IDS = ("corpus-id", "corpus_id", "pid", "docid", "doc_id")
_RELEVANCES = ("score", "relevance", "rel", "label")
_TREC = {"0": "query", "2": "document", "3": "relevance"}
"""Columns of TREC's judgements, which have no header line: query, iteration, document, relevance."""


def read_qrels(source: QrelsSource) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Relevance judgements as labelled pairs, all documents, and the table `dropped`.

    Returns:
        Pairs a, b, label (1.0 from positive_relevance on, 0.0 at 0 and below); the documents, with the column text, a
        title before it; `dropped`.

    Raises:
        InputError: naming the file and the column, and the remedy.
    """
    judgements, queries, corpus = _open(source)
    lost: list[tuple[str, str, int, str]] = []
    judged = _table(judgements, _judgement_columns(source, judgements), lost)
    texts = []
    for opened in (queries, corpus):
        title = "title" if "title" in opened.columns and source.text_column != "title" else None
        id_column = _known(opened, source.id_column, _IDS)
        table = _table(opened, {"id": id_column, "text": source.text_column, "title": title}, lost)
        table["text"] = (table["title"].fillna("") + " " + table["text"].fillna("")).str.strip()
        texts.append(table.dropna(subset=["id"]).drop_duplicates("id").set_index("id")["text"])
    a, b = judged["query"].map(texts[0]), judged["document"].map(texts[1])
    value = pd.to_numeric(judged["relevance"], errors="coerce")
    reasons = pd.Series("", judged.index, dtype=str)
    reasons[(value > 0) & (value < source.positive_relevance)] = (
        f"relevance between 0 and {source.positive_relevance:g}"
    )
    reasons[value.isna()] = "relevance is no number"
    reasons[b.isna()] = "no document of this id"
    reasons[a.isna()] = "no query of this id"
    shown = judged["query"].fillna("") + " " + judged["document"].fillna("")
    name = judgements.parts[0].name
    for reason, rows in shown[reasons != ""].groupby(reasons):
        lost.append((name, reason, len(rows), rows.iloc[0]))
    pairs = pd.DataFrame({"a": a, "b": b, "label": (value >= source.positive_relevance).astype(float)})[reasons == ""]
    if pairs.empty:
        each = _("{reason}: {rows} rows")
        told = joined(*(each.format(reason=said(reason), rows=rows) for _file, reason, rows, _example in lost))
        raise InputError(
            _("{name}: no judgement can be used ({told}); are these the ids of queries and corpus?").format(
                name=name, told=told
            )
        )
    documents = pd.DataFrame({"text": texts[1].to_numpy()})
    return pairs.reset_index(drop=True), documents, dropped_rows(lost)


def check(source: QrelsSource) -> None:
    """Check that judgements, queries and corpus are there and have their columns.

    Raises:
        InputError: naming the file and the remedy.
    """
    judgements, queries, corpus = _open(source)
    judgements.require(_judgement_columns(source, judgements).values())
    for opened in (queries, corpus):
        opened.require([_known(opened, source.id_column, _IDS), source.text_column])


def _table(opened: Opened, columns: Mapping[str, str | None], lost: list[tuple[str, str, int, str]]) -> pd.DataFrame:
    raw = opening.view(opened, columns)
    lost += raw.lost
    reason = f"SELECT broken, count(*), min(example) FROM {raw.view} WHERE broken IS NOT NULL GROUP BY broken"
    lost += [(opened.parts[0].name, *row) for row in connect().raw_sql(reason).fetchall()]
    return connect().con.execute(f"SELECT {', '.join(columns)} FROM {raw.view} WHERE broken IS NULL").df()


def _known(opened: Opened, column: str, others: tuple[str, ...]) -> str:
    """The column, or the first of its other names that is there."""
    return next((name for name in (column, *others) if name in opened.columns), column)


def _judgement_columns(source: QrelsSource, opened: Opened) -> dict[str, str]:
    if set(_TREC) <= set(opened.columns) and not source.header:
        return {name: column for column, name in _TREC.items()}
    return {
        "query": _known(opened, source.query_id_column, _QUERY_IDS),
        "document": _known(opened, source.document_id_column, _DOCUMENT_IDS),
        "relevance": _known(opened, source.relevance_column, _RELEVANCES),
    }


def _open(source: QrelsSource) -> tuple[Opened, Opened, Opened]:
    """The judgements, the queries and the corpus."""
    judgements, beside = source.path, {}
    folder = paths.locate(source.path) if source.path and not places.is_remote(source.path) else None
    if folder and folder.is_dir():
        beside = {name: str(path) for name, path in _layout(folder)}
        judgements = beside.get("qrels")
        if judgements is None:
            raise InputError(
                _("{path}: no qrels in the folder; BEIR has qrels/*.tsv, queries.jsonl, corpus.jsonl").format(
                    path=source.path
                )
            )
    elif folder:
        beside = {name: str(path) for base in (folder.parent, folder.parent.parent) for name, path in _layout(base)}
    opened = opening.open_source(source.model_copy(update={"path": judgements}))
    texts = []
    for name in ("queries", "corpus"):
        path = getattr(source, name) or beside.get(name)
        if path is None:
            raise InputError(
                _("{path}: no {name} beside the judgements; set {name}, their file or folder").format(
                    path=source.path, name=name
                )
            )
        text = CorpusSource(path=path, text_column=source.text_column, encoding=source.encoding)
        texts.append(opening.open_source(text))
    queries, corpus = texts
    return opened, queries, corpus


def _layout(folder: Path) -> Iterator[tuple[str, Path]]:
    """Which entries of a folder are queries, corpus and judgements."""
    for name in ("queries", "corpus", "qrels"):
        found = [path for path in sorted(folder.glob(f"{name}*")) if not path.name.startswith((".", "_"))]
        if found:
            yield name, found[0]
