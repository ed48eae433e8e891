import subprocess
import sys

import pytest

from bgetune.errors import InputError
from bgetune.runs import folder

OWNER = """
import subprocess, sys, time
from pathlib import Path
from bgetune.runs.folder import owned
with owned(Path(sys.argv[1])) as descriptor:
    kernel = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=(descriptor,))
    print(kernel.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path):
    """A process that owns tmp_path, killed: the kernel that it started lives until its input is closed."""
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        (tmp_path / "01_positives").mkdir()
        (tmp_path / "01_positives" / f".clusters.parquet.{process.pid}.part").touch()
        yield process
        process.kill()


def test_a_living_owner_is_named(owner, tmp_path):
    with pytest.raises(InputError, match=f"process {owner.pid}"), folder.owned(tmp_path):
        pass
    assert list(tmp_path.rglob("*.part")), "what it is writing is left alone"


def test_the_lock_goes_with_the_last_process_of_a_killed_run(owner, tmp_path, monkeypatch):
    owner.kill()
    owner.wait()
    monkeypatch.setattr(folder, "PATIENCE", 0)
    with pytest.raises(InputError, match="still being written by a notebook"), folder.owned(tmp_path):
        pass
    monkeypatch.setattr(folder, "PATIENCE", 30)
    owner.stdin.close()  # the kernel ends
    with folder.owned(tmp_path):
        assert not list(tmp_path.rglob("*.part")), "what the killed run left half-written is gone"
