"""A finished run opened by hand, and how a notebook shows what is wrong with the input."""

import re

import pandas as pd
import pytest
import tiny
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import bgetune
from bgetune import runs
from bgetune.config.stages import Positives
from bgetune.errors import InputError
from bgetune.paths import ROOT
from bgetune.runs import manifest, stage as stage_module

EDGES = pd.DataFrame({"a_id": ["0" * 16], "b_id": ["1" * 16], "source": ["qa"], "support": [1], "weight": [0.8]})


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """One with a run that has done 01 and 04."""
    from bgetune import opened

    monkeypatch.setattr(opened, "ROOT", tmp_path)
    monkeypatch.setattr(stage_module, "code_hash", lambda stage: "code")
    first = runs.Stage("01_positives", Positives(), {}, tmp_path / "runs/demo")
    first.write("edges", EDGES)
    first.finish(texts=2)
    later = runs.Stage("04_train", Positives(), {}, tmp_path / "runs/demo")
    with later.writing("model") as folder:
        tiny.save_sentence_transformer(folder)
    later.write("edges", EDGES.assign(support=2))
    later.finish(steps=3)
    return tmp_path


def test_a_run_gives_tables_metrics_and_the_model(repository):
    run = bgetune.open("runs/demo")
    assert dir(run.tables) == ["edges"]
    assert run.tables.edges.support.tolist() == [2], "of the last stage that wrote it"
    assert run.metrics == {"01_positives": {"texts": 2}, "04_train": {"steps": 3}}
    assert run.model.encode(["支付密码"], progress=False).shape == (1, 32)
    assert repr(run) == "<run demo: 01_positives, 04_train; tables: edges>"


def test_what_is_not_there_is_one_line(repository):
    with pytest.raises(InputError, match=r"runs/demo: 05_calibrate has not finished; run \./run_all\.sh for this"):
        _ = bgetune.open("runs/demo").scorer
    with pytest.raises(InputError, match=r"runs/demo has no table edge; it has edges"):
        _ = bgetune.open("runs/demo").tables.edge
    for folder in ("runs/nowhere", "notebooks"):
        with pytest.raises(InputError, match=rf"{folder}: there is no run, or none of its notebooks has finished"):
            bgetune.open(folder)


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_example_of_the_readme_runs_as_printed(repository, readme):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text("utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if "bgetune.open" in block)
    code = "\n".join(line.removeprefix("  ") for line in example.splitlines()).strip()
    assert len([line for line in code.splitlines() if line]) == 3
    shell = InteractiveShell()
    result = shell.run_cell(code)
    assert result.success
    assert result.result.loc["qa", "mean"] == pytest.approx(0.8)
    shell.Completer.use_jedi = False
    with provisionalcompleter():
        assert [found.text for found in shell.Completer.completions("run.tables.", 11)] == [".edges"]


def test_a_notebook_shows_one_line_and_no_traceback(repository, capsys):
    """03 before 01."""
    stage = f"runs.Stage('03_hard_negatives', None, {{}}, Path({str(repository / 'runs/new')!r}))"
    code = f"from pathlib import Path\nfrom bgetune import runs\n{stage}.read('texts')"
    InteractiveShell().run_cell(code)
    output = capsys.readouterr().out.strip()
    assert len(output.splitlines()) == 1
    assert "InputError: 03_hard_negatives: texts is not in" in output
    assert "run the notebooks before 03_hard_negatives first" in output
    assert not manifest.read_manifest(repository / "runs/new")["stages"]
