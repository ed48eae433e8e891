import base64
import json

import nbformat
import pytest

from bgetune import files
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


def test_links_to_the_neighbours(html):
    page = html()
    assert 'href="02_backtranslate.html"' in page
    assert 'href="04_train.html"' in page
    assert 'href="index.html"' in page


def manifest(run_dir, metrics):
    figure = run_dir / "05_calibrate/figures/score_distribution.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"picture")
    outputs = {"figures/score_distribution.png": {"path": str(figure.relative_to(run_dir))}}
    entry = {"metrics": metrics, "outputs": outputs, "parameters": {"model": SCRIPT}, "seconds": 1.5, "started": "now"}
    files.write_atomic(run_dir / "manifest.json", json.dumps({"stages": {"05_calibrate": entry}}))


def test_index_shows_before_after_figure_and_thresholds(tmp_path):
    threshold = {"precision": 0.95, "probability": 0.875, "cosine": 0.625, "test_precision": 0.9625}
    threshold |= {"test_recall": None, "promise": "at least 95 %"}
    metrics = {
        "before": {"auc": 0.75, "overlap": 0.5},
        "after": {"auc": 0.9375, "auc_interval": [0.875, 0.96875], "overlap": 0.625},
        "thresholds": [threshold],
    }
    manifest(tmp_path, metrics)
    report.write_index(tmp_path, "mine")
    page = (tmp_path / "index.html").read_text("utf-8")
    for number in ("0.750", "0.938", "0.875 – 0.969", "0.963"):
        assert number in page
    assert base64.b64encode(b"picture").decode() in page
    assert page.count('class="number good"') == 1, "AUC rose"
    assert page.count('class="number bad"') == 1, "the overlap should have fallen"
    assert SCRIPT not in page
    assert "at least 95 %" in page


def test_index_of_an_unfinished_run_says_so(tmp_path):
    files.write_atomic(tmp_path / "manifest.json", '{"stages": {}}')
    report.write_index(tmp_path, "mine")
    assert "has not finished" in (tmp_path / "index.html").read_text("utf-8")


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
    for shown in ("the base model", "the model of round 1", "0.750", "0.875", "0.062", "4.750"):
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
