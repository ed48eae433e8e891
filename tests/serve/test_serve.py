"""The service: the same answers as the scorer's, one sentence for a bad request, nothing lost at shutdown."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from bgetune.serve import __main__ as serve, app as routes
from bgetune.serve.app import make_app
from bgetune.serve.batching import BatchingEncoder, Busy


@pytest.fixture
def client(scorer):
    with TestClient(make_app(scorer)) as client:
        yield client


def test_answers_are_those_of_the_scorer(client, scorer, world):
    texts = world.texts["text"].tolist()
    queries, documents = texts[:5], texts[5:10]
    found = client.post("/score", json={"queries": queries, "documents": documents}).json()
    assert found["similarities"] == pytest.approx(scorer.similarity(queries, documents), abs=1e-6)
    assert found["probabilities"] == pytest.approx(scorer.score(queries, documents), abs=1e-6)
    found = client.post("/match", json={"queries": queries[0], "documents": documents, "precision": 0.8}).json()
    assert found["matches"] == scorer.is_match(queries[0], documents, 0.8).tolist()
    assert found["threshold"] == scorer.threshold(0.8)
    hits = client.post("/search", json={"query": queries[0], "k": 3, "rerank": True}).json()["hits"]
    assert [hit["text_id"] for hit in hits] == [hit.text_id for hit in scorer.search(queries[0], 3, rerank=True)]
    body = {"queries": queries, "documents": documents, "precision": 0.8, "rerank": True}
    found = client.post("/match", json=body).json()
    assert found["matches"] == scorer.is_match(queries, documents, 0.8, rerank=True).tolist()
    assert found["both"] == pytest.approx(scorer.together(queries, documents), abs=1e-6)
    assert found["threshold"] == scorer.threshold(0.8, "both")
    hits = client.post("/search", json={"query": queries[0], "k": 30, "precision": 0.8}).json()["hits"]
    assert [hit["text_id"] for hit in hits] == [hit.text_id for hit in scorer.search(queries[0], 30, precision=0.8)]
    vectors = client.post("/embed", json={"texts": texts[:3], "kind": "document"}).json()["vectors"]
    assert np.allclose(vectors, scorer.embed(texts[:3], kind="document"), atol=1e-6)
    assert client.get("/health").json()["model"] == scorer.settings["model"]["fingerprint"]
    counted = client.get("/metrics").text
    assert 'bgetune_requests_total{route="/score",status="200"} 1.0' in counted
    assert 'bgetune_texts_total{route="/embed"} 3.0' in counted


BAD = {
    "no such field": ("/score", {"query": "a", "documents": ["b"]}, 422, "queries: Field required"),
    "misspelt": ("/search", {"query": "a", "top": 3}, 422, "top: Extra inputs are not permitted"),
    "no text": ("/embed", {"texts": ["a", 3]}, 422, "texts.1: Input should be a valid string"),
    "empty": ("/score", {"queries": ["a"], "documents": ["  "]}, 422, "documents[0] is empty"),
    "unequal": ("/score", {"queries": ["a", "b"], "documents": ["a", "b", "c"]}, 422, "2 queries and 3 documents"),
    "not guaranteed": ("/match", {"queries": ["a"], "documents": ["b"], "precision": 0.9999}, 422, "precision 0.9999"),
    "too many": ("/embed", {"texts": ["a"] * (routes.MOST_TEXTS + 1)}, 422, "texts: List should have at most 1000"),
    "too long": ("/embed", {"texts": "a" * 20_001}, 422, "texts: String should have at most 20000 characters"),
    "no JSON": ("/embed", "{", 422, "body: Input should be"),
    "too wide": ("/v1/embeddings", {"input": "a", "dimensions": 4096}, 422, "dimensions is 4096, the model has"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_one_sentence(client, name):
    route, body, status, says = BAD[name]
    content = {"content": body} if isinstance(body, str) else {"json": body}
    response = client.post(route, **content)
    assert response.status_code == status
    message = response.json()["error"]["message"]
    assert says in message
    assert "\n" not in message
    assert client.post("/score", json={"queries": "a", "documents": "b"}).status_code == 200


def test_bodies_are_bounded(client, monkeypatch):
    monkeypatch.setattr(routes, "MOST_BYTES", 10)
    assert client.post("/embed", json={"texts": "much longer"}).status_code == 413
    assert client.post("/embed", content=iter([b"{}"])).status_code == 411


class Counting:
    """An encoder that notes its batches, and waits until it may go on."""

    def __init__(self, encoder):
        self.encoder, self.prompts, self.batches = encoder, encoder.prompts, []
        self.asked, self.go = threading.Event(), threading.Event()

    def encode(self, texts, *, prompt, progress):
        self.asked.set()
        self.go.wait(60)
        self.batches.append((prompt, list(texts)))
        if "fails" in texts:
            raise ValueError("no vector")
        return np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)


def test_calls_that_wait_are_one_batch(scorer):
    encoder = Counting(scorer.encoder)
    batching = BatchingEncoder(encoder, batch=16)
    texts = [[chr(97 + i) * (1 + i % 3)] * (1 + i % 2) for i in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(batching.encode, texts[0], prompt="")]
        assert encoder.asked.wait(60)  # the first call is a batch of its own, the others wait for it
        answers += [pool.submit(batching.encode, some, prompt="") for some in texts[1:]]
        while len(batching._calls) < 19:
            time.sleep(0.01)
        encoder.go.set()
        for some, answer in zip(texts, answers, strict=True):
            assert answer.result().tolist() == [[len(text), ord(text[0])] for text in some]
    assert len(encoder.batches) <= 4
    assert max(len(texts) for _, texts in encoder.batches) <= 16
    batching.close()
    with pytest.raises(RuntimeError):
        batching.encode(["late"])


def test_a_failure_reaches_its_callers_and_the_next_call_works(scorer):
    encoder = Counting(scorer.encoder)
    encoder.go.set()
    batching = BatchingEncoder(encoder)
    with pytest.raises(ValueError, match="no vector"):
        batching.encode(["fails"], prompt="")
    assert batching.encode(["works"], prompt="").shape == (1, 2)


def test_a_full_queue_is_said(scorer):
    encoder = Counting(scorer.encoder)
    batching = BatchingEncoder(encoder, waiting=2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batching.encode, ["a"], prompt="")
        while batching._calls:
            time.sleep(0.01)
        second = pool.submit(batching.encode, ["b", "c"], prompt="")
        while not batching._calls:
            time.sleep(0.01)
        with pytest.raises(Busy):
            batching.encode(["d"], prompt="")
        encoder.go.set()
        assert len(first.result()) == 1
        assert len(second.result()) == 2


@pytest.fixture
def process(world):
    """The command line on a free port; the port and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bgetune.serve", str(world.run), "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for _ in range(600):
        if process.poll() is not None:
            raise AssertionError(process.stderr.read())
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    yield port, process
    process.kill()


def test_the_openai_client_and_a_shutdown_that_loses_nothing(process, scorer, world):
    port, service = process
    texts = world.texts["text"].tolist()[:3]
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:
        answer = client.embeddings.create(model="any", input=texts)
    assert np.allclose([row.embedding for row in answer.data], scorer.embed(texts), atol=1e-6)
    begun, lost = [], []

    def ask(number):
        with httpx.Client(timeout=30) as client:
            for _ in range(200):
                try:
                    answer = client.post(f"http://127.0.0.1:{port}/embed", json={"texts": texts * 20})
                    answer.raise_for_status()
                    begun.append(number)
                    if answer.headers.get("connection") == "close":  # it ends: as a load balancer, ask elsewhere
                        return
                except httpx.ConnectError:  # it no longer listens
                    return
                except httpx.HTTPError as error:
                    lost.append(repr(error))
                    return

    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(ask, number)
        while len(begun) < 20:
            time.sleep(0.01)
        service.send_signal(signal.SIGTERM)
    assert service.wait(30) in (0, -signal.SIGTERM)
    assert not lost


def test_bad_arguments(capsys, tmp_path):
    assert serve.main([str(tmp_path)]) == 2
    assert re.search(r"^error: .*is it the folder of a finished run", capsys.readouterr().err)
