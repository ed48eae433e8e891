"""Two runs on the same traffic, and adapters between their vectors."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny

from bgetune import compare_traffic
from bgetune.errors import InputError
from bgetune.models.encoder import Encoder
from bgetune.reports import words
from bgetune.scoring import Scorer, shadow
from bgetune.scoring.adapter import Adapter
from bgetune.scoring.settings import write_settings


@pytest.fixture
def traffic(world, tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    texts = world.texts["text"].to_numpy()
    return pd.DataFrame({"query": texts[world.left[:200]], "document": texts[world.right[:200]]})


@pytest.fixture
def other(world, traffic, tmp_path, scorer):
    """A run with other weights and thresholds; with clusters of pairs, so that searches can be measured."""
    run = tmp_path / "other"
    shutil.copytree(world.run, run)
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    model = tiny.save_sentence_transformer(tmp_path / "second", seed=5)
    encoder = Encoder(model, cache_dir=None)
    settings = json.loads(json.dumps(scorer.settings))
    settings["model"]["fingerprint"] = encoder.fingerprint
    settings["thresholds"]["precision"][0]["threshold"] = 0.97
    clusters = world.texts[["text_id"]].assign(cluster_id=[f"c{i // 2}" for i in range(len(world.texts))], split="test")
    clusters.to_parquet(run / "clusters.parquet")
    manifest["stages"]["01_positives"]["outputs"]["clusters"] = {"path": "clusters.parquet", "rows": len(clusters)}
    (run / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return Scorer(settings, encoder, run)


def test_changed_decisions_are_counted(scorer, other, traffic):
    found = shadow.compare(scorer, other, traffic)
    row = next(row for row in found.decisions if row["precision"] == 0.8)
    old = scorer.is_match(traffic["query"].tolist(), traffic["document"].tolist(), 0.8)
    new = other.similarity(traffic["query"].tolist(), traffic["document"].tolist()) >= 0.97
    assert row["changed"] == pytest.approx((old != new).mean())
    assert row["changed"] > 0
    assert row["newly_accepted"] + row["newly_rejected"] == pytest.approx(row["changed"])
    unproven = next(row for row in found.decisions if row["precision"] == 0.9999)
    assert unproven["changed"] is None
    changes = [abs(one["new"] - one["old"]) for one in found.examples]
    assert changes == sorted(changes, reverse=True)
    assert not found.same_vectors
    assert -1 <= found.rank_correlation < 1
    same = shadow.compare(scorer, scorer, traffic)
    assert same.same_vectors
    assert same.rank_correlation == pytest.approx(1)
    assert all(not row["changed"] for row in same.decisions)


def test_personal_data_of_users_is_not_shown(scorer, other, traffic):
    told = traffic.head(5).assign(query=[f"电话13800138{n:03}密码" for n in range(5)])
    for one, two in ((scorer, other), (other, scorer)):
        examples = shadow.compare(one, two, told).examples
        assert len(examples) == 5
        assert not any("138001" in example["query"] for example in examples)
        assert {example["document"] for example in examples} == {one.normal(text) for text in told["document"]}


def test_names_of_columns_and_rows_are_in_the_catalogues(scorer, other, traffic):
    found, (_adapters, table) = shadow.compare(scorer, other, traffic), shadow.indexes(scorer, other)
    shown = {*found.decisions[0], *found.examples[0], *table.index, *table.columns}
    assert shown <= {*shadow.WORDS, *words.COLUMNS, *words.FIGURES}


def test_another_prompt_makes_other_vectors(scorer, world):
    changed = json.loads(json.dumps(scorer.settings))
    changed["model"]["prompts"]["query"] = "查询："
    assert not shadow.same_vectors(scorer, Scorer(changed, scorer.encoder, world.run))


def test_indexes_are_measured_by_what_they_hold(scorer, other):
    adapters, table = shadow.indexes(scorer, other)
    assert set(table.index) == {"rebuilt", "procrustes", "ridge", "old", "old model"}
    assert table["recall"].between(0, 1).all()
    assert table.loc["rebuilt", "recall"] >= table.loc[["procrustes", "ridge"], "recall"].min()
    assert all(made.old == scorer.settings["model"]["fingerprint"] for made in adapters.values())


@pytest.mark.parametrize("method", ["procrustes", "ridge"])
def test_an_adapter_finds_a_rotation_again(method, tmp_path):
    rng = np.random.default_rng(0)
    old = rng.normal(size=(500, 16))
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    made = Adapter.fit(old[:250], old[:250] @ rotation, models=("a", "b"), method=method)
    np.testing.assert_allclose(made.apply(old[250:]), old[250:] @ rotation, atol=5e-3)
    made.save(tmp_path / "adapter.safetensors")
    again = Adapter.load(tmp_path / "adapter.safetensors")
    np.testing.assert_array_equal(again.matrix, made.matrix)
    assert (again.old, again.new, again.method) == ("a", "b", method)
    with pytest.raises(InputError, match="rows of 16 numbers"):
        made.apply(old[:, :8])
    (tmp_path / "bad").write_bytes(b"x")
    with pytest.raises(InputError, match="is no adapter"):
        Adapter.load(tmp_path / "bad")


def test_stored_vectors_of_another_model_are_refused(scorer, other, world):
    texts = world.texts["text"].tolist()[:20]
    scorer.check_vectors(texts, scorer.embed(texts, kind="document"))
    with pytest.raises(InputError, match=r"are not of this run's model .*encode the index again"):
        scorer.check_vectors(texts, other.embed(texts, kind="document"))
    with pytest.raises(InputError, match=r"shape \(20, 3\)"):
        scorer.check_vectors(texts, np.ones((20, 3)))


def test_the_command_line(world, other, traffic, tmp_path, capsys, monkeypatch):
    write_settings(tmp_path / "settings.json", other.settings)
    runs = {str(world.run): Scorer.load(world.run), "new": other}
    monkeypatch.setattr(compare_traffic.Scorer, "load", staticmethod(runs.__getitem__))
    traffic.to_csv(tmp_path / "log.csv", index=False)
    arguments = [str(world.run), "new", str(tmp_path / "log.csv")]
    assert compare_traffic.main([*arguments, "--adapter", str(tmp_path / "map.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "200 pairs, rank correlation" in said
    assert "encode the index with the new one before you switch" in said
    assert "procrustes" in said
    assert Adapter.load(tmp_path / "map.safetensors").method in ("procrustes", "ridge")
    assert compare_traffic.main([*arguments, "--json", "--limit", "50"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 50
    for wrong, says in (
        (["--limit", "-1"], "--limit is -1; give 1 or more"),
        (["--adapter", str(tmp_path / "none/map.safetensors")], "nothing can be written to"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(compare_traffic.Scorer, "load", None)  # refused before anything is loaded
            assert compare_traffic.main([*arguments, *wrong]) == 2
        assert says in capsys.readouterr().err
    (tmp_path / "log.csv").write_text("query,document\n,\n", "utf-8")
    assert compare_traffic.main(arguments) == 2
    assert "no pairs to compare" in capsys.readouterr().err
