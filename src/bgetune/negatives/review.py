"""The review file: doubtful pairs for a person to judge, in Excel or in JupyterLab, and the verdicts read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
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

if TYPE_CHECKING:
    from ipywidgets import Widget

COLUMNS = ["query", "candidate", "similarity", "reranker", "reason", "verdict"]

VERDICTS = {"same": labels.YES, "different": labels.NO}
"""Verdict -> what a person may write for it. An empty cell is no verdict."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def read_review(file: Path) -> pd.DataFrame:
    """The rows of a review file, verdicts as "same", "different" or "".

    Also reads what Excel and WPS make of it: other encodings, semicolons, tabs.

    Raises:
        InputError: naming file, line and what is wrong.
    """
    meaning = {word: verdict for verdict, words in VERDICTS.items() for word in words}
    rows = []
    table = read_table(file, str(file), COLUMNS)
    if missing := [name for name in ("query", "candidate", "verdict") if name not in table]:
        raise InputError(f"{file}, line 1: no column {missing[0]}; the review file has {', '.join(COLUMNS)}")
    for number, row in enumerate(table.to_dict("records")):
        word = row["verdict"].strip().lower()
        if word and word not in meaning:
            raise InputError(
                f"{file}, line {number + 2}: verdict {row['verdict']!r} is neither same nor different "
                f"(s and d will do; leave it empty if unsure)"
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
    """Write a review file at once or not at all: UTF-8 with a mark, so that Excel shows Chinese.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    table = table[COLUMNS].astype({"query": object, "candidate": object, "reason": object})
    for name in ("query", "candidate", "reason"):
        table[name] = table[name].map(_guard)
    temporary = temporary_name(file)
    table.to_csv(temporary, index=False, encoding="utf-8-sig", lineterminator="\r\n")
    os.replace(temporary, file)


def collect(*files: Path | None) -> pd.DataFrame:
    """The judged rows of the review files that exist; an earlier file's verdict on a pair holds."""
    tables = [read_review(file) for file in files if file is not None and file.exists()]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return rows[rows["verdict"].ne("")].drop_duplicates(["query", "candidate"], ignore_index=True)


def verdicts(table: pd.DataFrame, normalizer: Normalizer = STANDARD) -> dict[tuple[str, str], str]:
    """(text_id, text_id) in ascending order -> "same" or "different", of the rows with a verdict.

    Args:
        table: see `read_review`.
        normalizer: of the run; a spreadsheet or a person may have changed how a text is written.

    Raises:
        InputError: if a pair was judged both ways.
    """
    found: dict[tuple[str, str], str] = {}
    for row in table[table["verdict"].ne("")].itertuples():
        pair = tuple(sorted(map(normalizer.text_id, (row.query, row.candidate))))
        if found.setdefault(pair, row.verdict) != row.verdict:
            raise InputError(
                f"review: {row.query!r} and {row.candidate!r} are judged both same and different; keep one verdict"
            )
    return found


def merge(judged: pd.DataFrame, doubtful: pd.DataFrame, normalizer: Normalizer = STANDARD) -> pd.DataFrame:
    """The next review file: what is still open first, then every row that has a verdict, which is never lost."""
    judged = judged[judged["verdict"].ne("")]
    known = verdicts(judged, normalizer)
    ids = [
        tuple(sorted(map(normalizer.text_id, pair)))
        for pair in zip(doubtful["query"], doubtful["candidate"], strict=True)
    ]
    is_open = np.array([pair not in known for pair in ids], dtype=bool)
    return pd.concat([doubtful[is_open].assign(verdict="")[COLUMNS], judged[COLUMNS]], ignore_index=True)


def widget(file: Path) -> Widget:
    """A small form for JupyterLab: one pair at a time, judged by a key (s, d, space, b) or a click, saved at once.

    Raises:
        InputError: if the file is no review file.
    """
    import ipywidgets as widgets

    table = read_review(file)
    place = {"row": 0}
    open_rows = table.index[table["verdict"].eq("")].tolist()
    pair, progress = widgets.HTML(), widgets.HTML()
    key = widgets.Text(placeholder="click here, then press s, d, space or b", continuous_update=True)

    def show() -> None:
        progress.value = f"{int(table['verdict'].ne('').sum())} of {len(table)} judged, saved in {escape(file.name)}"
        if place["row"] < len(open_rows):
            pair.value = _shown(table.loc[open_rows[place["row"]]])
        else:
            pair.value = "<b>Nothing left to judge.</b>"

    def judge(verdict: str) -> None:
        if verdict == "back":
            place["row"] = max(place["row"] - 1, 0)
        elif place["row"] < len(open_rows):
            if verdict != "skip":
                table.loc[open_rows[place["row"]], "verdict"] = verdict
                write_review(file, table)
            place["row"] += 1
        show()

    def pressed(change: Mapping[str, str]) -> None:
        verdict = {"s": "same", "d": "different", " ": "skip", "b": "back"}.get(change["new"][-1:].lower())
        if verdict is not None:
            judge(verdict)
        if change["new"]:
            key.value = ""

    key.observe(pressed, names="value")
    buttons = []
    for verdict, letter in {"same": "s", "different": "d", "skip": "space", "back": "b"}.items():
        button = widgets.Button(description=f"{verdict} ({letter})")
        button.on_click(lambda _, verdict=verdict: judge(verdict))
        buttons.append(button)
    show()
    return widgets.VBox([progress, pair, widgets.HBox([*buttons, key])])


def _shown(row: pd.Series) -> str:
    """A pair as HTML: what one text has and the other has not is underlined."""
    texts = []
    for one, other in ((row["query"], row["candidate"]), (row["candidate"], row["query"])):
        parts = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
        texts.append(
            "".join(
                escape(one[a:b]) if kind == "equal" else f"<u style='color:#d1495b'>{escape(one[a:b])}</u>"
                for kind, a, b, _, _ in parts
            )
        )
    facts = [f"{name} {row[name]:.3f}" for name in ("similarity", "reranker") if pd.notna(row[name])]
    facts += [escape(row["reason"]), *([f"judged <b>{row['verdict']}</b>"] if row["verdict"] else [])]
    return f"<p style='font-size:1.3em; line-height:1.6'>{'<br>'.join(texts)}</p><p>{'; '.join(facts)}</p>"


def _guard(cell: str) -> str:
    return f"'{cell}" if str(cell).startswith(_FORMULA) else cell


def _unguard(cell: str | None) -> str:
    cell = cell or ""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
