"""Where models come from. The hub itself is out of a test's reach: its client is replaced at its own functions."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from transformers import safetensors_conversion

from bgetune import hubs
from bgetune.errors import InputError
from bgetune.models import hub


@pytest.fixture(autouse=True)
def _forget():
    hubs._hugging_face_snapshot.cache_clear()


def folder(path, weights="model.safetensors"):
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / weights).write_bytes(b"0")
    return path


@pytest.fixture
def snapshots(tmp_path, monkeypatch):
    """A hub with pickled weights in main, and safetensors in a pull request of `author`."""

    def serve(author):
        snapshots = {None: folder(tmp_path / "main", "pytorch_model.bin"), "refs/pr/7": folder(tmp_path / "pr7")}
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, revision=None, **_: snapshots[revision])
        offer = SimpleNamespace(git_reference="refs/pr/7", author=author)
        monkeypatch.setattr(safetensors_conversion, "previous_pr", lambda api, name, title, token: offer)

    return serve


def test_safetensors_that_the_hub_offers_in_a_pull_request_are_taken(snapshots, tmp_path):
    snapshots(author="SFconvertbot")
    assert hub.fetch("someone/marian") == tmp_path / "pr7"


def test_a_pull_request_of_somebody_else_is_not_trusted(snapshots):
    snapshots(author="stranger")
    with pytest.raises(InputError, match=r"to_pivot: someone/marian has no .*safetensors"):
        hub.fetch("someone/marian", "to_pivot")


@pytest.mark.parametrize("name", ["bge-small-zh-v1.5", "", "BAAI/", "/bge", "BAAI/bge/small", "BAAI /bge"])
def test_an_address_without_owner_is_said_before_the_hub_is_asked(monkeypatch, name):
    monkeypatch.setattr(hubs, "_modelscope_snapshot", lambda _name: pytest.fail("the hub was asked"))
    with pytest.raises(InputError, match=r"reranker: modelscope://.* it is modelscope://OWNER/NAME, such as"):
        hub.fetch(f"modelscope://{name}", "reranker")
    assert hubs.wrong_address("modelscope://BAAI/bge-small-zh-v1.5") == hubs.wrong_address(name) == ""


def test_hub_out_of_reach_names_model_parameter_and_ways_out(monkeypatch):
    def fail(name, **_):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError) as caught:
        hub.fetch("BAAI/bge-small-zh-v1.5", "01_positives.model")
    for part in ("01_positives.model", "BAAI/bge-small-zh-v1.5", "HF_ENDPOINT", "/path/to/bge-small-zh-v1.5"):
        assert part in str(caught.value)


def test_the_real_client_without_a_network_gives_that_message(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="no-such/model could not be downloaded"):
        hub.fetch("no-such/model")


@pytest.mark.parametrize(
    ("made", "message"),
    [(None, "there is no model at"), ("bare", "no config.json"), ("pickled", "pickled weights are not read")],
)
def test_folder_that_is_no_model_is_refused(tmp_path, made, message):
    place = tmp_path / "model"
    if made == "bare":
        place.mkdir()
    elif made == "pickled":
        folder(place, "pytorch_model.bin")
    with pytest.raises(InputError, match=message):
        hub.fetch(place)
    with pytest.raises(InputError, match=r"05_calibrate\.model"):
        hub.fetch(place, "05_calibrate.model")


def test_local_folder_is_itself(tmp_path):
    assert hub.fetch(folder(tmp_path / "model")) == tmp_path / "model"
