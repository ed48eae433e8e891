"""Uploading. The hub itself is out of a test's reach: its client is replaced by one that keeps what it is given."""

import huggingface_hub
import pytest
from pydantic import ValidationError

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.training import upload


@pytest.fixture
def server(monkeypatch):
    """What the hub was asked to do."""
    calls = []

    class Client:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repo_id, *, private, exist_ok):
            calls.append(("create", repo_id, self.token, private, exist_ok))
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append(("upload", repo_id, self.token, sorted(file.name for file in folder_path.iterdir())))

    monkeypatch.setattr(huggingface_hub, "HfApi", Client)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return calls


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("README.md", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


def test_uploads_the_folder_to_a_private_repository(server, model):
    assert upload.push(model, "team/bge-shop") == "https://huggingface.co/team/bge-shop"
    assert server == [
        ("create", "team/bge-shop", "hf_secret", True, True),
        ("upload", "team/bge-shop", "hf_secret", ["README.md", "model.safetensors"]),
    ]


@pytest.mark.parametrize("token", [None, "", " "])
def test_without_a_token_nothing_starts(server, model, monkeypatch, token):
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    for action in (upload.require_token, lambda: upload.push(model, "team/x")):
        with pytest.raises(InputError, match="environment variable HF_TOKEN"):
            action()
    assert server == []


def test_a_hub_that_refuses_names_the_repository_and_the_way_out(server, model, monkeypatch):
    def refuse(*_, **__):
        raise OSError("403 Forbidden\nmore")

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", refuse)
    with pytest.raises(InputError) as caught:
        upload.push(model, "team/x")
    for part in ("push_to_hub: team/x", "403 Forbidden)", str(model), "push_to_hub to null"):
        assert part in str(caught.value)
    assert "hf_secret" not in str(caught.value)


def test_the_real_client_out_of_reach_gives_that_message(model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="push_to_hub: team/x could not be written"):
        upload.push(model, "team/x")


@pytest.mark.parametrize("name", ["x", "../x/y", "team/x/y", "https://huggingface.co/team/x", "team/"])
def test_names_that_are_no_repository(name):
    with pytest.raises(ValidationError, match="push_to_hub"):
        Train(push_to_hub=name)
