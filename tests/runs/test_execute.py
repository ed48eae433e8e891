"""What surrounds papermill, without a kernel; what needs one is in tests/test_pipeline.py."""

import os
from pathlib import Path

import papermill
import pytest
from nbclient.exceptions import CellTimeoutError
from repository import STAGE

from bgetune.runs import execute


@pytest.fixture
def attempts(one_stage, monkeypatch):
    """Errors that papermill raises one after the other, then none; it counts the calls."""
    errors, calls = [], []

    def execute_notebook(notebook, target, **options):
        calls.append(options["config"].KernelManager.connection_file)
        Path(target).write_text("executed")
        if errors:
            raise errors.pop(0)

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    return errors, calls


def run(root):
    return execute.run_notebook(STAGE, root / "one.yaml", root / "runs/one", 0)


def test_a_kernel_that_does_not_start_is_tried_once_more(one_stage, attempts):
    errors, calls = attempts
    errors.append(RuntimeError("Kernel didn't respond in 60 seconds"))
    assert run(one_stage).read_text() == "executed"
    assert len(set(calls)) == 2, "with other sockets"
    errors += [RuntimeError("Kernel died before replying to kernel_info")] * 2
    with pytest.raises(execute.NotebookError, match="kernel of notebook 01_positives does not start: Kernel died"):
        run(one_stage)
    assert len(calls) == 4
    assert run(one_stage).parent.joinpath(f"{STAGE}.ipynb").exists()
    assert not list((one_stage / "runs").rglob("*.failed.ipynb")), "a success clears the failed copy"


def test_a_kernel_that_does_not_answer_is_a_sentence(one_stage, attempts):
    attempts[0].append(CellTimeoutError("A cell timed out"))
    with pytest.raises(execute.NotebookError, match="does not answer; run the same command again") as caught:
        run(one_stage)
    assert "\n" not in str(caught.value)


def test_sockets_lie_where_their_path_is_short_enough(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(execute.tempfile, "tempdir", str(long))
    folder = execute._sockets.__wrapped__()
    assert len(os.fsencode(folder)) < 70
    assert folder.stat().st_mode & 0o777 == 0o700
