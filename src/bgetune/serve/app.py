"""The routes of the service. Bad requests get one sentence, as `{"error": {"message": ...}}`, with status 4xx."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal, cast, get_type_hints

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.exceptions import HTTPException

from bgetune import __version__
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models.encoder import Encoder
from bgetune.scoring.scorer import Scorer
from bgetune.serve import complaints
from bgetune.serve.batching import BatchingEncoder, Busy, InProgress

Text = Annotated[str, Field(max_length=20_000)]
MOST_TEXTS = 1000
"""Of one request; more are sent as several."""
MOST_BYTES = 16 * 2**20
"""Of a request's body."""
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
OneOrMore = Annotated[
    Annotated[Text, Tag("a text")] | Annotated[Texts, Tag("a list")],
    Discriminator(lambda given: "a text" if isinstance(given, str) else "a list"),
]
"""A text, or a list of texts; an error speaks of what was given, not of both."""


class Body(BaseModel):
    """Of a request: a name that is not known is refused, so that a misspelt one is not ignored."""

    model_config = ConfigDict(extra="forbid")


class Pairs(Body):
    """Texts to compare pair by pair; a single text is compared with every text of the other side."""

    queries: OneOrMore
    documents: OneOrMore
    symmetric: bool | None = Field(
        None, description="True: both sides are of one kind; False: queries that search documents; null: as calibrated."
    )


class Match(Pairs):
    precision: float | None = Field(0.95, gt=0, lt=1, description="A guaranteed precision; null: the best F1.")
    rerank: bool = Field(False, description="Decide by the model and the reranker together; false: by the cosine.")


class Search(Body):
    query: Text
    k: int = Field(10, ge=1, le=1000)
    rerank: bool = False
    precision: float | None = Field(None, gt=0, lt=1, description="Leave out hits below this guaranteed precision.")


class Embed(Body):
    texts: OneOrMore
    kind: Literal["query", "document", "symmetric"] = Field(
        "symmetric", description="Decides on the prompt: a query that searches, a document, or texts of one kind."
    )


class OpenAIEmbeddings(BaseModel):
    """The request of OpenAI's embeddings API; what it has besides is ignored."""

    input: OneOrMore
    model: str = "bgetune"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)


Work = Callable[[Any], dict[str, Any]]
"""What a route does with the body of a request."""


def make_app(scorer: Scorer, *, batch: int = 64, waiting: int = 4096) -> FastAPI:
    """The application around a scorer; its encoder is replaced by one that batches concurrent requests.

    Args:
        batch: the most texts that are encoded at once.
        waiting: the most texts of requests that are not answered yet; a request over it is answered 503 and may be
            sent again.
    """
    encoder = BatchingEncoder(scorer.encoder, batch=batch)
    in_progress = InProgress(waiting)
    scorer.encoder = cast(Encoder, encoder)
    registry = CollectorRegistry()
    requests = Counter("bgetune_requests", "Requests", ["route", "status"], registry=registry)
    seconds = Histogram("bgetune_request_seconds", "Seconds of a request", ["route"], registry=registry)
    texts_read = Counter("bgetune_texts", "Texts encoded for requests", ["route"], registry=registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        import anyio.to_thread

        # requests wait in threads for their batch; the default of 40 would bound the batch
        anyio.to_thread.current_default_thread_limiter().total_tokens = 4 * batch
        scorer.encoder.encode(["warm up"])  # the first request does not pay for loading
        yield
        encoder.close()

    app = FastAPI(title="bgetune", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.draining = False  # set before the end: callers go elsewhere

    @app.middleware("http")
    async def measure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        begun = time.perf_counter()
        length = request.headers.get("content-length")
        response: Response
        if length is None and request.method == "POST":
            response = _error(411, _("the length of the body is not given; send Content-Length"))
        elif length is not None and int(length) > MOST_BYTES:
            response = _error(
                413,
                _("the body has {length} bytes; at most {most:,} are read; send less at a time").format(
                    length=length, most=MOST_BYTES
                ),
            )
        else:
            response = await call_next(request)
        if app.state.draining:
            response.headers["Connection"] = "close"
        route = getattr(request.scope.get("route"), "path", "unknown")
        requests.labels(route, response.status_code).inc()
        seconds.labels(route).observe(time.perf_counter() - begun)
        return response

    @app.exception_handler(InputError)
    async def bad_input(_request: Request, error: InputError) -> JSONResponse:
        return _error(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def bad_request(request: Request, error: RequestValidationError) -> JSONResponse:
        model = get_type_hints(request.scope["route"].endpoint)["body"]
        return _error(422, complaints.of_body(error.errors()[0], model))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        paths = [route.path for route in app.routes if isinstance(route, APIRoute)]
        says = complaints.of_address(error, method=request.method, path=request.url.path, routes=paths)
        return _error(error.status_code, says, error.headers)

    @app.exception_handler(Busy)
    async def busy(_request: Request, error: Busy) -> JSONResponse:
        return _error(503, _("too many texts wait; send the request again later"), {"Retry-After": "1"})

    def post(path: str) -> Callable[[Work], Work]:
        """A route whose function works in a thread.

        Its texts are counted before: what waits for a thread is in memory, too, and must not grow without bound.
        """

        def add(work: Work) -> Work:
            async def endpoint(body: BaseModel) -> JSONResponse:
                with in_progress.admit(_size(body)):
                    return await run_in_threadpool(lambda: JSONResponse(work(body)))

            endpoint.__annotations__["body"] = get_type_hints(work)["body"]
            app.post(path, name=work.__name__, response_model=None)(endpoint)
            return work

        return add

    @app.get("/health")
    async def health() -> JSONResponse:
        status = "ending" if app.state.draining else "ok"
        content = {"status": status, "model": scorer.settings["model"]["fingerprint"], "run": scorer.run_dir.name}
        return JSONResponse(content, 503 if app.state.draining else 200)

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @post("/score")
    def score(body: Pairs) -> dict[str, Any]:
        similarities = scorer.similarity(body.queries, body.documents, symmetric=body.symmetric)
        texts_read.labels("/score").inc(2 * len(similarities))
        return {"similarities": similarities.tolist(), "probabilities": scorer.calibrate(similarities).tolist()}

    @post("/match")
    def match(body: Match) -> dict[str, Any]:
        threshold = scorer.threshold(body.precision, "both" if body.rerank else "cosine")
        similarities = scorer.similarity(body.queries, body.documents, symmetric=body.symmetric)
        texts_read.labels("/match").inc(2 * len(similarities))
        answer = {
            "similarities": similarities.tolist(),
            "probabilities": scorer.calibrate(similarities).tolist(),
            "threshold": threshold,
        }
        decides = similarities
        if body.rerank:
            reranked = scorer.rerank(body.queries, body.documents)
            decides = scorer.combine(similarities, reranked)
            answer |= {"reranker": reranked.tolist(), "both": decides.tolist()}
        return {"matches": (decides >= threshold).tolist()} | answer

    @post("/search")
    def search(body: Search) -> dict[str, Any]:
        texts_read.labels("/search").inc()
        hits = scorer.search(body.query, body.k, rerank=body.rerank, precision=body.precision)
        return {"hits": [asdict(hit) for hit in hits]}

    @post("/embed")
    def embed(body: Embed) -> dict[str, Any]:
        vectors = scorer.embed(body.texts, kind=body.kind)
        texts_read.labels("/embed").inc(len(vectors))
        return {"vectors": vectors.tolist()}

    @post("/v1/embeddings")
    def openai_embeddings(body: OpenAIEmbeddings) -> dict[str, Any]:
        vectors = scorer.embed(body.input, kind="symmetric")
        if body.dimensions is not None:
            if body.dimensions > vectors.shape[1]:
                raise InputError(
                    _("dimensions is {dimensions}, the model has {most}; give fewer").format(
                        dimensions=body.dimensions, most=vectors.shape[1]
                    )
                )
            vectors = vectors[:, : body.dimensions]
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
        texts_read.labels("/v1/embeddings").inc(len(vectors))
        data = [
            {"object": "embedding", "index": place, "embedding": _encoded(vector, body.encoding_format)}
            for place, vector in enumerate(vectors)
        ]
        given = [body.input] if isinstance(body.input, str) else body.input
        length = sum(len(text) for text in given)  # in characters: clients want a number, nobody is charged
        return {
            "object": "list",
            "data": data,
            "model": body.model,
            "usage": {"prompt_tokens": length, "total_tokens": length},
        }

    return app


def _encoded(vector: np.ndarray, encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector.tolist()
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _size(body: BaseModel) -> int:
    """How many texts the models read for a request, as far as its body says."""
    if isinstance(body, Pairs):
        return 2 * max(_count(body.queries), _count(body.documents))
    if isinstance(body, Search):
        return 1 + (body.k if body.rerank else 0)
    return _count(body.texts if isinstance(body, Embed) else cast(OpenAIEmbeddings, body).input)


def _count(texts: str | list[str]) -> int:
    return 1 if isinstance(texts, str) else len(texts)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    content = {"error": {"message": message, "type": "invalid_request_error" if status < 500 else "server_error"}}
    return JSONResponse(content, status, headers)
