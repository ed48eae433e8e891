"""Notebook 01 on third-party data as it comes. `measure.py` beside this file runs the whole and prints its numbers."""

from pathlib import Path

import pandas as pd
import pytest

from bgetune import pipeline
from bgetune.config.profile import load_profile
from bgetune.runs import manifest

HERE = Path(__file__).parent


def positives(name, folder):
    """The manifest's entry of notebook 01 for a profile of this folder."""
    profile = load_profile(HERE / f"{name}.yaml")
    pipeline.check([profile])
    pipeline.run_notebook("01_positives", profile.path, folder)
    return manifest.read_manifest(folder)["stages"]["01_positives"]


@pytest.mark.usefixtures("shared")
def test_labelled_pairs_train_and_judge_apart(tmp_path):
    entry = positives("bank", tmp_path)
    graded = pd.read_parquet(manifest.artifact_path(tmp_path, "graded"))
    counts = graded.split.value_counts()
    assert min(counts["dev"], counts["test"]) > 4_500, "the held-out set is cut in halves"
    assert abs(graded[graded.split != "train"].grade.mean() - 0.5) < 0.01
    assert entry["metrics"]["edges"].keys() == {"given"}
    clusters = pd.read_parquet(manifest.artifact_path(tmp_path, "clusters")).set_index("text_id").split
    edges = pd.read_parquet(manifest.artifact_path(tmp_path, "edges"))
    trained = set(edges[(clusters[edges.a_id] == "train").to_numpy()][["a_id", "b_id"]].to_numpy().ravel())
    assert len(trained) > 4_000
    judged = graded[graded.split != "train"]
    assert not trained & set(judged.a_id) | trained & set(judged.b_id)


@pytest.mark.usefixtures("shared")
def test_a_real_click_log_yields_positives_and_counts_its_junk(tmp_path):
    entry = positives("sogouq", tmp_path)
    assert entry["metrics"]["edges"].get("co_click", 0) > 0
    dropped = pd.read_parquet(tmp_path / "01_positives/dropped.parquet")
    assert dropped.rows.sum() > 0
    assert dropped.reason.str.contains("URL").any()
