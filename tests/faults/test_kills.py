"""The short form of kill_runs.py: two kills at the moments that matter, and what the next run makes of them."""

import multiprocessing
import os
import signal
import time

import pytest
from faults import kill_runs
from repository import CELLS, STAGE, make_notebook

from bgetune import pipeline
from bgetune.reports import pages


@pytest.fixture
def repository(one_stage):
    """The notebook waits, after it has written its artifact, as long as there is a file `hold`."""
    hold = f"import os, time\nwhile os.path.exists('{one_stage}/hold'):\n    time.sleep(0.05)"
    make_notebook(one_stage, *CELLS[:3], hold, *CELLS[3:])
    (one_stage / "whole.yaml").write_text("model: any\nseed: 5\nname: one\n")
    return one_stage


def run(repository):
    return pipeline.main([str(repository / "whole.yaml")])


def killed(repository, until):
    """Run in a process of its own that is killed as soon as `until` holds; it may kill itself before."""
    process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(run(repository)))
    process.start()
    while process.is_alive() and not until():
        time.sleep(0.02)
    process.kill()
    process.join()
    return process.exitcode


def test_a_run_that_was_killed_ends_with_the_bytes_of_one_that_was_not(repository, monkeypatch, capsys):
    run_dir = repository / "runs/one"
    assert run(repository) == 0
    whole = kill_runs.contents(run_dir)
    assert {f"{STAGE}.html", "index.html", f"{STAGE}/made.txt", "manifest.json"} <= whole.keys()
    run_dir.rename(repository / "unbroken")

    # in a cell, between an artifact and the stage's record
    (repository / "hold").touch()
    assert killed(repository, (run_dir / STAGE / "made.txt").exists) == -signal.SIGKILL
    assert list(run_dir.rglob(".*.part")), "the executed notebook was being written"
    assert not (run_dir / "notebooks" / f"{STAGE}.ipynb").exists()
    (repository / "hold").unlink()
    # between the stage's record and its pages
    with monkeypatch.context() as patch:
        patch.setattr(pages.report, "write_report", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert killed(repository, lambda: False) == -signal.SIGKILL
    assert (run_dir / "manifest.json").exists()
    assert not (run_dir / f"{STAGE}.html").exists()

    capsys.readouterr()
    assert run(repository) == 0
    assert "up to date" in capsys.readouterr().out, "the notebook was done"
    assert kill_runs.differences(whole, kill_runs.contents(run_dir)) == []
    assert not list(run_dir.rglob(".*.part"))
