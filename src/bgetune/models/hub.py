"""Locations, checks and devices of models: shared by the encoder, the reranker and the translators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bgetune.errors import InputError
from bgetune.hubs import WEIGHTS, download, files, fingerprint, ways_out
from bgetune.locale import _
from bgetune.paths import is_hub_name, locate

__all__ = ["WEIGHTS", "check_device", "fetch", "files", "fingerprint", "loading", "precision", "quiet", "read_json"]
__all__ += ["torch_device"]

_SMALL = 1 << 20
"""Size in bytes below which a JSON file is taken for a configuration, not a vocabulary."""


def fetch(location: str | Path, parameter: str = "model") -> Path:
    """The local folder of a model; a hub model is downloaded (or found in the hub's cache) first.

    Args:
        location: a folder, a hub name such as ``BAAI/bge-small-zh-v1.5``, ``modelscope://BAAI/bge-small-zh-v1.5``, or
            ``demo://...`` (made when missing).
        parameter: the parameter that named the model, for error messages.

    Raises:
        InputError: if there is no such folder, the hub cannot be reached, the weights are not safetensors, the
            configuration is broken, or the model wants code of its own to be run.
    """
    location = str(location)
    folder = download(location, parameter) if is_hub_name(location) else locate(location)
    if not folder.is_dir():
        raise InputError(
            _("{parameter}: there is no model at {location}; give a folder or a hub name such as {example}").format(
                parameter=parameter, location=location, example=_example(parameter)
            )
            + ways_out(parameter)
        )
    if not (folder / "config.json").is_file():
        raise InputError(
            _(
                "{parameter}: {location} has no config.json, so it is no folder of a model; give the folder that "
                "holds it"
            ).format(parameter=parameter, location=location)
        )
    if not any(folder.glob(f"*{WEIGHTS}")):
        raise InputError(
            _(
                "{parameter}: {location} has no *{suffix} weights, and pickled weights are not read because they can "
                "run code; convert them once with transformers: "
                "AutoModel.from_pretrained(...).save_pretrained(FOLDER), and give that folder"
            ).format(parameter=parameter, location=location, suffix=WEIGHTS)
        )
    for file in files(folder):
        if file.suffix == ".json" and file.stat().st_size < _SMALL:
            _refuse_code(file, read_json(file, parameter), parameter)
    return folder


def read_json(file: Path, parameter: str) -> Any:
    """Read a JSON file of a model's folder.

    Raises:
        InputError: naming parameter and file, if it is no JSON.
    """
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(
            _("{parameter}: {file} is broken ({error}); copy or download the model again").format(
                parameter=parameter, file=file, error=error
            )
        ) from None


def _refuse_code(file: Path, settings: Any, parameter: str) -> None:
    if isinstance(settings, dict) and settings.get("auto_map"):
        raise InputError(
            _(
                "{parameter}: {file} asks to run code that comes with the model (auto_map), which is never done; "
                "choose a model whose architecture transformers has built in, such as BAAI/bge-small-zh-v1.5"
            ).format(parameter=parameter, file=file)
        )


def _example(parameter: str) -> str:
    examples = {"reranker": "BAAI/bge-reranker-base", "to_pivot": "Helsinki-NLP/opus-mt-zh-en"}
    examples["from_pivot"] = "Helsinki-NLP/opus-mt-en-zh"
    return examples.get(parameter.rsplit(".", 1)[-1], "BAAI/bge-small-zh-v1.5")


def torch_device(device: str = "auto") -> str:
    """The device to compute on; ``auto`` takes CUDA, then Apple's MPS, then the CPU."""
    import torch

    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(device: str, parameter: str = "device") -> None:
    """Check that a device exists.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0``, ``mps``.
        parameter: the parameter that named it, for error messages.

    Raises:
        InputError: if this machine, or the installed torch, has no such device.
    """
    if device in ("auto", "cpu"):
        return
    import torch

    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    backend = torch.backends.mps if wanted.type == "mps" else getattr(torch, wanted.type, None)
    count = 0
    if backend is not None and wanted.type != "meta" and backend.is_available():
        count = getattr(torch, wanted.type).device_count()
    if (wanted.index or 0) >= count:
        devices = _(" or ").join(["auto", *(name for name in ("cuda", "mps") if torch_device() == name), "cpu"])
        raise InputError(
            _(
                "{parameter}: there is no device {device} on this machine, as torch {version} sees it; set "
                "{parameter} to {devices}"
            ).format(parameter=parameter, device=device, version=torch.__version__, devices=devices)
        )


def precision(wanted: str, device: str) -> str:
    """What to compute in: ``auto`` is float16 on a GPU, bfloat16 on a CPU with instructions for it, else float32."""
    if wanted != "auto":
        return wanted
    import torch

    if torch_device(device) != "cpu":
        return "float16"
    capable = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if capable else "float32"


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the progress bars and load reports of transformers, which would be shown in the notebooks."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def loading(folder: Path, parameter: str) -> Iterator[None]:
    """Load a model inside this context: without progress bars, and with errors in one line.

    The libraries raise errors of many types for files that are damaged or do not fit together (a plain Exception for a
    tokenizer, RuntimeError for shapes), so every error except a lack of memory is reported as a fault of the files.

    Raises:
        InputError: naming parameter and folder.
    """
    import torch

    try:
        with quiet():
            yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise InputError(
            _("{parameter}: {folder} cannot be loaded: {kind}: {reason}; copy or download it again").format(
                parameter=parameter, folder=folder, kind=type(error).__name__, reason=lines[0]
            )
        ) from error
