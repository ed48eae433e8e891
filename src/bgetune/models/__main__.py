"""A process of the work that `spread.fill` shares out: python -m torch.distributed.run ... -m bgetune.models JOB."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

from bgetune.models import hub, processes
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker


def compute(folder: Path) -> None:
    """Compute this process's share of the blocks into the cache."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    rank, world = processes.take_device(hub.torch_device(job["options"]["device"])), int(os.environ["WORLD_SIZE"])
    model = {"encoder": Encoder, "reranker": Reranker}[job["kind"]](job["location"], **job["options"])
    steps = -(-len(job["blocks"]) // world)
    with tqdm(disable=True) as bar:
        for number, block in enumerate(job["blocks"][rank::world], start=1):
            model.fill([item if isinstance(item, str) else tuple(item) for item in block], *job["prompt"], bar=bar)
            print(f"{number}/{steps} [", flush=True)


if __name__ == "__main__":
    processes.end_with_owner()
    compute(Path(sys.argv[1]))
