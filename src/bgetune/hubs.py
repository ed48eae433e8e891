"""Models of the two hubs, Hugging Face's and ModelScope, in the caches that their own clients keep."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from bgetune.errors import InputError
from bgetune.files import sha256
from bgetune.locale import _
from bgetune.paths import MODELSCOPE

WEIGHTS = ".safetensors"
"""The only format of weights that is read; a pickle could run code."""

_READ = (WEIGHTS, ".json", ".txt", ".model", ".spm", ".jinja")
_WANTED = [*(f"*{suffix}" for suffix in _READ), "README.md"]  # the card names the licence
_LEFT_OUT = ["onnx/*", "openvino/*"]


def download(location: str, parameter: str = "model") -> Path:
    """The folder of a hub's model in the cache of the hub's client; what is not there yet is downloaded.

    Where the hub cannot be reached, or `HF_HUB_OFFLINE` is 1, what the cache holds is taken.

    Args:
        location: OWNER/NAME of Hugging Face's hub, or modelscope://OWNER/NAME.
        parameter: the parameter that named the model, for error messages.

    Raises:
        InputError: naming parameter, model and address, if the model can neither be downloaded nor found in the cache,
            the address is not of this form, or the package ``modelscope-hub`` is missing.
    """
    if problem := wrong_address(location):
        raise InputError(f"{parameter}: {problem}")
    if location.startswith(MODELSCOPE):
        return _modelscope(location.removeprefix(MODELSCOPE), parameter)
    return _hugging_face(location, parameter)


def wrong_address(location: str) -> str:
    """What is wrong with the form of an address at ModelScope; "" where nothing is, and for other locations."""
    name = location.removeprefix(MODELSCOPE)
    if name == location or re.fullmatch(r"[^/\s]+/[^/\s]+", name):
        return ""
    return _("{location} is no address at ModelScope; it is {scheme}OWNER/NAME, such as {example}").format(
        location=location, scheme=MODELSCOPE, example=f"{MODELSCOPE}BAAI/bge-small-zh-v1.5"
    )


def files(folder: Path) -> list[Path]:
    """The files that a model's results depend on: weights, tokenizer and the configuration of its modules."""
    found = [file for pattern in ("*", "[0-9]*_*/*") for file in folder.glob(pattern)]
    return sorted(file for file in found if file.suffix in _READ and file.is_file())


def fingerprint(folder: Path) -> str:
    """SHA-256 of all that a model's results depend on: weights, tokenizer and the configuration of its modules.

    It is computed from the files, so that it does not depend on the model's name or path, and changes with training.
    """
    digest = hashlib.sha256()
    for file in files(folder):
        digest.update(f"{file.relative_to(folder)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def ways_out(parameter: str) -> str:
    """How to run without the model, as the end of a message."""
    name = parameter.rsplit(".", 1)[-1]
    if name in ("to_pivot", "from_pivot"):
        return _(", or leave back-translation out (02_backtranslate: pivots: [])")
    return _(", or do without ({parameter}: null)").format(parameter=name) if name in ("reranker", "guide") else ""


def _hugging_face(name: str, parameter: str) -> Path:
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return _hugging_face_snapshot(name)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        remedy = _(
            "set HF_ENDPOINT to a mirror that you can reach, take it from ModelScope if it is there ({parameter}: "
            "{modelscope}{model}), or download it elsewhere and give its folder, {parameter}: /path/to/{folder}"
        )
        raise _refused(name, parameter, ENDPOINT, error, remedy) from None


@cache  # a process asks the hub once
def _hugging_face_snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download

    def snapshot(revision: str | None = None) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_LEFT_OUT))

    folder = snapshot()
    if not any(folder.glob(f"*{WEIGHTS}")):
        try:
            revision = _converted(name)
        except Exception:  # no network: its errors are those of whatever library the client uses
            revision = _cached_conversion(name)
        if revision is not None:
            folder = snapshot(revision)
    return folder


def _converted(name: str) -> str | None:
    """The revision in which the hub's own converter offers a model's pickled weights as safetensors, if it does.

    Many MarianMT models have their safetensors only there. transformers looks for it in the same way.
    """
    from huggingface_hub import HfApi
    from transformers.safetensors_conversion import previous_pr

    title = "Adding `safetensors` variant of this model"
    offer = previous_pr(HfApi(), name, title, token=None)  # type: ignore[arg-type]  # None reads the user's own token
    return offer.git_reference if offer is not None and offer.author == "SFconvertbot" else None


def _cached_conversion(name: str) -> str | None:
    """The latest pull request of a model that was fetched before: where the hub cannot be asked who offers it."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    refs = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "refs"
    fetched = sorted(refs.glob("refs/pr/*"), key=lambda file: file.stat().st_mtime_ns)
    return fetched[-1].relative_to(refs).as_posix() if fetched else None


def _modelscope(name: str, parameter: str) -> Path:
    try:
        from modelscope_hub import HubError
    except ModuleNotFoundError as error:
        raise InputError(
            _("{parameter}: {module} is missing; pip install 'bgetune[modelscope]'").format(
                parameter=parameter, module=error.name
            )
        ) from None
    try:
        return _modelscope_snapshot(name)
    except (HubError, OSError, ValueError) as error:
        failed = list(getattr(error, "failed_files", {}).values())
        remedy = _(
            "look for it at {address}, set MODELSCOPE_ENDPOINT to an address that you can reach, or download it "
            "elsewhere and give its folder, {parameter}: /path/to/{folder}"
        )
        address = str(_modelscope_config().endpoint)
        raise _refused(name, parameter, address, failed[0] if failed else error, remedy) from None


def _modelscope_config() -> Any:
    from modelscope_hub import HubConfig

    return HubConfig(token=os.environ.get("MODELSCOPE_API_TOKEN", ""))  # None: it would unpickle that of a login


@cache
def _modelscope_snapshot(name: str) -> Path:
    """ModelScope's own client, by its facade: the package modelscope drives the same one.

    A file of the cache whose checksum is the hub's is not downloaded again, and a broken download goes on.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from modelscope_hub import CacheError, HubApi, NetworkError, ServerError
    from modelscope_hub.utils.logger import get_logger

    get_logger().setLevel("CRITICAL")  # what goes wrong is said once, by `_refused`
    api = HubApi(_modelscope_config())

    def snapshot(offline: bool) -> Path:
        return api.download_repo(
            name, "model", allow_patterns=_WANTED, ignore_patterns=_LEFT_OUT, local_files_only=offline
        )

    try:
        return snapshot(offline=HF_HUB_OFFLINE)
    except (NetworkError, ServerError):
        with suppress(CacheError):
            folder = snapshot(offline=True)
            if any(folder.glob(f"*{WEIGHTS}")):
                return folder
        raise


def _refused(name: str, parameter: str, address: str, error: BaseException, remedy: str) -> InputError:
    reason = str(error).strip().split("\n")[0].rstrip(".")
    folder = name.split("/")[-1]
    words = {"parameter": parameter, "model": name, "address": address, "folder": folder, "modelscope": MODELSCOPE}
    message = _("{parameter}: {model} could not be downloaded from {address} ({kind}: {reason}); {remedy}").format(
        **words, kind=type(error).__name__, reason=reason, remedy=remedy.format(**words)
    )
    return InputError(message + ways_out(parameter))
