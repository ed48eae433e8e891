"""Real trainings of a very small model."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers.trainer_callback import TrainerState

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.models import hub
from bgetune.training import checkpoints, flagembedding
from bgetune.training.callbacks import DriftGuard, guarded_weight
from bgetune.training.losses import RankingLoss
from bgetune.training.sentence_transformers import checkpoint_key, train
from bgetune.training.settings import TrainingSettings
from bgetune.training.trainer import training_arguments


def options(base, **changes):
    values = {"epochs": 2, "batch_size": 16, "learning_rate": 5e-3, "max_length": 24, "device": "cpu", "positives": 1}
    parameters = Train(model=str(base), **(values | changes))
    return TrainingSettings.of(parameters, epochs=parameters.epochs)


def weights(trained):
    return {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_learns_to_separate_and_spreads_the_scores(base, groups, cluster_of, dev_pairs, tmp_path):
    seen = []
    spread = options(base, epochs=5, orthogonality_weight=2.0)
    trained = train(base, groups, cluster_of, spread, tmp_path, pairs=dev_pairs, on_evaluation=seen.append)
    log = trained.log.set_index("step")
    before, after = log.loc[0], log.loc[trained.best_step]
    assert after["average_precision"] > before["average_precision"] + 0.1
    assert after["auc"] > 0.95
    assert after["mean_squared_cosine_random"] < before["mean_squared_cosine_random"] / 2
    assert after["average_precision"] == log["average_precision"].iloc[1:].max()
    losses = log["loss"].dropna()
    assert losses.iloc[-5:].mean() < losses.iloc[:5].mean() / 2
    assert {"ranking", "orthogonality", "learning_rate"} <= set(log.columns)
    assert len(seen) == 10
    assert seen[-1]["step"].max() == log.index.max()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_one_others(base, groups, cluster_of, tmp_path):
    first, again, other = (
        weights(train(base, groups, cluster_of, options(base, epochs=1, seed=seed), tmp_path / name))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert_same(first, again)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_groups_and_graded_pairs_train_together(base, groups, cluster_of, tmp_path):
    graded = pd.DataFrame(
        [(group.query, group.positives[0], 1.0) for group in groups[:32]]
        + [(group.query, group.negatives[0], 0.25) for group in groups[:32]],
        columns=["query", "text", "grade"],
    )
    steps = {}
    for name, loss, mixing in (
        ("alone", "none", "proportional"),
        ("cosent", "cosent", "proportional"),
        ("angle", "angle", "round_robin"),
        ("cosine", "cosine", "proportional"),
    ):
        chosen = options(base, epochs=1, graded_loss=loss, mixing=mixing)
        trained = train(base, groups, cluster_of, chosen, tmp_path / name, graded=graded)
        steps[name] = trained.log["step"].max()
    # 120 groups in batches of 16 are 8, 64 pairs are 4
    assert steps == {"alone": 8, "cosent": 12, "angle": 8, "cosine": 12}


def test_guide_masks_in_training(base, groups, cluster_of, tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))
    plain = train(base, groups, cluster_of, options(base, epochs=1), tmp_path / "a")
    guided = train(base, groups, cluster_of, options(base, epochs=1, loss="gist"), tmp_path / "b")
    assert guided.log["loss"].dropna().iloc[0] < plain.log["loss"].dropna().iloc[0]


def test_guide_knows_implied_positives(base, groups, cluster_of, tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))
    some = [replace(group, implied=(f"{group.query}呢",)) for group in groups]  # texts that are no query themselves
    clusters = cluster_of | {group.implied[0]: cluster_of[group.query] for group in some}
    guided = train(base, some, clusters, options(base, epochs=1, loss="gist", positives=None), tmp_path / "a")
    assert np.isfinite(guided.log["loss"].dropna()).all()


def test_stops_early_when_dev_gets_no_better(base, groups, cluster_of, dev_pairs, tmp_path):
    chosen = options(base, epochs=4, eval_steps=2, patience=2, learning_rate=1e-12)
    trained = train(base, groups, cluster_of, chosen, tmp_path, pairs=dev_pairs)
    assert trained.log["step"].max() == 6  # the first look is the best, and two more find nothing better
    assert trained.best_step == 2


def test_a_training_that_stopped_early_is_not_taken_up_again(base, groups, cluster_of, dev_pairs, tmp_path):
    chosen = options(base, epochs=4, eval_steps=2, patience=2, learning_rate=1e-12)
    first = train(base, groups, cluster_of, chosen, tmp_path, pairs=dev_pairs)
    again = train(
        base, groups, cluster_of, chosen, tmp_path, pairs=dev_pairs, on_evaluation=lambda log: pytest.fail("a look")
    )
    assert_same(weights(first), weights(again))
    assert again.best_step == first.best_step == 2
    assert again.log["step"].max() == 6


def test_a_best_checkpoint_that_cannot_be_read_is_an_error(base, groups, cluster_of, dev_pairs, tmp_path):
    def damage(log):
        if log["step"].max() == 8:
            for file in tmp_path.rglob("checkpoint-4/model.safetensors"):
                file.write_bytes(b"damaged")

    chosen = options(base, epochs=1, eval_steps=4, learning_rate=1e-12)  # the first checkpoint stays the best
    with pytest.raises(Exception, match="deserializing header"):
        train(base, groups, cluster_of, chosen, tmp_path, pairs=dev_pairs, on_evaluation=damage)


def test_loss_that_is_not_finite_names_the_batch(base, groups, cluster_of, tmp_path):
    with pytest.raises(InputError, match=r"loss is nan in step \d+, epoch \d, in a batch of \d+ groups: \d+ \('"):
        train(base, groups, cluster_of, options(base, learning_rate=1.0, weight_decay=1e30), tmp_path)


def test_weights_that_are_not_finite_after_the_last_step(base, groups, cluster_of, tmp_path):
    chosen = options(
        base, epochs=1, batch_size=120, warmup=0, learning_rate=1.0, weight_decay=1e39, precision="float32"
    )
    with pytest.raises(InputError, match="weights are not finite after the last step"):
        train(base, groups[::4], cluster_of, chosen, tmp_path)


def test_other_clusters_or_another_guide_continue_no_old_checkpoint(base, groups, cluster_of, tmp_path):
    chosen = options(base)
    keys = [
        checkpoint_key(base, groups, cluster_of, chosen, None, None),
        checkpoint_key(base, groups, dict.fromkeys(cluster_of, 0), chosen, None, None),
        checkpoint_key(base, groups, cluster_of, replace(chosen, guide=str(base)), None, None),
        checkpoint_key(base, groups, cluster_of, replace(chosen, seed=1), None, None),
    ]
    assert len({tuple(key) for key in keys}) == 4
    uploaded = options(base, push_to_hub="team/x", merge_weight=0.5)
    assert checkpoint_key(base, groups, cluster_of, uploaded, None, None) == keys[0]


def test_metric_that_cannot_be_measured(base, groups, cluster_of, dev_pairs, tmp_path):
    with pytest.raises(InputError, match="metric: labelled_auc cannot be measured"):
        train(base, groups, cluster_of, options(base, metric="labelled_auc"), tmp_path, pairs=dev_pairs)


def test_without_dev_pairs_the_last_state_is_the_model(base, groups, cluster_of, dev_pairs, tmp_path):
    pairs = dev_pairs[dev_pairs["label"] == 1]
    trained = train(base, groups, cluster_of, options(base, epochs=1), tmp_path, pairs=pairs)
    assert trained.best_step == trained.log["step"].max() == 8
    assert "auc" not in trained.log


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bfloat16"}, {"gradient_checkpointing": True}, {"mini_batch_size": 8}, {"positives": None}],
)
def test_options_train(base, groups, cluster_of, tmp_path, changes):
    if changes.get("precision") == "bfloat16" and not torch.backends.mkldnn.is_available():
        pytest.skip("no bfloat16 here")
    trained = train(base, groups[:48], cluster_of, options(base, epochs=1, **changes), tmp_path)
    assert np.isfinite(trained.log["loss"].dropna()).all()
    assert all(tensor.dtype != torch.bfloat16 for tensor in trained.model.state_dict().values())


@pytest.mark.skipif(hub.torch_device() != "cpu", reason="needs a machine without an accelerator")
def test_bfloat16_needs_no_gpu_where_there_is_none(base, tmp_path):
    chosen = options(base, precision="bfloat16", device="auto")
    arguments = training_arguments(chosen, tmp_path, steps=9, evaluates=False)
    assert arguments.bf16
    assert arguments.use_cpu


def test_arguments_follow_the_options(base, tmp_path):
    chosen = options(base, epochs=5, weight_decay=0.3, warmup=0.2, metric="auc")
    arguments = training_arguments(chosen, tmp_path, steps=95, evaluates=True)
    assert arguments.num_train_epochs == 5
    assert arguments.weight_decay == 0.3
    assert arguments.warmup_steps == 0.2
    assert arguments.eval_steps == arguments.save_steps == 10
    assert arguments.metric_for_best_model == "eval_choice"  # the metric, less the price of drift


@pytest.mark.parametrize("capable", [True, False])
def test_auto_computes_in_bfloat16_where_the_processor_does(base, tmp_path, monkeypatch, capable):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: capable)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    arguments = training_arguments(options(base), tmp_path, steps=9, evaluates=False)
    assert arguments.bf16 == capable
    given = dict(pairwise(flagembedding.command(base, tmp_path, tmp_path, options(base), steps=9)))
    assert given["--bf16"] == str(capable)
    assert not training_arguments(options(base, precision="float32"), tmp_path, steps=9, evaluates=False).bf16


def test_a_model_trained_in_bfloat16_computes_in_float32_afterwards(base, groups, cluster_of, tmp_path):
    trained = train(base, groups[:48], cluster_of, options(base, epochs=1, precision="bfloat16"), tmp_path / "c").model
    trained.save_pretrained(str(tmp_path / "model"))
    read = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    texts = [group.query for group in groups[:8]]
    np.testing.assert_allclose(trained.encode(texts), read.encode(texts), atol=1e-6)


# --- several processes, and processes that end before their time ---------------------------------------------------

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
PROGRAM = """
    import json, os, sys, time
    from pathlib import Path
    import pandas as pd
    from bgetune.training.collator import GroupCollator
    from bgetune.training.groups import Group
    from bgetune.training.sentence_transformers import train
    from bgetune.training.settings import TrainingSettings

    job = json.loads(Path(sys.argv[1]).read_text())
    rank = os.environ.get("RANK", "0")
    batch = GroupCollator.batch

    def noted(collator, items):
        with open(f"{sys.argv[1]}.{rank}", "a") as file:
            file.write(json.dumps(list(items)) + chr(10))
        return batch(collator, items)

    GroupCollator.batch = noted
    groups = [Group(*map(lambda v: tuple(v) if isinstance(v, list) else v, group)) for group in job["groups"]]
    pairs = pd.DataFrame(job["pairs"]) if job["pairs"] else None

    def on_evaluation(log):
        step = int(log["step"].max())
        print("look", step, flush=True)
        if step == job["sleep_at"]:
            time.sleep(60)

    trained = train(
        job["base"],
        groups,
        job["cluster_of"],
        TrainingSettings(**job["settings"]),
        Path(job["folder"]),
        pairs=pairs,
        on_evaluation=on_evaluation,
    )
    if rank == "0":
        trained.model.save_pretrained(job["out"], create_model_card=False)
        trained.log.to_json(job["out"] + "/log.json", orient="records")
"""


def job(tmp_path, name, base, groups, cluster_of, chosen, pairs=None, folder=None, sleep_at=-1):
    program, file = tmp_path / "program.py", tmp_path / f"{name}.json"
    program.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    content = {
        "base": str(base),
        "groups": [(g.query, g.positives, g.negatives, g.prompt, g.source) for g in groups],
        "cluster_of": cluster_of,
        "settings": asdict(chosen),
        "folder": str(folder or tmp_path / f"{name}_checkpoints"),
        "out": str(tmp_path / name),
        "pairs": None if pairs is None else pairs.to_dict("list"),
        "sleep_at": sleep_at,
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return [str(program), str(file)]


def test_a_killed_training_continues_and_ends_with_the_weights_of_an_unbroken_one(
    base, groups, cluster_of, dev_pairs, tmp_path
):
    from safetensors.torch import load_file

    chosen = options(base, epochs=3, eval_steps=5, patience=4)  # 24 steps; killed in the second epoch
    unbroken = train(base, groups, cluster_of, chosen, tmp_path / "unbroken", pairs=dev_pairs)
    unbroken.model.save_pretrained(str(tmp_path / "whole"), create_model_card=False)

    folder = tmp_path / "broken"
    command = job(tmp_path, "killed", base, groups, cluster_of, chosen, dev_pairs, folder, sleep_at=15)
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=ONE_THREAD) as process:
        assert any(line == "look 15\n" for line in process.stdout)  # before the checkpoint of step 15 is written
        process.send_signal(signal.SIGKILL)
    kept = checkpoints.latest(next(folder.iterdir()))
    assert kept.name == "checkpoint-10"

    command = job(tmp_path, "continued", base, groups, cluster_of, chosen, dev_pairs, folder)
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, env=ONE_THREAD)
    output = run.stdout
    assert "look 10\n" not in output  # it did continue
    assert output.startswith("look 15\n")
    whole, continued = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "continued"))
    assert_same(whole, continued)
    log = pd.read_json(tmp_path / "continued" / "log.json")
    columns = ["step", "loss", "auc", "average_precision"]
    pd.testing.assert_frame_equal(log[columns], unbroken.log[columns], check_dtype=False, atol=1e-3)


def test_the_regularisation_grows_while_scores_bunch_and_eases_when_they_do_not():
    before = {"mean_squared_cosine_random": 0.1}
    drifted, fine = {"mean_squared_cosine_random": 0.2}, {"mean_squared_cosine_random": 0.05}
    weights = [guarded_weight([drifted] * n, before, 0.5) for n in (0, 1, 2, 9)]
    assert weights == [0.5, 1, 2, 16]
    assert guarded_weight([drifted, drifted, fine, fine, fine], before, 0.5) == 0.5
    assert guarded_weight([drifted], before, 0.0) == 0
    loss = RankingLoss(None, orthogonality_weight=0.5)
    state = TrainerState(log_history=[{"eval_choice": 0.5, "eval_mean_squared_cosine_random": 0.2, "step": 1}])
    DriftGuard(loss, before, 0.5).on_train_begin(None, state, None)  # a training that continues
    assert loss.orthogonality_weight == 1
