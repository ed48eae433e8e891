import json
import re

import made
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from bgetune import files
from bgetune.config.profile import Profile
from bgetune.errors import InputError
from bgetune.reports import comparison

SCRIPT = "<script>alert(1)</script>"


def judged(tuned, base=0.25, count=200, name="p", seed=0):
    """Pairs of dev and test, two a cluster, that a model of this quality in [0, 1] scores: 1 is never wrong."""
    rng = np.random.default_rng(seed)
    labels, noise = np.tile([0, 1], count), rng.random(2 * count)
    scores = {
        model: quality * labels + (1 - quality) * noise for model, quality in (("before", base), ("after", tuned))
    }
    table = pd.DataFrame({"query_id": [f"{name}{n}" for n in range(2 * count)], "text_id": "t", "label": labels})
    split = np.repeat(["dev", "test"], count)
    return table.assign(split=split, cluster_id=np.arange(2 * count) // 2, **scores)


def metrics(**more):
    row = dict.fromkeys(["cosine", "probability", "test_precision", "test_recall"], 0.5)
    return made.results(thresholds=[row | {"precision": 0.95, "recall": 0.375}], **more)


def finished(folder, quality, seconds=(30.0,), base=0.25, name="p", seed=0, **more):
    """A run's folder with the judged pairs of a model of this quality."""
    (folder / "05_calibrate").mkdir(parents=True)
    judged(quality, base, name=name, seed=seed).to_parquet(folder / "05_calibrate/judged.parquet")
    outputs = {"judged": {"path": "05_calibrate/judged.parquet"}}
    calibrated = {"metrics": metrics(**more), "outputs": outputs, "seconds": 1, "started": "now"}
    stages = {"05_calibrate": calibrated}
    for number, spent in enumerate(seconds, start=1):
        stage = "04_train" if number == 1 else f"04_train.{number}"
        stages[stage] = {"metrics": {"best_step": 1}, "seconds": spent, "outputs": {}, "started": "now"}
    files.write_atomic(folder / "manifest.json", json.dumps({"stages": stages, "rounds": len(seconds)}))
    (folder / "index.html").write_text("old")
    return folder


@pytest.fixture
def compared(tmp_path):
    """Compares runs of these qualities; the page without line breaks, and the text."""

    def compare(qualities, failures=None, **options):
        profiles = [
            Profile(f"study/{name}", None, {"rounds": len(options.get(name, {}).get("seconds", "1"))})
            for name in qualities
        ]
        folders = {p.name: tmp_path / p.name for p in profiles}
        for name, quality in qualities.items():
            finished(tmp_path / "study" / name, quality, **options.get(name, {}))
        page, text = comparison.compare(profiles, folders, failures or {})
        assert page == tmp_path / "study/comparison.html"
        return re.sub(r"\s+", " ", page.read_text("utf-8")), text

    return compare


def order(text):
    return [line.split()[1] for line in text.splitlines()[1:] if line.split()[0].rstrip("≈").isdigit()]


def test_runs_and_their_base_are_ranked_on_dev(compared):
    page, text = compared({"low": 0.3, "high": 0.4})
    assert order(text) == ["high", "low", "base"]
    assert page.count("base model, untuned") == 1, "one row where all runs have one base model"
    assert re.search(r'class="number good"[^>]*data-label="Average precision', page)
    high = float(text.splitlines()[1].split()[2])
    assert high == pytest.approx(average_precision_score(*judged(0.4)[:200][["label", "after"]].to_numpy().T), abs=5e-4)
    assert "0.375" in page, "recall at the guaranteed precision, on dev"


def test_a_base_that_is_better_than_all_runs_is_first(compared):
    page, text = compared({"a": 0.3, "b": 0.2}, a={"base": 0.45}, b={"base": 0.45})
    assert order(text)[0] == "base"
    assert "Keep the base model: no run ranks above it on dev." in page
    assert "Keep the base model" in text


def test_different_base_models_have_a_row_each(compared):
    page, _ = compared({"a": 0.5, "b": 0.6}, b={"base": 0.3})
    assert "base model of a, untuned" in page
    assert "base model of b, untuned" in page


def test_a_lead_with_its_interval_and_what_to_take(compared):
    page, text = compared({"near": 0.3, "far": 0.45})
    assert "Take far: its lead over near on dev is +" in page
    bounds = re.search(r"Take far: .*?interval \+([\d.]+) to \+([\d.]+)", text)
    assert 0 < float(bounds[1]) < float(bounds[2])
    assert "≈" not in text


def test_a_lead_that_may_be_chance_leaves_the_choice_to_the_cost(compared):
    options = {"slow": {"seconds": (90.0,)}, "fast": {"seconds": (9.0,), "seed": 1}}
    page, text = compared({"slow": 0.43, "fast": 0.4, "far": 0.28}, **options)
    assert order(text)[:2] == ["slow", "fast"]
    assert "1≈" in page
    assert "slow ranks first on dev, but its lead over fast may be chance." in page
    assert "Take fast where training time counts" in page
    assert "≈ the lead over the next may be chance" in text


def test_no_lead_over_the_base_is_no_reason_to_tune(compared):
    page, _ = compared({"a": 0.2501, "b": 0.1})
    assert "Keep the base model, or judge on more pairs" in page


def test_test_is_shown_once_for_the_winner(compared):
    page, _ = compared({"a": 0.3, "b": 0.45}, a={"after": 0.8125}, b={"after": 0.9375})
    assert "b on test" in page
    assert "average precision went from 0.500 to 0.938" in page
    assert "0.812" not in page, "nothing of the others on test"


def test_the_seconds_of_all_rounds_count(compared):
    page, text = compared({"a": 0.3, "b": 0.45}, b={"seconds": (20.0, 25.0)})
    assert text.splitlines()[1].split()[-1] == "45"
    assert ">45<" in page


def test_the_same_judged_pairs_are_said_to_be_so_and_different_ones_warned_of(compared):
    page, _ = compared({"a": 0.3, "b": 0.45})
    assert "judged on the same 200 dev pairs" in page
    page, _ = compared({"c": 0.5, "d": 0.7}, d={"name": "q"})
    assert "not judged on the same pairs" in page
    assert "Of 400 dev pairs that any run was judged on, 0 are common to all" in page


def test_a_failed_run_is_last_with_its_reason_and_no_stale_numbers(compared):
    page, text = compared({"stale": 0.96875, "good": 0.5}, failures={"study/stale": f"no disk {SCRIPT}"})
    assert order(text) == ["good", "base"]
    assert "stale failed.</strong> no disk &lt;script&gt;" in page
    assert SCRIPT not in page
    assert re.search(r"stale +failed", text)


def test_the_pages_link_both_ways(compared, tmp_path):
    page, _ = compared({"scale=1,x#y": 0.5, "b": 0.75})
    assert 'href="scale%3D1%2Cx%23y/index.html"' in page
    assert 'href="../comparison.html"' in (tmp_path / "study/b/index.html").read_text("utf-8")


def test_only_parameters_that_differ_are_shown_by_their_key():
    given = {
        "plain": {},
        "tuned": {
            "seed": 1,
            "04_train": {"scale": 50, "matryoshka": [8]},
            "02_backtranslate": {"gate": {"terms": ["x"]}},
        },
        "own": {"03_hard_negatives": {"seed": 1}, "rounds": 2},
    }
    found = comparison.differences([Profile(name, None, values) for name, values in given.items()])
    assert found["plain"] == {
        "rounds": "1",
        "seed": "42",
        "02_backtranslate.gate.terms": "[]",
        "03_hard_negatives.seed": "42",
        "04_train.scale": "20.0",
        "04_train.matryoshka": "[]",
    }
    assert found["tuned"]["04_train.matryoshka"] == "[8]"
    assert (found["tuned"]["seed"], found["tuned"]["03_hard_negatives.seed"]) == ("1", "1")
    assert (found["own"]["seed"], found["own"]["03_hard_negatives.seed"], found["own"]["rounds"]) == ("42", "1", "2")


def test_runs_without_results_are_listed(tmp_path):
    profiles = [Profile(name, None, {}) for name in "ab"]
    folders = {name: tmp_path / name for name in "ab"}
    page, text = comparison.compare(profiles, folders, {"b": InputError.__name__})
    assert page == tmp_path / "comparison.html"
    assert "No run has finished" in text
    assert "InputError" in page.read_text("utf-8")


def test_page_is_self_contained(compared):
    page, _ = compared({"a": 0.5, "b": 0.75})
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
