"""A first profile from a team's files: `./run_all.sh new NAME FILE...` calls `python -m bgetune.new`.

Files, folders and databases are looked at here and nowhere else: nothing is sent anywhere. What cannot be told is in
the profile as a line with the choices and `# ?`.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bgetune import files
from bgetune.config.profile import check_name
from bgetune.config.sources import Sources
from bgetune.data import recognise
from bgetune.data.recognise import Guess
from bgetune.data.text import mask_personal_data
from bgetune.errors import InputError
from bgetune.paths import ROOT

MODELS = {
    "zh": ("BAAI/bge-small-zh-v1.5", "为这个句子生成表示以用于检索相关文章："),
    "en": ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: "),
    "other": ("BAAI/bge-m3", ""),
}
"""By the language of the texts: the model, and its instruction for queries that search documents."""
LENGTHS = (32, 64, 128, 256, 512)
"""Tokens that `max_length` is chosen of."""
TOKENS = {"zh": 1.0, "en": 0.3, "other": 0.5}
"""Tokens of a character, about."""
CORES = 8
"""Of a CPU, from which a reranker on it takes hours rather than days."""
WIDTH = 44
"""Where comments begin."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh new",
        description="Look at files, folders or databases of yours and write params/NAME.yaml for them. Nothing is sent "
        "anywhere.",
    )
    parser.add_argument("name", metavar="NAME", help="of the profile, params/NAME.yaml, and of its run")
    parser.add_argument(
        "locations", nargs="+", metavar="FILE", help="file, folder, or a database: sqlite:///..., postgres://..."
    )
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)  # relative paths start there
    options = parser.parse_args(arguments)
    try:
        file = ROOT / "params" / f"{options.name}.yaml"
        check_name(options.name, "new")
        if file.exists():
            raise InputError(f"{file} is there already; delete it, or choose another name")
        guesses = look(options.locations, options.folder)
        files.write_atomic(file, profile(options.name, guesses))
    except InputError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 2
    for guess in guesses:
        print(f"\n{told(guess)}")
    doubts = file.read_text("utf-8").count("  # ?")
    print(f"\nwrote {file.relative_to(ROOT)}" + (f"; look at the lines with `# ?` ({doubts})" if doubts else ""))
    print(f"next: ./run_all.sh {options.name} --until 01   (then without --until)")
    return 0


def look(locations: Sequence[str], folder: Path) -> list[Guess]:
    """What the tables at the locations seem to be.

    Raises:
        InputError: naming every location that cannot be read.
    """
    guesses, problems = [], []
    for location in locations:
        try:
            guesses += [recognise.recognise(place) for place in recognise.places(location, folder)]
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return guesses


# --- the profile --------------------------------------------------------------------------------------------------


def profile(name: str, guesses: Sequence[Guess]) -> str:
    """The text of a profile: short, with a comment where something was recognised or chosen."""
    language, share = recognise.language([text for guess in guesses for text in guess.texts])
    model, instruction = MODELS[language]
    length, longest = _length(guesses, language)
    reranker, why = _reranker()
    said = {"zh": f"{share:.0%} of the letters are Chinese", "en": f"{share:.0%} of the letters are a to z"}
    lines = [
        "# Written by ./run_all.sh new. Lines with `# ?` are guesses to look at. All parameters: params/template.yaml",
        _line("name", name),
        _line("model", model, said.get(language, "texts of several languages")),
        *([_line("query_instruction", instruction, "of this model")] if instruction else []),
        _line("max_length", length, f"95 % of the texts have at most {longest} characters"),
        _line("reranker", reranker, why),
        "",
        "01_positives:",
        "  sources:",
    ]
    for kind in Sources.model_fields:
        of_kind = [guess for guess in guesses if guess.kind == kind]
        if of_kind:
            lines += [f"    {kind}:", *(line for guess in of_kind for line in _source(guess))]
    unknown = [line for guess in guesses if guess.kind is None for line in _unknown(guess)]
    if not any(guess.kind for guess in guesses):
        lines[-1] = "  sources: {}" + " " * 10 + "# ? what the tables hold could not be told; name the columns below"
    return "\n".join([*lines, *unknown]) + "\n"


def _source(guess: Guess) -> list[str]:
    """The lines of a source."""
    lines: list[str] = []
    for key, value in {**guess.place, **guess.parameters}.items():
        comment = guess.why.get(key, "") if lines else f"{guess.rows:,} rows looked at"
        if choices := guess.choices.get(key):
            comment = f"? {comment + ', ' if comment else ''}or: {', '.join(choices)}"
        elif value is None:
            comment = f"? no column was recognised; it has {', '.join(c.name for c in guess.columns)}"
        lines.append(_line(f"{'- ' if not lines else '  '}{key}", value, comment, indent=6))
    return lines


def _unknown(guess: Guess) -> list[str]:
    """A table whose kind cannot be told, as lines to uncomment."""
    columns = ", ".join(column.name for column in guess.columns)
    text = (
        f"? {label(guess)}: columns {columns}. What is it: {', '.join(Sources.model_fields)}? See params/template.yaml"
    )
    lines = [f"    # {line}" for line in textwrap.wrap(_plain(text), 110)]
    example = _scalar(dict(guess.place))
    return [*lines, f"    # qa: [{example}]"]


def _line(key: str, value: Any, comment: str = "", indent: int = 0) -> str:
    line = f"{' ' * indent}{key}: {_scalar(value)}"
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line)  # such a letter takes two places
    return f"{line:<{max(WIDTH - wide, 0)}}  # {_plain(comment)}" if comment else line


def _scalar(value: Any) -> str:
    dumped = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10**6)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _plain(text: str) -> str:
    """A comment stays in its line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _length(guesses: Sequence[Guess], language: str) -> tuple[int, int]:
    """`max_length`, and the characters that 95 % of the texts have at most."""
    lengths = sorted(len(text) for guess in guesses for text in guess.texts) or [0]
    longest = lengths[int(0.95 * (len(lengths) - 1))]
    tokens = longest * TOKENS[language] + 2
    return next((length for length in LENGTHS if length >= tokens), LENGTHS[-1]), longest


def _reranker() -> tuple[str | None, str]:
    """A reranker that this machine can run, and why."""
    from bgetune.models.hub import torch_device

    device = torch_device()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device == "cuda":
        return "BAAI/bge-reranker-v2-m3", "there is a GPU"
    if device == "mps" or cores >= CORES:
        return (
            "BAAI/bge-reranker-base",
            f"{'a Mac' if device == 'mps' else f'{cores} cores'} and no GPU; null is faster",
        )
    return None, f"? {cores} cores and no GPU; BAAI/bge-reranker-base confirms more pairs, and takes hours"


# --- the terminal -------------------------------------------------------------------------------------------------


def label(guess: Guess) -> str:
    place = guess.place.get("path") or guess.place["url"].split("?")[0]
    return f"{place} {guess.place['table']}" if "table" in guess.place else str(place)


def told(guess: Guess) -> str:
    """What a table was taken for, for the terminal; personal data in the examples are masked."""
    named = {value: key for key, value in guess.parameters.items() if isinstance(value, str)}
    lines = [f"{label(guess)}: {guess.kind or 'cannot be told'}"]
    for column in guess.columns:
        role = named.get(column.name, "")
        why = f" ({guess.why[role]})" if role in guess.why else ""
        example = mask_personal_data(_plain(column.values[0]))[0][:40] if column.values else "nothing"
        lines.append(f"  {column.name}: {role.removesuffix('_column') or 'not used'}{why}; such as {example}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
