"""What the processes of a training compute on."""

from __future__ import annotations

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models import hub
from bgetune.training.settings import TrainingSettings


def require(settings: TrainingSettings) -> str:
    """Check that there is a GPU for every process; on the CPU they share the cores.

    Returns:
        A warning where GPUs stay idle, else "".

    Raises:
        InputError: where there are fewer GPUs than processes.
    """
    import torch

    device, there = hub.torch_device(settings.device), torch.cuda.device_count()
    if device.startswith("cuda") and settings.processes > there:
        raise InputError(
            _("launcher: {processes} processes, and this machine has {gpus} GPU(s); lower processes").format(
                processes=settings.processes, gpus=there
            )
        )
    if device == "mps" and settings.processes > 1:
        raise InputError(_("launcher: processes on mps cannot work together; set processes to 1"))
    if device == "cuda" and settings.world_size == 1 and there > 1:
        return _("{gpus} GPUs are visible and one will train; set launcher: {{processes: {gpus}}} for all").format(
            gpus=there
        )
    return ""
