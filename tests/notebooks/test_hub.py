"""params/bge_small_zh.yaml itself, on small sources, with its four models from a hub on this machine."""

import json
import os
import subprocess
import sys

import hub_models
import pandas as pd
import pytest
import yaml
from models.local_hub import LocalHub, commit

from bgetune.paths import ROOT

pytestmark = pytest.mark.slow

RUN = """
import sys
from pathlib import Path
from bgetune import pipeline, runs
runs.run_folder = lambda profile, run_dir=None: Path(sys.argv[1])
sys.exit(pipeline.main(sys.argv[2:]))
"""
WAYS = ("{}怎么办", "忘记{}了", "如何查询{}", "{}在哪里")
HEADS = ("支付", "登录", "订单", "退款", "余额", "转账", "取消", "查询")
TAILS = ("密码", "记录", "账户", "到账", "时间", "方式")


def write_sources(folder):
    """Questions with answers, and labelled pairs of other meanings; returns all texts and the section of sources."""
    topics = [f"{head}{tail}" for head in HEADS for tail in TAILS]
    taught, judged = topics[::2], topics[1::2]
    qa = pd.DataFrame([(way.format(t), f"请到订单里查询{t}") for t in taught for way in WAYS[:3]], columns=["q", "a"])
    ways = (WAYS[:2], WAYS[2:])
    same = [(a.format(t), b.format(t), 1) for t in judged for a, b in ways]
    turned = judged[5:] + judged[:5]
    other = [(a.format(t), b.format(u), 0) for t, u in zip(judged, turned, strict=True) for a, b in ways]
    pairs = pd.DataFrame(same + other, columns=["text_a", "text_b", "label"])
    qa.to_csv(folder / "qa.csv", index=False)
    pairs.to_csv(folder / "pairs.csv", index=False)
    sources = {
        "qa": [{"path": str(folder / "qa.csv"), "a_column": "q", "b_column": "a"}],
        "pairs": [{"path": str(folder / "pairs.csv"), "label_column": "label", "use": "heldout"}],
    }
    return [*qa["q"], *qa["a"], *pairs["text_a"], *pairs["text_b"]], sources


def test_the_profile_runs_from_the_hub_and_then_without_one(tmp_path):
    texts, sources = write_sources(tmp_path)
    hub_models.publish(tmp_path / "hub", texts)
    profile = yaml.safe_load((ROOT / "params/bge_small_zh.yaml").read_text("utf-8"))
    profile["01_positives"]["sources"] = sources
    (tmp_path / "mine.yaml").write_text(json.dumps(profile), "utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "BGETUNE_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT / "src")}
    chosen = ["04_train.epochs=1", "02_backtranslate.max_texts=4", "02_backtranslate.candidates=1", "device=cpu"]
    chosen += ["05_calibrate.min_labelled=10", "05_calibrate.resamples=100", "05_calibrate.search_queries=10"]
    arguments = [str(tmp_path / "run"), str(tmp_path / "mine.yaml"), *(f"--set={value}" for value in chosen)]

    def run(address, *more):
        done = subprocess.run(
            [sys.executable, "-c", RUN, *arguments, *more],
            env=environment | {"HF_ENDPOINT": address}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]

    with LocalHub(tmp_path / "hub").running() as served:
        served.cut = {"model.safetensors"}
        run(served.address)
        assert not [request for request in served.requests if ".bin" in request]
    stages = json.loads((tmp_path / "run/manifest.json").read_text("utf-8"))["stages"]
    revisions = {name: record["revision"] for stage in stages.values() for name, record in stage["inputs"].items()
                 if "hub" in record}  # fmt: skip
    assert revisions == {
        name: commit(tmp_path / f"hub/{name}{'@pr' if name.startswith('Helsinki') else ''}")
        for name in (hub_models.BGE, hub_models.RERANKER, hub_models.TO_PIVOT, hub_models.FROM_PIVOT)
    }
    assert (tmp_path / "run/05_calibrate/scoring.json").is_file()
    card = (tmp_path / "run/04_train/model/README.md").read_text("utf-8")
    assert f"base_model: {hub_models.BGE}\nlicense: mit\n" in card
    run("http://127.0.0.1:9", "--from", "05")
