"""ModelScope's own client against a hub on this machine."""

import re
import sys
from pathlib import Path

import pytest
from models.local_hub import BGE, MARIAN, RERANKER, folder_of

from bgetune.errors import InputError
from bgetune.models import hub

SCOPE = "modelscope://"


@pytest.fixture(autouse=True)
def _needs_the_client():
    pytest.importorskip("modelscope_hub", reason="needs the extra: pip install 'bgetune[modelscope]'")


@pytest.fixture
def get(fetch, served, tmp_path):
    def run(name, parameter="model", **environment):
        given = {"MODELSCOPE_ENDPOINT": served.address, "MODELSCOPE_CACHE": str(tmp_path / "scope")}
        given |= {"MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
        return fetch(f"{SCOPE}{name}", parameter, **given | environment)

    return run


@pytest.mark.parametrize("name", [BGE, RERANKER])
def test_only_what_is_read_is_fetched_and_it_is_whole(models, served, get, name):
    found = folder_of(get(name))
    for file in (models / name).rglob("*"):
        if file.suffix in (".json", ".txt", ".safetensors", ".spm", ".model") and "onnx" not in file.parts:
            assert (Path(found) / file.relative_to(models / name)).read_bytes() == file.read_bytes()
    assert not [one for one in served.requests if re.search(r"\.bin|\.onnx|onnx%2F", one)]


def test_a_broken_download_goes_on_and_offline_works_afterwards(models, served, get):
    served.cut = {"sentencepiece.bpe.model", "model.safetensors"}
    found = folder_of(get(RERANKER))
    assert [one for one in served.requests if re.search(r"sentencepiece.*bytes=[1-9]\d+-", one)]
    for name in ("sentencepiece.bpe.model", "model.safetensors"):
        assert (Path(found) / name).read_bytes() == (models / RERANKER / name).read_bytes()
    before = len(served.requests)
    assert folder_of(get(RERANKER, HF_HUB_OFFLINE="1")) == found
    assert len(served.requests) == before
    # a hub that is down: the cache serves as well
    down = {"MODELSCOPE_ENDPOINT": "http://127.0.0.1:9", "MODELSCOPE_API_MAX_RETRIES": "1"}
    assert folder_of(get(RERANKER, **down)) == found
    # and one that never had the model does not
    done = get(BGE, **down)
    assert "could not be downloaded from http://127.0.0.1:9 (NetworkError: " in done.stderr


@pytest.mark.parametrize(
    ("status", "name", "says"),
    [(None, "BAAI/no-such-model", "404"), (429, BGE, "429"), (401, BGE, "401")],
)
def test_a_refusal_is_one_message_with_its_status_and_the_way_out(served, get, status, name, says):
    served.status = status
    done = get(name, "reranker")
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"error: reranker: {name} could not be downloaded from {served.address}")
    assert says in message
    assert "set MODELSCOPE_ENDPOINT" in message
    assert "or do without (reranker: null)" in message
    assert "Traceback" not in done.stderr


def test_pickled_weights_are_refused_as_ever(get):
    assert "pickled weights are not read" in get(MARIAN, "to_pivot").stderr


def test_a_client_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(InputError, match=r"model: modelscope_hub is missing; pip install 'bgetune\[modelscope\]'"):
        hub.fetch(f"{SCOPE}{BGE}")
