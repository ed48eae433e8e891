import base64

import numpy as np
import pytest

from bgetune.reports.report import WIDGETS
from bgetune.scoring.slider import ThresholdSlider


@pytest.fixture
def slider():
    scores = np.linspace(0.1, 0.9, 9)
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1])
    return ThresholdSlider(scores, labels, [f"<b>q{i}" for i in range(9)], [f"d{i}" for i in range(9)], {"best": 0.55})


def test_it_says_what_a_threshold_does(slider):
    facts, near = slider.at(0.55)
    assert facts["precision"] == 1
    assert facts["recall"] == pytest.approx(4 / 5)
    assert near["accepted"].tolist() == [True] * 4 + [False] * 5
    assert near["query"].iloc[3] == "<b>q5"


def test_moving_it_changes_what_is_shown_and_texts_are_escaped(slider):
    control, jumps, shown = slider.widget.children
    assert control.value == pytest.approx(0.55, abs=0.01)
    before = shown.value
    control.value = 0.15
    assert shown.value != before
    assert "recall <b>1.000</b>" in shown.value
    assert "8 of 9 pairs are accepted, 5 of them rightly; 0 with the same meaning are missed" in shown.value
    assert "&lt;b&gt;q1" in shown.value
    assert "<b>q1" not in shown.value
    jumps.children[0].click()
    assert control.value == 0.55
    assert shown.value == before


def test_mistakes_next_to_the_threshold_are_marked(slider):
    """Of the labels around 0.55 one is wrong: the positive at 0.4."""
    rows = [row for row in slider.widget.children[2].value.split("<tr") if "data-label" in row]
    assert [row.startswith(' class="marked"') for row in rows] == ["q3" in row for row in rows]


def test_a_report_gets_a_picture(slider):
    bundle = slider._repr_mimebundle_()
    assert WIDGETS in bundle
    encoded = bundle["text/html"].partition("base64,")[2].removesuffix('">')
    assert base64.b64decode(encoded).startswith(b"\x89PNG")
    assert "<b>" not in bundle["text/html"]


def test_the_report_shows_the_picture_and_not_the_widget(slider, tmp_path):
    import nbformat

    from bgetune.reports.report import write_report

    output = nbformat.v4.new_output("execute_result", slider._repr_mimebundle_())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("slider", outputs=[output])])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    write_report(tmp_path / "in.ipynb", tmp_path / "05_calibrate.html", "run")
    page = (tmp_path / "05_calibrate.html").read_text("utf-8")
    assert "data:image/png;base64," in page
    assert "widget-view" not in page
