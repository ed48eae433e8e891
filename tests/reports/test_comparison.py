import json
import re

import pandas as pd
import pytest

from bgetune import files
from bgetune.config.profile import Profile
from bgetune.errors import InputError
from bgetune.reports import comparison

SCRIPT = "<script>alert(1)</script>"


def results(precision, *, low=None, high=None, base=0.5, **after):
    """Metrics of 05_calibrate with this average precision."""
    interval = {"average_precision_interval": [low or precision, high or precision]}
    return {
        "before": {"average_precision": base, "auc": base, "f1_at_own_threshold": 0.25},
        "after": {"average_precision": precision, "auc": 0.875, "f1_at_own_threshold": 0.75} | interval | after,
        "calibration": {"ece": 0.0625},
        "thresholds": [{"precision": 0.9, "test_recall": 0.5}, {"precision": 0.95, "test_recall": 0.375}],
    }


def finished(folder, metrics, pairs=("a", "b"), seconds=(30.0,)):
    """A run's folder with these results, judged on these pairs."""
    (folder / "05_calibrate").mkdir(parents=True)
    table = pd.DataFrame({"query_id": "q", "text_id": list(pairs), "label": 1, "split": "test"})
    table.to_parquet(folder / "05_calibrate/judged.parquet")
    stages = {"05_calibrate": {"metrics": metrics, "outputs": {"judged": {"path": "05_calibrate/judged.parquet"}}}}
    for number, spent in enumerate(seconds, start=1):
        name = "04_train" if number == 1 else f"04_train.{number}"
        stages[name] = {"metrics": {"best_step": 1}, "seconds": spent, "outputs": {}}
    files.write_atomic(folder / "manifest.json", json.dumps({"stages": stages}))
    return folder


@pytest.fixture
def compared(tmp_path):
    """Compares runs with these results; the page without line breaks, and the text."""

    def compare(made, failures=None, **options):
        profiles = [
            Profile(f"study/{name}", None, {"rounds": len(options.get(name, {}).get("seconds", "1"))}) for name in made
        ]
        folders = {p.name: tmp_path / p.name for p in profiles}
        for name, metrics in made.items():
            finished(tmp_path / "study" / name, metrics, **options.get(name, {}))
        page, text = comparison.compare(profiles, folders, failures or {})
        assert page == tmp_path / "study/comparison.html"
        return re.sub(r"\s+", " ", page.read_text("utf-8")), text

    return compare


def order(page, *names):
    return sorted(names, key=lambda name: page.index(f"{name}</a></td>"))


def test_runs_are_ranked_and_the_best_of_each_column_is_marked(compared):
    page, text = compared({"low": results(0.75, auc=0.9375), "high": results(0.9375)})
    assert order(page, "low", "high") == ["high", "low"]
    assert "Ranked by average precision on the test pairs" in page
    assert '<td class="number best">0.938<br>' in page, "the best average precision"
    assert '<td class="number best">0.938</td>' in page, "the other run's better AUC"
    assert text.splitlines()[1].split() == ["1", "high", "0.938", "0.875", "–", "0.062", "30"]


def test_the_base_model_calibration_thresholds_and_seconds_stand_beside(compared):
    page, _ = compared({"a": results(0.75), "b": results(0.875)}, b={"seconds": (20.0, 25.0)})
    assert page.count("untuned") == 1, "one row where all runs have one base model"
    for number in ("0.500", "0.250", "0.062", "0.375", ">45<"):
        assert number in page, number


def test_different_base_models_have_a_row_each(compared):
    page, _ = compared({"a": results(0.75), "b": results(0.875, base=0.25)})
    assert "base model of a, untuned" in page
    assert "base model of b, untuned" in page


def test_overlapping_intervals_may_be_chance(compared):
    wide, narrow = results(0.75, low=0.5, high=0.8125), results(0.875, low=0.8125, high=0.9375)
    page, text = compared({"wide": wide, "narrow": narrow, "far": results(0.625, low=0.5, high=0.75)})
    assert "the difference may be chance" in page
    assert "2≈" in page
    assert "3≈" not in page
    assert "≈ the 95 % interval overlaps" in text


def test_intervals_apart_say_nothing_of_chance(compared):
    page, text = compared({"a": results(0.75, high=0.8), "b": results(0.875, low=0.85)})
    assert "chance" not in page
    assert "≈" not in text


def test_the_same_judged_pairs_are_said_to_be_so_and_different_ones_warned_of(compared):
    page, _ = compared({"a": results(0.75), "b": results(0.875)})
    assert "judged on the same 2 test pairs" in page
    page, _ = compared({"c": results(0.75), "d": results(0.875)}, d={"pairs": ("b", "c")})
    assert "not judged on the same pairs" in page
    assert "of 3 test pairs that any run was judged on, 1 are common to all" in page


def test_a_failed_run_is_last_with_its_reason_and_no_stale_numbers(compared):
    made = {"stale": results(0.96875), "good": results(0.75)}
    page, text = compared(made, failures={"study/stale": f"no disk {SCRIPT}"})
    assert text.splitlines()[1].split()[:2] == ["1", "good"]
    assert "0.969" not in page
    assert "<strong>Failed.</strong> no disk &lt;script&gt;" in page
    assert SCRIPT not in page
    assert re.search(r"stale +failed", text)


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
    folders = {"a": finished(tmp_path / "a", {}), "b": tmp_path / "b"}
    page, text = comparison.compare(profiles, folders, {"b": InputError.__name__})
    assert page == tmp_path / "comparison.html"
    assert text.count("\n") == 2


def test_page_is_self_contained_and_links_to_the_runs(compared):
    page, _ = compared({"scale=1,x#y": results(0.75), "b": results(0.875)})
    assert 'href="scale%3D1%2Cx%23y/index.html"' in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
