"""What the documentation points at is there, both languages have the same parts, and the sample report is whole."""

import re
import subprocess
import sys

import pytest

from bgetune.paths import ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
PAIRS = [(page.with_name(f"{page.name.split('.')[0]}.md"), page) for page in PAGES if page.name.endswith(".zh-CN.md")]
SAMPLE = ROOT / "docs/sample"
NAMED = re.compile(r"\b(?:tests|docs)/[\w/]+\.py\b|\bbench_\w+\.py\b")
SCRIPTS = sorted(
    file.relative_to(ROOT).as_posix()
    for file in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("docs/*.py")]
    if not file.name.startswith("test_") and "ArgumentParser(" in file.read_text("utf-8")
)
LARGEST = 1_500_000
"""Bytes of a page of the sample."""


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text("utf-8")), target


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=lambda page: page.name)
def test_both_languages_have_the_same_parts(english, chinese):
    texts = [page.read_text("utf-8") for page in (english, chinese)]
    for part in (r"^#+ ", r"^\|", r"^ *```", r"^\*\*[^*]+\*\*", r"^ *- ", r"^ *\d\. "):
        counts = [len(re.findall(part, text, re.MULTILINE)) for text in texts]
        assert counts[0] == counts[1], part


def test_every_page_is_there_in_both_languages():
    names = {page.name for page in ROOT.glob("docs/*.md")}
    assert {name for name in names if not name.endswith(".zh-CN.md")} == {f"{n[:-9]}.md" for n in names if "zh-CN" in n}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_sample_report_is_whole_and_names_no_machine(language):
    pages = {page.name: page.read_text("utf-8") for page in (SAMPLE / language).glob("*.html")}
    stages = ["01_positives", "02_backtranslate", "03_hard_negatives", "04_train", "05_calibrate"]
    assert set(pages) == {"index.html", *(f"{stage}.html" for stage in stages)}
    for name, page in pages.items():
        assert f'<html lang="{language}">' in page
        assert len(page.encode()) < LARGEST, name
        assert not re.search(r"[\s'\"]/(tmp|home|root|Users)/", page), name
        for target in re.findall(r'href="([^"#]+)"', page):
            assert target in pages, f"{name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_that_are_named_are_there(page):
    for name in NAMED.findall(page.read_text("utf-8")):
        file = ROOT / (name if "/" in name else f"tests/benchmarks/{name}")
        assert file.is_file(), name
        assert file.name.startswith("test_") or file.relative_to(ROOT).as_posix() in SCRIPTS, f"{name} has no --help"


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_how_it_is_called(script):
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
