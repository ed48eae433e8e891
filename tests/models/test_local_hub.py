"""The hub's own client against a hub on this machine: interruptions, refusals, and without a network afterwards."""

import re
from pathlib import Path

import pytest
from models.local_hub import BGE, MARIAN, RERANKER, folder_of


@pytest.mark.parametrize(("name", "source"), [(BGE, BGE), (RERANKER, RERANKER), (MARIAN, f"{MARIAN}@pr")])
def test_only_what_is_read_is_fetched_and_it_is_whole(models, served, fetch, name, source):
    found = folder_of(fetch(name))
    for file in (models / source).rglob("*"):
        if file.suffix in (".json", ".txt", ".safetensors", ".spm", ".model") and "onnx" not in file.parts:
            assert (Path(found) / file.relative_to(models / source)).read_bytes() == file.read_bytes()
    assert not [one for one in served.requests if re.search(r"\.bin|\.onnx|onnx/", one)]


def test_a_broken_download_goes_on_and_offline_works_afterwards(models, served, fetch, tmp_path):
    served.cut = {"sentencepiece.bpe.model", "model.safetensors"}
    found = folder_of(fetch(RERANKER))
    resumed = [one for one in served.requests if re.search(r"sentencepiece.*bytes=[1-9]\d+-", one)]
    assert resumed, "it goes on where it broke off"
    for name in ("sentencepiece.bpe.model", "model.safetensors"):
        assert (Path(found) / name).read_bytes() == (models / RERANKER / name).read_bytes()
    before = len(served.requests)
    assert folder_of(fetch(RERANKER, HF_HUB_OFFLINE="1")) == found
    assert len(served.requests) == before
    # a hub that is down, without the variable: the cache serves as well
    assert folder_of(fetch(RERANKER, HF_ENDPOINT="http://127.0.0.1:9")) == found


def test_weights_of_a_pull_request_work_offline_too(served, fetch):
    found = folder_of(fetch(MARIAN, "to_pivot"))
    assert folder_of(fetch(MARIAN, "to_pivot", HF_HUB_OFFLINE="1")) == found
    assert folder_of(fetch(MARIAN, "to_pivot", HF_ENDPOINT="http://127.0.0.1:9")) == found


@pytest.mark.parametrize(
    ("status", "name", "says"),
    [(None, "BAAI/no-such-model", "404"), (429, BGE, "429"), (401, BGE, "401")],
)
def test_a_refusal_is_one_message_with_its_status_and_the_way_out(served, fetch, status, name, says):
    served.status = status
    done = fetch(name, "reranker")
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"error: reranker: {name} could not be downloaded from {served.address}")
    assert says in message
    assert "or do without (reranker: null)" in message
    assert "Traceback" not in done.stderr
