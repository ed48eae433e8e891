"""Encoding and reranking by several processes, each of which adds its share of the blocks to the shared cache of rows.

The blocks are those of one process, so the rows are the same, bit for bit, on the same device and number of threads.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetune.files import private_folder, write_atomic
from bgetune.locale import _
from bgetune.models import processes
from bgetune.paths import work_root

if TYPE_CHECKING:
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker

BLOCKS = 4
"""Minimum number of blocks for each process; for fewer, starting the processes takes longer than it saves."""


def fill(model: Encoder | Reranker, blocks: Sequence[Sequence[Any]], *prompt: str) -> None:
    """Compute blocks of items into a model's cache, in as many processes as it has.

    Args:
        model: says what to compute with, and in how many processes.
        blocks: of texts or pairs, all distinct; each is computed at once by one of the processes.
        prompt: prefix of each text; none for pairs.

    Raises:
        RuntimeError: if a process fails, with the end of what it said.
    """
    encodes = bool(prompt)
    job = {
        "kind": "encoder" if encodes else "reranker",
        "blocks": blocks,
        "prompt": prompt,
        "location": str(Path(model.folder).absolute()),
        "options": {
            "max_length": model.max_length,
            "device": model.device,
            "precision": model.precision,
            "cache_dir": str(Path(model.cache_dir or "").absolute()),
        },
    }
    steps = -(-len(blocks) // model.processes)
    label = _("encoding") if encodes else _("reranking")
    folder = private_folder(work_root(), "encoding-")  # texts are for this user alone
    try:
        write_atomic(folder / "job.json", json.dumps(job, ensure_ascii=False))
        command = processes.command("bgetune.models", [str(folder)], processes=model.processes)
        log = folder / "output.log"
        status = processes.run(
            command, log, steps, env=processes.environment(model.processes), label=label, unit=_("block")
        )
        end = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    finally:
        shutil.rmtree(folder)
    if status:
        raise RuntimeError("\n".join([f"{label} in {model.processes} processes ended with status {status}", *end]))
