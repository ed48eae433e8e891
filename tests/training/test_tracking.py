"""A training in Weights & Biases, read back from the files that its client writes without a network."""

import json
import struct
import time

import pytest

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.training import tracking
from bgetune.training.sentence_transformers import train
from bgetune.training.settings import TrainingSettings


def options(base, **changes):
    values = {"epochs": 1, "batch_size": 16, "learning_rate": 5e-3, "max_length": 24, "device": "cpu", "positives": 1}
    parameters = Train(model=str(base), **(values | changes))
    return TrainingSettings.of(parameters, epochs=parameters.epochs)


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """The client in its offline mode, with its caches and settings below the test's folder."""
    module = pytest.importorskip("wandb", reason="needs the extra: pip install 'bgetune[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return module


def records(content):
    """The records of a file of the client, which is a log of LevelDB: blocks of 32 KiB, records in parts."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _crc, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole, or its last part
            yield parts
            parts = b""


def read(folder):
    """The project, the name and the logged values of the one run below a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    found = []
    end = time.monotonic() + 30
    while not any(one.HasField("exit") for one in found):  # the client's process writes it after the run has ended
        assert time.monotonic() < end
        found = [Record.FromString(data) for data in records(file.read_bytes())]
    (begun,) = {(one.run.project, one.run.display_name) for one in found if one.run.run_id}
    rows = [one.history.item for one in found if one.history.item]
    return (
        *begun,
        [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows],
    )


def values(rows, name):
    return {row["train/global_step"]: row[name] for row in rows if name in row}


def test_the_curves_are_those_of_the_log(wandb, base, groups, cluster_of, dev_pairs, tmp_path):
    stage = tmp_path / "shop" / "04_train"
    stage.mkdir(parents=True)
    arguments = (base, groups, cluster_of, options(base, eval_steps=3), tmp_path / "c")
    log = train(*arguments, pairs=dev_pairs, wandb_dir=stage).log.set_index("step")
    project, name, rows = read(stage)
    assert (project, name) == ("bgetune", "shop")
    expected = log["average_precision"].dropna().to_dict()
    assert values(rows, "eval/average_precision") == pytest.approx(expected, abs=1e-6)
    assert values(rows, "train/loss") == pytest.approx(log["loss"].dropna().to_dict(), abs=1e-4)
    assert wandb.run is None, "the run has ended"


def test_a_finished_log_is_logged_under_the_same_names(wandb, base, groups, cluster_of, dev_pairs, tmp_path):
    log = train(base, groups, cluster_of, options(base), tmp_path / "c", pairs=dev_pairs).log
    stage = tmp_path / "mine" / "04_train"
    stage.mkdir(parents=True)
    with tracking.run(stage) as tracked:
        tracking.write(tracked, log)
    rows = read(stage)[2]
    assert values(rows, "eval/auc") == pytest.approx(log.set_index("step")["auc"].dropna().to_dict())
    assert values(rows, "train/loss") == pytest.approx(log.set_index("step")["loss"].dropna().to_dict())


def test_what_is_missing_is_said_before_the_training(base, groups, cluster_of, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    with pytest.raises(InputError, match="WANDB_API_KEY; or set WANDB_MODE=offline"):
        train(base, groups, cluster_of, options(base), tmp_path, wandb_dir=tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracking.require()
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install wandb"):
        tracking.require()


def test_a_refusal_is_one_message(wandb, tmp_path, monkeypatch):
    def refuse(**options):
        raise wandb.Error("no such entity\nand more")

    monkeypatch.setattr(wandb, "init", refuse)
    with (
        pytest.raises(InputError, match="refuses the run: no such entity; set WANDB_MODE=offline"),
        tracking.run(tmp_path),
    ):
        pass
    with tracking.run(None) as tracked:
        assert tracked is None
