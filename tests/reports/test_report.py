import base64
import json
import re
from html import unescape
from itertools import pairwise

import nbformat
import pandas as pd
import pytest
from made import results

from bgetune import files, locale
from bgetune.config.sources import Sources
from bgetune.reports import report

SCRIPT = "<script>alert(1)</script>"


def cell(*outputs):
    made = nbformat.v4.new_code_cell("secret_code()")
    made.outputs = list(outputs)
    return made


def data(**mimes):
    return nbformat.v4.new_output("display_data", {key.replace("_", "/", 1): value for key, value in mimes.items()})


@pytest.fixture
def html(tmp_path):
    """Writes a report of these cells and returns its HTML."""

    def write(*cells):
        file = tmp_path / "03_hard_negatives.ipynb"
        state = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}}}
        nbformat.write(nbformat.v4.new_notebook(cells=list(cells), metadata=state), file)
        report.write_report(file, tmp_path / "03_hard_negatives.html", f"run {SCRIPT}")
        return (tmp_path / "03_hard_negatives.html").read_text("utf-8")

    return write


def test_shows_story_and_outputs_without_code_logs_and_bars(html):
    bar = nbformat.v4.new_output("display_data", {report.WIDGETS: {"model_id": "x"}, "text/plain": "  0%|    |"})
    page = html(
        nbformat.v4.new_markdown_cell("# 难负例"),
        cell(
            nbformat.v4.new_output("stream", name="stdout", text="printed"),
            nbformat.v4.new_output("stream", name="stderr", text="Downloading"),
            bar,
            data(text_html="<table><td>shown</td></table>"),
        ),
    )
    assert "难负例" in page
    assert "printed" in page
    assert "shown" in page
    for left_out in ("secret_code", "Downloading", "0%|"):
        assert left_out not in page


def test_a_widget_with_an_html_form_is_shown_by_it(html):
    widget = nbformat.v4.new_output("display_data", {report.WIDGETS: {"model_id": "x"}, "text/html": "<b>static</b>"})
    page = html(cell(widget))
    assert "<b>static</b>" in page
    assert "model_id" not in page


def test_page_is_self_contained_and_forbids_scripts(html):
    page = html(cell(nbformat.v4.new_output("stream", name="stdout", text=SCRIPT)))
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_page_has_a_table_of_contents(html):
    page = html(nbformat.v4.new_markdown_cell("# Title\n\n## One & two\n\n### Three\n\n## 四"))
    contents = page.partition('class="contents"')[2].partition("</nav>")[0]
    for anchor, text in re.findall(r'href="#([^"]+)">([^<]+)<', contents):
        assert f'id="{anchor}"' in page
        assert text in ("One &amp; two", "Three", "四")
    assert contents.count("<li") == 3


def test_links_to_the_neighbours(html):
    page = html()
    assert 'href="02_backtranslate.html"' in page
    assert 'href="04_train.html"' in page
    assert 'href="index.html"' in page


def run(run_dir, metrics, **stages):
    """A finished run with these results of 05; returns its index page without line breaks."""
    folder = run_dir / "05_calibrate/figures"
    folder.mkdir(parents=True)
    (folder / "score_distribution.png").write_bytes(b"picture")
    wrong = pd.DataFrame(
        {"side": ["missed", "accepted"], "query": [SCRIPT, "q2"], "text": ["t1", "t2"]}
        | {name: [0.25, 0.5] for name in ("before", "after", "probability")}
    )
    wrong.to_parquet(folder.parent / "mistakes.parquet")
    outputs = {
        "figures/score_distribution.png": {"path": "05_calibrate/figures/score_distribution.png"},
        "mistakes": {"path": "05_calibrate/mistakes.parquet", "rows": 2},
    }
    entry = {"metrics": metrics, "outputs": outputs, "parameters": {"model": SCRIPT, "confidence": 0.95}}
    entry |= {"seconds": 1.5, "started": "2026-01-02T03:04:05+00:00", "git": "abc123", "versions": {"torch": "2.13"}}
    files.write_atomic(run_dir / "manifest.json", json.dumps({"stages": stages | {"05_calibrate": entry}}))
    report.write_index(run_dir, "mine")
    return re.sub(r"\s+", " ", (run_dir / "index.html").read_text("utf-8"))


def test_index_concludes_from_top_to_bottom(tmp_path):
    row = {"precision": 0.95, "probability": 0.875, "cosine": 0.625, "test_precision": 0.9625, "test_recall": None}
    decision = {"decided by": "reranker", "precision": 0.95, "threshold": 0.71, "ms a pair": 12.34, "ms a query": None}
    decision |= {"test_precision": 0.97, "test_low": 0.9411, "test_high": 0.9876, "test_recall": 0.66}
    ranking = {"mrr": 0.8125, "mrr_low": 0.75, "mrr_high": 0.9, "ndcg": 0.7, "ndcg_low": 0.6, "ndcg_high": 0.8}
    page = run(
        tmp_path,
        results(
            thresholds=[row],
            decisions=[decision],
            retrieval={"after": ranking | {"recall": 0.9, "gain": 0, "gain_low": 0, "gain_high": 0}},
            usage="Scorer.load('runs/mine')  # <b>",
        ),
    )
    parts = [
        "Tuning helped: average precision went from 0.500 to 0.875.",
        "<strong>Next:</strong> Read the mistakes below",
        base64.b64encode(b"picture").decode(),
        "Scorer.load(&#39;runs/mine&#39;) # &lt;b&gt;",
        "Headline figures",
        "+0.250 to +0.500",
        "Recall at the guaranteed precision",
        "holds with 95 % confidence",
        "Cosine, reranker or both",
        "0.970 (0.941 to 0.988)",
        "12.3",
        "0.812 (0.750 to 0.900)",
        "The hardest mistakes that remain",
        "&lt;script&gt;alert(1)&lt;/script&gt;</td>",
        "Calibration, and how far it holds",
        "Where it comes from",
        "abc123",
        "2026-01-02 03:04:05",
    ]
    places = [page.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)
    assert SCRIPT not in page
    assert "<script" not in page


def test_a_page_in_chinese(tmp_path):
    locale.use("zh")
    try:
        page = run(tmp_path, results())
    finally:
        locale.use(None)
    assert '<html lang="zh">' in page
    assert "微调有效：平均精确率由 0.500 升至 0.875。" in page
    assert "在保证 95% 精确率时，模型现在能找回 79% 的同义文本对；微调前为 12%。" in page
    shown = re.sub(r"<code>.*?</code>|<li>.*?</li>|<nav.*?</nav>", "", page.partition("<main>")[2])
    sentences = re.findall(r"(?:[A-Za-z]{2,}[ ,]+){4,}", re.sub(r"<[^>]+>", ".", shown))
    assert sentences == [], "all that is said is said in Chinese"


def test_headings_are_in_order_and_the_content_is_in_main(tmp_path):
    page = run(tmp_path, results())
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.index("<main>") < page.index("<h1") < page.index("</main>")


def test_colours_need_proof(tmp_path):
    assert run(tmp_path / "a", results()).count('class="number good"') > 0
    page = run(tmp_path / "b", results(interval=(-0.25, 0.5), recalls=[]))
    assert "good" not in page.partition("<main>")[2].replace('"verdict', "")
    assert ">may be chance<" in page


def test_the_funnel_names_every_drop(tmp_path):
    drops = pd.DataFrame({"source": ["clicks"] * 2, "reason": ["robot", SCRIPT], "rows": [660, 7], "example": "x"})
    (tmp_path / "01_positives").mkdir()
    drops.to_parquet(tmp_path / "01_positives/dropped.parquet")
    first = {"metrics": {"rows": {"a.csv": 60000, "b.csv": 500}, "texts": 5888, "clusters": 539}}
    first |= {"outputs": {"dropped": {"path": "01_positives/dropped.parquet", "rows": 2}}, "inputs": {}}
    first |= {"parameters": {"seed": 7, "min_support": 2}, "seconds": 1, "started": "now"}
    mined = {"metrics": {"queries": 100, "groups": 90, "rules": {"margin": 40, "(not needed)": 50, "(taken)": 10}}}
    expected = {"expected_false_negatives": 0.021, "expected_false_negatives_low": 0.017}
    mined["metrics"] |= expected | {"expected_false_negatives_high": 0.024, "false_negatives": 0.029}
    mined |= {"outputs": {}, "seconds": 1, "started": "now", "inputs": {"a.csv": {"bytes": 12, "sha256": "f" * 64}}}
    page = run(tmp_path, results(), **{"01_positives": first, "03_hard_negatives": mined})
    funnel = page.partition("From raw rows")[2].partition("<h2>")[0]
    shown = re.sub(r"<[^>]+>", " ", funnel).split("number", 1)[1]
    numbers = [word for word in shown.split() if re.fullmatch(r"\u2212?[\d,]+", word)]
    assert numbers == [
        "60,500",
        "\u2212660",
        "\u22127",
        "5,888",
        "539",
        "100",
        "100",
        "\u221240",
        "\u221250",
        "10",
        "90",
    ]
    assert "clicks: robot" in shown
    assert "2.1 % are expected to be unknown positives (90 % interval 0.017 to 0.024). Truly, it is 2.9 %." in shown
    provenance = page.partition("Where it comes from")[2]
    assert "ffffffffffffffff" in provenance
    assert ">seed<" in provenance, "not at its default"
    assert ">min_support<" not in provenance


def test_of_nested_parameters_only_what_was_given_is_shown(tmp_path):
    sources = Sources.model_validate({"qa": [{"path": "faq.csv", "a_column": "question"}]})
    entry = {"metrics": {}, "outputs": {}, "seconds": 1, "started": "now"}
    stages = {
        "01_positives": entry | {"parameters": {"sources": sources.model_dump(mode="json"), "seed": 7}},
        "04_train": entry | {"parameters": {"seed": 7}},
    }
    files.write_atomic(tmp_path / "manifest.json", json.dumps({"stages": stages}))
    report.write_index(tmp_path, "mine")
    page = unescape((tmp_path / "index.html").read_text("utf-8"))
    assert '{"qa": [{"path": "faq.csv", "a_column": "question"}]}' in page
    assert re.search(r">seed</th>.*?>7</td>.*?>all</td>", page, re.DOTALL)


def test_a_phone_gets_the_narrow_form_of_a_figure(tmp_path):
    cell = nbformat.v4.new_code_cell("")
    for metadata in ({"alt": SCRIPT, "width": 900, "height": 300, "narrow": "NARROW"}, {"alt": "small"}):
        output = nbformat.v4.new_output("display_data", {"image/png": "WIDE"}, metadata={"image/png": metadata})
        cell.outputs.append(output)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "n.ipynb")
    report.write_report(tmp_path / "n.ipynb", tmp_path / "n.html", "mine")
    page = (tmp_path / "n.html").read_text("utf-8")
    assert '<source media="screen and (max-width: 700px)" srcset="data:image/png;base64,NARROW"' in page
    assert page.count("base64,WIDE") == 2
    assert page.count("<source") == 1
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page


def test_index_of_an_unfinished_run_says_so(tmp_path):
    files.write_atomic(tmp_path / "manifest.json", '{"stages": {}}')
    report.write_index(tmp_path, "mine")
    assert "has not finished" in (tmp_path / "index.html").read_text("utf-8")


def test_index_says_when_dev_and_test_cannot_be_judged(tmp_path):
    judging = {"enough": False, "sentence": f"test has 3 clusters {SCRIPT}; label more"}
    entry = {"metrics": {"judging": judging}, "outputs": {}, "seconds": 1, "started": "now"}
    files.write_atomic(tmp_path / "manifest.json", json.dumps({"stages": {"01_positives": entry}}))
    report.write_index(tmp_path, "mine")
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "nothing was trained" in page
    assert "test has 3 clusters &lt;script&gt;" in page


def rounds(run_dir, first, second):
    """A manifest of two rounds with these average precisions on dev."""
    stages = {}
    for number, value in (("", first), (".2", second)):
        mined = {"false_negatives": 0.0625, "with_negatives": 1.0, "negatives_per_query": 4.75}
        dev = {"average_precision": value, "auc": 0.5}
        stages[f"03_hard_negatives{number}"] = {"metrics": mined, "seconds": 1.5}
        stages[f"04_train{number}"] = {"metrics": {"after": dev}, "seconds": 2, "taken_from": f"../{SCRIPT}"}
        for entry in list(stages.values())[-2:]:
            entry |= {"outputs": {}, "started": "now", "parameters": {"metric": "average_precision"}}
    files.write_atomic(run_dir / "manifest.json", json.dumps({"stages": stages, "rounds": 2}))
    report.write_index(run_dir, "mine")
    return (run_dir / "index.html").read_text("utf-8")


def test_index_compares_the_rounds(tmp_path):
    page = rounds(tmp_path, 0.75, 0.875)
    for shown in ("the base model", "the model of round 1", "0.750", "0.875", "0.062", "4.750", "04_train.2"):
        assert shown in page
    assert 'href="04_train.2.html"' in page
    assert "is better" not in page
    assert f"taken over from ../{SCRIPT.replace('<', '&lt;').replace('>', '&gt;')}" in page


def test_index_says_when_an_earlier_round_is_better_on_dev(tmp_path):
    assert "On dev, round 1 is better" in rounds(tmp_path, 0.875, 0.75)


def test_reports_of_rounds_link_in_the_order_they_ran(tmp_path):
    rounds(tmp_path, 0.75, 0.875)
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "empty.ipynb")
    report.write_report(tmp_path / "empty.ipynb", tmp_path / "03_hard_negatives.2.html", "mine")
    page = (tmp_path / "03_hard_negatives.2.html").read_text("utf-8")
    assert 'href="04_train.html"' in page
    assert 'href="04_train.2.html"' in page
    assert 'href="notebooks/03_hard_negatives.2.ipynb"' in page
