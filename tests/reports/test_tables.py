from html.parser import HTMLParser

import pandas as pd
import pytest

from bgetune.reports import tables

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><h1>out</h1>",
    "$\\href{javascript:alert(1)}{x}$ \\(y\\)",
    "\x1b]0;title\x07\x1b[31mred",
    "\u202egnp.exe",
    "[a](javascript:alert(1)) **b** `c`",
]


def texts_of(html):
    """The texts between the tags."""
    found, parser = [], HTMLParser()
    parser.handle_data = found.append
    parser.feed(html)
    return found


def test_whole_numbers_have_no_decimals():
    rows = pd.DataFrame({"queries": [5668.0, 12.0], "share": [1.0, 0.25], "seen": [1.0, None], "text": ["<b>", "x"]})
    html = tables.table(rows, digits=4).html
    assert ">5,668<" in html
    assert ">0.2500<" in html
    assert ">1.0000<" in html, "the share beside 0.25"
    assert ">1<" in html, "beside none"
    assert ">–<" in html
    assert "&lt;b&gt;" in html


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_has_power_wherever_it_stands(text):
    frame = pd.DataFrame({"plain": [text], text: [1.5]}, index=pd.Index([text], name=text))
    for made in (tables.table(frame, caption=text), tables.table(frame[text]), tables.table(frame.iloc[:0])):
        html = made.html
        assert html.count("<table") == 1
        for markup in ("<script", "<img", "<h1", "javascript:alert(1)</a>", "\x1b", "\x07", "\u202e"):
            assert markup not in html
        assert not [text for text in texts_of(html) if len(text) > 1 and {"$", "\\"} & set(text)], "no formula is left"
        assert not {"\x1b", "\x07", "\u202e"} & set(made.text), "nor on a terminal"
    assert "x1b" in tables.clean("\x1b"), "shown, not dropped"


def test_an_index_with_a_name_or_texts_heads_its_rows():
    named = tables.table(pd.Series([3, 4], index=pd.Index(["a", "b"], name="kind"), name="pairs")).html
    assert '<th scope="row" style="text-align: left">a</th>' in named
    assert ">kind</th>" in named
    pairs = pd.DataFrame({"kind": ["a", "a"], "label": [0, 1], "n": 2}).groupby(["kind", "label"]).sum()
    assert tables.table(pairs).html.count('scope="row"') == 4
    counted = pd.DataFrame({"n": [1, 2, 3]})[lambda rows: rows.n > 1]
    assert 'scope="row"' not in tables.table(counted).html


def test_a_cell_without_a_name_is_no_header():
    html = tables.table(pd.DataFrame({"n": [1]}, index=["all"])).html
    assert "<thead><tr><td></td><th " in html
    assert '<th scope="row" style="text-align: left">all</th>' in html


@pytest.mark.parametrize(
    ("text", "is_long"),
    [("03_hard_negatives", False), ("x" * 43, True), ("支付密码" * 40, False), ("a b " * 40, False)],
)
def test_only_a_word_that_does_not_fit_is_broken(text, is_long):
    html = tables.table(pd.DataFrame({"text": [text], "other": ["a"]})).html
    assert ('<td class="long"' in html) == is_long


def test_names_with_underscores_may_be_broken_behind_them():
    html = tables.table(pd.DataFrame({"expected_false_negatives": ["a_b"], "n": [1]})).html
    assert ">expected_<wbr>false_<wbr>negatives</th>" in html
    assert 'data-label="expected_false_negatives">a_b</td>' in html


def test_narrow_tables_stay_tables_on_a_phone_and_empty_ones_say_so():
    assert 'class="list"' in tables.table(pd.Series({"a": 1}, name="n")).html
    assert 'class="data"' in tables.table(pd.DataFrame({"a": [1], "b": 2, "c": 3})).html
    assert "(none)</td>" in tables.table(pd.DataFrame({"a": [], "b": []})).html


def test_percent_missing_best_and_marked():
    frame = pd.DataFrame({"share": [0.125, None], "loss": [0.5, 0.25], "same": [True, False]})
    made = tables.table(frame, percent=["share"], missing="none", best={"loss": min}, marked=[False, True])
    assert "12.5%" in made.html
    assert ">none<" in made.html
    assert "<strong>0.25</strong>" in made.html
    assert made.html.count('class="marked"') == 1
    assert ">yes<" in made.html
    assert made.text.splitlines()[0].split() == ["share", "loss", "same"]


def test_chinese_columns_of_a_terminal_are_in_line():
    lines = tables.table(pd.DataFrame({"text": ["支付", "pay"], "n": [1, 2]})).text.splitlines()
    assert [line.index(digit) for line, digit in zip(lines[1:], "12", strict=True)] == [4, 6]


def test_parameters_are_folded_and_escaped():
    rows = pd.DataFrame(
        {"value": ["<b>$x$", "1"], "from": ["profile", "default"]}, index=pd.Index(["a", "b"], name="parameter")
    )
    made = tables.parameters(rows)
    assert made.html.startswith("<details><summary>2 parameters, 1 of them not at their default</summary>")
    assert "&lt;b&gt;<span>$</span>" in made.html


def test_long_numbers_make_a_table_wide():
    """Numbers are not broken: three intervals side by side do not fit on a tablet, three short numbers do."""
    looks = {name: ["number"] for name in ("MRR", "average precision", "AUC")}
    for value, kind in (("0.890 (+0.013 – +0.063)", "data wide"), ("0.890", "data")):
        row = dict.fromkeys(looks, value) | {"ms a pair": "1.2", "ms a query": "31.0"}
        made = tables.table(pd.DataFrame([row], index=["model and reranker"]), looks=looks)
        assert f'class="{kind}"' in made.html
