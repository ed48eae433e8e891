"""What docs/batch.md prints, run: the same blocks in both languages, on a small log and a tiny model."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import pytest
import tiny

from bgetune import paths
from bgetune.config.stages import STAGES

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name):
    """The code blocks of a page by their language."""
    found = {}
    for language, code in BLOCK.findall((paths.ROOT / "docs" / name).read_text("utf-8")):
        found.setdefault(language, []).append(code)
    return found


def test_both_languages_print_the_same():
    assert blocks("batch.md") == blocks("batch.zh-CN.md")


@pytest.mark.slow
def test_papermill_alone_makes_artifacts_and_the_index_page(tmp_path):
    loop, index = blocks("batch.md")["bash"]
    assert all(stage in loop for stage in STAGES)
    tiny.save_sentence_transformer(tmp_path / "model")
    rows = [f"怎么改登录密码{n},如何修改登录密码{n}" for n in range(40)]
    (tmp_path / "faq.csv").write_text("\n".join(["question,answer", *rows]), "utf-8")
    profile = {
        "model": str(tmp_path / "model"),
        "01_positives": {
            "sources": {"qa": [{"path": str(tmp_path / "faq.csv"), "a_column": "question", "b_column": "answer"}]}
        },
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(profile), "utf-8")
    mine = tmp_path / "runs/mine"
    # notebook 01 alone, for time; tests/notebooks runs all five
    script = loop.replace(" ".join(STAGES), "01_positives") + index
    for printed, here in {
        "runs/mine": str(mine),
        "papermill notebooks": f"{sys.executable} -m papermill notebooks",
        "python -c": f"{sys.executable} -c",
        "params/mine.yaml": f"{tmp_path / 'mine.yaml'} -p run_dir {mine}",
    }.items():
        assert printed in script
        script = script.replace(printed, here)
    source = os.pathsep.join([str(paths.ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": source, "BGETUNE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(["bash", "-ec", script], cwd=paths.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (mine / "01_positives/texts.parquet").is_file()
    assert "01_positives" in (mine / "index.html").read_text("utf-8")


def test_the_airflow_example_makes_a_task_a_notebook_in_order(monkeypatch):
    """Airflow is no dependency: stand-ins record what the example asks of it."""
    made, order = [], []

    class Operator:
        def __init__(self, **options):
            self.options = options
            made.append(self)

        def __rshift__(self, other):
            order.append((self.options["task_id"], other.options["task_id"]))

    class Dag:
        def __init__(self, name, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            return None

    for name, attributes in {
        "airflow": {},
        "airflow.sdk": {"DAG": Dag},
        "airflow.providers.standard.operators.bash": {"BashOperator": Operator},
    }.items():
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
        for key, value in attributes.items():
            monkeypatch.setattr(sys.modules[name], key, value, raising=False)
    exec(blocks("batch.md")["python"][0], {})
    stages = list(STAGES)
    assert [task.options["task_id"] for task in made] == stages
    assert [task.options["bash_command"][-2:] for task in made] == [stage[:2] for stage in stages]
    assert order == list(pairwise(stages))


@pytest.mark.parametrize(("low", "said"), [(0.1, "take it"), (-0.1, "keep the old one")])
def test_the_new_model_is_taken_only_where_its_lead_is_beyond_chance(tmp_path, monkeypatch, capsys, low, said):
    metrics = {"difference": {"average_precision_interval": [low, 0.2]}}
    (tmp_path / "runs/mine").mkdir(parents=True)
    manifest = tmp_path / "runs/mine/manifest.json"
    manifest.write_text(json.dumps({"stages": {"05_calibrate": {"metrics": metrics}}}))
    monkeypatch.chdir(tmp_path)
    exec(blocks("batch.md")["python"][1], {})
    assert capsys.readouterr().out.strip() == said
