"""A process of a training that `launch.train` started: python -m torch.distributed.run ... -m bgetune.training JOB."""

from __future__ import annotations

import sys
from pathlib import Path

from bgetune.models import processes
from bgetune.training import launch

if __name__ == "__main__":
    processes.end_with_owner()
    sys.exit(launch.compute(Path(sys.argv[1])))
