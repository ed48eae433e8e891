"""A process of a training that `launch.train` started: python -m torch.distributed.run ... -m bgetune.training JOB."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from bgetune import files
from bgetune.training import launch


def _end_with(owner: int) -> None:
    """End this process when the one that shows the training is gone: a killed run leaves nothing behind."""
    while files.is_running(owner):
        time.sleep(2)
    os._exit(1)


if __name__ == "__main__":
    if owner := os.environ.get(launch.OWNER):  # not on the other machines
        threading.Thread(target=_end_with, args=(int(owner),), daemon=True).start()
    sys.exit(launch.compute(Path(sys.argv[1])))
