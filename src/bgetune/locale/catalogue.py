"""The messages of sources, notebooks and parameters, and the catalogues brought up to date with them.

    python -m bgetune.locale.catalogue

adds what is new to every catalogue, without a translation, and takes out what is no longer used. Needs Babel.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bgetune.locale import FOLDER, LANGUAGES, prose

SOURCES = FOLDER.parent
DEMO = SOURCES.with_name("bgetune_demo")
REPOSITORY = SOURCES.parents[1]

HEADER = """\
msgid ""
msgstr ""
"Language: {language}\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""
"""Of a catalogue: without dates, so that nothing changes where no message does."""


def messages() -> dict[str, list[str]]:
    """Every message -> its files.

    Messages are marked by `_` or `N_` in modules and in the notebooks' code, and by `_` in templates. The notebooks'
    Markdown and the parameters' help, which is read from `params/schema.json`, need no mark.
    """
    from babel.messages.extract import extract_from_file

    found: dict[str, list[str]] = {}
    for suffix, method in {".py": "python", ".j2": "jinja2.ext:babel_extract"}.items():
        for file in sorted([*SOURCES.rglob(f"*{suffix}"), *DEMO.rglob(f"*{suffix}")]):
            place = file.relative_to(SOURCES if file.is_relative_to(SOURCES) else SOURCES.parent).as_posix()
            for _line, message, *_rest in extract_from_file(method, str(file), keywords={"_": None, "N_": None}):
                if message:
                    assert isinstance(message, str), "no plural forms here: `_` and `N_` mark one text each"
                    found.setdefault(message, []).append(place)
    for file in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            for message in _of_cell(cell["cell_type"], "".join(cell["source"])):
                found.setdefault(message, []).append(f"notebooks/{file.name}")
    for message in _descriptions(json.loads((REPOSITORY / "params/schema.json").read_text(encoding="utf-8"))):
        found.setdefault(message, []).append("params/schema.json")
    return found


def _of_cell(kind: str, source: str) -> Iterator[str]:
    """The messages of a notebook's cell."""
    from babel.messages.extract import extract

    if kind == "markdown":
        yield from prose.pieces(source)
    else:
        for _line, message, *_rest in extract("python", io.BytesIO(source.encode()), keywords={"_": None}):
            assert isinstance(message, str), "no plural forms here: `_` marks one text"
            yield message


def _descriptions(schema: Any) -> Iterator[str]:
    """The help texts in a JSON schema, in its order."""
    if isinstance(schema, dict):
        if isinstance(help_text := schema.get("description"), str):
            yield help_text
        for part in schema.values():
            yield from _descriptions(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _descriptions(part)


def file_of(language: str) -> Path:
    """The catalogue of a language."""
    return FOLDER / language / "LC_MESSAGES" / "bgetune.po"


def update(language: str) -> None:
    """Bring the catalogue of a language up to date: the messages of today, with the translations it has."""
    from babel.messages import pofile
    from babel.messages.catalog import Catalog

    file = file_of(language)
    with file.open("rb") as source:
        old = pofile.read_po(source, locale=language)
    new = Catalog(locale=language, fuzzy=False)
    for message, places in messages().items():
        known = old.get(message)
        new.add(message, known.string if known else "", locations=[(place, 0) for place in sorted(set(places))])
    written = io.BytesIO()
    pofile.write_po(written, new, width=110, include_lineno=False, omit_header=True)
    file.write_bytes(HEADER.format(language=language).encode() + written.getvalue())


if __name__ == "__main__":
    for language in LANGUAGES:
        if file_of(language).exists():
            update(language)
