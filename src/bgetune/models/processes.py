"""Work in several processes that torchrun starts, shown by the one that waits for them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from bgetune import files
from bgetune.locale import _

STEP = re.compile(rb"(\d+)/(\d+) \[")
"""How a process writes its progress, as tqdm does."""
PATIENCE = 30
"""Seconds that processes get to end by themselves."""
OWNER = "BGETUNE_LAUNCHED_BY"
"""Environment variable: the process that waits, on this machine."""


def command(
    module: str, arguments: Sequence[str], *, processes: int = 1, nodes: int = 1, rendezvous: str | None = None
) -> list[str]:
    """The command line that runs a module in all processes; without torchrun where it is one.

    With several nodes, it prints what to start on the others.

    Args:
        module: run as `python -m`.
        arguments: of the module.
        processes, nodes, rendezvous: see `config.base.Launcher`.
    """
    if processes == nodes == 1:
        return [sys.executable, "-m", module, *arguments]
    meeting = ["--standalone"]
    if nodes > 1:
        meeting = ["--nnodes", str(nodes), "--rdzv-backend", "c10d"]
        meeting += ["--rdzv-endpoint", str(rendezvous), "--rdzv-id", uuid.uuid4().hex[:8]]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), *meeting]
    whole = [*launcher, "-m", module, *arguments]
    if nodes > 1:
        print(
            _("Start this on each of the other machines ({number}), in the same environment: {command}").format(
                number=nodes - 1, command=shlex.join(["python", *whole[1:]])
            ),
            flush=True,
        )
    return whole


def environment(processes: int, nodes: int = 1) -> dict[str, str]:
    """The environment of the processes: the cores are shared out, and one process sees one GPU."""
    import torch

    given = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", OWNER: str(os.getpid())}
    if processes > 1 and "OMP_NUM_THREADS" not in os.environ:
        given["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    if processes == nodes == 1 and torch.cuda.device_count() > 1:  # a trainer would take DataParallel
        given["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return os.environ | given


def speedup(processes: int, device: str) -> float:
    """How many times as much the processes of a machine compute in the same time as one alone.

    On GPUs each process has its own. On a CPU they share the cores, all of which one process uses already, unless
    OMP_NUM_THREADS gives it fewer.
    """
    from bgetune.models import hub

    if processes == 1 or hub.torch_device(device) != "cpu":
        return float(processes)
    cores, threads = os.cpu_count() or 1, os.environ.get("OMP_NUM_THREADS", "")
    return min(processes, max(1.0, cores / int(threads))) if threads.isdecimal() and int(threads) else 1.0


def run(
    command: Sequence[str],
    log: Path,
    steps: int,
    *,
    look: Callable[[], None] = lambda: None,
    env: dict[str, str] | None = None,
    label: str | None = None,
    unit: str | None = None,
) -> int:
    """Run a command: its output is written to a log file, its progress is shown as a bar. Returns the exit status.

    Args:
        command: the command line.
        log: what the output is appended to.
        steps: number of steps in all.
        look: is called whenever there is new output.
        env: the environment; None: this process's.
        label, unit: of the progress bar; None: steps of a training.
    """
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env) as process,
        log.open("ab") as file,
        tqdm(total=steps, desc=label or _("training"), unit=unit or _("step")) as bar,
    ):
        output = process.stdout
        assert output is not None  # as it is a pipe
        try:
            while chunk := os.read(output.fileno(), 1 << 16):
                file.write(chunk)
                for done, total in STEP.findall(chunk):
                    if int(total) == steps and int(done) > bar.n:
                        bar.update(int(done) - bar.n)
                look()
        except BaseException:
            process.terminate()  # torchrun then ends its processes
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return process.returncode


def end_with_owner() -> None:
    """End this process when the one that waits for it is gone: a killed run leaves nothing behind."""

    def watch(owner: int) -> None:
        while files.is_running(owner):
            time.sleep(2)
        os._exit(1)

    if owner := os.environ.get(OWNER):  # not on the other machines
        threading.Thread(target=watch, args=(int(owner),), daemon=True).start()


def take_device(device: str) -> int:
    """Make the GPU of this process the current one, where it computes on GPUs. Returns the process's rank."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return int(os.environ["RANK"])
