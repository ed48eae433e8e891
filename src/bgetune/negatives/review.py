"""The review file: doubtful pairs that people label, in a spreadsheet or in JupyterLab, and their verdicts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bgetune.data import labels
from bgetune.data.tabular import read_table
from bgetune.data.text import STANDARD, Normalizer
from bgetune.errors import InputError
from bgetune.files import temporary_name
from bgetune.locale import _
from bgetune.locale.words import said
from bgetune.metrics import statistics

if TYPE_CHECKING:
    from ipywidgets import Widget

COLUMNS = ["query", "candidate", "similarity", "reranker", "reason", "verdict"]

VERDICTS = {"same": labels.YES, "different": labels.NO}
"""Verdict -> the words that people may write for it. An empty cell is no verdict."""

KEYS = {"s": "same", "d": "different", " ": "skip", "u": "undo"}
"""What keys say in the form."""

ENOUGH = 0.1
"""Half the width of a 95 % interval of the share of pairs that mean the same, from which on a sample tells enough."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that a spreadsheet runs as a formula."""


def read_review(file: Path) -> pd.DataFrame:
    """Read a review file, also as Excel and WPS save it: in other encodings, with semicolons or tabs.

    Returns:
        The columns `COLUMNS`: query, candidate, reason (str), similarity, reranker (float64), verdict ("same",
        "different" or "").

    Raises:
        InputError: naming the file, the line and the remedy.
    """
    meaning = {word: verdict for verdict, words in VERDICTS.items() for word in words}
    rows = []
    table = read_table(file, str(file), COLUMNS)
    if missing := [name for name in ("query", "candidate", "verdict") if name not in table]:
        raise InputError(
            _("{file}, line 1: no column {column}; the review file has {columns}").format(
                file=file, column=missing[0], columns=", ".join(COLUMNS)
            )
        )
    for number, row in enumerate(table.to_dict("records")):
        word = row["verdict"].strip().lower()
        if word and word not in meaning:
            raise InputError(
                _(
                    "{file}, line {line}: verdict {verdict!r} is neither same nor different (s and d will do; leave "
                    "it empty if unsure)"
                ).format(file=file, line=number + 2, verdict=row["verdict"])
            )
        row |= {
            "verdict": meaning.get(word, ""),
            "query": _unguard(row["query"]),
            "candidate": _unguard(row["candidate"]),
        }
        rows.append({name: row.get(name, "") for name in COLUMNS})
    table = pd.DataFrame(rows, columns=COLUMNS)
    scores = table[["similarity", "reranker"]].apply(pd.to_numeric, errors="coerce")
    return table.assign(**scores)


def write_review(file: Path, table: pd.DataFrame) -> None:
    """Write a review file, completely or not at all: UTF-8 with a byte order mark, so that Excel shows Chinese.

    A cell that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    table = table[COLUMNS].astype({"query": object, "candidate": object, "reason": object})
    for name in ("query", "candidate", "reason"):
        table[name] = table[name].map(_guard)
    temporary = temporary_name(file)
    table.to_csv(temporary, index=False, encoding="utf-8-sig", lineterminator="\r\n")
    os.replace(temporary, file)


def read_verdicts(*files: Path | None) -> pd.DataFrame:
    """The rows with a verdict of the files that exist; if two files hold a pair, that of the earlier argument."""
    tables = [read_review(file) for file in files if file is not None and file.exists()]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return rows[rows["verdict"].ne("")].drop_duplicates(["query", "candidate"], ignore_index=True)


def verdicts(table: pd.DataFrame, normalizer: Normalizer = STANDARD) -> dict[tuple[str, str], str]:
    """The verdicts by pair: (text_id, text_id) in ascending order -> "same" or "different".

    Args:
        table: see `read_review`.
        normalizer: of the run; spreadsheets and people may have changed the spelling of a text.

    Raises:
        InputError: if a pair is labelled both same and different.
    """
    found: dict[tuple[str, str], str] = {}
    for row in table[table["verdict"].ne("")].itertuples():
        pair = _pair(row.query, row.candidate, normalizer)
        if found.setdefault(pair, row.verdict) != row.verdict:
            raise InputError(
                _("review: {query!r} and {candidate!r} are judged both same and different; keep one verdict").format(
                    query=row.query, candidate=row.candidate
                )
            )
    return found


def merge(judged: pd.DataFrame, doubtful: pd.DataFrame, normalizer: Normalizer = STANDARD) -> pd.DataFrame:
    """The next review file: the doubtful pairs without a verdict, then all rows that have one."""
    judged = judged[judged["verdict"].ne("")]
    known = verdicts(judged, normalizer)
    pairs = zip(doubtful["query"], doubtful["candidate"], strict=True)
    is_open = np.array([_pair(*pair, normalizer) not in known for pair in pairs], dtype=bool)
    return pd.concat([doubtful[is_open].assign(verdict="")[COLUMNS], judged[COLUMNS]], ignore_index=True)


def _pair(a: str, b: str, normalizer: Normalizer) -> tuple[str, str]:
    """The text_ids of two texts, in ascending order."""
    first, second = sorted((normalizer.text_id(a), normalizer.text_id(b)))
    return first, second


def widget(file: Path) -> Widget:
    """A form for JupyterLab that shows one pair at a time and saves each verdict (keys s, d, space, u, or a click).

    The field keeps what was typed, and every character that is new in it counts: however fast keys come, and however
    many of them the browser sends together, each judges the pair after that of the last.

    Raises:
        InputError: if the file is not a review file.
    """
    import ipywidgets as widgets

    table = read_review(file)
    waiting = table.index[table["verdict"].eq("")].tolist()
    decided: list[int] = []
    pair, progress = widgets.HTML(), widgets.HTML()
    field = widgets.Text(placeholder=_("click here, then press s, d, space or u"), continuous_update=True)

    def show() -> None:
        progress.value = _progress(table, file)
        if waiting:
            pair.value = _shown(table.loc[waiting[0]])
        else:
            pair.value = "<b>" + _("Nothing left to judge.") + "</b>"

    def record(verdict: str) -> None:
        if verdict == "undo" and decided:
            waiting.insert(0, decided.pop())
            table.loc[waiting[0], "verdict"] = ""
        elif verdict != "undo" and waiting:
            decided.append(waiting.pop(0))
            table.loc[decided[-1], "verdict"] = "" if verdict == "skip" else verdict

    def record_all(given: Iterable[str]) -> None:
        before = table["verdict"].tolist()
        for verdict in given:
            record(verdict)
        if table["verdict"].tolist() != before:
            write_review(file, table)
        show()

    def pressed(change: Mapping[str, str]) -> None:
        old, new = change["old"], change["new"]
        known = (
            len(old)
            if new.startswith(old)
            else next(
                (place for place, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), len(new)
            )
        )
        record_all(KEYS[key] for key in new[known:].lower() if key in KEYS)

    field.observe(pressed, names="value")
    buttons = []
    names = {"same": _("same (s)"), "different": _("different (d)"), "skip": _("skip (space)"), "undo": _("undo (u)")}
    for verdict, name in names.items():
        button = widgets.Button(description=name)
        button.on_click(lambda _button, verdict=verdict: record_all([verdict]))
        buttons.append(button)
    show()
    return widgets.VBox([progress, pair, widgets.HBox([*buttons, field])])


def _progress(table: pd.DataFrame, file: Path) -> str:
    """How many pairs are judged, and whether that is enough to know how many of them mean the same."""
    counts = table["verdict"].value_counts()
    same, judged = int(counts.get("same", 0)), len(table) - int(counts.get("", 0))
    words = _("{judged} of {pairs} judged, saved in {file}")
    parts = [words.format(judged=judged, pairs=len(table), file=escape(file.name))]
    if judged:
        low, high = map(float, statistics.clopper_pearson(same, judged))
        if high - low <= 2 * ENOUGH:
            words = _(
                "Enough to know that {low:.0%} to {high:.0%} of such pairs mean the same; what you judge from here on "
                "counts for its own pair."
            )
            parts.append(f"<b>{words.format(low=low, high=high)}</b>")
    return ". ".join(parts)


def _shown(row: pd.Series) -> str:
    """A pair as HTML; what differs between the two texts is underlined."""
    texts = []
    for one, other in ((row["query"], row["candidate"]), (row["candidate"], row["query"])):
        parts = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
        texts.append(
            "".join(
                escape(one[a:b]) if kind == "equal" else f"<u style='color:#d1495b'>{escape(one[a:b])}</u>"
                for kind, a, b, *_rest in parts
            )
        )
    facts = [f"{_(name)} {row[name]:.3f}" for name in ("similarity", "reranker") if pd.notna(row[name])]
    judged = _("judged {verdict}").format(verdict=f"<b>{escape(row['verdict'])}</b>")
    facts += [escape(said(row["reason"])), *([judged] if row["verdict"] else [])]
    return f"<p style='font-size:1.3em; line-height:1.6'>{'<br>'.join(texts)}</p><p>{'; '.join(facts)}</p>"


def _guard(cell: str) -> str:
    """The cell with a leading apostrophe if a spreadsheet would run it as a formula."""
    return f"'{cell}" if str(cell).startswith(_FORMULA) else cell


def _unguard(cell: str | None) -> str:
    """The cell as it was before `_guard`."""
    cell = cell or ""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
