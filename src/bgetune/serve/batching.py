"""Texts of requests that arrive together are encoded together: a model reads many texts faster than one after another.

No request waits for others on purpose. While a batch is computed, requests gather; the next batch takes them all
(dynamic batching, as model servers do).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bgetune.models.encoder import Encoder


class Busy(Exception):
    """More texts wait than may."""


class InProgress:
    """Counts the texts of requests that are not answered yet. For one event loop: it has no lock.

    Args:
        most: the most texts at a time; a longer request is admitted alone.
    """

    def __init__(self, most: int):
        self._most = most
        self._texts = 0

    @contextmanager
    def admit(self, texts: int) -> Iterator[None]:
        """Count a request's texts until it is answered.

        Raises:
            Busy: if they would be too many.
        """
        if self._texts and self._texts + texts > self._most:
            raise Busy
        self._texts += texts
        try:
            yield
        finally:
            self._texts -= texts


@dataclass(frozen=True)
class _Call:
    texts: list[str]
    prompt: str
    vectors: Future[np.ndarray] = field(default_factory=Future)


class BatchingEncoder:
    """An encoder for many threads: calls that wait are computed in one batch, by one thread.

    Has the methods and attributes of the `Encoder` that it wraps.

    Args:
        batch: the most texts in one batch; a longer call is a batch of its own.
    """

    def __init__(self, encoder: Encoder, *, batch: int = 64):
        self._encoder = encoder
        self._batch = batch
        self._calls: deque[_Call] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, progress: bool = False) -> np.ndarray:
        """(n, d) float32, as `Encoder.encode` gives them.

        Raises:
            RuntimeError: after `close`.
        """
        call = _Call(list(texts), self.prompts.symmetric if prompt is None else prompt)
        with self._changed:
            if self._closed:
                raise RuntimeError("the encoder is closed")
            self._calls.append(call)
            self._changed.notify()
        return call.vectors.result()

    def close(self) -> None:
        """Compute what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while calls := self._next():
            for prompt in dict.fromkeys(call.prompt for call in calls):
                self._compute(prompt, [call for call in calls if call.prompt == prompt])

    def _next(self) -> list[_Call]:
        """The calls of the next batch, in the order in which they came; none: it is closed, and nothing waits."""
        taken: list[_Call] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._closed)
            while self._calls and (not taken or size + len(self._calls[0].texts) <= self._batch):
                taken.append(self._calls.popleft())
                size += len(taken[-1].texts)
        return taken

    def _compute(self, prompt: str, calls: list[_Call]) -> None:
        try:
            vectors = self._encoder.encode(
                [text for call in calls for text in call.texts], prompt=prompt, progress=False
            )
        except Exception as error:  # every caller learns of it, and the thread goes on
            for call in calls:
                call.vectors.set_exception(error)
            return
        ends = np.cumsum([len(call.texts) for call in calls])
        for call, part in zip(calls, np.split(vectors, ends[:-1]), strict=True):
            call.vectors.set_result(part)
