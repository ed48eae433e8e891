"""A process of an encoding that `spread.fill` started: python -m torch.distributed.run ... -m bgetune.models JOB."""

from __future__ import annotations

import sys
from pathlib import Path

from bgetune.models import processes, spread

if __name__ == "__main__":
    processes.end_with_owner()
    spread.compute(Path(sys.argv[1]))
