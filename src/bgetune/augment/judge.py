"""A language model as a judge: a second opinion on pairs that may mean the same.

Each pair is asked about in both orders, because language models favour what comes first; two answers that differ leave
the pair doubtful. Answers are cached on disk and requests are limited by a budget, as those of `generate`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bgetune.augment import chat, memo
from bgetune.augment.generate import read_prompt
from bgetune.augment.remote import PAUSE, Limits, Request, request_all
from bgetune.config.augmentation import Judge
from bgetune.locale import N_, _

OPINIONS = (N_("same"), N_("different"), N_("doubtful"), N_("no answer"))
"""What the two answers for a pair say together; no answer: one of them failed, or the budget was used up."""

REASONS = {
    "same": "the language model calls them the same",
    "doubtful": "the language model is not sure",
}
"""Opinion -> reason of a doubtful pair in review.csv."""


def opinions(
    pairs: Sequence[tuple[str, str]],
    settings: Judge,
    *,
    seed: int = 42,
    limits: Limits | None = None,
    cache: Path | str | None = "judged",
    progress: bool = True,
    pause: float = PAUSE,
) -> list[str]:
    """What a language model thinks of pairs of texts.

    Args:
        pairs: n pairs.
        settings: the endpoint and its limits.
        seed: sent with each request.
        limits: budget and rate shared with other calls. None: of this call alone.
        cache: file of the cache (see `bgetune.augment.memo`). None: no cache.
        progress: whether to show a progress bar.
        pause: seconds before the first retry.

    Returns:
        n of `OPINIONS`.

    Raises:
        InputError: naming the parameter, if the endpoint is not configured, the key is missing, or the endpoint rejects
            the key, the model or the request.
    """
    prompt = read_prompt("judge", settings.prompt_language)

    def connect() -> Request:
        send = chat.connect_with(
            settings, prompt, temperature=0.0, seed=seed, parameter="judge", read=chat.read_verdict
        )

        def ask(both: str) -> tuple[str, ...]:
            a, b = json.loads(both)
            return send({"a": a[: chat.LONGEST_TEXT], "b": b[: chat.LONGEST_TEXT]})

        return ask

    fixed = json.dumps([settings.base_url, settings.model, seed])
    orders = [tuple(json.dumps(pair, ensure_ascii=False) for pair in ((a, b), (b, a))) for a, b in pairs]
    results = request_all(
        {both: memo.key(prompt, fixed, both) for order in orders for both in order},
        connect,
        settings,
        limits or Limits(settings),
        cache=cache,
        label=_("judging"),
        progress=progress,
        pause=pause,
    )
    return [_together(*((results[both].texts or ("",))[0] for both in order)) for order in orders]


def _together(there: str, back: str) -> str:
    """The opinion of two answers."""
    if not (there and back):
        return "no answer"
    return there if there == back and there != "unsure" else "doubtful"


def second_opinion(
    pairs: pd.DataFrame, texts: pd.DataFrame, settings: Judge, *, seed: int, limits: Limits | None = None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The pairs without those that the language model does not call the same.

    A pair without an answer stays, as the reranker had it.

    Args:
        pairs: a_id, b_id and further columns.
        texts: text_id, text.
        settings: without `base_url` all pairs are returned.
        seed, limits: see `opinions`.

    Returns:
        The rows that stay, and opinion -> number of pairs (empty if nobody was asked).
    """
    if settings.base_url is None or pairs.empty:
        return pairs, {}
    text = texts.set_index("text_id")["text"]
    sides = zip(pairs["a_id"].map(text), pairs["b_id"].map(text), strict=True)
    found = opinions(list(sides), settings, seed=seed, limits=limits)
    stays = [opinion in ("same", "no answer") for opinion in found]
    return pairs[stays], dict(Counter(found))


def for_review(
    doubtful: pd.DataFrame, settings: Judge, *, seed: int, limits: Limits | None = None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The doubtful pairs without those that the language model calls different, what it calls the same first.

    Args:
        doubtful: query, candidate (texts), reason and further columns, as `bgetune.negatives.promotion` has it.
        settings: without `base_url` all pairs are returned.
        seed, limits: see `opinions`.

    Returns:
        The rows that stay, with its word as their reason; and opinion -> number of pairs (empty if nobody was asked).
    """
    if settings.base_url is None or doubtful.empty:
        return doubtful, {}
    sides = list(zip(doubtful["query"], doubtful["candidate"], strict=True))
    found = opinions(sides, settings, seed=seed, limits=limits)
    opinion = pd.Series(found, doubtful.index, dtype=str)
    rows = doubtful.assign(reason=opinion.map(REASONS).fillna(doubtful["reason"]))
    rank = opinion.map({"same": 0, "doubtful": 1, "no answer": 2})
    order = rank[opinion != "different"].sort_values(kind="stable").index
    return rows.loc[order].reset_index(drop=True), dict(Counter(found))


def in_words(counts: dict[str, int]) -> str:
    """The opinions in a sentence; empty if nobody was asked."""
    if not counts:
        return ""
    told = ", ".join(f"{_(opinion)} {counts[opinion]:,}" for opinion in OPINIONS if opinion in counts)
    return _("The language model read {count:,} pairs in both orders: {told}.").format(
        count=sum(counts.values()), told=told
    )
