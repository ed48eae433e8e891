"""The pages in a real browser: nothing to scroll sideways for, nothing that keeps people from reading them."""

import base64

import nbformat
import pandas as pd
import pytest
from browser import faults

from bgetune import locale
from bgetune.config.profile import Profile
from bgetune.reports import comparison, figures, plots, report, tables

from .test_comparison import finished

LONG = "https://example.com/" + "a" * 300


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """index.html of a run, the page of a notebook, and the comparison with another run."""
    above = tmp_path_factory.mktemp("study")
    profiles = [Profile(f"study/{name}", None, {"seed": number}) for number, name in enumerate("ab")]
    folders = {profile.name: finished(above / profile.name, 0.4) for profile in profiles}
    retrieval = {
        name: dict.fromkeys(["mrr", "mrr_low", "mrr_high", "ndcg", "ndcg_low", "ndcg_high", "recall", "gain"], 0.5)
        for name in ("before", "after", "after, reranker")
    }
    run = finished(above / "study/c", 0.45, retrieval=retrieval, usage=f"Scorer.load('{LONG}')")
    wrong = pd.DataFrame({"side": ["missed", "accepted"], "query": LONG, "text": "支付密码" * 80})
    wrong = wrong.assign(before=0.5, after=0.25, probability=0.125)
    wrong.to_parquet(run / "05_calibrate/mistakes.parquet")
    rows = pd.DataFrame({"text": [LONG, "支付密码" * 80], "score": [0.25, 0.5], "same": [True, False]})
    figure = plots.rule_yields(pd.DataFrame({"rule": ["margin", "(taken)"], "candidates": [40, 10]}))
    cell = nbformat.v4.new_code_cell("")
    picture, metadata = figures._with_message(figure)
    data = {"image/png": base64.b64encode(picture).decode()}
    cell.outputs = [
        nbformat.v4.new_output("display_data", data, metadata={"image/png": metadata}),
        nbformat.v4.new_output("display_data", {"text/html": tables.table(rows, marked=[True, False]).html}),
        nbformat.v4.new_output("stream", text=f"{LONG}\n"),
    ]
    markdown = nbformat.v4.new_markdown_cell(f"# Title\n\n## A section\n\n`{LONG}`\n\n### A part\n\n*Text.*")
    nbformat.write(nbformat.v4.new_notebook(cells=[markdown, cell]), run / "03_hard_negatives.ipynb")
    report.write_report(run / "03_hard_negatives.ipynb", run / "03_hard_negatives.html", "study/c")
    profiles.append(Profile("study/c", None, {"seed": 2, "truth": LONG}))
    page, _text = comparison.compare(profiles, folders | {"study/c": run}, {})
    return {"comparison": page, "index": run / "index.html", "notebook": run / "03_hard_negatives.html"}


@pytest.fixture(scope="module", params=["index", "notebook", "comparison"])
def page(request, pages):
    return pages[request.param]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1200])
def test_nothing_is_cut_off_scrolls_sideways_or_keeps_people_out(browser, axe, page, width, dark):
    assert faults(browser, axe, page, width, dark) == []


def test_in_chinese_either(browser, axe, pages):
    locale.use("zh")
    try:
        report.write_index(pages["index"].parent, "study/c")
        for width in (390, 768, 1200):
            assert faults(browser, axe, pages["index"], width, dark=False) == []
        assert browser.evaluate("document.documentElement.lang") == "zh"
    finally:
        locale.use(None)
        report.write_index(pages["index"].parent, "study/c")


def test_the_colour_schemes_differ(browser, page):
    seen = set()
    for dark in (False, True):
        browser.open(page, 1200, dark=dark)
        seen.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert seen == {"rgb(255, 255, 255)", "rgb(20, 24, 29)"}


def test_a_phone_shows_the_narrow_form_of_a_figure(browser, pages):
    shown = {}
    for width in (390, 1200):
        browser.open(pages["notebook"], width)
        shown[width] = browser.evaluate("(i => i.naturalWidth / i.naturalHeight)(document.querySelector('img'))")
    assert shown[390] < shown[1200] / 1.5


def test_print_repeats_the_heads_of_tables_and_cuts_no_row(browser, pages):
    browser.open(pages["index"], 1200)
    browser.send("Emulation.setEmulatedMedia", media="print")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert browser.evaluate(style.format("table.data thead", "display")) == "table-header-group"
    for part in ("table.data", "table.data tbody tr"):
        assert browser.evaluate(style.format(part, "breakInside")) == "avoid"
    assert browser.evaluate(style.format("header", "display")) == "none"
    printed = browser.send("Page.printToPDF", preferCSSPageSize=True)
    browser.send("Emulation.setEmulatedMedia", media="")
    assert printed["data"].startswith("JVBERi")
