"""Encoding by several processes, each of which adds its share of the blocks to the shared cache of rows.

The blocks are those of one process, so the vectors are the same, bit for bit, on the same device and number of threads.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bgetune.files import private_folder, write_atomic
from bgetune.locale import _
from bgetune.models import processes
from bgetune.paths import work_root

if TYPE_CHECKING:
    from bgetune.models.encoder import Encoder

BLOCKS = 4
"""Minimum number of blocks for each process; for fewer, starting the processes takes longer than it saves."""


def fill(encoder: Encoder, cache_dir: Path, blocks: Sequence[Sequence[str]], prompt: str) -> None:
    """Encode blocks of texts into the encoder's cache, in as many processes as it has.

    Args:
        encoder: says what to encode with, and in how many processes.
        cache_dir: folder of its cache.
        blocks: each is encoded at once by one of the processes.
        prompt: prefix of each text.

    Raises:
        RuntimeError: if a process fails, with the end of what it said.
    """
    job = {
        "blocks": blocks,
        "prompt": prompt,
        "location": str(Path(encoder.folder).absolute()),
        "options": {
            "max_length": encoder.max_length,
            "device": encoder.device,
            "precision": encoder.precision,
            "cache_dir": str(cache_dir.absolute()),
        },
    }
    steps = -(-len(blocks) // encoder.processes)
    folder = private_folder(work_root(), "encoding-")  # texts are for this user alone
    try:
        write_atomic(folder / "job.json", json.dumps(job, ensure_ascii=False))
        command = processes.command("bgetune.models", [str(folder)], processes=encoder.processes)
        log = folder / "output.log"
        status = processes.run(
            command, log, steps, env=processes.environment(encoder.processes), label=_("encoding"), unit=_("block")
        )
        end = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    finally:
        shutil.rmtree(folder)
    if status:
        raise RuntimeError("\n".join([f"encoding in {encoder.processes} processes ended with status {status}", *end]))
