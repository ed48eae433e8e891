"""A notebook is executed by papermill, in a kernel of its own."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bgetune.config.stages import STAGES
from bgetune.errors import InputError, InternalError, joined
from bgetune.files import private_folder, remove, temporary_name
from bgetune.locale import _
from bgetune.paths import ROOT
from bgetune.runs import manifest
from bgetune.runs.copies import copy_notebook
from bgetune.runs.progress import Progress

if TYPE_CHECKING:
    from nbformat import NotebookNode

MAX_SOCKET_PATH = 100
"""Bytes; the system's own limit is 103 (macOS) or 107 (Linux)."""
MEMORY = ("mini_batch_size", "batch_size", "max_length", "sample_fraction")
"""Parameters that lower the need for memory, where a notebook has them."""


class NotebookError(RuntimeError):
    """A notebook failed with something else than bad input; the message names notebook, cell and executed copy."""


def run_notebook(
    stage: str,
    profile: Path,
    run_dir: Path,
    descriptor: int | None = None,
    *,
    label: str | None = None,
    expected: float | None = None,
) -> Path:
    """Execute the notebook of a stage, as released, and record the executed copy.

    Args:
        profile: the profile's file.
        descriptor: of the lock of the run's folder; None where nobody locked it.
        label: what the line of progress begins with; default: the stage.
        expected: seconds that it is estimated to take.

    Returns:
        The executed copy, `notebooks/STAGE.ipynb` in the run's folder. One that failed is
        `notebooks/STAGE.failed.ipynb`, and the copy of the last success stays.

    Raises:
        InputError: what the notebook says of bad input.
        NotebookError: any other failure.
    """
    executed = run_dir / "notebooks" / f"{stage}.ipynb"
    failed = executed.with_suffix(".failed.ipynb")
    folder = temporary_name(executed)
    folder.mkdir(parents=True)
    draft = folder / executed.name
    try:
        notebook = copy_notebook(
            manifest.notebook_of(stage),
            profile=str(profile),
            run_dir=str(run_dir),
            round_number=manifest.round_of(stage),
        )
        with Progress(stage if label is None else label, expected, notebook.cells) as progress:
            _execute(stage, notebook, draft, descriptor, progress)
    except (InputError, NotebookError) as error:
        if draft.exists():
            os.replace(draft, failed)
            error.args = (joined(str(error), _("executed copy: {file}").format(file=failed)),)
        raise
    else:
        os.replace(draft, executed)
        failed.unlink(missing_ok=True)
        manifest.record_executed(stage, run_dir)
    finally:
        remove(folder)
    return executed


def _execute(stage: str, notebook: NotebookNode, target: Path, descriptor: int | None, progress: Progress) -> None:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    def begins(cell: NotebookNode, cell_index: int) -> None:  # a function: traitlets would copy a bound method's object
        progress.cell(cell_index)

    for attempt in (1, 2):
        sockets = Path(tempfile.mkdtemp(dir=_sockets()))
        try:
            papermill.execute_notebook(
                notebook,
                target,
                cwd=ROOT / "notebooks",
                kernel_name="python3",
                progress_bar=False,
                config=Config(
                    {
                        # sockets of this user's and this process's alone, not TCP ports that everybody here can read
                        "KernelManager": {"transport": "ipc", "connection_file": str(sockets / "kernel.json")},
                        "OwningKernelManager": {"descriptor": descriptor},
                        "NotebookClient": {
                            "on_cell_start": begins,
                            "iopub_timeout": 60,  # on a busy machine 4 seconds, the default, are not enough
                            "kernel_manager_class": "bgetune.runs.kernel.OwningKernelManager",
                            # a kernel tells the terminal when asked to stop; its errors are in the notebook's copy
                            "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"],
                        },
                    }
                ),
                stderr_file=progress,
            )
            return
        except PapermillExecutionError as error:
            place = _("in notebook {stage}, cell {cell} (In [{number}])").format(
                stage=stage, cell=error.cell_index + 1, number=error.exec_count
            )
            if error.ename == InputError.__name__:
                raise InputError(f"{error.evalue}\n  {place}") from None
            if error.ename == InternalError.__name__:
                raise NotebookError(f"{error.evalue}\n  {place}") from None
            if "No space left on device" in error.evalue:
                full = _("the disk is full; free some space and run again")
                raise NotebookError(f"{full}\n  {place}") from None
            raise NotebookError(f"{_unexpected(error.ename, error.evalue)}\n  {place}") from None
        except CellTimeoutError:
            raise NotebookError(
                _("the kernel of notebook {stage} does not answer; run the same command again").format(stage=stage)
            ) from None
        except DeadKernelError:
            raise NotebookError(_died(stage)) from None
        except RuntimeError as error:  # of nbclient: the kernel did not start
            if attempt == 2:
                raise NotebookError(
                    _("the kernel of notebook {stage} does not start: {error}").format(stage=stage, error=error)
                ) from None


def _unexpected(name: str, message: str) -> str:
    """What is said of an exception that no check foresaw: its first line, as a fault of bgetune."""
    first = next(iter(message.strip().splitlines()), "")
    return str(InternalError(f"{name}: {first}"[:400].rstrip(". :")))


def _died(stage: str) -> str:
    notebook = manifest.notebook_of(stage)
    lower = [name for name in MEMORY if name in STAGES[notebook].model_fields]
    return _(
        "the kernel of notebook {stage} was ended by the system, most probably because memory ran out; lower "
        "{parameters} in {notebook}, or close other programs"
    ).format(stage=stage, parameters=_(" or ").join(lower), notebook=notebook)


@cache
def _sockets() -> Path:
    """Where the sockets of this process's kernels lie: a short path, for the system limits its length."""
    folder = private_folder(Path(tempfile.gettempdir()), "bgetune-")
    if len(os.fsencode(folder / "tmp12345678" / "kernel-ipc-10")) > MAX_SOCKET_PATH:
        folder = private_folder(Path("/tmp"), "bgetune-")
    return folder
