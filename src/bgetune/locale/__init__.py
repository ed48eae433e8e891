"""The language of what people read: English in the code, other languages in gettext catalogues.

A catalogue is `locale/LANGUAGE/LC_MESSAGES/bgetune.po`, a text file that translators edit; it is compiled when it is
loaded, so no compiled copy can be out of date. Modules write `_("English text")`, and `N_("English text")` where a text
is only marked and translated later, for example in a table of constants.
"""

from __future__ import annotations

import gettext
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "zh")
FOLDER = Path(__file__).parent

_current = ""


def use(language: str | None) -> None:
    """Set the language of this process: "en", "zh", or None for the one of the system's locale."""
    global _current
    _current = language or ""


@contextmanager
def using(language: str) -> Iterator[None]:
    """Set the language for a while, then that of before."""
    before = _current
    use(language)
    try:
        yield
    finally:
        use(before)


def language() -> str:
    """The language in use."""
    return _current or system_language()


def system_language() -> str:
    """The language that the environment asks for (LC_ALL, LC_MESSAGES, LANG, in this order); else English."""
    asked = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return next((known for known in LANGUAGES if asked.lower().startswith(known)), "en")


@cache
def translator(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; that of English is empty, since messages are written in it."""
    file = FOLDER / language / "LC_MESSAGES" / "bgetune.po"
    if not file.exists():
        return gettext.NullTranslations()
    from babel.messages import mofile, pofile

    compiled = io.BytesIO()
    with file.open("rb") as source:
        mofile.write_mo(compiled, pofile.read_po(source, locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _(message: str) -> str:
    """The message in the language in use; the message itself where the catalogue has no entry."""
    return translator(language()).gettext(message) if message else message


def N_(message: str) -> str:
    """Mark a message for the catalogue without translating it here."""
    return message
