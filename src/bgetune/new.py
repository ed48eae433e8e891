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
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from bgetune import files
from bgetune.config import generate
from bgetune.config.profile import check_name
from bgetune.config.sources import Sources
from bgetune.data import letters, recognise, ubi
from bgetune.data.recognise import Guess
from bgetune.data.text import mask_personal_data
from bgetune.errors import InputError
from bgetune.locale import N_, _, language as language_of_people
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
HOW = (
    *(N_("by its name"), N_("short texts"), N_("its values are times"), N_("ids in every row"), N_("addresses")),
    *(N_("few numbers"), N_("a text"), N_("short expressions, separated"), N_("the only texts")),
)
"""How `recognise` tells a column, for the catalogues."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh new",
        description=_(
            "Look at files, folders or databases of yours and write params/NAME.yaml for them. Nothing is sent "
            "anywhere."
        ),
    )
    parser.add_argument("name", metavar="NAME", help=_("of the profile, params/NAME.yaml, and of its run"))
    parser.add_argument(
        "locations", nargs="+", metavar="FILE", help=_("file, folder, or a database: sqlite:///..., postgres://...")
    )
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)  # relative paths start there
    options = parser.parse_args(arguments)
    try:
        file = ROOT / "params" / f"{options.name}.yaml"
        check_name(options.name, "new")
        if file.exists():
            raise InputError(_("{file} is there already; delete it, or choose another name").format(file=file))
        guesses = look(options.locations, options.folder)
        files.write_atomic(file, profile(options.name, guesses))
    except InputError as error:
        print("\n" + _("error: {message}").format(message=error), file=sys.stderr)
        return 2
    for guess in guesses:
        print(f"\n{told(guess)}")
    doubts = file.read_text("utf-8").count("  # ?")
    written = _("wrote {file}").format(file=file.relative_to(ROOT))
    print(f"\n{written}" + (_("; look at the lines with `# ?` ({number})").format(number=doubts) if doubts else ""))
    print(_("next: {command}   (then without --until)").format(command=f"./run_all.sh {options.name} --until 01"))
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
    return _with_ubi(guesses)


def _with_ubi(guesses: list[Guess]) -> list[Guess]:
    """The tables, with a file of UBI's queries and one of its events as one click log."""
    found = [
        next((g for g in guesses if "path" in g.place and ubi.is_part([c.name for c in g.columns], wanted)), None)
        for wanted in (ubi.QUERIES, ubi.EVENTS)
    ]
    queries, events = found
    if queries is None or events is None:
        return guesses
    place = {"url": "duckdb://", "query": ubi.select(queries.place["path"], events.place["path"])}
    log = replace(queries, place=place, kind="clicks", parameters=ubi.COLUMNS)
    return [log, *(guess for guess in guesses if guess is not queries and guess is not events)]


# --- the profile --------------------------------------------------------------------------------------------------


def profile(name: str, guesses: Sequence[Guess]) -> str:
    """The text of a profile: short, with a comment where something was recognised or chosen."""
    language, share = letters.language([text for guess in guesses for text in guess.texts])
    model, instruction = MODELS[language]
    length, longest = _length(guesses, language)
    reranker, why = _reranker()
    said = {"zh": _("{share:.0%} of the letters are Chinese"), "en": _("{share:.0%} of the letters are a to z")}
    head = _("Written by ./run_all.sh new. Lines with `# ?` are guesses to look at. All parameters: {file}")
    most = _("95 % of the texts have at most {longest} characters")
    lines = [
        f"# {head.format(file=template())}",
        _line("name", name),
        _line("model", model, said.get(language, _("texts of several languages")).format(share=share)),
        *([_line("query_instruction", instruction, _("of this model"))] if instruction else []),
        _line("max_length", length, most.format(longest=longest)),
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
        doubt = _("what the tables hold could not be told; name the columns below")
        lines[-1] = "  sources: {}" + " " * 10 + f"# ? {doubt}"
    if {guess.kind for guess in guesses} == {"corpus"}:
        hint = _("Documents alone: a language model can write their queries, see docs/cold-start.md")
        unknown += ["", f"# {hint}", "# 02_backtranslate:", "#   generation: {base_url: https://host/v1, model: NAME}"]
    return "\n".join([*lines, *unknown]) + "\n"


def _source(guess: Guess) -> list[str]:
    """The lines of a source."""
    lines: list[str] = []
    for key, value in {**guess.place, **guess.parameters}.items():
        comment = _how(guess, key) if lines else _("{rows:,} rows looked at").format(rows=guess.rows)
        if choices := guess.choices.get(key):
            others = _("or: {names}").format(names=", ".join(choices))
            comment = f"? {comment + ', ' if comment else ''}{others}"
        elif value is None:
            none = _("no column was recognised; it has {names}")
            comment = f"? {none.format(names=', '.join(c.name for c in guess.columns))}"
        lines.append(_line(f"{'- ' if not lines else '  '}{key}", value, comment, indent=6))
    return lines


def _how(guess: Guess, parameter: str) -> str:
    """How a column was recognised, "" where it was not."""
    return _(guess.why.get(parameter, ""))


def template() -> str:
    """The file that explains every parameter in the language in use."""
    return generate.TEMPLATES.get(language_of_people(), generate.TEMPLATES["en"])


def _unknown(guess: Guess) -> list[str]:
    """A table whose kind cannot be told, as lines to uncomment."""
    columns, kinds = ", ".join(column.name for column in guess.columns), ", ".join(Sources.model_fields)
    unknown = _("{place}: columns {columns}. What is it: {kinds}? See {file}")
    text = "? " + unknown.format(place=label(guess), columns=columns, kinds=kinds, file=template())
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
        return "BAAI/bge-reranker-v2-m3", _("there is a GPU")
    if device == "mps" or cores >= CORES:
        return "BAAI/bge-reranker-base", _("{cores} cores and no GPU; null is faster").format(cores=cores)
    slow = _("{cores} cores and no GPU; BAAI/bge-reranker-base confirms more pairs, and takes hours")
    return None, f"? {slow.format(cores=cores)}"


# --- the terminal -------------------------------------------------------------------------------------------------


def label(guess: Guess) -> str:
    place = guess.place.get("path") or guess.place["url"].split("?")[0]
    return f"{place} {guess.place['table']}" if "table" in guess.place else str(place)


def told(guess: Guess) -> str:
    """What a table was taken for, for the terminal; personal data in the examples are masked."""
    named = {value: key for key, value in guess.parameters.items() if isinstance(value, str)}
    kind = guess.kind or _("cannot be told")
    lines = [f"{label(guess)}: {kind}"]
    for column in guess.columns:
        role = named.get(column.name, "")
        why = f" ({_how(guess, role)})" if role in guess.why else ""
        example = mask_personal_data(_plain(column.values[0]))[0][:40] if column.values else _("nothing")
        what = (role.removesuffix("_column") or _("not used")) + why
        lines.append(
            "  " + _("{column}: {what}; such as {example}").format(column=column.name, what=what, example=example)
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
