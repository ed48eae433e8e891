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
        names = re.findall(r"{(\w*)}", message)
        assert sorted(re.findall(r"{(\w*)}", translation)) == sorted(names), message


def test_a_message_is_found_in_modules_and_templates():
    found = catalogue.messages()
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
