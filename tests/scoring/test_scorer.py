import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny

from bgetune.data.text import Normalizer
from bgetune.errors import InputError
from bgetune.metrics.calibrators import Combination, from_dict
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import Prompts
from bgetune.models.reranker import Reranker
from bgetune.scoring import Scorer, usage
from bgetune.scoring.scorer import cosines
from bgetune.scoring.settings import make_settings, write_settings
from bgetune.scoring.thresholds import choose


def pairs_of(world, count=50):
    texts = world.texts["text"].to_numpy()
    return texts[world.left[:count]].tolist(), texts[world.right[:count]].tolist()


def test_scores_are_calibrated_cosines(scorer, world):
    queries, documents = pairs_of(world)
    similarities = scorer.similarity(queries, documents)
    np.testing.assert_allclose(similarities, world.similarities[:50], atol=1e-5)
    expected = from_dict(scorer.settings["calibration"]).predict(similarities)
    np.testing.assert_array_equal(scorer.score(queries, documents), expected)
    np.testing.assert_array_equal(np.argsort(expected), np.argsort(similarities))


def test_texts_get_the_form_of_the_pipeline(scorer, monkeypatch):
    seen = []
    encode = scorer.encoder.encode
    monkeypatch.setattr(scorer.encoder, "encode", lambda texts, **how: seen.extend(texts) or encode(texts, **how))
    scorer.score(["  支付密码\u200b 忘记了 "], ["登录ＡＢＣ 13912345678"])
    assert seen[0] == "支付密码忘记了"
    assert seen[1].startswith("登录abc")
    assert "139" not in seen[1]  # masked, as the texts of the run were


def test_one_text_is_paired_with_many(scorer, world):
    queries, documents = pairs_of(world, 5)
    many = scorer.score(queries[0], documents)
    np.testing.assert_allclose(many, scorer.score([queries[0]] * 5, documents), atol=1e-6)
    np.testing.assert_allclose(scorer.score(documents, queries[0]), many, atol=1e-6)
    assert scorer.score([], []).shape == (0,)
    with pytest.raises(InputError, match="2 queries and 3 documents"):
        scorer.score(queries[:2], documents[:3])


def test_matches_are_those_above_the_threshold(scorer, world):
    queries, documents = pairs_of(world)
    threshold = scorer.settings["thresholds"]["precision"][0]["threshold"]
    matches = scorer.is_match(queries, documents, precision=0.8)
    assert matches.dtype == bool
    np.testing.assert_array_equal(matches, scorer.similarity(queries, documents) >= threshold)
    assert 0 < matches.sum() < 50
    best = scorer.settings["thresholds"]["best_f1"]["threshold"]
    assert scorer.threshold() == best
    np.testing.assert_array_equal(
        scorer.is_match(queries, documents, precision=None), scorer.similarity(queries, documents) >= best
    )
    with pytest.raises(InputError, match=r"0\.95 is not guaranteed; name it in `precisions`.*guaranteed: 0\.8"):
        scorer.is_match(queries, documents, precision=0.95)
    with pytest.raises(InputError, match=r"0\.9999 is not guaranteed \(.*pairs"):
        scorer.is_match(queries, documents, precision=0.9999)


def test_both_models_decide_at_a_threshold_of_their_own(scorer, world):
    queries, documents = pairs_of(world)
    both = scorer.together(queries, documents)
    reranked = scorer.rerank(queries, documents)
    np.testing.assert_allclose(both, scorer.combine(scorer.similarity(queries, documents), reranked), atol=1e-6)
    threshold = scorer.threshold(0.8, "both")
    assert threshold == scorer.settings["reranker"]["thresholds"]["both"]["precision"][0]["threshold"]
    matches = scorer.is_match(queries, documents, precision=0.8, rerank=True)
    np.testing.assert_array_equal(matches, both >= threshold)
    assert 0 < matches.sum() < 50
    with pytest.raises(InputError, match=r"0\.9999 is not guaranteed"):
        scorer.is_match(queries, documents, precision=0.9999, rerank=True)
    # none in the run's file, as in one of an earlier version
    with pytest.raises(InputError, match=r"no thresholds on the score 'reranker'; run 05_calibrate again"):
        scorer.threshold(0.8, "reranker")


def test_search_leaves_out_what_is_below_a_precision(scorer, world):
    query = world.texts["text"].iloc[0]
    for rerank, by in ((False, "cosine"), (True, "both")):
        every = scorer.search(query, 80, rerank=rerank)
        kept = scorer.search(query, 80, rerank=rerank, precision=0.8)
        score = (lambda hit: hit.both) if rerank else (lambda hit: hit.similarity)
        assert kept == [hit for hit in every if score(hit) >= scorer.threshold(0.8, by)]
        assert 0 < len(kept) < len(every)
    with pytest.raises(InputError, match="not guaranteed"):
        scorer.search(query, precision=0.9999)


def test_search_finds_the_nearest_documents(scorer, world):
    corpus = world.texts[world.texts["kind"] == "document"]
    query = corpus["text"].iloc[7]
    hits = scorer.search(query, k=5)
    assert hits[0].text == query
    assert hits[0].similarity == pytest.approx(1, abs=1e-5)
    assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
    brute = scorer.similarity(query, corpus["text"].tolist())
    assert {hit.text_id for hit in hits} == set(corpus["text_id"].iloc[np.argsort(-brute)[:5]])
    assert hits[2].probability == scorer.calibrate(np.array([hits[2].similarity]))[0]
    assert len(scorer.search(query, k=10_000)) == len(corpus)


def test_reranking_orders_by_both_models(scorer, world):
    query = world.texts["text"].iloc[0]
    plain, reranked = scorer.search(query, k=8), scorer.search(query, k=8, rerank=True)
    assert {hit.text_id for hit in plain} == {hit.text_id for hit in reranked}
    assert plain[0].reranker is None
    together = scorer.combine(
        np.array([hit.similarity for hit in reranked]), np.array([hit.reranker for hit in reranked])
    )
    assert (np.diff(together) <= 0).all()
    assert [hit.text_id for hit in plain] != [hit.text_id for hit in reranked]


def test_a_tuned_reranker_is_the_run_s_own_wherever_the_run_lies(world, tmp_path):
    copy = tmp_path / "moved"
    shutil.copytree(world.run, copy)
    tuned = tiny.save_bert(tmp_path / "tuned", seed=9, labels=1)
    shutil.copytree(tuned, copy / "04_train/reranker")
    manifest = json.loads((copy / "manifest.json").read_text("utf-8"))
    manifest["stages"]["04_train"]["outputs"]["reranker"] = {"path": "04_train/reranker"}
    (copy / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    whole, cross = Scorer.load(world.run), Reranker(tuned, max_length=32, cache_dir=None)
    settings = make_settings(
        encoder=whole.encoder,
        normalizer=Normalizer(()),
        calibrator=from_dict(whole.settings["calibration"]),
        thresholds=choose(world.similarities, world.labels, precisions=[0.8]),
        dev=(world.similarities, world.labels),
        test={},
        data={},
        reranker=cross,
        reranker_is_tuned=True,
        combination=Combination(0.5, 1.0, 0.0),
    )
    assert str(tmp_path) not in json.dumps(settings)
    pair = ("支付密码", "登录密码怎么办")
    scorer = Scorer(settings, whole.encoder, copy)
    assert scorer.rerank(*pair)[0] == pytest.approx(cross.score([pair], progress=False)[0], abs=1e-6)
    assert scorer.rerank(*pair)[0] != pytest.approx(whole.rerank(*pair)[0], abs=1e-3)
    shutil.rmtree(copy / "04_train/reranker")
    shutil.copytree(world.folder / "reranker", copy / "04_train/reranker")
    with pytest.raises(InputError, match="is not the reranker of"):
        Scorer(settings, whole.encoder, copy).rerank(*pair)


def test_other_weights_are_refused(world, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(world.run, copy)
    other = tiny.save_sentence_transformer(tmp_path / "other", seed=5)
    shutil.rmtree(copy / "04_train" / "model")
    shutil.copytree(other, copy / "04_train" / "model")
    with pytest.raises(InputError, match=r"made for other weights.*run 05_calibrate again"):
        Scorer.load(copy)


def test_damaged_and_missing_files_are_said(world, tmp_path):
    with pytest.raises(InputError, match=r"no scoring\.json there"):
        Scorer.load(tmp_path)
    copy = tmp_path / "run"
    shutil.copytree(world.run, copy)
    file = copy / "05_calibrate" / "scoring.json"
    settings = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(settings | {"version": 99}), "utf-8")
    with pytest.raises(InputError, match="another version"):
        Scorer.load(copy)
    file.write_text("{", "utf-8")
    with pytest.raises(InputError, match="damaged"):
        Scorer.load(copy)
    with pytest.raises(InputError, match="no reranker"):
        Scorer(settings | {"reranker": None}, Scorer.load(world.run).encoder, copy).search("支付", rerank=True)


def test_a_file_changed_behind_size_and_time_is_refused(world, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(world.run, copy)
    file = copy / "05_calibrate" / "scoring.json"
    before, text = file.stat(), file.read_text("utf-8")
    digit = re.search(r"0\.\d*?([1-8])", text).end(1) - 1
    file.write_text(f"{text[:digit]}9{text[digit + 1 :]}", "utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    with pytest.raises(InputError, match=r"scoring\.json is not as 05_calibrate wrote it"):
        Scorer.load(copy)


def test_threads_get_the_same_answers(scorer, world):
    queries, documents = pairs_of(world, 40)
    alone = [scorer.score(queries[i : i + 4], documents[i : i + 4]) for i in range(0, 40, 4)]
    hits = scorer.search(queries[0], k=3)
    fresh = Scorer.load(world.run, device="cpu")
    with ThreadPoolExecutor(8) as pool:
        scored = [pool.submit(fresh.score, queries[i : i + 4], documents[i : i + 4]) for i in range(0, 40, 4)]
        found = [pool.submit(fresh.search, queries[0], 3) for _ in range(8)]
        for one, other in zip(alone, scored, strict=True):
            np.testing.assert_allclose(other.result(), one, atol=1e-6)
        assert all([hit.text_id for hit in each.result()] == [hit.text_id for hit in hits] for each in found)


def test_what_users_ask_is_written_nowhere(scorer, tmp_path):
    scorer.score(["支付密码"], ["登录密码"])
    assert list(tmp_path.rglob("*.npy")) == []


def test_import_of_the_package_loads_nothing_heavy():
    heavy = ("numpy", "pandas", "pydantic", "scipy", "torch", "transformers")
    code = f"import sys, bgetune.scoring; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_of_the_scorer_needs_neither_torch_nor_scikit_learn():
    code = (
        "import sys; from bgetune.scoring import Scorer; print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("queries", "documents", "message"),
    [
        ([None], ["支付"], r"queries\[0\] is None, no text"),
        (["支付"], [float("nan")], r"documents\[0\] is nan, no text"),
        (["支付", "登录"], ["支付", 12], r"documents\[1\] is 12, no text"),
        (["支付"], [b"x"], r"documents\[0\] is b'x', no text"),
        (["支付", ""], ["支付", "登录"], r"queries\[1\] is empty \(''\)"),
        (["支付"], ["\u200b \t"], r"documents\[0\] is empty"),  # of what nobody sees
        ("", ["支付"], r"queries\[0\] is empty"),
        (None, ["支付"], "queries is None; give a text, or a list of texts"),
        (["支付"], 7, "documents is 7; give a text"),
    ],
)
def test_what_is_no_text_is_named(scorer, queries, documents, message):
    """A score of nothing says nothing: an empty text got .72 to .81."""
    for ask in (scorer.score, scorer.is_match, scorer.similarity):
        with pytest.raises(InputError, match=message):
            ask(queries, documents)


@pytest.mark.parametrize("query", [None, "", 3])
def test_a_search_for_nothing_is_refused(scorer, query):
    with pytest.raises(InputError, match=r"query\[0\] is "):
        scorer.search(query)


@pytest.mark.parametrize("damage", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_refused(world, tmp_path, damage):
    copy = tmp_path / "run"
    shutil.copytree(world.run, copy)
    file = copy / "05_calibrate" / "scoring.json"
    file.write_text(file.read_text("utf-8").replace('"auc": 0.9,', f'"auc": {damage},'), "utf-8")
    with pytest.raises(InputError, match=rf"scoring\.json is damaged \(.*{damage} is no number"):
        Scorer.load(copy)


def test_numbers_that_could_not_be_measured_are_null(tmp_path):
    write_settings(tmp_path / "scoring.json", {"a": np.float64("nan"), "b": [np.float32(0.5), np.nan], "c": {1: True}})
    text = (tmp_path / "scoring.json").read_text("utf-8")
    assert json.loads(text) == {"a": None, "b": [0.5, None], "c": {"1": True}}


@pytest.mark.parametrize("name", ["model.safetensors", "1_Pooling/config.json", "scoring.json"])
def test_size_and_time_do_not_pass_for_content(world, tmp_path, name):
    """A file with other bytes, but the size and the time of the one that the manifest knows."""
    copy = tmp_path / "run"
    shutil.copytree(world.run, copy)
    [file] = [file for file in copy.rglob("*") if str(file).endswith(name)]
    times, content = (file.stat().st_atime_ns, file.stat().st_mtime_ns), bytearray(file.read_bytes())
    place = content.rindex(b"9") if name.endswith("scoring.json") else len(content) - 2
    content[place] = content[place] - 1
    file.write_bytes(content)
    os.utime(file, ns=times)
    with pytest.raises(InputError):
        Scorer.load(copy)


def test_prompts_follow_the_task(world, tmp_path):
    """Of a model with prompts: queries that search documents, two of a kind, and what the calibration was on."""
    settings = json.loads((world.run / "05_calibrate" / "scoring.json").read_text("utf-8"))
    prompts = Prompts("查询", "登录", "忘记")
    plain = Encoder(world.run / "04_train" / "model", cache_dir=None)
    encoder = Encoder(world.run / "04_train" / "model", prompts=prompts, cache_dir=None)
    a, b = "支付密码", "转账到余额"

    def expected(left, right):
        return cosines(plain.encode([left + a], prompt=""), plain.encode([right + b], prompt=""))

    for symmetric, texts in ((True, ("忘记", "忘记")), (False, ("查询", "登录"))):
        settings["model"]["symmetric"] = symmetric
        scorer = Scorer(settings, encoder, world.run)
        for asked in (None, symmetric):
            np.testing.assert_allclose(scorer.similarity([a], [b], symmetric=asked), expected(*texts), atol=1e-6)
        np.testing.assert_allclose(scorer.similarity([a], [b], symmetric=True), expected("忘记", "忘记"), atol=1e-6)
    hit = scorer.search(a, k=1)[0]
    best = plain.encode(["登录" + hit.text], prompt="") @ plain.encode(["查询" + a], prompt="")[0]
    assert hit.similarity == pytest.approx(best[0], abs=1e-5)


def test_a_run_of_too_few_pairs_scores_and_says_why_it_has_no_threshold(world, scorer):
    settings = json.loads(json.dumps(scorer.settings))
    dev = {"positives": 2, "negatives": 2, "clusters": 2}
    settings["data"] = {"pairs": "held out", "doubt": "few", "balance": {"dev": dev}, "human_labels": 400}
    settings["thresholds"] = choose(world.similarities[:4], world.labels[:4], precisions=[0.8]).to_dict()
    settings["reranker"]["thresholds"]["both"] = settings["thresholds"]
    left, right = (world.texts["text"].tolist()[start : start + 3] for start in (0, 3))
    few = Scorer(settings, scorer.encoder, world.run)
    assert few.score(left, right).shape == (3,)
    for rerank in (False, True):
        with pytest.raises(
            InputError, match=r"can be trusted; .* again; Too few pairs to calibrate: dev holds 2 positive"
        ):
            few.is_match(left, right, precision=None, rerank=rerank)
    shown = usage.code(few, left[0], right)
    assert "print(scorer.is_match(" not in shown
    assert "scorer.is_match: no threshold can be trusted yet" in shown
