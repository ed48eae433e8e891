import os
import stat
import subprocess
import sys

import pytest

from bgetune import files
from bgetune.data import engine
from bgetune.paths import work_root

HOLD = """
import sys
from pathlib import Path
from bgetune import files
folder = files.private_folder(Path(sys.argv[1]))
(folder / "texts").write_text("unmasked")
print(folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has a private folder below tmp_path; ends by itself when its input is closed."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.folder = tmp_path / process.stdout.readline().strip()
        yield process
        process.kill()


def test_private_folder_is_readable_by_its_owner_alone(tmp_path):
    folder = files.private_folder(tmp_path / "work")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert files.private_folder(tmp_path / "work") != folder, "each call makes one of its own"
    assert folder.is_dir(), "and leaves those in use alone"


def test_private_folder_goes_with_its_process(holder, tmp_path):
    holder.communicate()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next_and_no_other(holder, tmp_path):
    files.private_folder(tmp_path)
    assert (holder.folder / "texts").exists(), "its process lives"
    holder.kill()
    holder.wait()
    assert (holder.folder / "texts").exists()
    kept = files.private_folder(tmp_path)
    assert not holder.folder.exists()
    assert kept.is_dir()


def test_unmasked_texts_lie_in_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    folder = engine.workspace.__wrapped__()  # this process may have one already, of another test
    assert folder.parent == work_root() == tmp_path / "data/cache/work"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_lock_has_one_holder_at_a_time(tmp_path):
    held = files.lock(tmp_path / "lock")
    assert files.lock(tmp_path / "lock") is None
    os.close(held)
    assert files.lock(tmp_path / "lock") is not None


def test_temporary_names_carry_the_process_and_are_removed_when_it_is_gone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead = tmp_path / "deep" / f".model.{ended.pid}.part"
    dead.mkdir(parents=True)
    own = files.temporary_name(tmp_path / "table.parquet")
    own.touch()
    foreign = tmp_path / ".download.part"
    foreign.touch()
    files.remove_abandoned(tmp_path)
    assert not dead.exists()
    assert own.exists()
    assert foreign.exists()


def test_a_text_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path):
    file = tmp_path / "page.html"
    files.write_atomic(file, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_atomic(file, "half \ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("page.html", "old")]
