"""Every message has a translation, every translation a message, and both name the same things."""

import ast
import re

import pytest
from babel.messages import pofile

from bgetune import locale
from bgetune.locale import catalogue

LANGUAGES = [language for language in locale.LANGUAGES if language != "en"]


@pytest.fixture(params=LANGUAGES)
def entries(request):
    with catalogue.file_of(request.param).open("rb") as source:
        return {entry.id: entry.string for entry in pofile.read_po(source, locale=request.param) if entry.id}


def test_nothing_is_missing_or_stale(entries):
    """`python -m bgetune.locale.catalogue` adds and takes out; a person translates."""
    wanted = catalogue.messages()
    assert set(entries) == set(wanted)
    assert not [message for message, translation in entries.items() if not translation]


def test_translations_name_what_the_message_names(entries):
    for message, translation in entries.items():
        names = re.findall(r"{[^{}]*}", message)
        assert sorted(re.findall(r"{[^{}]*}", translation)) == sorted(names), message


def test_translations_keep_code_and_emphasis(entries):
    """Commonmark closes no `**` that stands between a mark of punctuation and a letter."""
    for message, translation in entries.items():
        assert sorted(re.findall(r"`[^`]+`", translation)) == sorted(re.findall(r"`[^`]+`", message)), message
        for mark in (r"\*\*", r"(?<!\*)\*(?!\*)"):
            assert len(re.findall(mark, translation)) == len(re.findall(mark, message)), message
        assert not re.search(r"(?<=\*\*)[^*]+[^\w`]\*\*\w", translation), message


def test_messages_are_found_wherever_they_are_written():
    found = catalogue.messages()
    assert "notebooks/03_hard_negatives.ipynb" in found["Missed positives"], "the notebooks' Markdown"
    assert "params/schema.json" in found["Minimum length of a paraphrase in characters."], "the parameters' help"
    assert "reports/verdict.py" in found["Overlap"]
    assert "reports/templates/index.html.j2" in found["Use it"]


def test_no_message_hides_where_extraction_does_not_look():
    """Babel passes over what stands inside an f-string."""
    found = catalogue.messages()
    for file in catalogue.SOURCES.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
        for call in calls:
            if getattr(call.func, "id", "") in ("_", "N_") and isinstance(call.args[0], ast.Constant):
                assert call.args[0].value in found, f"{file.name}, line {call.lineno}"


def test_an_update_of_what_is_up_to_date_changes_nothing():
    for language in LANGUAGES:
        before = catalogue.file_of(language).read_bytes()
        catalogue.update(language)
        assert catalogue.file_of(language).read_bytes() == before
