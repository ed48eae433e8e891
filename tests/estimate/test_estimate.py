import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny

from bgetune import estimate, locale
from bgetune.config.augmentation import Judge
from bgetune.config.base import Launcher
from bgetune.config.profile import load_profile, resolve
from bgetune.config.stages import STAGES
from bgetune.estimate import costs, counts, speed
from bgetune.estimate.costs import Cost, Speeds
from bgetune.estimate.counts import Counts
from bgetune.estimate.speed import Job, Measurement, Speed
from bgetune.models import processes

COUNTS = Counts(texts=10_000, queries=7_000, positives=2.0, heldout=2_000, graded=640, asked=4_000)


def values(**stages):
    """The parameters of all notebooks, some of them as given."""
    given = {stage: STAGES[stage](model="any") for stage in STAGES}
    return given | {name: given[name].model_copy(update=changes) for name, changes in stages.items()}


def speeds(**seconds):
    return Speeds({Job(role, "m", 64, "cpu"): Speed(value, 20, 10**8, 25) for role, value in seconds.items()}, 1.0)


def test_the_reranker_reads_what_the_parameters_allow():
    given = values(**{"01_positives": {"reranker": "r", "recall_max_pairs": 5_000}})
    found = costs.cost("01_positives", given, COUNTS, speeds(encoder=0.001, reranker=0.5))
    assert found.pairs == (9_000, 10_000), "4,500 proposals at least, 5,000 at most, both ways round"
    assert found.parts["reranker"] == pytest.approx(0.5 * 9_500)
    assert found.parts["encoding"] == pytest.approx(10)
    without = costs.cost("01_positives", values(), COUNTS, speeds(encoder=0.001))
    assert without.pairs == (0, 0)
    assert without.texts == 0, "without a reranker nothing is encoded"


def test_training_steps_follow_from_groups_and_epochs():
    given = values(**{"04_train": {"epochs": 3, "batch_size": 64, "positives": 1, "negatives": 4}})
    found = costs.cost("04_train", given, COUNTS, speeds(training=0.01))
    assert found.steps == 110 * 3 + 10 * 3
    assert found.texts == 64 * 6
    assert found.parts["training"] == pytest.approx(0.01 * (330 * 384 + 30 * 128), rel=0.1)
    assert found.memory > costs.LIBRARIES + 16e6 * 25


def test_processes_of_the_launcher_divide_what_they_share(monkeypatch):
    monkeypatch.setattr("bgetune.models.hub.torch_device", lambda _: "cuda")
    large = replace(COUNTS, texts=1e6, queries=700_000)
    timed = speeds(encoder=0.001, reranker=0.01, training=0.01)
    four = {"launcher": Launcher(processes=4)}
    given = {"01_positives": {"reranker": "r"}, "04_train": {"epochs": 1, "batch_size": 100, "graded_loss": "none"}}
    one, shared = (values(**{stage: changes | more for stage, changes in given.items()}) for more in ({}, four))
    for stage, parts in (("01_positives", ("encoding", "reranker")), ("04_train", ("training",))):
        alone, together = (costs.cost(stage, chosen, large, timed) for chosen in (one, shared))
        for part in parts:
            assert together.parts[part] == pytest.approx(alone.parts[part] / 4, rel=0.01)
    assert costs.cost("04_train", shared, large, timed).steps == 7_000 / 4
    few = costs.cost("01_positives", shared, COUNTS, timed)
    assert few.parts["encoding"] == pytest.approx(10), "too few to share"
    machines = values(**{"04_train": given["04_train"] | {"launcher": Launcher(nodes=2, rendezvous="host:1234")}})
    assert costs.cost("04_train", machines, large, timed).parts["training"] == pytest.approx(
        costs.cost("04_train", one, large, timed).parts["training"] / 2, rel=0.01
    )


@pytest.mark.parametrize(("threads", "expected"), [("", 1), ("1", 4), ("2", 2), ("8", 1), ("many", 1)])
def test_on_a_cpu_processes_share_the_cores(threads, expected, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert processes.speedup(4, "cpu") == expected
    assert processes.speedup(1, "cpu") == 1


def test_tuning_the_reranker_costs_three_forward_passes_of_every_pair():
    tuned = {"epochs": 3, "negatives": 4, "reranker": "r", "tune_reranker": True, "reranker_epochs": 2}
    timed = speeds(training=0.01, reranker=0.5)
    found = costs.cost("04_train", values(**{"04_train": tuned}), COUNTS, timed)
    assert found.parts["tuning the reranker"] == pytest.approx(3 * 0.5 * 2 * (7_000 * 6 + 640))
    without = costs.cost("04_train", values(**{"04_train": tuned | {"tune_reranker": False}}), COUNTS, timed)
    assert "tuning the reranker" not in without.parts
    assert found.memory > without.memory
    (line, _first_look) = estimate.advice({"04_train": found})[-2:]
    assert "Tuning the reranker takes long, in 04" in line
    assert "take a smaller `reranker`" in line


def test_translations_by_a_service_are_not_timed():
    pivot = {"language": "en", "text_code": "zh", "pivot_code": "en", "service": {"name": "baidu"}}
    back = STAGES["02_backtranslate"](model="any", pivots=[pivot])
    found = costs.cost("02_backtranslate", values() | {"02_backtranslate": back}, COUNTS, speeds())
    assert found.translations == 0


ENDPOINT = {"base_url": "https://host/v1", "model": "m", "retries": 1, "max_requests": 50_000}


def test_requests_are_counted_with_their_retries_up_to_the_budget():
    counts = replace(COUNTS, documents=300)
    generation = ENDPOINT | {"queries": 3, "near_misses": 2, "paraphrases": 1}
    service = {"name": "openai", **ENDPOINT, "max_requests": 20}
    pivot = {"language": "en", "text_code": "zh", "pivot_code": "en", "service": service}
    written = {"generation": generation, "pivots": [pivot], "max_texts": 500}
    given = {
        "01_positives": STAGES["01_positives"](model="m", reranker="r", recall_max_pairs=700, judge=ENDPOINT),
        "02_backtranslate": STAGES["02_backtranslate"](model="m", **written),
        "03_hard_negatives": STAGES["03_hard_negatives"](model="m", judge=ENDPOINT, review_limit=40),
    }
    found = {stage: costs.cost(stage, values() | given, counts, speeds()).requests for stage in given}
    assert found == {
        "01_positives": {"judge": 2 * 2 * 700},  # both orders, and each once more
        "02_backtranslate": {"02_backtranslate.generation": 2 * (2 * 300 + 500), "02_backtranslate.pivots.service": 20},
        "03_hard_negatives": {"judge": 2 * 2 * 40},
    }
    assert not any(costs.cost(stage, values(), counts, speeds()).requests for stage in STAGES)
    off = {"02_backtranslate": STAGES["02_backtranslate"](model="m", enabled=False, **written)}
    assert costs.cost("02_backtranslate", values() | off, counts, speeds()).requests == {}
    few = given | {"01_positives": values()["01_positives"].model_copy(update={"judge": Judge(**ENDPOINT)})}
    assert costs.cost("01_positives", values() | few, counts, speeds()).requests == {}, "nothing is proposed to it"


@pytest.mark.parametrize(
    ("language", "says"),
    [
        ("en", r"at most 2,300 requests to a language model or service \(02_backtranslate.generation: max_requests"),
        ("zh", r"最多向大模型或服务发出 2,300 次请求（02_backtranslate.generation: max_requests"),
    ],
)
def test_requests_in_words(language, says):
    with locale.using(language):
        text = estimate.table({"02_backtranslate": Cost(requests={"02_backtranslate.generation": 2_201})})
    assert re.search(says, text)


def test_a_stage_in_words_and_what_shortens_it():
    slow = Cost(low=8_000, high=16_000, memory=3 * 2**30, pairs=(20_111, 40_000), parts={"reranker": 12_000})
    fast = Cost(low=40, high=41, texts=1_234)
    text = estimate.table({"01_positives": slow, "05_calibrate": fast})
    lines = text.splitlines()
    assert re.fullmatch(
        r" +01_positives +2\.2 h to 4\.4 h +3\.0 GiB +20,000 to 40,000 pairs for the reranker", lines[1]
    )
    assert re.fullmatch(r" +05_calibrate +about 40 s +0\.9 GiB +1,200 texts to encode", lines[2])
    assert "together" in lines[3]
    assert "The reranker takes long, in 01 (3.3 h): take a smaller `reranker`" in lines[4]
    assert "mmarco-mMiniLMv2-L12-H384-v1" in lines[4]
    assert "let 04 tune it (`tune_reranker`)" in lines[4]
    assert "`recall_max_pairs` in 01_positives" in lines[4]
    assert "sample_fraction" in lines[5]
    assert estimate.advice({"05_calibrate": fast}) == []


def test_too_little_memory_is_said(monkeypatch):
    monkeypatch.setattr(estimate, "_physical_memory", lambda: 8 * 2**30)
    (line,) = estimate.advice({"04_train": Cost(memory=20 * 2**30)})
    assert line.startswith(
        "About 20.0 GiB of memory are needed and this machine has 8.0 GiB: set `mini_batch_size: 16`"
    )


def test_in_chinese():
    locale.use("zh")
    try:
        assert "约 40 秒" in estimate.table({"05_calibrate": Cost(low=40, high=41, texts=1_234)})
    finally:
        locale.use(None)


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile of labelled pairs with a tiny encoder and reranker."""
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))
    tiny.save_sentence_transformer(tmp_path / "encoder")
    tiny.save_bert(tmp_path / "reranker", labels=1)
    pairs = pd.DataFrame({"text_a": [f"支付密码{n}" for n in range(60)], "text_b": [f"登录密码{n}" for n in range(60)]})
    pairs.assign(label=np.arange(60) % 2).to_csv(tmp_path / "pairs.csv", index=False)
    text = (
        "model: encoder\nreranker: reranker\nmax_length: 16\n"
        "01_positives:\n  sources:\n    pairs:\n      - {path: pairs.csv, label_column: label}\n"
    )
    (tmp_path / "tiny.yaml").write_text(
        text.replace(": encoder", f": {tmp_path}/encoder")
        .replace(": reranker", f": {tmp_path}/reranker")
        .replace("pairs.csv", f"{tmp_path}/pairs.csv")
    )
    return load_profile(tmp_path / "tiny.yaml")


def test_counts_come_from_the_sources(profile):
    found = counts.of_sources(resolve("01_positives", profile)[0].model_dump_json())
    assert found.texts == 120
    assert found.queries == pytest.approx(60 * 0.8), "texts of the 30 pairs with label 1, those of the train split"
    assert found.positives == 1
    assert found.heldout == pytest.approx(24)
    assert found.asked == 0


def test_models_are_timed_once(profile, monkeypatch):
    monkeypatch.setattr(costs, "SMALL", 0)
    jobs = estimate.jobs({stage: resolve(stage, profile)[0] for stage in STAGES})
    assert [job.role for job in jobs] == ["encoder", "training", "reranker"]
    texts = [f"支付密码{n}" for n in range(8)]
    found = Measurement(jobs, texts).wait()
    assert set(found) == set(jobs)
    assert all(1e-6 < measured.seconds < 10 for measured in found.values())
    assert found[jobs[1]].tokens > 3
    assert found[jobs[1]].parameters > 0
    again = Measurement(jobs, texts)
    assert again.process is None, "what is known is not measured again"
    assert again.wait() == found


def test_a_model_that_cannot_be_timed_is_left_out(profile, capsys, monkeypatch):
    job = Job("reranker", str(resolve("01_positives", profile)[0].model), 16, "cpu")
    asked = json.dumps({"jobs": [{**speed.asdict(job), "role": "translator"}], "texts": ["a"]})
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO(asked))
    speed.main()
    assert capsys.readouterr().out == "null\n"


def test_an_estimate_moves_with_what_was_measured(profile):
    made = estimate.Estimate(profile)
    before = made.costs(["04_train", "05_calibrate"], known=False)
    made.learn(before["04_train"], before["04_train"].seconds * 1.5)
    after = made.costs(["05_calibrate"], known=False)
    assert after["05_calibrate"].seconds == pytest.approx(before["05_calibrate"].seconds * 1.5)
    made.learn(after["05_calibrate"], 1e6)
    assert made.correction == 2, "other stages compute other things"
