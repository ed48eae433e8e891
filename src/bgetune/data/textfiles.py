"""Files of text: their encoding, their first lines, and a copy that DuckDB can cut into lines.

A file is looked through once before DuckDB sees it: one that is not clean UTF-8 with one record a line is rewritten to
a temporary copy that is.
"""

from __future__ import annotations

import codecs
import gzip
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa

from bgetune.data import delimited, engine
from bgetune.data.delimited import Dialect
from bgetune.errors import InputError, joined
from bgetune.locale import _

CHUNK = 8 << 20
"""Bytes of a file that are looked at at once; a line must fit in."""
HEAD_BYTES, HEAD_LINES = 1 << 20, 1000
"""How much of a file is looked at to recognise it: as many lines, or lines of as many bytes together."""
MAX_BAD_SHARE = 0.1
"""A file of which more lines than this cannot be decoded is in another encoding."""


@dataclass(frozen=True)
class TextFile:
    """A file of text.

    Attributes:
        path: where it lies, gzipped or not.
        name: what messages call it.
        encoding: as the profile gives it; None: recognised.
    """

    path: Path
    name: str
    encoding: str | None = None


@dataclass(frozen=True)
class Clean:
    """A file that DuckDB can cut into lines.

    Attributes:
        path: the given file if possible.
        skip: lines before the first record.
        delimiter: between the fields of a record, which has no escapes.
        lost: (reason, lines, example) of what could not be decoded, or None.
    """

    path: Path
    skip: int
    delimiter: str
    lost: tuple[str, int, str] | None = None


def is_zipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def chunks(file: TextFile, size: int = CHUNK) -> Iterator[bytes]:
    """A file's bytes, unzipped, in pieces of whole lines."""
    try:
        with gzip.open(file.path) if is_zipped(file.path) else file.path.open("rb") as stream:
            rest = b""
            while len(block := stream.read(size)) == size:
                end = block.rfind(b"\n") + 1
                if not end and len(rest) > CHUNK:
                    raise InputError(
                        _("{file}: a line of more than {size} MB; is this a text file?").format(
                            file=file.name, size=CHUNK >> 20
                        )
                    )
                if end:
                    yield rest + block[:end]
                rest = block[end:] if end else rest + block
            if rest + block:
                yield rest + block
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            _("{file}: damaged gzip file ({problem}); copy or pack it again").format(file=file.name, problem=error)
        ) from None


@cache
def head(file: TextFile, *_version: int) -> tuple[str, ...]:
    """The first lines, decoded; the last one, which may be cut off, left out where there are more.

    Raises:
        InputError: naming the file, where it is empty or its encoding unknown.
    """
    data = _beginning(file)
    encoding = file.encoding or recognise(file, data)
    try:
        text = data.decode(encoding, errors="replace")
    except LookupError:
        raise InputError(
            _("{file}: encoding {encoding} is unknown; for example utf-8, gb18030, big5").format(
                file=file.name, encoding=encoding
            )
        ) from None
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not any(line.strip() for line in lines):
        raise InputError(_("{file}: the file is empty; export it again").format(file=file.name))
    return tuple(lines[:HEAD_LINES])


def encoding_of(file: TextFile) -> str:
    """The encoding by which a file's first lines are read."""
    return file.encoding or recognise(file, _beginning(file))


def _beginning(file: TextFile) -> bytes:
    """What is looked at to recognise a file: whole lines, however long the first ones are."""
    data = b""
    for chunk in chunks(file, HEAD_BYTES):
        data += chunk
        if len(data) >= HEAD_BYTES or data.count(b"\n") > HEAD_LINES:
            break
    return data


# --- encodings ----------------------------------------------------------------------------------------------------


def recognise(file: TextFile, data: bytes) -> str:
    """UTF-8 unless most lines that could tell are not; UTF-16 by its mark; else GB18030 if that reads as Chinese.

    GB18030 can decode nearly everything, so success proves nothing; but nearly all characters of Chinese text are of
    those that GB 2312 (simplified) or Big5 (traditional) calls common, and other encodings read so are not.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    telling = [line for line in data.split(b"\n") if not line.isascii()]
    valid = sum(decodes(line, "utf-8") for line in telling)
    if 2 * valid >= len(telling):
        return "utf-8"
    sample = b"\n".join(telling)[:CHUNK]
    if _is_gb18030(sample):
        return "gb18030"
    raise InputError(
        joined(
            _("{file}: neither UTF-8 nor GB18030").format(file=file.name),
            could_be(data),
            _("set encoding, such as big5"),
        )
    )


def _is_gb18030(data: bytes) -> bool:
    letters = _letters(data, "gb18030")
    if _share(letters, _is_common_simplified) < 0.8:
        common = _share(letters, _is_common)
        if common < 0.5 or common < _share(_letters(data, "big5"), _is_common) + 0.1:
            return decodes(data, "gb18030") and not decodes(data, "big5") and _guessed(data) in _GB_NAMES
    # every Korean syllable is a common character of GB 2312
    return len(letters) < 100 or _guessed(data) != "cp949" or _share(letters, _FREQUENT.__contains__) > 0.05


def _letters(data: bytes, encoding: str) -> list[str]:
    """The letters that are not ASCII, and what the encoding cannot read."""
    text = data.decode(encoding, "replace")
    return [letter for letter in text if letter > "\x7f" and (letter.isalpha() or letter == "\ufffd")]


def _share(letters: list[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, letters)) / max(len(letters), 1)


@cache
def _is_common_simplified(letter: str) -> bool:
    """Whether a Chinese character is one of GB 2312's 3,755 common ones."""
    return "\u4e00" <= letter <= "\u9fff" and b"\xb0" <= letter.encode("gb2312", "ignore")[:1] <= b"\xd7"


@cache
def _is_common(letter: str) -> bool:
    """Whether a Chinese character is common in GB 2312 or one of Big5's 5,401 common ones."""
    traditional = "\u4e00" <= letter <= "\u9fff" and b"\xa4" <= letter.encode("big5", "ignore")[:1] <= b"\xc6"
    return traditional or _is_common_simplified(letter)


_FREQUENT = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里怎么如何请问"
)


_GB_NAMES = ("gb18030", "gbk", "gb2312", "cp936", "hz")


def could_be(data: bytes) -> str:
    """What a file's encoding could be, for a message; "" where there is no telling."""
    best = _guessed(data)
    known = best and best not in (*_GB_NAMES, "utf_8", "ascii")
    return _("it could be {encoding}").format(encoding=best) if known else ""


def _guessed(data: bytes) -> str | None:
    import charset_normalizer  # of bgetune[sources]; a file in UTF-8 needs no guess

    best = charset_normalizer.from_bytes(data[: 1 << 18]).best()
    return best.encoding if best else None


def decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


# --- one record a line --------------------------------------------------------------------------------------------


def clean(file: TextFile, dialect: Dialect | None = None, *, width: int = 0, skip: int = 0, rows: int = 0) -> Clean:
    """A file that DuckDB can cut into lines.

    Rewritten is what is not UTF-8, or holds NUL characters, lone carriage returns, escapes, or fields over lines.

    Args:
        dialect: of a file of records; None where a line is a line.
        width: fields of a record.
        skip: lines before the first record or the header.
        rows: records before the first one that counts: 1 for a header.

    Raises:
        InputError: naming file and line, where too much of it cannot be decoded.
    """
    stat = file.path.stat()
    return _clean(file, dialect, width, skip, rows, stat.st_size, stat.st_mtime_ns)


@cache
def _clean(file: TextFile, dialect: Dialect | None, width: int, skip: int, rows: int, *_version: int) -> Clean:
    encoding = file.encoding and codecs.lookup(file.encoding).name
    head_lines = _first_lines(head(file)[skip:], dialect, width, rows)
    if head_lines is not None:
        for chunk in chunks(file):
            if encoding is None and not chunk.isascii():
                encoding = recognise(file, chunk)
            if not (
                encoding in (None, "utf-8", "utf-8-sig", "ascii")
                and _is_utf8(chunk)
                and b"\0" not in chunk
                and (b"\r" not in chunk or chunk.count(b"\r") == chunk.count(b"\r\n"))
                and not (dialect and _runs_on(chunk, dialect))
            ):
                break
        else:
            return Clean(file.path, skip + head_lines, dialect.delimiter if dialect else "")
    return _rewrite(file, encoding or encoding_of(file), dialect, width, skip, rows)


def _is_utf8(chunk: bytes) -> bool:
    """Whether a chunk is valid UTF-8; Arrow can tell several times as fast as Python can decode."""
    offsets = pa.py_buffer(struct.pack("<2q", 0, len(chunk)))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(chunk)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _first_lines(lines: Iterable[str], dialect: Dialect | None, width: int, rows: int) -> int | None:
    """Lines that the first records take with the blank ones before them; None where one runs over lines."""
    taken = 0
    for number, text in enumerate(delimited.records(lines, dialect, width) if dialect and rows else ()):
        if rows == 0:
            break
        if "\n" in text:
            return None
        rows -= bool(text.strip())
        taken = number + 1
    return taken


def _runs_on(chunk: bytes, dialect: Dialect) -> bool:
    """Whether a chunk has escapes, or a field that runs on over the end of a line."""
    if dialect.escape and b"\\" in chunk:
        return True
    if b'"' not in chunk or not dialect.quotes:
        return False
    odd = (line for line in chunk.splitlines() if line.count(b'"') % 2)
    return any(not delimited.is_regular(line.decode("utf-8"), dialect) for line in odd)


def _rewrite(file: TextFile, encoding: str, dialect: Dialect | None, width: int, skip: int, rows: int) -> Clean:
    target = engine.workspace() / f"clean_{next(engine.numbers)}.txt"
    bad: list[tuple[int, str]] = []
    total = 0

    def lines() -> Iterator[str]:
        nonlocal total
        for total, line in enumerate(decoded(file, encoding), start=1):
            if total <= skip:
                continue
            if isinstance(line, bytes):
                bad.append((total, line.decode(encoding, errors="replace")))
            else:
                yield line.replace("\0", "")

    texts = lines()
    if dialect:
        texts = (one_line(text, dialect) for text in delimited.records(texts, dialect, width))
    with target.open("w", encoding="utf-8", newline="", errors="surrogatepass") as out:
        for text in texts:
            if rows and text.strip():
                rows -= 1
            elif not rows:
                out.write(text + "\n")
    if len(bad) > MAX_BAD_SHARE * total:
        share = _("{file}, line {line}: not {encoding} ({bad} of {lines} lines are not)").format(
            file=file.name, line=bad[0][0], encoding=encoding, bad=len(bad), lines=total
        )
        raise InputError(joined(share, could_be(next(chunks(file))), _("set encoding")))
    lost = (f"not {encoding}", len(bad), f"line {bad[0][0]}: {bad[0][1]}") if bad else None
    return Clean(target, 0, dialect.delimiter if dialect else "", lost)


def one_line(text: str, dialect: Dialect) -> str:
    """A record as one line without escapes."""
    if "\n" in text or (dialect.escape and ("\\" in text or '"' in text)):
        return delimited.written(delimited.cut(text, dialect), dialect.delimiter)
    return text


def decoded(file: TextFile, encoding: str) -> Iterator[str | bytes]:
    """The lines of a file without their ends, as bytes where they cannot be decoded."""
    if encoding.replace("_", "-").startswith("utf-16"):
        try:
            data = b"".join(chunks(file)).decode(encoding)
        except UnicodeDecodeError as error:
            raise InputError(
                _("{file}: not {encoding} ({reason} at byte {position}); set encoding").format(
                    file=file.name, encoding=encoding, reason=error.reason, position=error.start
                )
            ) from None
        yield from re.split("\r\n|\r|\n", data.removeprefix("\ufeff"))
        return
    first = True
    for chunk in chunks(file):
        chunk = chunk.removeprefix(codecs.BOM_UTF8) if first and encoding.startswith("utf-8") else chunk
        first = False
        chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b" " if b"\n" in chunk else b"\n").removesuffix(b"\n")
        if decodes(chunk, encoding):
            yield from chunk.decode(encoding).split("\n")
        else:
            yield from (line.decode(encoding) if decodes(line, encoding) else line for line in chunk.split(b"\n"))


def lines_sql(file: Clean) -> str:
    """The lines of a clean file as rows (`line`); a blank one is null."""
    compression = "gzip" if is_zipped(file.path) else "none"
    return (
        f"read_csv({engine.path_literal(file.path)}, columns = {{'line': 'VARCHAR'}}, auto_detect = false, "
        f"header = false, skip = {file.skip}, delim = '', quote = '', escape = '', strict_mode = false, "
        f"max_line_size = {2 * CHUNK}, compression = '{compression}')"
    )
