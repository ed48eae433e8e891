"""How texts are sent to a server: several at a time, no faster than it allows, again after a failure, never twice."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from bgetune.augment import memo
from bgetune.config.augmentation import Endpoint
from bgetune.errors import InputError

Request = Callable[[str], tuple[str, ...]]
"""Sends a text and returns what came back; raises `Failed`, or `InputError` for what would fail for every text."""

PAUSE = 1.0
"""Seconds before the first repetition; doubled for each further one."""


@dataclass(frozen=True)
class Result:
    """What came of one text: texts, or the reason why there are none."""

    texts: tuple[str, ...] = ()
    reason: str = ""


class Failed(Exception):
    """A request or an answer that is worth another try: the reason, and the seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason, wait)


class OutOfBudget(Exception):
    """The run may make no further request."""


class Limits:
    """What all requests of a run share: the budget, the rate, and the sign to stop.

    Args:
        settings: with `max_requests` and `requests_per_minute`.
    """

    def __init__(self, settings: Endpoint):
        self.stop = threading.Event()
        self._left = settings.max_requests
        self._gap = 60 / settings.requests_per_minute if settings.requests_per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def take_turn(self) -> None:
        """Count a request, and wait for its time.

        Raises:
            OutOfBudget: if no request is left.
        """
        with self._lock:
            if self._left <= 0:
                raise OutOfBudget
            self._left -= 1
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        self.stop.wait(max(0.0, turn - time.monotonic()))


def ask_all(
    keys: Mapping[str, str],
    connect: Callable[[], Request],
    settings: Endpoint,
    limits: Limits,
    *,
    cache: Path | str | None,
    label: str,
    progress: bool = True,
    pause: float = PAUSE,
) -> dict[str, Result]:
    """What came of each text: remembered, or asked for now and remembered if it came.

    Failures (429, 5xx, no connection, no answer in time, an answer that is malformed or empty) are tried
    `settings.retries` more times, with growing pauses or as long as the server asks for.

    Args:
        keys: text -> what its answer is remembered under.
        connect: makes the client; not called when everything is remembered.
        limits: may be shared with other calls.
        cache: file of the memo, or None for none.
    """
    store = None if cache is None else memo.Memo(cache)
    known = store.find(keys.values()) if store else {}
    results = {text: Result(tuple(known[key])) for text, key in keys.items() if key in known}
    missing = [text for text in keys if text not in results]
    if not missing:
        return results
    request = connect()

    def ask(text: str) -> Result:
        result = _ask(text, request, settings.retries, limits, pause)
        if store and not result.reason:
            store.add({keys[text]: list(result.texts)})
        return result

    with (
        ThreadPoolExecutor(settings.concurrency) as pool,
        tqdm(total=len(missing), desc=label, unit="text", disable=not progress) as bar,
    ):
        futures = {pool.submit(ask, text): text for text in missing}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                bar.update()
        except BaseException:
            limits.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _ask(text: str, request: Request, retries: int, limits: Limits, wait: float) -> Result:
    """The result of a text, after as many tries as it needs and may have."""
    for attempt in range(retries + 1):
        try:
            limits.take_turn()
            return Result(request(text))
        except OutOfBudget:
            return Result(reason="budget")
        except Failed as failure:
            reason, asked = failure.args
        # threads that failed together do not come back together
        spread = random.Random(f"{text}/{attempt}").uniform(0.75, 1.25)
        if attempt < retries and limits.stop.wait(max(wait * spread, asked)):
            return Result(reason="stopped")
        wait *= 2
    return Result(reason=reason)


def secret(variable: str, parameter: str, remedy: str) -> str:
    """A key from the environment.

    Raises:
        InputError: naming the parameter, the variable and the remedy, if there is none.
    """
    key = os.environ.get(variable)
    if not key:
        raise InputError(f"{parameter}: the environment variable {variable} is empty; {remedy}")
    return key


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait, a minute at most."""
    try:
        return min(60.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
