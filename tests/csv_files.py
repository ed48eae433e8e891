"""CSV files in every dialect, read by pandas as the oracle and by us: both agree, or ours refuses.

python tests/csv_files.py          # 2,000 files, prints how many agreed and how many were refused
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from bgetune.config.sources import PairSource
from bgetune.data import missing
from bgetune.data.sources import read_pairs
from bgetune.errors import InputError

LETTERS = st.characters(codec="gb18030", exclude_categories=("C", "Z")) | st.sampled_from('",\t;|\\ 中文\n\n')
CELL = st.text(LETTERS, max_size=20) | st.sampled_from(
    [
        "步骤:\n登录,点设置,改密码\n完成",
        'say "hi"',
        "a,b",
        "C:\\new\\",
        '"',
        '""',
        "第一\n第二",
        "x\ty",
        '5" pipe',
        "a;b|c",
    ]
)


@dataclass(frozen=True)
class Written:
    """A file as a program wrote it, and what pandas must know to read it."""

    data: bytes
    encoding: str
    delimiter: str
    options: dict
    escape: bool


@st.composite
def files(draw) -> Written:
    delimiter = draw(st.sampled_from(",\t;|"))
    dialect = draw(st.sampled_from(["minimal", "all", "nonnumeric", "escaped quotes", "no quotes"]))
    width = draw(st.integers(2, 5))
    columns = [*draw(st.permutations(["question", "answer"])), *(f"c{n}" for n in range(width - 2))]
    columns = draw(st.permutations(columns))
    rows = draw(st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=8))
    style = {"minimal": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL, "nonnumeric": csv.QUOTE_NONNUMERIC}
    options = {"quoting": style.get(dialect, csv.QUOTE_MINIMAL)}
    escape = dialect in ("escaped quotes", "no quotes")
    if escape:
        options = {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL}
        if dialect == "no quotes":
            options["quoting"] = csv.QUOTE_NONE
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    with tempfile.SpooledTemporaryFile(mode="w+", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, delimiter=delimiter, lineterminator=newline, **options)
        writer.writerow(columns)
        writer.writerows(rows)
        out.seek(0)
        text = out.read()
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "gb18030", "utf-16"]))
    return Written(text.encode(encoding), encoding, delimiter, options, escape)


def by_pandas(file: Path, written: Written) -> list[tuple[list[str], list[str]]]:
    """The usable pairs as pandas reads them, blanks normalised."""
    options = {"doublequote": False, "escapechar": "\\"} if written.escape else {}
    if written.options["quoting"] == csv.QUOTE_NONE:
        options["quoting"] = csv.QUOTE_NONE
    table = pd.read_csv(
        file, sep=written.delimiter, encoding=written.encoding, dtype=str, keep_default_na=False, **options
    )
    pairs = zip(table.question, table.answer, strict=True)
    return [(a.split(), b.split()) for a, b in pairs if not (_is_missing(a) or _is_missing(b))]


def _is_missing(text: str) -> bool:
    return text.strip() in ("", *missing.NARROW)


def by_us(file: Path, written: Written) -> list[tuple[list[str], list[str]]] | None:
    """The same as we read them; None where we refuse the file or a row of it."""
    source = PairSource(
        path=str(file),
        a_column="question",
        b_column="answer",
        delimiter=written.delimiter,
        encoding=None if written.encoding != "gb18030" else written.encoding,
        escape=written.escape,
    )
    try:
        table, dropped = read_pairs(source)
    except InputError:
        return None
    if set(dropped.reason) - {"no text"}:
        return None
    return [(a.split(), b.split()) for a, b in zip(table.a, table.b, strict=True)]


def compare(written: Written, folder: Path) -> str:
    """agreed, or refused.

    Raises:
        AssertionError: where the two readers disagree.
    """
    file = folder / "file.csv"
    file.write_bytes(written.data)
    try:
        expected = by_pandas(file, written)
    except (pd.errors.ParserError, ValueError):
        return "pandas refused"
    found = by_us(file, written)
    assert found is None or found == expected, (written, found, expected)
    return "refused" if found is None and expected else "agreed"


def main(number: int = 2000) -> None:
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:

        @settings(
            max_examples=number,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(files())
        def run(written: Written) -> None:
            outcome = compare(written, Path(folder))
            counts[outcome] = counts.get(outcome, 0) + 1

        run()
    print(counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", nargs="?", type=int, default=2000, help="of files")
    main(parser.parse_args().number)
