"""The pages in a real browser: nothing to scroll sideways for, nothing that keeps people from reading them."""

import base64
import os
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from bgetune import locale
from bgetune.config.profile import Profile
from bgetune.reports import comparison, figures, plots, report, tables

from .test_comparison import finished

LONG = "https://example.com/" + "a" * 300
AXE = "axe.run().then(result => result.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' | ')))"


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


def kept(browser, page, name):
    """Keep a screenshot where BGETUNE_SCREENSHOTS names a folder: CI does when a test fails."""
    if folder := os.environ.get("BGETUNE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(folder) / f"{page.stem}-{name}.png")


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_nothing_is_cut_off_or_scrolls_sideways(browser, page, width):
    browser.open(page, width)
    kept(browser, page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    wide = (
        "[...document.querySelectorAll('main *:not(thead, thead *)')]"
        ".filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1)"
    )
    shown = f"{wide}.filter(e => !['hidden', 'clip'].includes(getComputedStyle(e).overflowX)).map(e => e.outerHTML)"
    assert browser.evaluate(shown) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_axe_finds_nothing(browser, axe, page, width, dark):
    browser.open(page, width, dark=dark)
    kept(browser, page, f"{width}-{'dark' if dark else 'light'}")
    browser.evaluate(f"{axe}; 0")
    assert browser.evaluate(AXE) == []


def test_in_chinese_nothing_scrolls_sideways_either(browser, axe, pages):
    locale.use("zh")
    try:
        report.write_index(pages["index"].parent, "study/c")
        browser.open(pages["index"], 390)
        kept(browser, pages["index"], "zh-390")
    finally:
        locale.use(None)
        report.write_index(pages["index"].parent, "study/c")
    assert browser.evaluate("document.documentElement.lang") == "zh"
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.evaluate(f"{axe}; 0")
    assert browser.evaluate(AXE) == []


def test_the_colour_schemes_differ(browser, page):
    seen = set()
    for dark in (False, True):
        browser.open(page, 1200, dark=dark)
        seen.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert seen == {"rgb(255, 255, 255)", "rgb(20, 24, 29)"}


def test_print_repeats_the_heads_of_tables_and_cuts_no_row(browser, pages):
    browser.open(pages["index"], 1200)
    browser.send("Emulation.setEmulatedMedia", media="print")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert browser.evaluate(style.format("table.data thead", "display")) == "table-header-group"
    assert browser.evaluate(style.format("table.data tbody tr", "breakInside")) == "avoid"
    assert browser.evaluate(style.format("header", "display")) == "none"
    printed = browser.send("Page.printToPDF", preferCSSPageSize=True)
    browser.send("Emulation.setEmulatedMedia", media="")
    assert printed["data"].startswith("JVBERi")
