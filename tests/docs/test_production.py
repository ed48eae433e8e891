"""What docs/production.md prints, run on a run with tiny models; and the Dockerfile's lines."""

import json
import re
import shlex
import sys

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from bgetune import compare_traffic, paths
from bgetune.errors import InputError
from bgetune.scoring import Scorer, __main__ as scoring, monitor
from bgetune.serve import __main__ as serve
from bgetune.serve.app import make_app

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUERY = "忘记支付密码"


def blocks(language, page="production.md"):
    return [code for name, code in BLOCK.findall((paths.ROOT / "docs" / page).read_text("utf-8")) if name == language]


def commands(program):
    """Arguments of the printed commands that begin with some words."""
    lines = "\n".join(blocks("bash")).splitlines()
    return [shlex.split(line.removeprefix(program)) for line in lines if line.startswith(program)]


@pytest.fixture
def mine(scorer, monkeypatch, tmp_path):
    """The scorer, with the precision that the page asks for, wherever a run is loaded; traffic to score lies there."""
    settings = json.loads(json.dumps(scorer.settings))
    for chosen in (settings["thresholds"], settings["reranker"]["thresholds"]["both"]):
        chosen["precision"][0]["precision"] = 0.95
    settings["reranker"]["thresholds"]["reranker"] = settings["reranker"]["thresholds"]["both"]
    made = Scorer(settings, scorer.encoder, scorer.run_dir)
    monkeypatch.setattr(Scorer, "load", classmethod(lambda cls, run, **options: made))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    rows = pd.DataFrame({"query": [QUERY] * 120, "document": [f"怎么改密码{n}" for n in range(120)]})
    for name in ("pairs.csv", "data/traffic.csv"):
        rows.to_csv(tmp_path / name, index=False)
    return made


def test_both_languages_run_the_same():
    assert blocks("bash") == blocks("bash", "production.zh-CN.md")
    pages = ("production.md", "production.zh-CN.md")
    code = [[re.sub(r"  #.*", "", block) for block in blocks("python", page)] for page in pages]
    assert code[0] == code[1]


def test_the_python_example_runs(mine):
    names = {}
    exec(blocks("python")[0], names)
    assert names["vectors"].shape[0] == 2
    with pytest.raises(InputError, match="are not of this run's model"):
        mine.check_vectors(names["texts"], np.random.default_rng(0).normal(size=names["vectors"].shape))


def test_the_commands_run(mine, capsys):
    (arguments,) = [one for one in commands("python -m bgetune.scoring ") if one]
    assert scoring.main(arguments) == 0
    assert {"similarity", "probability", "match"} <= set(pd.read_csv("scored.csv"))
    (arguments,) = commands("python -m bgetune.scoring.monitor ")
    assert monitor.main(arguments) in (0, 1)
    assert json.loads(capsys.readouterr().out)["pairs"] == 120
    (arguments,) = commands("python -m bgetune.compare_traffic ")
    assert compare_traffic.main(arguments) == 0
    assert "the index can stay" in capsys.readouterr().out


def test_every_route_answers_as_printed(mine):
    asked = commands("curl ")
    with TestClient(make_app(mine)) as client:
        answers = {}
        for _silent, address, *rest in asked:
            route = address.removeprefix("localhost:8000")
            options = dict(zip(rest[::2], rest[1::2], strict=True))
            if "-d" in options:
                name, _, value = options["-H"].partition(": ")
                answers[route] = client.post(route, content=options["-d"].encode(), headers={name: value})
            else:
                answers[route] = client.get(route)
        there = {route.path for route in client.app.routes} - {"/openapi.json"}
    assert {route: answer.status_code for route, answer in answers.items()} == dict.fromkeys(there, 200)
    table = (paths.ROOT / "docs/production.md").read_text("utf-8")
    assert set(re.findall(r"`(?:GET|POST) (/\S+)`", table)) == there
    assert len(answers["/score"].json()["probabilities"]) == 2
    assert len(answers["/match"].json()["matches"]) == 1
    assert "both" in answers["/match"].json()


def test_the_airflow_example_runs_the_monitor(mine, monkeypatch):
    """Airflow is no dependency: stand-ins record what the example asks of it."""
    made = []

    class Dag:
        def __init__(self, name, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            return None

    stand_ins = {
        "airflow": {},
        "airflow.sdk": {"DAG": Dag},
        "airflow.providers.standard.operators.bash": {"BashOperator": lambda **options: made.append(options)},
    }
    for name, attributes in stand_ins.items():
        module = type(sys)(name)
        module.__dict__.update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    exec(blocks("python")[1], {})
    command = made[0]["bash_command"].partition("-m bgetune.scoring.monitor ")[2]
    assert monitor.main(shlex.split(command)) in (0, 1)
    assert (paths.ROOT / "docs/production.md").read_text("utf-8").count(command) == 2  # cron runs the same


def test_the_dockerfile_starts_the_service(monkeypatch):
    lines = (paths.ROOT / "Dockerfile").read_text("utf-8")
    for copied in re.findall(r"^COPY (.*) \S+$", lines, re.MULTILINE):
        assert all((paths.ROOT / name).exists() for name in copied.split())
    pinned = re.search(r"torch==\S+", lines).group()
    assert f"\n{pinned}\n" in (paths.ROOT / "requirements.lock").read_text("utf-8")
    entry, arguments = (
        json.loads(re.search(rf"^{word} (.*)$", lines, re.MULTILINE).group(1)) for word in ("ENTRYPOINT", "CMD")
    )
    assert entry == ["python", "-m", serve.__spec__.name.removesuffix(".__main__")]
    loaded = []
    monkeypatch.setattr(serve.Scorer, "load", classmethod(lambda cls, run, **options: loaded.append(run) or 1 / 0))
    with pytest.raises(ZeroDivisionError):  # the command line was understood, and the run asked for
        serve.main(arguments)
    assert loaded == ["/srv/run"]
    assert '-v "$PWD/runs/mine:/srv/run:ro"' in lines
