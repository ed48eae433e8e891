"""The notebooks on data in which one or another of their tables is empty: they finish, or say what to add."""

import json
import re

import cells
import matplotlib
import numpy as np
import pandas as pd
import pytest
import tiny
import yaml

from bgetune.config.stages import STAGES
from bgetune.data.tables import SCHEMAS
from bgetune.errors import InputError
from bgetune.models.reranker import Reranker
from bgetune.reports import report
from bgetune.runs import manifest
from bgetune.scoring import Scorer

pytestmark = pytest.mark.slow

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with an encoder and a reranker of random weights, and caches of its own."""
    folder = tmp_path_factory.mktemp("empty")
    tiny.save_sentence_transformer(folder / "encoder")
    tiny.save_bert(folder / "reranker", seed=1, labels=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGETUNE_CACHE", str(folder))
        yield folder


def text(number):
    """Six characters that the tiny models know; near-misses share none on purpose."""
    return "".join(np.random.default_rng(number).choice(list(tiny.CHARACTERS[:25]), 6)) + str(number)


def qa(count, **more):
    return {"rows": [{"text_a": text(i), "text_b": text(i) + "办"} for i in range(count)], **more}


def labelled(count, first=0, **more):
    rows = [
        {"text_a": text(i), "text_b": text(i) + "办" if i % 2 else text(i + 1), "label": i % 2}
        for i in range(first, first + count)
    ]
    return {"rows": rows, "label_column": "label", **more}


GRADED = {
    "rows": [
        {"text_a": text(i), "text_b": [text(i + 1), text(i + 1)[:3] + text(i), text(i) + "了", text(i) + "办"][i % 4]}
        | {"grade": i % 4}
        for i in range(80)
    ]
}
SYNONYMS = {"rows": [{"words": f"{text(i)}|{text(i)}了|{text(i)}的办"} for i in range(40)]}
CORPUS = {"rows": [{"text": text(5000 + i)} for i in range(40)]}
CLICKS = {
    "rows": [
        {"query": text(i % 40), "user_id": i, "time": f"2026-01-0{1 + i % 8} 10:00:00", "url": f"d{i % 20}"}
        | {"title": "到" + text(3000 + i % 20)}
        for i in range(900)
    ],
    "title_column": "title",
}
TIDY = {"qa": [qa(40)]}
ONE_PAIR = {"rows": [{"text_a": text(1), "text_b": text(2)}]}

# name -> sources, what the reranker says of every pair (None: there is none), parameters, the last notebook, and what
# that one says
WORLDS = {
    "tidy questions and answers": (TIDY, 0.0, {}, "05", None),
    "labelled pairs kept for judging alone": (
        {"qa": [qa(40, use="train")], "pairs": [labelled(100, first=900, use="heldout")]},
        *(0.0, {"05_calibrate": {"min_labelled": 2}}, "05", None),
    ),
    "two labelled pairs": ({"pairs": [labelled(2)]}, None, {}, "05", "held out are dev: 0 positive, .*labelled pairs"),
    "many labelled pairs": ({"pairs": [labelled(500)]}, 0.0, {}, "03", None),
    "graded pairs alone": ({"graded": [GRADED]}, 0.0, {}, "04", None),
    "synonyms alone, a reranker that confirms nothing": ({"synonyms": [SYNONYMS]}, 0.0, {}, "03", None),
    "a reranker that confirms everything": (TIDY, 1.0, {}, "04", None),
    "a corpus and one pair": ({"corpus": [CORPUS], "pairs": [ONE_PAIR]}, None, {}, "04", None),
    "a corpus alone": ({"corpus": [CORPUS]}, 0.0, {}, "01", "no two texts with one meaning.*Add QA"),
    "clicks that the reranker vetoes": ({"clicks": [CLICKS]}, 0.0, {}, "01", "no two texts with one meaning"),
    "clicks alone": ({"clicks": [CLICKS]}, None, {}, "03", None),
    "no candidate passes": (
        TIDY,
        0.0,
        {"03_hard_negatives": {"window_low": None, "window_high": -1.0}},
        "04",
        None,
    ),
    "no candidate passes, filled up": (
        *(TIDY, 0.0, {"03_hard_negatives": {"window_low": 1.0, "too_few": "random"}}, "04", None),
    ),
    "nothing to review": (*(TIDY, 0.5, {"03_hard_negatives": {"review_limit": 0, "promote_score": None}}, "03", None),),
    "nothing is read by the reranker": (TIDY, 0.5, {"01_positives": {"recall_max_pairs": 0}}, "01", None),
    "a truth that names none of the texts": (TIDY, 0.5, {"truth": "truth.csv"}, "03", None),
    "nothing to augment": (TIDY, 0.5, {"02_backtranslate": {"enabled": False}}, "02", None),
}


def run(folder, monkeypatch, name, sources, score, changes, last):
    """Run the notebooks up to `last`; returns the run's folder and the variables of the last one."""
    where = folder / name.replace(" ", "_")
    where.mkdir()
    given = {}
    for kind, tables in sources.items():
        for table in tables:
            file = where / f"{kind}.csv"
            pd.DataFrame(table["rows"]).to_csv(file, index=False)
            options = {key: value for key, value in table.items() if key != "rows"}
            given.setdefault(kind, []).append({"path": str(file), **options})
    values = {
        "model": str(folder / "encoder"),
        "reranker": None if score is None else str(folder / "reranker"),
        "max_length": 32,
        "01_positives": {"sources": given},
        "04_train": {"epochs": 1, "batch_size": 16, "precision": "float32", "learning_rate": 1e-5, "device": "cpu"},
        "05_calibrate": {"resamples": 100},
    }
    if "truth" in changes:
        changes = {**changes, "truth": str(where / changes["truth"])}
        (where / "truth.csv").write_text("text,meaning\n没见过的,a\n", "utf-8")
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    (where / "profile.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
    if score is not None:
        monkeypatch.setattr(
            Reranker, "score", lambda self, pairs, *, progress=True: np.full(len(pairs), score, dtype=np.float32)
        )
    for stage in [stage for stage in STAGES if stage[:2] <= last]:
        variables = cells.run(stage, where / "profile.yaml", where)
    return where, variables


OPPOSED = {
    "rows": [
        {"text_a": text(i), "text_b": text(i) + "办" if i % 2 else text(i + 500), "label": 1 - i % 2}
        for i in range(900, 1000)
    ],
    "label_column": "label",
    "use": "heldout",
}
TOO_LITTLE = {
    "18 questions": ({"qa": [qa(18)]}, {}, "Too few pairs to calibrate: dev holds 2 positive .* from 2 clusters"),
    "labels that say the opposite": (
        {"qa": [qa(40, use="train")], "pairs": [OPPOSED]},
        {"05_calibrate": {"min_labelled": 2}},
        "the positives are not more similar than the negatives.*Check that the labels are not swapped",
    ),
}


@pytest.mark.parametrize("name", TOO_LITTLE)
def test_too_little_to_judge_ends_in_a_report_without_thresholds(folder, monkeypatch, name):
    sources, changes, verdict = TOO_LITTLE[name]
    where, _ = run(folder, monkeypatch, name, sources, None, changes, "05")
    report.write_index(where, name)
    assert re.search(verdict, " ".join((where / "index.html").read_text("utf-8").split()))
    made = json.loads((where / "05_calibrate/scoring.json").read_text("utf-8"))["thresholds"]
    assert made["best_f1"] is None
    assert {row["threshold"] for row in made["precision"] + made["recall"]} == {None}
    scorer = Scorer.load(where, device="cpu")
    cosine = scorer.similarity([text(1)], [text(2)])
    assert scorer.score([text(1)], [text(2)]) == pytest.approx(cosine.clip(0, 1))
    with pytest.raises(InputError, match=verdict):
        scorer.is_match(text(1), [text(2)], precision=None)


@pytest.mark.filterwarnings("error:.*empty slice:RuntimeWarning")
@pytest.mark.parametrize("name", WORLDS)
def test_the_notebooks_finish_or_say_what_to_add(folder, monkeypatch, name):
    *world, last, message = WORLDS[name]
    if message is None:
        where, _ = run(folder, monkeypatch, name, *world, last)
        report.write_index(where, name)
        return
    with pytest.raises(InputError, match=f"(?s){message}"):
        run(folder, monkeypatch, name, *world, last)
    done = [file.name[:2] for file in (folder / name.replace(" ", "_")).glob("0?_*")]
    assert last not in done or last == "05", "an earlier notebook ended it"


def test_a_tuned_reranker_is_judged_beside_the_untuned_one_and_is_what_production_loads(folder, monkeypatch):
    tuning = {"tune_reranker": True, "reranker_epochs": 1, "reranker_batch_size": 8, "reranker_learning_rate": 1e-3}
    no_veto = {"veto_score": None, "promote_score": None}
    chosen = {"reranker": str(folder / "reranker"), "04_train": tuning, "03_hard_negatives": no_veto}
    where, names = run(folder, monkeypatch, "a tuned reranker", TIDY, None, chosen, "05")
    outputs = manifest.read_manifest(where)["stages"]["04_train"]["outputs"]
    assert {"model", "reranker", "reranker_log"} <= outputs.keys()
    assert not (where / "04_train/reranker_checkpoints").exists()
    assert list(names["rerankers"]) == ["untuned reranker", "reranker"]
    worth = names["decisions"].worth.set_index("scored by")
    assert list(worth.index) == ["cosine", "untuned reranker", "reranker", "both"]
    scorer, pair = Scorer.load(where), (text(1), text(1) + "办")
    tuned = Reranker(where / "04_train/reranker", max_length=32, cache_dir=None)
    assert scorer.settings["reranker"]["fingerprint"] == tuned.fingerprint
    assert scorer.rerank(*pair)[0] == pytest.approx(tuned.score([pair], progress=False)[0], abs=1e-6)
    report.write_index(where, "tuned")
    page = (where / "index.html").read_text("utf-8")
    assert "untuned reranker" in page
    assert "04_train/reranker" in page


@pytest.mark.parametrize("answer", ["", "登录密码", None])
def test_paraphrases_may_be_dropped_or_missing(folder, monkeypatch, answer):
    """No answer at all, none that passes the gate, and one for each text that does."""

    def back_translate(texts, pivots, decoding, *, device):
        answers = [(n, "en", "x", f"{told}吗还" if answer is None else answer) for n, told in enumerate(texts)]
        table = pd.DataFrame(answers, columns=["origin", "via", "pivot_text", "paraphrase"])
        return table.assign(support=1, fluency=np.nan, agreement=np.nan)

    monkeypatch.setattr("bgetune.augment.backtranslate.back_translate", back_translate)
    gate = {"similarity": None, "own_cluster_margin": None, "min_reranker": 0.5, "min_change": 0.1}
    changes = {"02_backtranslate": {"gate": gate}}
    _, found = run(folder, monkeypatch, f"paraphrases {answer}", TIDY, 0.6, changes, "02")
    assert len(found["kept"]) == (32 if answer is None else 0)
    assert set(SCHEMAS["paraphrases"].columns) == set(found["paraphrases"].columns)


def test_a_sample_does_not_decide_for_the_whole(folder, monkeypatch):
    """All data after a tenth, and after all data and a tenth, give what all data alone give: same bytes."""
    sources = {"qa": [qa(120)], "pairs": [labelled(200)], "synonyms": [SYNONYMS]}
    fresh, _ = run(folder, monkeypatch, "fresh", sources, None, {}, "03")
    small = {"01_positives": {"sample_fraction": 0.1}}
    sampled, _ = run(folder, monkeypatch, "sampled", sources, None, small, "03")
    assert (sampled / "profile.yaml").read_text("utf-8") != (fresh / "profile.yaml").read_text("utf-8")
    few = pd.read_parquet(sampled / "01_positives/clusters.parquet")
    assert pd.read_parquet(sampled / "01_positives/splits.parquet").empty

    (sampled / "whole.yaml").write_text((fresh / "profile.yaml").read_text("utf-8"), "utf-8")
    for stage in ("01_positives", "02_backtranslate", "03_hard_negatives"):
        cells.run(stage, sampled / "whole.yaml", sampled)
    files = sorted(file.relative_to(fresh) for file in fresh.glob("0[123]_*/*") if file.is_file())
    assert len(files) > 10
    for file in files:
        assert (sampled / file).read_bytes() == (fresh / file).read_bytes(), file

    cells.run("01_positives", sampled / "profile.yaml", sampled)
    again = pd.read_parquet(sampled / "01_positives/clusters.parquet").set_index("text_id").split
    whole = pd.read_parquet(fresh / "01_positives/clusters.parquet").set_index("text_id").split
    assert set(again.index) == set(few.text_id)
    assert (again == whole[again.index]).all(), "a sample takes over what the whole decided"
    cells.run("01_positives", sampled / "whole.yaml", sampled)
    name = "01_positives/clusters.parquet"
    assert (sampled / name).read_bytes() == (fresh / name).read_bytes()
