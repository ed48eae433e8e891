"""Where models come from, and how their inputs are batched: shared by the encoder, the reranker and the translators."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetune.errors import InputError
from bgetune.paths import is_hub_name, locate
from bgetune.files import sha256

if TYPE_CHECKING:
    import torch

WEIGHTS = ".safetensors"
"""The only weights that are read: they hold numbers, while a pickle could hold a program."""



_READ = (WEIGHTS, ".json", ".txt", ".model", ".spm", ".jinja")


def fetch(location: str | Path, parameter: str = "model") -> Path:
    """The local folder of a model; a hub model is downloaded (or found in the hub's cache) first.

    Args:
        location: a folder, a hub name such as ``BAAI/bge-small-zh-v1.5``, or ``demo://...`` (made when missing).
        parameter: the parameter that named the model, for the message of an error.

    Raises:
        InputError: if there is no such folder, the hub cannot be reached, or the weights are not safetensors.
    """
    location = str(location)
    folder = _download(location, parameter) if is_hub_name(location) else locate(location)
    if not folder.is_dir():
        raise InputError(
            f"{parameter}: there is no model at {location}; give a folder, a hub name such as BAAI/bge-small-zh-v1.5, "
            f"or demo://standard/encoder"
        )
    if not (folder / "config.json").is_file():
        raise InputError(f"{parameter}: {location} has no config.json, so it is no folder of a model")
    if not any(folder.glob(f"*{WEIGHTS}")):
        raise InputError(
            f"{parameter}: {location} has no *{WEIGHTS} weights, and pickled weights are not read because they can run "
            f"code; convert them once with transformers: "
            f"AutoModel.from_pretrained(...).save_pretrained(FOLDER), and give that folder"
        )
    return folder


@cache
def _download(name: str, parameter: str) -> Path:
    """The snapshot of a hub model in the hub's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    wanted = {"allow_patterns": [f"*{suffix}" for suffix in _READ], "ignore_patterns": ["onnx/*", "openvino/*"]}
    try:
        folder = Path(snapshot_download(name, **wanted))
        if not any(folder.glob(f"*{WEIGHTS}")) and (revision := _converted(name)):
            folder = Path(snapshot_download(name, revision=revision, **wanted))
        return folder
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{parameter}: the model {name} could not be had from {ENDPOINT} ({type(error).__name__}: {reason}).\n"
            f"Ways out: set the environment variable HF_ENDPOINT to a mirror that you can reach; or download the model "
            f"elsewhere and write its folder, `{parameter}: /path/to/{name.split('/')[-1]}`; or try "
            f"params/demo.yaml, which needs no network."
        ) from None


def _converted(name: str) -> str | None:
    """The revision in which the hub's own converter offers a model's pickled weights as safetensors, if it does.

    Many MarianMT models have their safetensors only there. transformers looks for it in the same way.
    """
    from huggingface_hub import HfApi
    from transformers.safetensors_conversion import previous_pr

    offer = previous_pr(HfApi(), name, "Adding `safetensors` variant of this model", token=None)
    return offer.git_reference if offer is not None and offer.author == "SFconvertbot" else None


def fingerprint(folder: Path) -> str:
    """SHA-256 over what decides a model's results: weights, tokenizer and the configuration of its modules.

    Read from the files, so the answer is the same under whatever name or path a model lies, and another one after
    training.
    """
    files = [
        file
        for pattern in ("*", "[0-9]*_*/*")
        for file in folder.glob(pattern)
        if file.suffix in _READ and file.is_file()
    ]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(folder)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def torch_device(device: str = "auto") -> str:
    """The device to compute on; ``auto`` takes CUDA, then Apple's MPS, then the CPU."""
    import torch

    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"








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
    """Without the bars that transformers shows while it loads weights: they would end up in the reports."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
