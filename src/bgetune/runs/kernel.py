"""The kernel of a notebook that the pipeline executes."""

from __future__ import annotations

from typing import Any

from jupyter_client import AsyncKernelManager
from traitlets import Integer


class OwningKernelManager(AsyncKernelManager):
    """Starts kernels that own the run's folder too, so that one which outlives a killed pipeline keeps it locked."""

    descriptor = Integer(
        None, allow_none=True, help="Of the lock of the run's folder; see `bgetune.runs.folder.owned`."
    ).tag(config=True)

    async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # as AsyncKernelManager has it
        await super().start_kernel(**options, pass_fds=() if self.descriptor is None else (self.descriptor,))
