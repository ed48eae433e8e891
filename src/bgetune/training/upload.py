"""Upload of a tuned model to the Hugging Face hub or a compatible server (HF_ENDPOINT)."""

from __future__ import annotations

import os
from pathlib import Path

from bgetune.errors import InputError
from bgetune.locale import _

TOKEN = "HF_TOKEN"
"""The environment variable of the token; it is no parameter, so that no notebook or profile contains it."""


def require_token() -> str:
    """The token of the environment.

    Raises:
        InputError: if there is none.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise InputError(
            _(
                "04_train: push_to_hub needs a token that may write, in the environment variable {variable}: "
                "export {variable}=...; or leave push_to_hub null"
            ).format(variable=TOKEN)
        )
    return token


def push(folder: Path, repository: str) -> str:
    """Upload a model's folder; a repository that does not exist yet is made, and is private.

    Args:
        folder: folder of the model, card included.
        repository: team/name.

    Returns:
        The URL of the repository.

    Raises:
        InputError: if there is no token, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=require_token())
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model tuned by bgetune")
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            _(
                "04_train: push_to_hub: {repository} could not be written at {address} ({kind}: {reason}). The "
                "model itself is in {folder}: check the token's rights and the network and run again, or set "
                "push_to_hub to null and upload that folder later"
            ).format(repository=repository, address=ENDPOINT, kind=type(error).__name__, reason=reason, folder=folder)
        ) from None
    return str(address)
