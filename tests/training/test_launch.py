"""Training in several processes, by gloo on the CPU."""

import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict, astuple

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from bgetune import pipeline
from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.models import processes
from bgetune.training import TrainingSettings, devices, flagembedding, launch, losses, train, trainer
from bgetune.training.collator import GroupCollator, shares
from bgetune.training.losses import RankingLoss
from bgetune.training.sampler import ClusterBatchSampler, MixedBatchSampler


@pytest.fixture(scope="module")
def still(base, tmp_path_factory):
    """The base model without dropout, which draws other numbers in every process."""
    folder = tmp_path_factory.mktemp("still") / "base"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def options(base, processes=1, nodes=1, rendezvous=None, **changes):
    values = {"epochs": 1, "learning_rate": 2e-3, "max_length": 24, "device": "cpu", "negatives": 3, "eval_steps": 4}
    launcher = {"processes": processes, "nodes": nodes, "rendezvous": rendezvous}
    parameters = Train(model=str(base), launcher=launcher, **(values | changes))
    return TrainingSettings.of(parameters, epochs=parameters.epochs)


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()]).numpy()


@pytest.mark.parametrize(
    "changes",
    [{"orthogonality_weight": 0.5}, {"loss_scope": "across_queries", "symmetric": False, "mini_batch_size": 5}],
    ids=["ranking", "cached across queries"],
)
def test_two_processes_with_half_a_batch_each_train_as_one(still, groups, cluster_of, dev_pairs, tmp_path, changes):
    alone = train(
        still, groups, cluster_of, options(still, batch_size=30, **changes), tmp_path / "one", pairs=dev_pairs
    )
    seen = []
    folder = tmp_path / "two" / "checkpoints"
    half = options(still, processes=2, batch_size=15, **changes)
    both = train(still, groups, cluster_of, half, folder, pairs=dev_pairs, on_evaluation=seen.append)
    found, expected = both.log["loss"].dropna(), alone.log["loss"].dropna()
    assert len(found) == len(expected) == 4
    assert found.iloc[0] == pytest.approx(expected.iloc[0], abs=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    texts = dev_pairs["query"].unique().tolist()
    np.testing.assert_allclose(both.model.encode(texts), alone.model.encode(texts), atol=0.01)
    assert both.best_step == alone.best_step
    pd.testing.assert_frame_equal(seen[-1], both.log)
    assert not folder.with_name("job").exists()


def test_two_machines_meet(still, groups, cluster_of, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def start(text, **_options):
        line = shlex.split(text[text.index("python ") :])
        started.append(
            subprocess.Popen([sys.executable, *line[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        )

    monkeypatch.setattr(processes, "print", start, raising=False)
    chosen = options(still, nodes=2, rendezvous=f"127.0.0.1:{port}", batch_size=30)
    trained = train(still, groups, cluster_of, chosen, tmp_path / "checkpoints")
    assert [process.wait(60) for process in started] == [0]
    assert trained.log["step"].max() == 2
    assert np.isfinite(weights(trained.model)).all()


def test_what_a_process_refuses_is_said_once_and_in_its_words(still, groups, cluster_of, tmp_path):
    chosen = options(still, processes=2, batch_size=30, learning_rate=1.0, warmup=0.0, scale=200.0, epochs=40)
    with pytest.raises(RuntimeError) as error:
        train(still, groups, cluster_of, chosen, tmp_path / "checkpoints", pairs=pd.DataFrame({"label": [1, 0]}))
    assert "launcher: the processes stopped" in str(error.value)
    assert "KeyError" in str(error.value)  # not the table of torchrun
    broken = options(still, processes=2, batch_size=30, guide=str(tmp_path / "nowhere"), loss="gist")
    with pytest.raises(InputError, match="nowhere"):
        launch.train(still, groups, cluster_of, broken, tmp_path / "checkpoints")


ENDLESS = """
import json, sys
from pathlib import Path
from bgetune.training import TrainingSettings, train
from bgetune.training.groups import Group

base, folder, groups, cluster_of, settings = json.loads(sys.argv[1])
groups = [Group(query, tuple(positives), tuple(negatives), *rest) for query, positives, negatives, *rest in groups]
train(base, groups, cluster_of, TrainingSettings(**settings), Path(folder))
"""


def processes_of(job):
    """The processes that have a job among their arguments."""
    return [found for found in psutil.process_iter(["cmdline"]) if str(job) in (found.info["cmdline"] or [])]


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_behind(still, groups, cluster_of, tmp_path):
    job = tmp_path / "job"
    settings = asdict(options(still, processes=2, batch_size=15, epochs=5000))
    given = json.dumps([str(still), str(tmp_path / "checkpoints"), [*map(astuple, groups)], cluster_of, settings])
    with subprocess.Popen([sys.executable, "-c", ENDLESS, given], stderr=subprocess.DEVNULL) as run:
        wait_until(lambda: b"/20000 [" in (job / "output.log").read_bytes() if (job / "output.log").exists() else False)
        assert len(processes_of(job)) == 3  # torchrun and the two
        run.kill()
    wait_until(lambda: not processes_of(job))


def wait_until(holds):
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.25)
    raise AssertionError("it did not happen within five minutes")


@pytest.mark.slow
def test_flagembedding_trains_in_two_processes(base, groups, cluster_of, dev_pairs, tmp_path):
    chosen = options(base, processes=2, batch_size=15, backend="flagembedding")
    assert "--negatives_cross_device" in flagembedding.command(base, tmp_path, tmp_path, chosen, steps=4)
    trained = train(base, groups, cluster_of, chosen, tmp_path / "checkpoints", pairs=dev_pairs)
    assert trained.best_step == 4
    assert trained.log["auc"].iloc[-1] > trained.log["auc"].iloc[0]


def test_the_mean_of_the_gradients_is_that_of_the_whole_batch(monkeypatch):
    torch.manual_seed(0)
    columns, labels = [torch.randn(5, 8), torch.randn(9, 8)], torch.randint(-1, 2, (5, 9))
    labels[:, :5].fill_diagonal_(1)
    layer = torch.nn.Linear(8, 6)
    loss = RankingLoss(None, symmetric=True, orthogonality_weight=0.5)

    def gradient(parts):
        layer.zero_grad()
        found = sum(loss.compute_loss_from_embeddings([layer(part) for part in parts], labels).values())
        found.backward()
        return found.item(), layer.weight.grad.clone()

    value, whole = gradient(columns)
    of_rank = [[column.split(shares(len(column), 2))[rank] for column in columns] for rank in range(2)]
    found = []
    for rank in range(2):
        coming = iter(range(2))  # the columns, in the order in which they are gathered

        def all_gather(parts, _own, coming=coming):
            column = next(coming)
            for part, given in zip(parts, of_rank, strict=True):
                part[: len(given[column])] = layer(given[column]).detach()

        monkeypatch.setattr(losses.distributed, "get_world_size", lambda: 2)
        monkeypatch.setattr(losses.distributed, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(losses.distributed, "all_gather", all_gather)
        found.append(gradient(of_rank[rank]))
    assert [one for one, _ in found] == pytest.approx([value, value], abs=1e-6)
    torch.testing.assert_close((found[0][1] + found[1][1]) / 2, whole)


# --- batches ------------------------------------------------------------------------------------------------------


def test_processes_share_each_batch(groups, cluster_of):
    collators = [
        GroupCollator(lambda texts: {"n": texts}, groups, cluster_of, 1, 0, rank=rank, processes=3) for rank in range(3)
    ]
    whole = collators[0].batch(range(10))
    shared = [collator(range(10)) for collator in collators]
    assert [text for part in shared for text in part["anchor_n"]] == [group.anchor for group in whole.groups]
    assert [text for part in shared for text in part["document_n"]] == whole.documents
    assert all((part["label"].numpy() == whole.labels).all() for part in shared)
    assert shares(10, 3) == [4, 3, 3]


def test_a_shared_batch_comes_once_for_each_process():
    blocks = np.repeat(np.arange(40), 3)
    whole = ClusterBatchSampler(blocks, 20, seed=1)
    shared = ClusterBatchSampler(blocks, 10, seed=1, processes=2, together=True)
    assert list(shared)[::2] == list(shared)[1::2] == list(whole)
    mixed = MixedBatchSampler([shared, ClusterBatchSampler(np.arange(30), 10, 1, 2)], [0, 120], "proportional", 1, 2)
    batches = list(mixed)
    assert len(batches) == len(mixed) == 2 * 6 + 4
    assert sum(one == other for one, other in zip(batches[::2], batches[1::2], strict=True)) == 6
    with pytest.raises(ValueError, match="too few for 4 processes"):
        ClusterBatchSampler([0, 0, 1], 2, 0, processes=4, together=True)


# --- devices and misuse -------------------------------------------------------------------------------------------


def test_one_process_never_becomes_data_parallel(base, tmp_path, monkeypatch):
    kind = trainer.SentenceTransformerTrainingArguments
    monkeypatch.setattr(kind, "n_gpu", property(lambda self: 4))
    assert trainer.training_arguments(options(base), tmp_path, 4, evaluates=False)._n_gpu == 1


def test_gpus_are_counted(base, monkeypatch):
    monkeypatch.setattr(devices.hub, "torch_device", lambda name: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.require(options(base, processes=2)) == ""
    assert "2 GPUs are visible and one will train; set launcher: {processes: 2}" in devices.require(options(base))
    with pytest.raises(InputError, match=r"launcher: 3 processes, and this machine has 2 GPU\(s\); lower processes"):
        devices.require(options(base, processes=3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert processes.environment(1)["CUDA_VISIBLE_DEVICES"] == "5"
    assert processes.environment(2)["CUDA_VISIBLE_DEVICES"] == "5,7"


def test_launchers_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="with several nodes, give rendezvous"):
        Train(launcher={"nodes": 2})
    with pytest.raises(ValueError, match="2 processes cannot share cuda:1; set device to auto or cuda"):
        Train(launcher={"processes": 2}, device="cuda:1")


def test_a_pipeline_started_by_torchrun_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert pipeline.main(["params/demo.yaml", "--check"]) == 2
    assert "2 processes were started (WORLD_SIZE), and each would run the whole pipeline" in capsys.readouterr().err
