import json
import os

import pytest

from bgetune.errors import InputError
from bgetune.training import checkpoints


def write(folder, step, state=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights")
    if state:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def test_the_same_key_finds_its_checkpoints_and_another_deletes_them(tmp_path):
    folder = checkpoints.prepare(tmp_path / "c", ["a", "b"], 0)
    path = write(folder, 5)
    assert checkpoints.prepare(tmp_path / "c", ["a", "b"], 0) == folder
    assert path.exists()
    other = checkpoints.prepare(tmp_path / "c", ["a", "c"], 0)
    assert other != folder
    assert not folder.exists()


def test_latest_is_the_last_complete_one(tmp_path):
    assert checkpoints.latest(tmp_path) is None
    write(tmp_path, 9)
    whole = write(tmp_path, 10)
    write(tmp_path, 11, state=False)
    (write(tmp_path, 12) / "trainer_state.json").write_text('{"global_step": 12, "log_hi')
    assert checkpoints.latest(tmp_path) == whole


def test_no_room_is_said_at_the_start(tmp_path):
    with pytest.raises(InputError, match=r"free, and the checkpoints of this training take 1000000000\.0 GB"):
        checkpoints.prepare(tmp_path, ["a"], 1e9)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write its checkpoints there"):
        checkpoints.prepare(tmp_path / "file" / "c", ["a"], 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        checkpoints.prepare(tmp_path / "c", ["a"], 0)


def test_clear(tmp_path):
    checkpoints.prepare(tmp_path / "c", ["a"], 0)
    checkpoints.clear(tmp_path / "c")
    assert not (tmp_path / "c").exists()
