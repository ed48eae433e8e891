"""Text cut into records and fields: RFC 4180 with any delimiter, or backslash escapes, whichever the file uses.

A record is cut by its quotes where it is RFC 4180 as a whole (a quote inside an unquoted field is a character), else at
every delimiter. A quoted field may run over lines; where its quote never closes, or the record that it makes has not
the file's number of fields, the quote is a character of that line alone.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from bgetune.data.engine import literal

DELIMITERS = ("\t", ",", ";", "|", "\x01")
"""Those that are looked for, the first of equally good ones taken."""
MAX_LINES, MAX_CHARACTERS = 10_000, 4 << 20
"""How far a quoted field may run."""


@dataclass(frozen=True)
class Dialect:
    """How a file of text separates fields.

    Attributes:
        delimiter: between fields; "" where a line is one field.
        escape: whether a backslash takes the next character literally (Spark, Hive, MySQL); "" inside quotes stays.
        stray: whether the first lines hold quotes that nothing that writes CSV writes: they are characters, as in
            logs, and two of them in different rows do not make one field of these.
    """

    delimiter: str
    escape: bool = False
    stray: bool = False

    @property
    def quotes(self) -> bool:
        """Whether fields may be quoted: not between delimiters of several characters."""
        return len(self.delimiter) <= 1


# --- one record ---------------------------------------------------------------------------------------------------
# The patterns without escapes work alike in Python and in DuckDB (RE2).


def _body(escape: bool) -> str:
    """What stands between two quotes."""
    return r'(?:[^"\\]|""|\\.)*' if escape else '(?:[^"]|"")*'


def _plain(dialect: Dialect) -> str:
    """A field without quotes around it."""
    delimiter = re.escape(dialect.delimiter)
    if dialect.escape:
        return rf'(?:[^{delimiter}"\\]|\\.)(?:[^{delimiter}\\]|\\.)*'
    return f'[^{delimiter}"][^{delimiter}]*' if delimiter else '[^"].*'


def _field(dialect: Dialect) -> str:
    return f'"{_body(dialect.escape)}"|{_plain(dialect)}|'


@cache
def _grammar(dialect: Dialect) -> re.Pattern:
    """A whole record."""
    one, delimiter = _field(dialect), re.escape(dialect.delimiter)
    return re.compile(f"(?:{one})(?:{delimiter}(?:{one}))*" if delimiter else one, re.DOTALL)


@cache
def _open(dialect: Dialect) -> re.Pattern:
    """The beginning of a record that runs on: inside quotes (group 1), or at a backslash before the line's end."""
    delimiter = re.escape(dialect.delimiter)
    before = f"(?:(?:{_field(dialect)}){delimiter})*" if delimiter else ""
    if dialect.escape:
        return re.compile(rf'{before}(?:(")(?:{_body(True)})\\?|(?:{_plain(dialect)})?\\)', re.DOTALL)
    return re.compile(f'{before}(")(?:{_body(False)})', re.DOTALL)


def _marked(line: str, dialect: Dialect) -> bool:
    """Whether a line has a quote or an escape."""
    return dialect.quotes and ('"' in line or (dialect.escape and "\\" in line))


def is_regular(text: str, dialect: Dialect) -> bool:
    """Whether a record keeps the grammar."""
    return not _marked(text, dialect) or _grammar(dialect).fullmatch(text) is not None


def is_open(text: str, dialect: Dialect) -> bool:
    """Whether a quote of a record never closes."""
    return _marked(text, dialect) and not is_regular(text, dialect) and _open(dialect).fullmatch(text) is not None


def cut(text: str, dialect: Dialect) -> list[str]:
    """The fields of a record."""
    delimiter = dialect.delimiter
    if not _marked(text, dialect) or not _grammar(dialect).fullmatch(text):
        return text.split(delimiter) if delimiter else [text]
    fields = [text]
    if delimiter:
        fields = re.findall(f"{re.escape(delimiter)}({_field(dialect)})", delimiter + text, re.DOTALL)
    fields = [field[1:-1].replace('""', '"') if field.startswith('"') else field for field in fields]
    return [_unescaped(field) for field in fields] if dialect.escape else fields


def _unescaped(field: str) -> str:
    r"""A field without its escapes; \N (null) stays, and the letters of \n, \r and \t are blanks."""
    if "\\" not in field or field == "\\N":
        return field
    return re.sub(r"\\(.)", lambda match: " " if match[1] in "nrt" else match[1], field, flags=re.DOTALL)


def cut_sql(delimiter: str) -> str:
    """`cut` of the column `line` in DuckDB, for a dialect without escapes."""
    plain = f"string_split(line, {literal(delimiter)})" if delimiter else "[line]"
    if len(delimiter) > 1:
        return plain
    dialect = Dialect(delimiter)
    quotes = """length(line) - length(replace(line, '"', ''))"""
    # all fields quoted and no quote inside: the common case of quoting, much faster than by the pattern
    simple = f"""string_split(line[2:-2], {literal(f'"{delimiter}"')})""" if delimiter else "[line[2:-2]]"
    is_simple = f"""line[1] = '"' AND line[-1] = '"' AND {quotes} = 2 * len({simple})"""
    fields = plain
    if delimiter:
        pattern = literal(f"{re.escape(delimiter)}({_field(dialect)})")
        fields = f"regexp_extract_all({literal(delimiter)} || line, {pattern}, 1)"
    unquote = """lambda x: CASE WHEN x[1] = '"' THEN replace(x[2:-2], '""', '"') ELSE x END"""
    is_quoted = f"regexp_full_match(line, {literal(_grammar(dialect).pattern)})"
    return (
        f"CASE WHEN NOT contains(line, '\"') THEN {plain} WHEN {is_simple} THEN {simple} "
        f"WHEN {is_quoted} THEN list_transform({fields}, {unquote}) ELSE {plain} END"
    )


def written(fields: Iterable[str], delimiter: str) -> str:
    """A record as one line without escapes, that `cut` cuts into these fields, line breaks as blanks."""
    cells = []
    for field in fields:
        field = re.sub("\r\n|\r|\n", " ", field)
        special = '"' in field or (delimiter and delimiter in field)
        cells.append('"' + field.replace('"', '""') + '"' if special else field)
    return delimiter.join(cells)


# --- records of lines ---------------------------------------------------------------------------------------------


def records(lines: Iterable[str], dialect: Dialect, width: int | None) -> Iterator[str]:
    """Records: lines, those that one quoted field runs over joined by line feeds.

    Args:
        width: fields of a record; None: whatever comes.
    """
    lines = iter(lines)
    waiting: deque[str] = deque()
    quotes_fields = False
    while (line := waiting.popleft() if waiting else next(lines, None)) is not None:
        if not _marked(line, dialect):
            yield line
            continue
        opened = None if _grammar(dialect).fullmatch(line) else _open(dialect).fullmatch(line)
        if opened is None:
            quotes_fields = quotes_fields or _proves_quoting(line, dialect)
            yield line
            continue
        taken, characters = [line], len(line)
        while opened is not None and len(taken) < MAX_LINES and characters < MAX_CHARACTERS:
            further = waiting.popleft() if waiting else next(lines, None)
            if further is None:
                break
            taken.append(further)
            characters += len(further)
            # where a field is open, the next line is what follows an opening quote
            further = ('"' if opened[1] else "x") + further
            if not (opened[1] and '"' not in further[1:] and not dialect.escape):
                opened = None if _grammar(dialect).fullmatch(further) else _open(dialect).fullmatch(further)
                closed = opened is None and is_regular(further, dialect)
        text = "\n".join(taken)
        if len(taken) > 1 and opened is None and closed and _is_record(text, taken, dialect, width, quotes_fields):
            quotes_fields = True
            yield text
        else:
            waiting.extendleft(reversed(taken[1:]))
            yield line


def _proves_quoting(line: str, dialect: Dialect) -> bool:
    """Whether a line holds a quoted field that had to be quoted."""
    fields = cut(line, dialect)
    special = any('"' in field or (dialect.delimiter and dialect.delimiter in field) for field in fields)
    return special and is_regular(line, dialect) and not _has_stray(line, dialect)


def _has_stray(line: str, dialect: Dialect) -> bool:
    """Whether a line holds a quote that is neither around a field nor inside such a field."""
    if '"' not in line or not dialect.quotes or _open(dialect).fullmatch(line):
        return False
    if not is_regular(line, dialect):
        return True
    delimiter = dialect.delimiter
    fields = (
        re.findall(f"{re.escape(delimiter)}({_field(dialect)})", delimiter + line, re.DOTALL) if delimiter else [line]
    )
    return any('"' in field and not field.startswith('"') for field in fields)


def _is_record(text: str, lines: Sequence[str], dialect: Dialect, width: int | None, quotes_fields: bool) -> bool:
    """Whether lines are one record, and not several between two quotes that are characters.

    They are several where the record has not the file's width; and where each is a whole row, no other field of the
    file needed its quotes so far, and the file has stray quotes or there are three rows of three fields or more.
    """
    if width is None:
        return True
    if len(cut(text, dialect)) != width:
        return False
    if quotes_fields or width < 2 or any(line.count(dialect.delimiter) != width - 1 for line in lines):
        return True
    return not (dialect.stray or (len(lines) > 2 and width > 2))


# --- which dialect ------------------------------------------------------------------------------------------------


def recognise(
    lines: Sequence[str],
    wanted: Collection[str],
    *,
    header: bool,
    delimiter: str | None = None,
    escape: bool | None = None,
) -> Dialect:
    """The dialect that finds most of the wanted columns, then the one in which most lines are regular records.

    Args:
        lines: the first lines of a file.
        wanted: names of columns.
        header: whether the first line that is not blank names the columns.
        delimiter, escape: what is known already.
    """
    filled = [line for line in lines if line.strip()]
    delimiters = DELIMITERS if delimiter is None else (delimiter,)
    escapes = (False, True) if escape is None and any("\\" in line for line in filled) else (bool(escape),)
    fits = {}
    for one in (Dialect(d, e) for d in delimiters for e in escapes):
        if not one.delimiter or any(one.delimiter in line for line in filled) or delimiter is not None:
            fits[one] = _fit(filled, wanted, header, one)
    best = _best(fits, filled, wanted, header, delimiter, escapes)
    return replace(best, stray=any(_has_stray(line, best) for line in filled))


def _best(
    fits: dict[Dialect, tuple[int, float]],
    filled: Sequence[str],
    wanted: Collection[str],
    header: bool,
    delimiter: str | None,
    escapes: Sequence[bool],
) -> Dialect:
    if not fits:
        return Dialect("", _one_column_escapes(filled, escapes))
    best = max(fits, key=fits.__getitem__)
    found, share = fits[best]
    # where no wanted column is there, the message should still name the columns that are
    unnamed = header and filled[0].strip().strip('"') not in wanted
    if delimiter is None and not (share > 0 and (found or unnamed)):
        return Dialect("", _one_column_escapes(filled, escapes))
    return best


def _one_column_escapes(lines: Sequence[str], escapes: Sequence[bool]) -> bool:
    shares = {escape: sum(is_regular(line, Dialect("", escape)) for line in lines) for escape in escapes}
    return max(escapes, key=shares.__getitem__)


def _fit(lines: Sequence[str], wanted: Collection[str], header: bool, dialect: Dialect) -> tuple[int, float]:
    if header:
        first = cut(next(records(lines, dialect, None)), dialect)
    else:
        width = Counter(len(cut(line, dialect)) for line in lines).most_common(1)[0][0]
        first = [str(number) for number in range(width)]
    width = len(first)
    if width == 1 and dialect.delimiter:
        return 0, 0.0
    regular = 0
    for text in records(lines, dialect, width):
        if len(cut(text, dialect)) == width and is_regular(text, dialect):
            regular += 1 + text.count("\n")
    share = regular / len(lines)
    names = {" ".join(name.split()) for name in first}
    # one text a row: a comma in some of them is no delimiter
    return (len(names.intersection(wanted)) if header or share > 0.9 else 0), share
