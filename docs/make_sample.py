"""The sample report: the demo run's pages in a language, and the screenshot of its index page for the README.

    python docs/make_sample.py [en] [zh]

runs the demo from its beginning (minutes; it writes to runs/demo) and copies the pages to docs/sample/LANGUAGE. Links
to files that are not copied become text, paths of this machine relative to the repository. Needs a Chromium.
"""

from __future__ import annotations

import argparse
import base64
import re
import shutil
import sys
import tempfile
from pathlib import Path

from bgetune import pipeline
from bgetune.paths import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser

SAMPLE = ROOT / "docs/sample"
SCREENSHOTS = {"en": ROOT / "docs/index.png", "zh": ROOT / "docs/index.zh-CN.png"}
WIDTH, HEIGHT = 1000, 1180
"""Of the screenshot, in pixels of the page: the verdict, the picture and the code."""

LINK = re.compile(r'<a href="([^"#:]+)">(.*?)</a>', re.DOTALL)


def run_demo(language: str) -> Path:
    """Run the demo from its beginning in a language; returns the folder of the run."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "demo.yaml"
        profile.write_text(f"base: {ROOT / 'params/demo.yaml'}\nname: demo\nlanguage: {language}\n", "utf-8")
        if pipeline.main([str(profile), "--force"]) != 0:
            raise SystemExit(1)
    return ROOT / "runs/demo"


def copy_pages(run: Path, target: Path) -> None:
    """Copy the pages of a run, with links among themselves alone."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    names = {page.name for page in run.glob("*.html")}
    for name in sorted(names):
        text = (run / name).read_text("utf-8").replace(f"{ROOT}/", "")
        text = LINK.sub(lambda link: link[0] if link[1] in names else link[2], text)
        (target / name).write_text(text, "utf-8")


def take_screenshot(page: Path, target: Path) -> None:
    """The upper part of a page, at one and a half times its size."""
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            browser.open(page, WIDTH)
            part = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1.5}
            taken = browser.send("Page.captureScreenshot", clip=part, captureBeyondViewport=True, format="png")
        finally:
            browser.close()
    target.write_bytes(base64.b64decode(taken["data"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "languages", nargs="*", choices=[[], *SCREENSHOTS], metavar="LANGUAGE", help="en, zh; none: both"
    )
    for language in parser.parse_args().languages or list(SCREENSHOTS):
        copy_pages(run_demo(language), SAMPLE / language)
        take_screenshot(SAMPLE / language / "index.html", SCREENSHOTS[language])


if __name__ == "__main__":
    main()
