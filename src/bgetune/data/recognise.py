"""What a table of the team's seems to be, and which of its columns is which: by their names, then by their values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bgetune.config.secrets import mask_secrets
from bgetune.config.sources import Source, Sources
from bgetune.data import labels, opening, ubi, workbooks
from bgetune.data.column_names import NAMES
from bgetune.data.columns import Column
from bgetune.data.databases import label
from bgetune.data.letters import share
from bgetune.data.places import FORMATS, suffix_of
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.paths import ROOT

ROWS = 500
"""Rows of a table that are looked at."""
SEPARATORS = ("|", "、", ";", "；", ",", "，", "/", "=>", "=", " ")
TEXTS = (
    *("query_column", "title_column", "a_column", "b_column", "words_column", "text_column"),
    *("anchor_column", "positive_column", "negative_column"),
)
"""Parameters of sources that name columns of texts."""
CILIN = re.compile(r"[A-Z][a-z]\d\d[A-Z]\d\d[=#@] ")
"""The code at the beginning of a line of the thesaurus Cilin: = has synonyms, # related words, @ a word alone."""
MOST_ACTIONS = 20
"""Distinct values of a column of actions."""
MOST_TITLE_ROWS = 5  # that a title above the header line takes
NO_DELIMITER = "\x1f"  # reads a line as one column: no text holds it
MISSING = {"", "nan", "none", "null", "\\n", "-", "n/a", "<na>", "无"}
OWN_SCHEMAS = (None, "", "public", "main")
NO_SCHEMAS = ("information_schema", "pg_catalog", "performance_schema", "mysql", "sys")
"""Of databases: schemas whose names may be left out, and those that hold no data."""


@dataclass(frozen=True)
class Guess:
    """What a table seems to be.

    Attributes:
        place: where it lies: values of a source (path, url, table, header).
        kind: a key of `Sources`; None: it cannot be told.
        parameters: further values of the source, its columns most of all.
        why: for each of them, how it was recognised.
        choices: for those that are doubtful, what else it could be.
        texts: texts of the table.
        rows: how many were looked at.
        columns: all there are.
    """

    place: Mapping[str, Any]
    kind: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    rows: int = 0
    columns: tuple[Column, ...] = ()


# --- where tables lie ---------------------------------------------------------------------------------------------


def places(location: str, folder: Path) -> list[dict[str, Any]]:
    """The tables of a file, a folder or a database: values of a source that say where each lies.

    Args:
        location: a path, relative to `folder`, or a database's URL.

    Raises:
        InputError: if there is nothing there that can be read.
    """
    if "://" in location:
        return [{"url": location, "table": table} for table in _tables(location)]
    known = ", ".join(ending for ending, format_ in FORMATS.items() if format_)
    path = folder / Path(location).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _format(file) and file.name[0] != ".")
        if not files:
            message = _("{location}: no table in this folder (of {formats}); give another folder")
            raise InputError(message.format(location=location, formats=known))
        return [place for file in files for place in places(str(file), folder)]
    if not path.is_file():
        raise InputError(
            _("{location}: no such file or folder ({path}); correct the path").format(location=location, path=path)
        )
    place = {"path": str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)}
    if _format(path) is None:
        message = _("{location}: cannot tell the format by the name; known are {formats}, also packed")
        raise InputError(message.format(location=location, formats=known))
    if _format(path) == "xlsx":
        names = _sheets(path)
        return [place | ({"table": name} if len(names) > 1 else {}) for name in names]
    return [place]


def _format(file: Path) -> str | None:
    return FORMATS.get(suffix_of(file.name))


def _sheets(path: Path) -> list[str]:
    return workbooks.filled_sheets(path, str(path))


def _tables(url: str) -> list[str]:
    query = "SELECT table_schema, table_name FROM information_schema.tables ORDER BY table_schema, table_name"
    if url.startswith("sqlite:"):
        query = "SELECT '' AS table_schema, name AS table_name FROM sqlite_master WHERE type IN ('table', 'view')"
    try:
        source = Source(url=url, query=query)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(_("{place}: {problem}").format(place=mask_secrets(url), problem=reason)) from None
    rows = opening.first_rows(source, 100_000).itertuples(index=False)
    names = [name if schema in OWN_SCHEMAS else f"{schema}.{name}" for schema, name in rows if schema not in NO_SCHEMAS]
    if not names:
        raise InputError(_("{source}: no table there; give another database").format(source=label(source)))
    return names


# --- what they hold -----------------------------------------------------------------------------------------------


def recognise(place: Mapping[str, Any]) -> Guess:
    """What the table at a place seems to be; reads its first rows.

    Raises:
        InputError: if it cannot be read.
    """
    columns, rows = read(place)
    if place.get("path") and not _is_known(columns) and (skipped := _below_title(place)):
        place = {**place, "skip_rows": skipped}
        columns, rows = read(place)
    found = _word_lists(place, columns)
    if found:
        place = {**place, "header": False}
        columns, rows = read({**place, "delimiter": NO_DELIMITER})
    elif place.get("path") and _is_row(place, columns):
        delimiter = _delimiter(place)
        place = {**place, "header": False}
        columns, rows = read({**place, "delimiter": delimiter})
    found = found or next(filter(None, (kind(columns) for kind in KINDS)), None)
    texts = tuple(value for column in columns if column.kind == "text" for value in column.values[:ROWS])
    half = ubi.is_part([column.name for column in columns])  # `new` joins the two
    if half or found is None or found[0] not in Sources.model_fields:
        return Guess(place, None, texts=texts, rows=rows, columns=tuple(columns))
    kind, values, why, choices = found
    return Guess(place, kind, values, why, choices, texts, rows, tuple(columns))


def read(place: Mapping[str, Any], rows: int = ROWS) -> tuple[list[Column], int]:
    """The columns of the table at a place with the values of its first rows, and how many rows these are."""
    source = Source(**place)
    table = opening.first_rows(source, rows)
    columns = []
    for name in table.columns:
        values = tuple(str(value).strip() for value in table[name] if value is not None)
        values = tuple(value for value in values if value.lower() not in MISSING)
        columns.append(Column(str(name), values, len(values) / max(len(table), 1)))
    return columns, len(table)


def sample_texts(source: Source, rows: int = 100) -> list[str]:
    """Texts of the first rows of a source: what a model will have to read."""
    table = opening.first_rows(source, rows)
    named = [getattr(source, name) for name in TEXTS if getattr(source, name, None) in table]
    return [text for name in named for text in table[name].dropna()]


def _delimiter(place: Mapping[str, Any]) -> str | None:
    """The delimiter of a file of text, recognised by a first line that need not be a header."""
    found = opening.open_source(Source(**place)).parts[0].facts.get("delimiter")
    return None if found == "none" else found


def _is_known(columns: Sequence[Column]) -> bool:
    """Whether one of the columns has a name that columns have."""
    known = {word for words in NAMES.values() for word in words.split()}
    return any(_plain(column.name) in known for column in columns)


def _below_title(place: Mapping[str, Any]) -> int | None:
    """How many rows stand above the header line, if it is one of the next: two of its names or more are known."""
    for skipped in range(1, MOST_TITLE_ROWS + 1):
        try:
            columns, _ = read({**place, "skip_rows": skipped}, rows=20)
        except InputError:
            return None
        if sum(_is_known([column]) for column in columns) >= 2:
            return skipped
    return None


def _is_row(place: Mapping[str, Any], columns: Sequence[Column]) -> bool:
    """Whether what was taken for the header line is a row like the others."""
    if _is_known(columns):
        return False
    if len(columns) == 1 and Path(place["path"]).suffix in (".txt", ".log"):
        return True
    telling = [column for column in columns if column.kind in ("time", "number", "url") or column.length > 8]
    return bool(telling) and all(Column("", (column.name,)).kind == column.kind for column in telling)


Found = tuple[str, dict[str, Any], dict[str, str], dict[str, list[str]]]


class _Roles:
    """Columns by what they hold: each is given once."""

    def __init__(self, columns: Sequence[Column]):
        self.columns = columns
        self.values: dict[str, Any] = {}
        self.why: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}

    def named(self, role: str, kinds: Collection[str] = ()) -> Column | None:
        """The column whose name says that it has a role, of one of the kinds of values."""
        order = NAMES[role].split()
        fitting = [c for c in self.free(kinds) if _plain(c.name) in order]
        return min(fitting, key=lambda column: order.index(_plain(column.name)), default=None)

    def free(self, kinds: Collection[str] = ()) -> list[Column]:
        taken = self.values.values()
        return [c for c in self.columns if c.name not in taken and (not kinds or c.kind in kinds)]

    def take(self, parameter: str, column: Column | None, why: str, others: Sequence[Column] = ()) -> bool:
        if column is None:
            return False
        self.values[parameter] = column.name
        self.why[parameter] = why
        doubtful = [other.name for other in others if other.name != column.name]
        if doubtful:
            self.choices[parameter] = doubtful
        return True

    def take_named(self, parameter: str, role: str, kinds: Collection[str] = ()) -> bool:
        return self.take(parameter, self.named(role, kinds), "by its name")

    def take_like(self, parameter: str, kinds: Collection[str], why: str) -> bool:
        free = self.free(kinds)
        return self.take(parameter, free[0] if free else None, why, free)

    def doubt(self, parameter: str, why: str, other: str) -> None:
        """Leave a parameter without a column, though one may be it."""
        self.values[parameter] = None
        self.why[parameter] = why
        self.choices[parameter] = [other]

    def found(self, kind: str) -> Found:
        return kind, self.values, self.why, self.choices


def _groups(columns: Sequence[Column]) -> Found | None:
    roles = _Roles(columns)
    if not (roles.named("positives", ("list",)) and roles.take_named("query_column", "query")):
        return None
    roles.take_named("positives_column", "positives", ("list",))
    if not roles.take_named("negatives_column", "negatives", ("list",)):
        roles.values["negatives_column"] = None
    return roles.found("groups")


def _triplets(columns: Sequence[Column]) -> Found | None:
    roles = _Roles(columns)
    names = (("anchor_column", "anchor"), ("positive_column", "positives"), ("negative_column", "negatives"))
    if all(roles.take_named(parameter, role, ("text",)) for parameter, role in names):
        return roles.found("triplets")
    return None


def _clicks(columns: Sequence[Column]) -> Found | None:
    roles = _Roles(columns)
    time = roles.named("time", ("time",)) or next(iter(roles.free(("time",))), None)
    if not roles.take_named("query_column", "query", ("text", "id")):
        short = [column for column in roles.free(("text",)) if column.length < 60]
        if not (time and short):
            return None
        roles.take("query_column", short[0], "short texts", short)
    timed = roles.take_named("time_column", "time", ("time", "number"))
    if not timed and not roles.take("time_column", time, "its values are times"):
        roles.values["time_column"] = None
    if not roles.take_named("user_column", "user"):
        free = [c for c in roles.free(("id", "number")) if len(c.distinct) > 1 and c.length > 3 and c.share > 0.9]
        named = roles.named("session") or roles.named("url")
        if roles.values["time_column"] is None or not free or named in free:
            roles.values["user_column"] = None
        else:
            roles.take("user_column", free[0], "ids in every row", free)
    roles.take_named("session_column", "session")
    titled = roles.take_named("title_column", "title", ("text",))
    if not roles.take_named("url_column", "url") and not roles.take_like("url_column", ("url",), "addresses"):
        if not titled:
            return None
        roles.values["url_column"] = None
    roles.take_named("rank_column", "rank", ("number",))
    roles.take_named("dwell_column", "dwell", ("number",))
    clicked = roles.named("clicked")
    if clicked and labels.say_clicked(clicked.distinct):
        roles.take("clicked_column", clicked, "by its name")
    elif clicked and len(clicked.distinct) <= MOST_ACTIONS:
        why = _("not all known: {words}; so every row with a document is a click")
        roles.doubt("clicked_column", why.format(words=_shown(clicked.distinct)), clicked.name)
    who_or_when = [roles.values.get(name) for name in ("time_column", "user_column")]
    if who_or_when == [None, None] and "session_column" not in roles.values:
        return None
    return roles.found("clicks")


def _labelled(columns: Sequence[Column]) -> Found | None:
    roles = _Roles(columns)
    label = named = roles.named("label")
    if label is None:
        label = next(filter(_says_labels, roles.free(("number", "id", "text"))), None)
    if label is None or label.kind not in ("number", "id", "text"):
        return None
    numbers = {value: labels.number(value) for value in label.distinct}
    unknown = [value for value, number in numbers.items() if number is None]
    if unknown and label.kind != "number" and not labels.are_few(label.distinct):
        return None
    texts = [c for c in roles.free(("text", "id")) if c is not label]
    if not _two_texts(roles, [c for c in texts if c.kind == "text"]):
        return None
    why = "by its name" if named else "few numbers" if label.kind == "number" else _("words that say yes and no")
    if unknown:
        why = _("not known: {words}; write 1 and 0, or words of docs/data.md").format(words=_shown(unknown))
    if unknown or named is None:
        roles.choices["label_column"] = [_("no label")]
    roles.take("label_column", label, why)
    return roles.found("pairs" if {*numbers.values()} <= {0, 1, None} else "graded")


def _says_labels(column: Column) -> bool:
    """Whether a column holds labels, whatever its name."""
    if not 2 <= len(column.distinct) <= 6 or len(column.values) < 5 * len(column.distinct):
        return False
    if column.kind == "number":
        return all(re.fullmatch("[0-5]", value) for value in column.distinct)
    # an answer may be yes or no, too
    return not _is_known([column]) and {labels.number(value) for value in column.distinct} == {0, 1}


def _word_lists(place: Mapping[str, Any], columns: Sequence[Column]) -> Found | None:
    """A file of text whose lines are words of one meaning: as many as there happen to be, or two."""
    if "path" not in place or _format(Path(place["path"])) not in ("csv", "tsv") or _is_known(columns):
        return None
    read_lines, _facts = read({**place, "header": False, "delimiter": NO_DELIMITER})
    if len(read_lines) != 1:
        return None
    lines = [line for line in read_lines[0].values if not line.startswith("#")]
    if share(CILIN.match(line) is not None for line in lines) > 0.8:
        return _cilin(lines)
    arrow = "|=>" if any("=>" in line for line in lines) else ""
    for separator in SEPARATORS:
        split = [re.split(re.escape(separator) + arrow, line) for line in lines]
        counts = {len(words) for words in split}
        used = any(separator in line for line in lines)
        ragged = len(counts) > 1 or arrow or (counts == {2} and separator in "|、=")
        short = all(word and len(word) < 20 for words in split for word in words)
        if used and ragged and short and share(len(words) > 1 for words in split) > 0.8:
            values = {"words_column": "0", "separator": separator}
            # a delimiter that the lines do not have: they are not to be cut into columns
            cut = {"delimiter": "\t"} if separator in ",;|" else {}
            why = {"words_column": "short expressions, separated"}
            return "synonyms", {**cut, **values}, why, _arrows(separator, lines)
    return None


def _cilin(lines: Sequence[str]) -> Found:
    """The thesaurus: cut at the = of its codes, which lines without synonyms lack, where most lines have one."""
    why = {"words_column": "short expressions, separated"}
    if 2 * sum("=" in line for line in lines) > len(lines):
        why["separator"] = _("Cilin: lines whose code ends in # or @ hold no synonyms and are left out")
        return "synonyms", {"delimiter": "=", "words_column": "1", "separator": " "}, why, {}
    remedy = _("take the codes, and the lines with # and @, out of the file")
    return "synonyms", {"words_column": "0", "separator": " "}, why, {"separator": [remedy]}


def _arrows(separator: str, lines: Iterable[str]) -> dict[str, list[str]]:
    """The choices of a separator beside which lines have Solr's arrow, which no parameter reads."""
    if separator == "=>" or not any("=>" in line for line in lines):
        return {}
    return {"separator": [_("write {separator} in the file wherever it has =>").format(separator=separator)]}


def _qa(columns: Sequence[Column]) -> Found | None:
    roles = _Roles(columns)
    question, answer = roles.named("question", ("text", "id")), roles.named("answer", ("text", "id", "number"))
    if question and answer:
        roles.take("a_column", question, "by its name")
        roles.take("b_column", answer, "by its name")
        return _with_doubtful_label(roles).found("qa")
    texts = roles.free(("text",))
    if len(texts) < 2 or not _two_texts(roles, texts):
        return None
    if "by its name" not in roles.why.values():
        others = [c.name for c in texts if c.name not in roles.values.values()]
        roles.choices["b_column"] = others or [_("corpus instead")]
    return _with_doubtful_label(roles).found("qa")


def _with_doubtful_label(roles: _Roles) -> _Roles:
    """Pairs without a label, though a column is called one: it holds too many words to be sure."""
    label = roles.named("label")
    if label is not None and label.values:
        roles.doubt("label_column", _("every row is a positive pair"), label.name)
    return roles


def _two_texts(roles: _Roles, texts: Sequence[Column]) -> bool:
    """The two texts of a pair: by their names, else the only two, else the two most alike in name."""
    a = roles.named("a", ("text", "id"))
    if a is not None:
        roles.take("a_column", a, "by its name")
        if roles.take_named("b_column", "b", ("text", "id")):
            return True
        roles.values.clear()
    if len(texts) < 2:
        return False
    first, second = min(combinations(texts, 2), key=lambda pair: _apart(pair[0].name, pair[1].name))
    roles.take("a_column", first, "a text")
    roles.take("b_column", second, "a text", texts if len(texts) > 2 else ())
    roles.choices.get("b_column", []).clear() if len(texts) == 2 else None
    return True


def _synonyms(columns: Sequence[Column]) -> Found | None:
    roles = _Roles(columns)
    named = roles.named("words", ("text", "id", "list"))
    texts = [named] if named else roles.free(("text",)) if len(columns) == 1 else []
    for column in texts:
        separators = {one: share(len(value.split(one)) > 1 for value in column.values) for one in SEPARATORS}
        best = max(separators, key=lambda one: (separators[one] > 0.8, one != " ", separators[one]))
        pieces = [piece for value in column.values for piece in value.split(best)]
        if separators[best] > 0.8 and sum(map(len, pieces)) / len(pieces) < 12:
            roles.take("words_column", column, "by its name" if named else "short expressions, separated")
            roles.values["separator"] = best
            roles.choices |= _arrows(best, column.values)
            return roles.found("synonyms")
    return None


def _titled(columns: Sequence[Column]) -> Found | None:
    """Documents, each with its title in a column of its own."""
    roles = _Roles(columns)
    asks = {*NAMES["query"].split(), *NAMES["question"].split()}
    if not roles.take_named("title_column", "title", ("text",)):
        return None
    text = roles.named("text", ("text",))
    if text is None or _plain(text.name) in asks or roles.named("question") or roles.named("answer"):
        return None
    roles.values = {"text_column": text.name, **roles.values, "kind": "document"}
    roles.why["text_column"] = roles.why["kind"] = "by its name"
    roles.choices["title_column"] = [_("qa instead, where titles are questions")]
    return roles.found("corpus")


def _corpus(columns: Sequence[Column]) -> Found | None:
    roles = _Roles(columns)
    texts = roles.free(("text",))
    column = roles.named("text", ("text",)) or (texts[0] if len(texts) == 1 else None)
    if column is None:
        return None
    roles.take("text_column", column, "by its name" if roles.named("text") is column else "the only texts", texts)
    asks = _plain(column.name) in {*NAMES["query"].split(), *NAMES["question"].split()}
    roles.values["kind"] = "query" if asks or column.length < 25 else "document"
    roles.why["kind"] = "by its name" if asks else f"{column.length:.0f} characters on average"
    roles.choices["kind"] = [] if asks else ["document" if roles.values["kind"] == "query" else "query"]
    return roles.found("corpus")


KINDS = (_groups, _triplets, _clicks, _labelled, _titled, _qa, _synonyms, _corpus)
"""Tried in this order."""


def _shown(words: Collection[str]) -> str:
    """Some words, for a comment."""
    return ", ".join(word[:20] for word in sorted(words)[:5]) + (", …" if len(words) > 5 else "")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _apart(one: str, other: str) -> int:
    """How much two names differ, letters put in or left out."""
    from rapidfuzz.distance import Indel

    return Indel.distance(one, other)
