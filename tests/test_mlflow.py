"""A finished run in MLflow's file store."""

import json
import sys

import pytest
from mlflow.tracking import MlflowClient

from bgetune import files
from bgetune.mlflow import main, metrics, parameters


@pytest.fixture
def run(tmp_path):
    """A finished run with what is logged of it."""
    folder = tmp_path / "shop"
    outputs = {}
    for name in ("scoring.json", "README.md", "model/weights"):
        file = folder / "05_calibrate" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}", "utf-8")
    for name in ("scoring.json", "README.md", "model"):
        outputs[name] = {"path": f"05_calibrate/{name}"}
    entry = {
        "parameters": {"confidence": 0.95, "precisions": [0.9], "note": "x" * 9000},
        "metrics": {
            "after": {"auc": 0.9, "auc_interval": [0.8, 0.95], "gone": float("nan"), "text": "<b>"},
            "recalls": [{"precision": 0.95, "after": 0.7}],
            "decisions": [{"precision": 0.95, "decided by": "reranker", "test_recall": 0.8}],
            "reranking": [{"scored by": "both", "mrr": 0.75, "auc_gain": None}],
            "dropped": {"查询<b>/x": 3},
        },
        "outputs": outputs,
        "seconds": 12,
        "started": "2026-01-02T03:04:05+00:00",
        "git": "abc",
    }
    many = {"parameters": {f"p{n}": n for n in range(150)}, "metrics": {}, "outputs": {}, "seconds": 1}
    text = json.dumps({"stages": {"01_positives": many, "05_calibrate": entry}})
    files.write_atomic(folder / "manifest.json", text)
    (folder / "index.html").write_text("<p>", "utf-8")
    return folder


def test_a_run_is_logged_whole(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "mlruns").as_uri()
    assert main([str(run), "--uri", store, "--model"]) == 0
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("bgetune")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "shop"
    assert logged.info.run_id in capsys.readouterr().out
    assert logged.data.params["05_calibrate.confidence"] == "0.95"
    assert logged.data.params["01_positives.p149"] == "149"
    assert logged.data.metrics["05_calibrate/after/auc"] == 0.9
    assert logged.data.metrics["05_calibrate/decisions/0.95 reranker/test_recall"] == 0.8
    assert logged.data.metrics["05_calibrate/reranking/both/mrr"] == 0.75
    assert logged.data.tags["bgetune.git"] == "abc"
    top = {item.path for item in client.list_artifacts(logged.info.run_id)}
    assert {"index.html", "manifest.json", "05_calibrate", "model"} <= top


def test_names_and_values_are_what_mlflow_takes(run):
    stages = json.loads((run / "manifest.json").read_text("utf-8"))["stages"]
    assert len(parameters(stages)["05_calibrate.note"]) == 6000
    found = metrics(stages)
    assert found["05_calibrate/dropped/___b__x"] == 3
    assert found["05_calibrate/recalls/0.95/after"] == 0.7
    assert found["05_calibrate/after/auc_interval/0"] == 0.8
    assert "05_calibrate/after/gone" not in found
    assert "05_calibrate/after/text" not in found


def test_what_cannot_be_logged_is_one_message(run, tmp_path, capsys, monkeypatch):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "finished run" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert main([str(run), "--uri", "nonsense://x"]) == 2
    assert "MLflow refused the run" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main([str(run)]) == 2
    assert "pip install 'bgetune[mlflow]'" in capsys.readouterr().err
