import pytest

from bgetune import locale
from bgetune.locale import prose

TEXT = "# A title\n\nOne paragraph,\nin two lines.\n\n1. first\n2. second,\n   longer\n\n- item"


def test_pieces_do_not_depend_on_where_lines_break():
    found = ["A title", "One paragraph, in two lines.", "first", "second, longer", "item"]
    assert prose.pieces(TEXT) == found
    assert prose.pieces(TEXT.replace("paragraph,\nin", "paragraph, in")) == found


@pytest.mark.parametrize("text", [TEXT, "", "* one *", "a | b\n--- | ---\n1 | 2"])
def test_what_has_no_translation_stays_as_it_is(text):
    with locale.using("zh"):
        assert prose.translated(text) == text


def test_translations_take_the_place_of_pieces(monkeypatch):
    known = {"A title": "标题", "second, longer": "第二"}
    monkeypatch.setattr(prose, "_", lambda message: known.get(message, message))
    expected = TEXT.replace("A title", "标题").replace("second,\n   longer", "第二")
    assert prose.translated(TEXT) == expected
