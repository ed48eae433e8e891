"""The messages of the sources, and the catalogues brought up to date with them.

    python -m bgetune.locale.catalogue

adds what is new to every catalogue, without a translation, and takes out what is no longer used. Needs Babel.
"""

from __future__ import annotations

import io
from pathlib import Path

from bgetune.locale import FOLDER, LANGUAGES

SOURCES = FOLDER.parent

HEADER = """\
msgid ""
msgstr ""
"Language: {language}\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""
"""Of a catalogue: without dates, so that nothing changes where no message does."""


def messages() -> dict[str, list[str]]:
    """Every message that is marked for translation, by `_` or `N_` in modules and by `_` in templates -> its files."""
    from babel.messages.extract import extract_from_file

    found: dict[str, list[str]] = {}
    for suffix, method in {".py": "python", ".j2": "jinja2.ext:babel_extract"}.items():
        for file in sorted(SOURCES.rglob(f"*{suffix}")):
            for _line, message, *_rest in extract_from_file(method, str(file), keywords={"_": None, "N_": None}):
                if message:
                    assert isinstance(message, str), "no plural forms here: `_` and `N_` mark one text each"
                    found.setdefault(message, []).append(file.relative_to(SOURCES).as_posix())
    return found


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
