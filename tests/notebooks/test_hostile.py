"""All notebooks on texts that would be markup, formulas or control sequences wherever they are not escaped.

They run in Chinese; `test_end_to_end.py` runs them in English.
"""

import csv
import html.parser
import json
import re

import nbformat
import pytest
import tiny
from nbconvert.filters import markdown2html

from bgetune import locale, pipeline, runs
from bgetune.config.stages import STAGES

pytestmark = pytest.mark.slow

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</td></table></details><h1>out</h1>",
    "$\\href{javascript:alert(1)}{x}$",
    "\x1b]0;owned\x07\x1b[31m",
    "[a](javascript:alert(1)) **b** `c`",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnp",
)
TAGS = {
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "style"),
    *("strong", "span", "details", "summary", "p", "b", "br", "img", "div", "em", "code", "pre", "hr", "wbr"),
}
ATTRIBUTES = {"class", "style", "scope", "colspan", "data-label", "alt", "src", "width"}


class Markup(html.parser.HTMLParser):
    """Collects what may not be there: unknown tags and attributes, and sources that are no picture."""

    def __init__(self):
        super().__init__()
        self.wrong = []

    def handle_starttag(self, tag, attributes):
        if tag not in TAGS:
            self.wrong.append(tag)
        for name, value in attributes:
            if name not in ATTRIBUTES or (name == "src" and not value.startswith("data:image/png;base64,")):
                self.wrong.append(f"{tag} {name}={value}")


def wrong_in(markup):
    parser = Markup()
    parser.feed(markup)
    return parser.wrong


def write(file, header, rows):
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The folder of a run of all notebooks on such texts, with tiny models and a translation service that adds more."""
    from augment.server import running

    folder = tmp_path_factory.mktemp("hostile")
    topics = [f"{HOSTILE[n % len(HOSTILE)]} 支付{n}" for n in range(48)]
    ways = ("{} 怎么办", "忘记 {}", "{} 到账 了", "查询{}")
    write(
        folder / "qa.csv",
        ["question", "answer"],
        [(way.format(topic), f"取消 {topic} 查询订单") for topic in topics for way in ways[:3]] + [("", "")],
    )
    labelled = [(ways[0].format(topic), ways[3].format(topic), 1) for topic in topics]
    labelled += [
        (ways[0].format(a), ways[3].format(b), 0) for a, b in zip(topics, topics[3:] + topics[:3], strict=True)
    ]
    write(folder / "pairs.csv", ["text_a", "text_b", "label"], labelled)
    write(
        folder / "clicks.csv",
        ["query", "user_id", "time", "url", "title"],
        [
            (ways[1].format(topic), user, f"2024-01-01 10:{minute:02d}:00", f"http://x/{topic}", f"{topic} 订单")
            for minute, topic in enumerate(topics)
            for user in "ab"
        ],
    )
    characters = "".join(dict.fromkeys(tiny.CHARACTERS + "".join(topics).lower() + "了转"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "CHARACTERS", characters)
        model = tiny.save_sentence_transformer(folder / "model")
        reranker = tiny.save_bert(folder / "reranker", seed=1, labels=1)
        server = running(lambda text, turn: (200, {"translatedText": f"{text}{HOSTILE[len(text) % len(HOSTILE)]}"}))
        service = {"name": "libretranslate", "base_url": server.url, "max_requests": 10000}
        profile = {
            "name": "hostile",
            "language": "zh",
            "model": str(model),
            "reranker": str(reranker),
            "max_length": 48,
            "device": "cpu",
            "01_positives": {
                "sources": {
                    "qa": [{"path": str(folder / "qa.csv"), "a_column": "question", "b_column": "answer"}],
                    "pairs": [{"path": str(folder / "pairs.csv"), "label_column": "label"}],
                    "clicks": [{"path": str(folder / "clicks.csv"), "title_column": "title"}],
                },
                "reranker": None,
                "dev_fraction": 0.2,
                "test_fraction": 0.2,
            },
            "02_backtranslate": {
                "pivots": [{"service": service, "text_code": "zh", "pivot_code": "en"}],
                "max_texts": 12,
                "gate": {"terms": [HOSTILE[0]]},
            },
            "04_train": {"epochs": 1, "batch_size": 8, "positives": 1, "negatives": 1, "precision": "float32"},
            "05_calibrate": {"resamples": 100, "min_labelled": 5},
        }
        (folder / "profile.yaml").write_text(json.dumps(profile), encoding="utf-8")
        patch.setenv("BGETUNE_CACHE", str(folder / "cache"))
        patch.setattr(runs, "run_folder", lambda profile, run_dir=None: folder / "run")
        assert pipeline.main([str(folder / "profile.yaml")]) == 0
        server.shutdown()
    locale.use(None)
    return folder / "run"


@pytest.fixture(scope="module", params=STAGES)
def executed(request, hostile):
    return nbformat.read(hostile / "notebooks" / f"{request.param}.ipynb", as_version=4)


def outputs(executed):
    return [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]


def bundles(executed):
    return [output["data"] for output in outputs(executed) if "data" in output]


def test_no_output_of_any_cell_holds_markup_of_a_text(executed):
    for data in bundles(executed):
        assert wrong_in(data.get("text/html", "")) == [], data["text/html"]
        assert wrong_in(markdown2html(data.get("text/markdown", ""))) == [], data["text/markdown"]
        assert not set(data) & {"application/javascript", "text/latex", "image/svg+xml"}, "all that a front end runs"
    widgets = executed.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    for state in widgets.get("state", {}).values():
        value = state["state"].get("value")
        assert wrong_in(value if isinstance(value, str) else "") == []


def test_no_output_controls_a_terminal(executed):
    for output in outputs(executed):
        if output.get("name") == "stderr":
            continue
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert not {"\x1b", "\x07", "\u202e"} & set(text), text


def test_the_texts_are_there_to_be_seen(hostile):
    """Or the tests above would prove nothing."""
    for stage in ("01_positives", "02_backtranslate", "03_hard_negatives", "05_calibrate"):
        executed = nbformat.read(hostile / "notebooks" / f"{stage}.ipynb", as_version=4)
        shown = "".join(data.get("text/html", "") for data in bundles(executed))
        escaped = ("&lt;script&gt;alert(1)", "onerror=alert(1)&gt;", "&lt;/details&gt;&lt;h1&gt;out")
        assert any(text in shown for text in escaped), stage


def test_pages_hold_no_markup_of_a_text(hostile):
    for page in hostile.glob("*.html"):
        text = page.read_text("utf-8")
        for markup in ("<script", "onerror=alert(1)>", "<h1>out", "\x1b", "</details><h1>"):
            assert markup not in text, page.name


def test_what_the_notebooks_say_is_in_the_language_of_the_profile(executed):
    chinese = re.compile(r"[\u4e00-\u9fff]")
    printed = "".join(output["text"] for output in outputs(executed) if output.get("name") == "stdout")
    lines = [line for line in printed.splitlines() if line.strip()]
    assert [line for line in lines if not chinese.search(line)] == []
    assert all(chinese.search(cell.source) for cell in executed.cells if cell.cell_type == "markdown")
    english = re.compile(r"(?:[a-z']+ ){2,}[a-z']+")
    for data in bundles(executed):
        heads = re.findall(r"<th[^>]*>(.*?)</th>", data.get("text/html", ""))
        assert [head for head in heads if english.search(head) and not chinese.search(head)] == []
