"""Locations, files and devices of models: shared by the encoder, the reranker and the translators."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from bgetune.errors import InputError
from bgetune.files import sha256
from bgetune.locale import _
from bgetune.paths import is_hub_name, locate

WEIGHTS = ".safetensors"
"""The only format of weights that is read; a pickle could run code."""

_READ = (WEIGHTS, ".json", ".txt", ".model", ".spm", ".jinja")

_SMALL = 1 << 20
"""Size in bytes below which a JSON file is taken for a configuration, not a vocabulary."""


def fetch(location: str | Path, parameter: str = "model") -> Path:
    """The local folder of a model; a hub model is downloaded (or found in the hub's cache) first.

    Args:
        location: a folder, a hub name such as ``BAAI/bge-small-zh-v1.5``, or ``demo://...`` (made when missing).
        parameter: the parameter that named the model, for error messages.

    Raises:
        InputError: if there is no such folder, the hub cannot be reached, the weights are not safetensors, the
            configuration is broken, or the model wants code of its own to be run.
    """
    location = str(location)
    folder = _download(location, parameter) if is_hub_name(location) else locate(location)
    if not folder.is_dir():
        raise InputError(
            _("{parameter}: there is no model at {location}; give a folder or a hub name such as {example}").format(
                parameter=parameter, location=location, example=_example(parameter)
            )
            + _without(parameter)
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


@cache
def _download(name: str, parameter: str) -> Path:
    """The snapshot of a hub model in the hub's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    def snapshot(revision: str | None = None) -> Path:
        patterns, left_out = [f"*{suffix}" for suffix in _READ], ["onnx/*", "openvino/*"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=left_out))

    try:
        folder = snapshot()
        if not any(folder.glob(f"*{WEIGHTS}")) and (revision := _converted(name)):
            folder = snapshot(revision)
        return folder
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            _(
                "{parameter}: {model} could not be downloaded from {address} ({kind}: {reason}); set HF_ENDPOINT to "
                "a mirror that you can reach, or download it elsewhere and give its folder, {parameter}: "
                "/path/to/{folder}"
            ).format(
                parameter=parameter,
                model=name,
                address=ENDPOINT,
                kind=type(error).__name__,
                reason=reason,
                folder=name.split("/")[-1],
            )
            + _without(parameter)
        ) from None


def _example(parameter: str) -> str:
    examples = {"reranker": "BAAI/bge-reranker-base", "to_pivot": "Helsinki-NLP/opus-mt-zh-en"}
    examples["from_pivot"] = "Helsinki-NLP/opus-mt-en-zh"
    return examples.get(parameter.rsplit(".", 1)[-1], "BAAI/bge-small-zh-v1.5")


def _without(parameter: str) -> str:
    """How to run without the model, as the end of a message."""
    name = parameter.rsplit(".", 1)[-1]
    if name in ("to_pivot", "from_pivot"):
        return _(", or leave back-translation out (02_backtranslate: pivots: [])")
    return _(", or do without ({parameter}: null)").format(parameter=name) if name in ("reranker", "guide") else ""


def _converted(name: str) -> str | None:
    """The revision in which the hub's own converter offers a model's pickled weights as safetensors, if it does.

    Many MarianMT models have their safetensors only there. transformers looks for it in the same way.
    """
    from huggingface_hub import HfApi
    from transformers.safetensors_conversion import previous_pr

    title = "Adding `safetensors` variant of this model"
    offer = previous_pr(HfApi(), name, title, token=None)  # type: ignore[arg-type]  # None reads the user's own token
    return offer.git_reference if offer is not None and offer.author == "SFconvertbot" else None


def fingerprint(folder: Path) -> str:
    """SHA-256 of all that a model's results depend on: weights, tokenizer and the configuration of its modules.

    It is computed from the files, so that it does not depend on the model's name or path, and changes with training.
    """
    digest = hashlib.sha256()
    for file in files(folder):
        digest.update(f"{file.relative_to(folder)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def files(folder: Path) -> list[Path]:
    """The files that a model's results depend on: weights, tokenizer and the configuration of its modules."""
    found = [file for pattern in ("*", "[0-9]*_*/*") for file in folder.glob(pattern)]
    return sorted(file for file in found if file.suffix in _READ and file.is_file())


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
