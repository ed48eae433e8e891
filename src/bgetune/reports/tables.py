"""Every table that a notebook or a page shows: one function, which escapes whatever stands in it.

Texts come from logs, files, translators and language models. None of them may become markup, a formula or a control
sequence where the table is shown: in JupyterLab, in an exported notebook, in a report, on a terminal.
"""

from __future__ import annotations

import math
import numbers
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bgetune.locale import N_, _
from bgetune.locale.words import said
from bgetune.reports.words import SPOKEN

if TYPE_CHECKING:
    import pandas as pd

MISSING = "–"

WIDE = 7
"""Columns from which on a table becomes cards on tablets, too."""

LINE = 84
"""Characters that the words of a row may take side by side; a word that needs more than its column's part is broken."""

SHORT = 12
"""Characters of a word that is never broken."""

_WORD = re.compile(r"[^\s\u2e80-\uffff]+")
"""What a browser does not break by itself: it does between Chinese characters."""

_MATH = re.compile(r"[$\\]")
"""What MathJax, which JupyterLab runs over HTML outputs, takes for the delimiters of a formula."""

HIDDEN = ("Cc", "Cf", "Cs")
"""Unicode categories shown as escapes: controls such as ESC, formats such as bidirectional overrides, surrogates."""

WORDS = {True: N_("yes"), False: N_("no")}


@dataclass(frozen=True)
class Table:
    """A finished table.

    Attributes:
        html: markup in which every text is escaped; safe to put into a page.
        text: the same for a terminal.
    """

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text

    def __html__(self) -> str:
        """What Jinja asks for: the markup needs no further escaping."""
        return self.html


@dataclass(frozen=True)
class Cell:
    """A cell as it is shown."""

    text: str
    is_number: bool = False
    is_best: bool = False
    look: str = ""


def table(
    rows: pd.DataFrame | pd.Series,
    *,
    digits: int = 2,
    percent: Collection[str] = (),
    missing: str = MISSING,
    best: Mapping[str, Callable] | None = None,
    marked: Sequence[bool] | None = None,
    looks: Mapping[str, Sequence[str]] | None = None,
    caption: str | None = None,
    cards: bool = True,
) -> Table:
    """A table to show: texts escaped, whole numbers without decimals, an index without a name left out.

    Names of columns and rows, and values of the columns `words.SPOKEN`, are in the language in use.

    Args:
        rows: a frame, or a series as a table of one column.
        digits: after the point, of numbers that are not whole.
        percent: columns that are shares, shown as percentages.
        missing: what stands for None and NaN.
        best: column -> min or max: its best value is printed bold.
        marked: (n,) rows that are printed in red.
        looks: column -> (n,) class of each cell, "" for none; pages know good, bad and note.
        caption: a line above the table.
        cards: on a phone every row becomes a card with the names of the columns; False for a list of short rows, which
            a table of one or two columns always is.
    """
    import pandas as pd

    frame = rows.to_frame() if isinstance(rows, pd.Series) else rows
    heads = 0
    if not _is_counter(frame.index):
        heads = frame.index.nlevels
        names = ["" if name is None else name for name in frame.index.names]
        frame = frame.reset_index(names=names, allow_duplicates=True)
    columns = [_cells(frame.iloc[:, place], digits, percent, missing, best or {}) for place in range(frame.shape[1])]
    for name, classes in (looks or {}).items():
        place = list(frame.columns).index(name)
        columns[place] = [replace(cell, look=look) for cell, look in zip(columns[place], classes, strict=True)]
    for place, name in enumerate(frame.columns):
        if (place < heads and name != "source") or name in SPOKEN:  # a source is called as in the artifacts
            columns[place] = [replace(cell, text=said(cell.text)) for cell in columns[place]]
    header = [said(clean(str(name))) for name in frame.columns]
    lines = list(zip(*columns, strict=True))
    markup = _html(header, lines, heads, list(marked if marked is not None else []), caption)
    kind = "list" if not cards or len(header) <= 2 else "data wide" if _is_wide(columns) else "data"
    markup = markup.replace('class="data"', f'class="{kind}"', 1)
    return Table(markup, _text(header, lines))


def _is_wide(columns: Sequence[Sequence[Cell]]) -> bool:
    """Whether a table has more columns, or longer numbers, which are not broken, than a tablet has room for."""
    longest = [
        max((len(cell.text) if "number" in cell.look else min(len(cell.text), SHORT) for cell in column), default=0)
        for column in columns
    ]
    return len(columns) > WIDE or sum(longest) > LINE


def parameters(rows: pd.DataFrame) -> Table:
    """The parameters of a stage, folded away under a line that says how many are not at their default.

    Args:
        rows: as `Stage.parameters` gives them: index parameter, columns value and from.
    """
    made = table(rows)
    summary = _("{count} parameters, {changed} of them not at their default").format(
        count=len(rows), changed=int((rows["from"] != "default").sum())
    )
    return Table(f"<details><summary>{escape(summary)}</summary>{made.html}</details>", f"{summary}\n{made.text}")


def clean(text: str) -> str:
    """A text without power over the terminal or the direction of writing: such characters are shown as escapes."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in HIDDEN and character != "\n"
        else character
        for character in text
    )


def escape(text: str) -> str:
    """A text as HTML shows it literally: no tags, no formulas, no control characters."""
    import html

    return _MATH.sub(r"<span>\g<0></span>", html.escape(clean(text)))


def shown(value: Any, *, digits: int = 2, percent: bool = False, missing: str = MISSING) -> str:
    """A value as tables show it: separators between thousands, `missing` for None and NaN, texts as they are."""
    if _is_missing(value):
        return missing
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return _(WORDS[bool(value)])
    if not isinstance(value, numbers.Real):
        return clean(str(value))
    if percent:
        return f"{value:.1%}"
    return f"{value:,.{digits}f}" if isinstance(value, float) and not isinstance(value, int) else f"{value:,}"


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) or value is pd.NaT


def _is_counter(index: pd.Index) -> bool:
    """Whether an index only counts rows."""
    return index.nlevels == 1 and index.name is None and index.inferred_type in ("integer", "empty")


def _cells(
    column: pd.Series, digits: int, percent: Collection[str], missing: str, best: Mapping[str, Callable]
) -> list[Cell]:
    values = column.tolist()
    found = [v for v in values if isinstance(v, numbers.Real) and not isinstance(v, bool) and math.isfinite(v)]
    numeric = bool(found) and all(isinstance(v, numbers.Real) or _is_missing(v) for v in values)
    numeric = numeric and not any(isinstance(v, bool) for v in values)
    whole = numeric and column.name not in percent and all(float(value).is_integer() for value in found)
    top = best[column.name](found) if column.name in best and found else None
    digits, in_percent = 0 if whole else digits, column.name in percent
    texts = [shown(value, digits=digits, percent=in_percent, missing=missing) for value in values]
    return [Cell(text, numeric, top is not None and value == top) for text, value in zip(texts, values, strict=True)]


def _html(
    header: Sequence[str], lines: Sequence[Sequence[Cell]], heads: int, marked: Sequence[bool], caption: str | None
) -> str:
    """The markup. Its styles are written into the cells, because JupyterLab shows it without a style sheet of ours."""
    numeric = [cell.is_number or "number" in cell.look for cell in lines[0]] if lines else [False] * len(header)
    parts = ['<table class="data">']
    if caption:
        parts.append(f"<caption>{escape(caption)}</caption>")
    # a cell without a name is no header: screen readers would announce nothing
    names = [
        f'<th scope="col"{_look(number)}>{escape(name).replace("_", "_<wbr>")}</th>' if name else "<td></td>"
        for name, number in zip(header, numeric, strict=True)
    ]
    parts.append(f"<thead><tr>{''.join(names)}</tr></thead>\n<tbody>")
    for number, line in enumerate(lines):
        red = ' class="marked" style="color: var(--bad, #b3382c)"' if number < len(marked) and marked[number] else ""
        cells = []
        for place, (name, cell) in enumerate(zip(header, line, strict=True)):
            tag, scope = ("th", ' scope="row"') if place < heads else ("td", "")
            text = f"<strong>{escape(cell.text)}</strong>" if cell.is_best else escape(cell.text)
            label = f' data-label="{html_attribute(name)}"' if place >= heads else ""
            look = f"{cell.look} long" if _has_long_word(cell.text, len(header)) else cell.look
            cells.append(f"<{tag}{scope}{_look(cell.is_number, look)}{label}>{text}</{tag}>")
        parts.append(f"<tr{red}>{''.join(cells)}</tr>")
    if not lines:
        none = escape(_("(none)"))
        parts.append(f'<tr><td class="note" colspan="{len(header)}">{none}</td></tr>')
    return "\n".join([*parts, "</tbody></table>"])


def _has_long_word(text: str, columns: int) -> bool:
    """Whether a word is to be broken, for a table not to be wider than the page."""
    return any(len(word) > max(LINE // columns, SHORT) for word in _WORD.findall(text))


def html_attribute(text: str) -> str:
    """A text inside the quotes of an attribute."""
    import html

    return html.escape(clean(text))


def _look(number: bool, more: str = "") -> str:
    number = number or "number" in more.split()
    more = more.replace("number", "").strip()
    classes = " ".join(filter(None, ["number" if number else "", more]))
    return (f' class="{classes}"' if classes else "") + f' style="text-align: {"right" if number else "left"}"'


def _text(header: Sequence[str], lines: Sequence[Sequence[Cell]]) -> str:
    return columns([header, *([cell.text for cell in line] for line in lines)])


def columns(lines: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Lines of cells as text in columns; a Chinese character takes two places of a terminal.

    Args:
        right: numbers of the columns that are aligned to the right.
    """
    cells = [[clean(text).replace("\n", " ") for text in line] for line in lines]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    padded = []
    for line in cells:
        blanks = [" " * (width - _width(text)) for text, width in zip(line, widths, strict=True)]
        parts = [
            blank + text if place in right else text + blank
            for place, (text, blank) in enumerate(zip(line, blanks, strict=True))
        ]
        padded.append("  ".join(parts).rstrip())
    return "\n".join(padded)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
