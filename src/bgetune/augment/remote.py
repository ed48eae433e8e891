"""Requests to a server: in parallel, at a limited rate, with retries, and with a cache of the answers."""

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
from bgetune.locale import N_, _

Request = Callable[[str], tuple[str, ...]]
"""Sends a text and returns the answer; raises `Failed`, or `InputError` for an error that every text would meet."""

PAUSE = 1.0
"""Seconds before the first retry; doubled for each further one."""


@dataclass(frozen=True)
class Result:
    """The answer for one text: texts, or the reason why there are none."""

    texts: tuple[str, ...] = ()
    reason: str = ""


REASONS = (
    *(N_("rate limit"), N_("timeout"), N_("no connection"), N_("server error"), N_("malformed"), N_("empty")),
    *(N_("refused"), N_("cut off"), N_("budget"), N_("stopped")),
)
"""Why there may be no answer."""


class Failed(Exception):
    """A failure that a retry may solve.

    Args:
        reason: one of `REASONS`.
        wait: seconds that the server asks to wait.
    """

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason, wait)


class OutOfBudget(Exception):
    """All requests of the budget are used."""


class Limits:
    """The limits that all requests of a run share: budget and rate; and an event that stops them.

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
        """Count a request, and wait until the rate allows it.

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


def request_all(
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
    """The answer for each text: from the cache, or requested and then cached.

    A request that fails (429, 5xx, no connection, timeout, a malformed or empty answer) is retried `settings.retries`
    times, with growing pauses, or after the time that the server asks for.

    Args:
        keys: text -> key of its answer in the cache.
        connect: makes the function that sends a text; not called if all answers are cached.
        settings: concurrency and retries.
        limits: budget and rate, possibly shared with other calls.
        cache: file of the cache (see `bgetune.augment.memo`). None: no cache.
        label: of the progress bar.
        progress: whether to show a progress bar.
        pause: seconds before the first retry.

    Returns:
        text -> result.

    Raises:
        InputError: if the server rejects the requests of all texts.
    """
    store = None if cache is None else memo.Memo(cache)
    known = store.find(keys.values()) if store else {}
    results = {text: Result(tuple(known[key])) for text, key in keys.items() if key in known}
    missing = [text for text in keys if text not in results]
    if not missing:
        return results
    request = connect()

    def answer(text: str) -> Result:
        result = _answer(text, request, settings.retries, limits, pause)
        if store and not result.reason:
            store.add({keys[text]: list(result.texts)})
        return result

    with (
        ThreadPoolExecutor(settings.concurrency) as pool,
        tqdm(total=len(missing), desc=label or _("translating"), unit=_("text"), disable=not progress) as bar,
    ):
        futures = {pool.submit(answer, text): text for text in missing}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                bar.update()
        except BaseException:
            limits.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _answer(text: str, request: Request, retries: int, limits: Limits, wait: float) -> Result:
    """The result of a text, after at most `retries` retries; `wait` is the pause before the first."""
    for attempt in range(retries + 1):
        try:
            limits.take_turn()
            return Result(request(text))
        except OutOfBudget:
            return Result(reason="budget")
        except Failed as failure:
            reason, least = failure.args
        # so that threads that failed together do not retry together
        spread = random.Random(f"{text}/{attempt}").uniform(0.75, 1.25)
        if attempt < retries and limits.stop.wait(max(wait * spread, least)):
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
        raise InputError(
            _("{parameter}: the environment variable {variable} is empty; {remedy}").format(
                parameter=parameter, variable=variable, remedy=remedy
            )
        )
    return key


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait (header retry-after), at most 60."""
    try:
        return min(60.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
