"""All five notebooks on the small demo world, in two rounds, by the command line, then again with nothing changed."""

import json
import shutil

import browser as browser_checks
import numpy as np
import pandas as pd
import pytest

from bgetune import locale, paths, pipeline, runs
from bgetune.config import sources
from bgetune.config.profile import load_profile, resolve
from bgetune.data import tables
from bgetune.reports import pages, verdict
from bgetune.runs import manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run of the demo profile on the small world."""
    folder = tmp_path_factory.mktemp("end_to_end")
    text = (paths.ROOT / "params/demo.yaml").read_text("utf-8").replace("demo://standard/", "demo://small/")
    (folder / "profile.yaml").write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "run_folder", lambda profile, run_dir=None: folder / "run")
        patch.setattr(manifest, "other_runs", lambda run_dir: [])
        chosen = [
            "02_backtranslate.max_texts=40",
            "04_train.general={path: demo://small/pairs.csv}",
            "04_train.merge_weight=0.9",
            "04_train.tensorboard=true",
            "04_train.denoising_epochs=1",
            "04_train.tune_reranker=true",
            "rounds=2",
        ]
        arguments = [part for value in chosen for part in ("--set", value)]
        assert pipeline.main([str(folder / "profile.yaml"), *arguments]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def stages(finished):
    return manifest.read_manifest(finished)["stages"]


def test_every_stage_is_recorded_and_up_to_date(finished, stages):
    assert list(stages) == manifest.order(2)
    profile = load_profile(finished / "profile.yaml")
    for stage in stages:
        values, _ = resolve(manifest.notebook_of(stage), profile)
        assert manifest.out_of_date(stage, values, finished) is None, stage


def test_the_second_round_mines_with_the_tuned_models_and_is_judged_on_the_same_pairs(finished, stages):
    first, second = stages["03_hard_negatives"], stages["03_hard_negatives.2"]
    for tuned in ("model", "reranker"):
        made = stages["04_train"]["outputs"][tuned]["sha256"]
        assert second["inputs"][tuned] == {"stage": "04_train", "sha256": made}
    assert second["outputs"]["heldout"]["sha256"] == first["outputs"]["heldout"]["sha256"]
    assert second["outputs"]["train.jsonl"]["sha256"] != first["outputs"]["train.jsonl"]["sha256"]
    assert stages["04_train.2"]["inputs"]["train.jsonl"]["stage"] == "03_hard_negatives.2"
    assert stages["05_calibrate"]["inputs"]["model"]["stage"] == "04_train.2"
    assert "the model of round 1" in (finished / "index.html").read_text("utf-8")


def test_tables_are_valid_and_nothing_leaks_between_splits(finished):
    texts, edges, clusters, heldout = (
        tables.check(name, pd.read_parquet(manifest.artifact_path(finished, name)))
        for name in ("texts", "edges", "clusters", "heldout")
    )
    assert set(clusters.text_id) == set(texts.text_id)
    assert not clusters.drop_duplicates(["cluster_id", "split"]).cluster_id.duplicated().any()
    split = clusters.set_index("text_id").split
    assert (split[edges.a_id].to_numpy() == split[edges.b_id].to_numpy()).all()
    assert (split[heldout.query_id].to_numpy() == heldout.split.to_numpy()).all()
    trained = {
        text
        for line in manifest.artifact_path(finished, "train.jsonl").read_text("utf-8").splitlines()
        for row in [json.loads(line)]
        for text in [row["query"], *row["pos"], *row["neg"]]
    }
    names = texts.set_index("text").text_id
    assert len(trained) > 100
    assert set(split[names[list(trained)]]) == {"train"}


def test_mined_positives_hold_against_the_known_truth(stages):
    quality = stages["01_positives"]["metrics"]["quality"]["log and reranker"]
    assert quality["precision"] >= 0.95
    assert quality["recall"] >= 0.5


def test_the_saved_model_is_the_merged_one_and_its_card_says_so(finished, stages):
    from bgetune.models.encoder import Encoder
    from bgetune.training import forgetting

    metrics = stages["04_train"]["metrics"]
    assert metrics["saved"] == "merged"
    assert metrics["after"] == metrics["merged"] != metrics["tuned"]
    for column in ("before", "tuned", "merged"):
        assert 0 < metrics[column]["general_auc"] <= 1
        assert 0 < metrics[column]["average_precision"] <= 1
    card = (finished / "04_train/model/README.md").read_text("utf-8")
    assert f"| general_auc | {metrics['before']['general_auc']:.4f} |" in card
    assert "05_calibrate/scoring.json" in card
    assert (finished / "05_calibrate/scoring.json").is_file()
    assert len(list((finished / "04_train/tensorboard").iterdir())) == 1
    assert not (finished / "04_train/checkpoints").exists()
    assert not (finished / "04_train/denoising").exists()
    pairs = forgetting.read_general(sources.GeneralSource(path="demo://small/pairs.csv"), 2000, seed=42)
    encoder = Encoder(finished / "04_train/model", max_length=32, cache_dir=None)
    for name, value in forgetting.general_scores(pairs, encoder.encode).items():
        assert value == pytest.approx(metrics["after"][name], abs=1e-4)


def test_the_warm_up_reads_the_train_split_alone(finished, stages):
    clusters = pd.read_parquet(manifest.artifact_path(finished, "clusters"))
    assert stages["04_train"]["metrics"]["warm_up_texts"] == (clusters.split == "train").sum() > 0


def test_the_tuned_model_drifts_less(stages):
    before, after = (stages["05_calibrate"]["metrics"][key] for key in ("before", "after"))
    for key in verdict.MEASURES | verdict.CONTEXT:
        assert np.isfinite([before[key], after[key]]).all(), key
    assert after["mean_squared_cosine_random"] < before["mean_squared_cosine_random"] / 2
    assert after["auc"] > before["auc"] - 0.02


def test_the_scorer_reads_the_run(finished):
    from bgetune.scoring import Scorer

    scorer = Scorer.load(finished)
    same, other = scorer.score(["怎么修改登录密码", "怎么修改登录密码"], ["登录密码怎么改", "如何申请电子发票"])
    assert 0 <= other < same <= 1


def test_pages_show_results_and_no_code(finished):
    index = (finished / "index.html").read_text("utf-8")
    assert "Average precision" in index
    assert "data:image/png;base64" in index
    for stage in manifest.order(2):
        page = (finished / f"{stage}.html").read_text("utf-8")
        assert "<script" not in page
        assert "stage.finish" not in page
        assert "<Figure size" not in page, "a figure is shown as text"
        assert "Traceback" not in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_can_be_read_on_every_screen(finished, tmp_path, browser, axe, language):
    """Of the notebooks' texts, that are translated when they run, the Chinese ones are in the sample report."""
    run = shutil.copytree(finished, tmp_path / "run")
    locale.use(language)
    try:
        files_written = [page.name for page in pages.write_pages(run, "demo")]
    finally:
        locale.use(None)
    assert len(files_written) == (8 if language == "zh" else 0), "the run was in English"
    found = {
        (page.name, width, dark): faults
        for page in sorted(run.glob("*.html"))
        for width, dark in ((390, False), (768, True), (1200, False), (1200, True))
        if (faults := browser_checks.faults(browser, axe, page, width, dark))
    }
    assert found == {}
    assert len(list(run.glob("*.html"))) == 8
