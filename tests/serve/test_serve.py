"""The service: the same answers as the scorer's, one sentence for a bad request, nothing lost at shutdown."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import httpx
import numpy as np
import openai
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from bgetune.locale import using
from bgetune.serve import __main__ as serve, app as routes
from bgetune.serve.app import make_app
from bgetune.serve.batching import BatchingEncoder, Busy, InProgress
from bgetune.serve.complaints import of_body


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


MODELS = [routes.Pairs, routes.Match, routes.Search, routes.Embed, routes.OpenAIEmbeddings]
BAD = {
    "no such field": ("/score", {"query": "a", "documents": ["b"]}, 422, "queries: Field required"),
    "unknown": ("/search", {"query": "a", "top": 3}, 422, "unknown key top; known here: query, k, rerank, precision"),
    "no text": ("/embed", {"texts": ["a", 3]}, 422, "texts.1: Input should be a valid string, not 3"),
    "neither": ("/embed", {"texts": {"a": 3}}, 422, "texts is {'a': 3}; give a text, or a list of texts"),
    "too few": ("/search", {"query": "a", "k": 0}, 422, "k: Input should be greater than or equal to 1, not 0"),
    "no kind": ("/embed", {"texts": "a", "kind": "doc"}, 422, "kind: Input should be 'query', 'document' or 'symme"),
    "empty": ("/score", {"queries": ["a"], "documents": ["  "]}, 422, "documents[0] is empty"),
    "unequal": ("/score", {"queries": ["a", "b"], "documents": ["a", "b", "c"]}, 422, "2 queries and 3 documents"),
    "not guaranteed": ("/match", {"queries": ["a"], "documents": ["b"], "precision": 0.9999}, 422, "precision 0.9999"),
    "too many": (
        "/embed",
        {"texts": ["a"] * (routes.MOST_TEXTS + 1)},
        422,
        "texts: There should be at most 1000 items",
    ),
    "too long": ("/embed", {"texts": "a" * 20_001}, 422, "texts has 20,001 characters; at most 20,000 are read; send"),
    "half a character": ("/embed", b'{"texts": "\\ud800"}', 422, "texts holds half a character (a lone surrogate)"),
    "no JSON": ("/embed", b"not json", 422, "the body is no JSON (at character 1); send an object with texts, kind"),
    "no UTF-8": ("/embed", b"\xff\xff{", 400, "the body cannot be read; send a JSON object in UTF-8"),
    "no object": ("/embed", ["a"], 422, 'the body is ["a"], no object; send an object with texts, kind'),
    "nothing": ("/embed", b"", 422, "the body is null, no object; send an object with texts, kind"),
    "too wide": ("/v1/embeddings", {"input": "a", "dimensions": 4096}, 422, "dimensions is 4096, the model has"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_one_sentence(client, name):
    route, body, status, says = BAD[name]
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    response = client.post(route, headers={"Content-Type": "application/json"}, **content)
    assert response.status_code == status
    message = response.json()["error"]["message"]
    assert says in message
    assert "\n" not in message
    assert client.post("/score", json={"queries": "a", "documents": "b"}).status_code == 200


def test_what_reaches_no_route_gets_one_sentence_too(client):
    answer = client.post("/embed", content=b'{"texts": "a"}')
    assert answer.status_code == 422
    says = "the body is not said to be JSON; send the header `Content-Type: application/json`"
    assert answer.json()["error"]["message"] == says
    answer = client.post("/embd", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("there is no /embd; known here: /health, /metrics, /score, ")
    answer = client.get("/embed")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["error"]["message"] == "/embed does not take GET; send POST"


def test_complaints_are_in_the_language_in_use(client):
    with using("zh"):
        wrong = client.post("/search", json={"query": "a", "k": 0, "precison": 0.9})
        assert wrong.json()["error"]["message"] == "k：应大于或等于 1，而不是 0"
        misspelt = client.post("/search", json={"query": "a", "precison": 0.9})
        assert misspelt.json()["error"]["message"].startswith("没有 precison 这个参数")


def test_every_complaint_about_a_body_has_words_of_ours():
    """None is pydantic's own, which no catalogue translates."""
    values = [None, True, 0, -1, 1.5, 10**30, 1e30, float("inf"), "", "x", "x" * 20_001, [], [1], ["x"] * 1001, {}]
    for model in MODELS:
        required = {name: "x" for name, field in model.model_fields.items() if field.is_required()}
        bodies = [{}, *({**required, name: value} for name in [*model.model_fields, "other"] for value in values)]
        for body in bodies:
            try:
                model.model_validate(body)
            except ValidationError as error:
                with using("zh"):
                    issue = error.errors()[0]
                    assert issue["msg"] not in of_body(issue, model)


def test_no_one_looks_through_a_long_value_for_secrets(client, monkeypatch):
    """It takes seconds for 20,000 characters, and hours for as many as are read, while no one else is answered."""
    looked = []
    monkeypatch.setattr("bgetune.config.complaints.mask_secrets", lambda text: looked.append(len(text)) or text)
    long = "x" * 1000
    for body in ({"query": "a", "k": long}, {"query": "a", "k": [long]}, {"query": "a", long: 1}, long, [long]):
        assert len(client.post("/search", json=body).json()["error"]["message"]) < 200
    assert len(client.get(f"/{long}").json()["error"]["message"]) < 200
    assert len(looked) == 6
    assert max(looked) < 100


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


HELD = {
    "/score": ({"queries": "a", "documents": "b"}, "encode"),
    "/match": ({"queries": "a", "documents": "b", "precision": 0.8, "rerank": True}, "rerank"),
    "/search": ({"query": "a", "k": 1, "rerank": True}, "_searchable"),
}
"""A request of two texts, and where it is held."""


@pytest.mark.parametrize("route", HELD)
def test_over_the_limit_is_503_also_while_all_threads_wait(scorer, route, monkeypatch):
    body, method = HELD[route]
    go = threading.Event()
    with TestClient(make_app(scorer, batch=1, waiting=20)) as client, ThreadPoolExecutor(32) as pool:
        owner = scorer.encoder._encoder if method == "encode" else scorer
        held = getattr(owner, method)
        monkeypatch.setattr(owner, method, lambda *given, **how: go.wait(60) and held(*given, **how))
        try:
            asked = [pool.submit(client.post, route, json=body) for _ in range(30)]  # of which four have a thread
            refused = list(islice(as_completed(asked, timeout=30), 20))
            assert {each.result().status_code for each in refused} == {503}
            assert {each.result().headers["Retry-After"] for each in refused} == {"1"}
            assert pool.submit(client.get, "/health").result(30).status_code == 200
            assert f'route="{route}",status="503"}} 20.0' in pool.submit(client.get, "/metrics").result(30).text
        finally:
            go.set()
        assert {each.result(60).status_code for each in set(asked) - set(refused)} == {200}
        assert client.post(route, json=body).status_code == 200  # what was answered is no longer counted


def test_a_request_over_the_limit_is_answered_when_it_is_alone():
    texts = InProgress(3)
    with texts.admit(5), pytest.raises(Busy), texts.admit(1):
        pass
    with texts.admit(1), texts.admit(2), pytest.raises(Busy), texts.admit(1):
        pass


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
