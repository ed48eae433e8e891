"""What all tests share."""

import os

import pytest

from bgetune.paths import ROOT

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["LC_ALL"] = "C.UTF-8"  # pages in English, whoever runs the tests
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a hub

SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared():
    """The folder of third-party data and models beside the repository."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs ../shared (third-party data), which is not part of the repository")
    return SHARED


@pytest.fixture
def one_stage(tmp_path, monkeypatch):
    """The root of a repository with one stage; see tests/repository.py."""
    from repository import make_repository

    return make_repository(tmp_path, monkeypatch)
