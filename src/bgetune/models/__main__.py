"""A process of an encoding that `spread.fill` started: python -m torch.distributed.run ... -m bgetune.models JOB."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from bgetune.models import hub, processes
from bgetune.models.encoder import Encoder


def compute(folder: Path) -> None:
    """Encode this process's share of the blocks into the cache."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    rank, world = processes.take_device(hub.torch_device(job["options"]["device"])), int(os.environ["WORLD_SIZE"])
    encoder = Encoder(job["location"], **job["options"])
    steps = -(-len(job["blocks"]) // world)
    for number, block in enumerate(job["blocks"][rank::world], start=1):
        encoder.encode(block, prompt=job["prompt"], progress=False)
        print(f"{number}/{steps} [", flush=True)


if __name__ == "__main__":
    processes.end_with_owner()
    compute(Path(sys.argv[1]))
