"""What a run will take, said before it starts: per stage what is computed, how long, how much memory, what to change.

The sources are read as 01 reads them (of much data a share), and each model is timed on some of their texts. Once a
stage has run, its artifacts and its seconds take the place of the guess. An estimate never makes a run fail.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from bgetune import runs
from bgetune.config.base import Embeds
from bgetune.config.profile import Profile, resolve
from bgetune.config.stages import STAGES, Backtranslate, Positives, Train
from bgetune.data.recognise import sample_texts
from bgetune.estimate import costs
from bgetune.estimate.costs import Cost, Speeds
from bgetune.estimate.counts import count
from bgetune.estimate.speed import Job, Measurement
from bgetune.locale import _
from bgetune.models import hub
from bgetune.reports.numbers import rounded_up
from bgetune.runs import manifest
from bgetune.runs.progress import duration

LONG = 1800.0
"""Seconds of a part of a stage from which on it is said what would shorten it."""
TEXTS = 400
"""Texts that models are timed on, at most."""


class Estimate:
    """Of one run; models are timed in another process from the start on.

    Args:
        profile: a checked one.
        values: the parameters of all notebooks.
    """

    def __init__(self, profile: Profile):
        self.values: dict[str, Embeds] = {stage: resolve(stage, profile)[0] for stage in STAGES}
        self.run_dir = runs.run_folder(profile)
        self.pace = costs.pace()
        positives = self.values["01_positives"]
        assert isinstance(positives, Positives)
        self.positives = positives
        self.measurement = Measurement(jobs(self.values), _texts(positives))
        self._measured, self._guessed = 0.0, 0.0

    def costs(self, stages: Sequence[str], known: bool) -> dict[str, Cost]:
        """What stages of the run take.

        Args:
            stages: of any round.
            known: whether 01 is up to date, so that its artifacts tell how much there is.
        """
        counts = count(self.positives, self.run_dir, known)
        speeds = Speeds(self.measurement.wait(), self.pace)
        found = {stage: costs.cost(manifest.notebook_of(stage), self.values, counts, speeds) for stage in stages}
        for one in found.values():
            one.low, one.high = one.low * self.correction, one.high * self.correction
        return found

    def learn(self, guessed: Cost, seconds: float) -> None:
        """Take note of how long a stage took: the estimates of the others move with it."""
        self._guessed += guessed.seconds / self.correction
        self._measured += seconds

    @property
    def correction(self) -> float:
        """By what the estimates were wrong so far, within bounds: other stages compute other things."""
        if not self._guessed:
            return 1.0
        return min(max(self._measured / self._guessed, 0.5), 2.0)


def jobs(values: Mapping[str, Embeds]) -> list[Job]:
    """The models of a profile that are worth timing, each in its roles."""
    positives, train, back = values["01_positives"], values["04_train"], values["02_backtranslate"]
    assert isinstance(positives, Positives)
    assert isinstance(train, Train)
    assert isinstance(back, Backtranslate)
    wanted = [
        Job("encoder", positives.model, positives.max_length, positives.device),
        Job("training", train.model, train.max_length, train.device, (("precision", train.precision),)),
    ]
    if positives.reranker is not None:
        wanted.append(Job("reranker", positives.reranker, positives.max_length, positives.device))
    for pivot in back.pivots if back.enabled else ():
        if pivot.to_pivot and pivot.from_pivot:
            there: dict[str, object] = {"method": "beam", "candidates": 1, "num_beams": back.num_beams}
            again: dict[str, object] = {
                "method": back.decoding,
                "candidates": back.candidates,
                "num_beams": back.num_beams,
            }
            codes = {"source_code": pivot.text_code, "target_code": pivot.pivot_code}
            swapped = {"source_code": pivot.pivot_code, "target_code": pivot.text_code}
            wanted.append(_translator(pivot.to_pivot, back.device, codes | there))
            wanted.append(_translator(pivot.from_pivot, back.device, swapped | again))
    return [job for job in wanted if _weights(job.location) > costs.SMALL]


def _translator(location: str, device: str, options: Mapping[str, object]) -> Job:
    return Job("translator", location, 0, device, tuple(options.items()))


def _weights(location: str) -> int:
    return sum(file.stat().st_size for file in hub.fetch(location).glob(f"*{hub.WEIGHTS}"))


def _texts(positives: Positives) -> list[str]:
    """Texts of all sources by turns."""
    columns = [sample_texts(source) for source in positives.sources.every().values()]
    longest = max(map(len, columns), default=0)
    mixed = [column[row] for row in range(longest) for column in columns if row < len(column)]
    return list(dict.fromkeys(mixed))[:TEXTS]


# --- in words -----------------------------------------------------------------------------------------------------


def about(cost: Cost) -> str:
    """The time of a stage: a range where its ends differ by half or more."""
    low, high = duration(cost.low), duration(cost.high)
    if cost.high < 1.5 * cost.low or low == high:
        return _("about {time}").format(time=duration(cost.seconds))
    return _("{low} to {high}").format(low=low, high=high)


def table(found: Mapping[str, Cost]) -> str:
    """A line a stage: time, memory, what is computed; then what to change where it is long."""
    rows = [(stage, about(cost), _gib(cost.memory), _work(cost)) for stage, cost in found.items()]
    total = Cost(sum(cost.low for cost in found.values()), sum(cost.high for cost in found.values()))
    if len(rows) > 1:
        rows.append((_("together"), about(total), _gib(max(cost.memory for cost in found.values())), ""))
    widths = [max(_width(row[column]) for row in rows) for column in range(3)]
    lines = [
        "    " + "  ".join([*(cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    return "\n".join(
        [
            "  " + _("what it will take on this machine, roughly:"),
            *map(str.rstrip, lines),
            *("    " + a for a in advice(found)),
        ]
    )


def _work(cost: Cost) -> str:
    low, high = map(_rounded, cost.pairs)
    parts = []
    if cost.steps:
        words = _("{steps} training steps of about {texts} texts")
        parts.append(words.format(steps=_rounded(cost.steps), texts=_rounded(cost.texts)))
    elif cost.texts:
        parts.append(_("{texts} texts to encode").format(texts=_rounded(cost.texts)))
    if cost.translations:
        parts.append(_("{texts} texts translated there and back").format(texts=_rounded(cost.translations)))
    if cost.pairs[1] >= 1:
        pairs = low if low == high else _("{low} to {high}").format(low=low, high=high)
        parts.append(_("{pairs} pairs for the reranker").format(pairs=pairs))
    for parameter, most in cost.requests.items():
        words = _("at most {count} requests to a language model or service ({parameter}: max_requests, retries)")
        parts.append(words.format(count=f"{rounded_up(most):,}", parameter=parameter))
    return ", ".join(parts)


def advice(found: Mapping[str, Cost]) -> list[str]:
    """Sentences on what would shorten the stages that are long, or fit those that need more memory than there is."""
    long: dict[str, list[str]] = {}
    for stage, cost in found.items():
        for part, seconds in cost.parts.items():
            if seconds > LONG:
                long.setdefault(part, []).append(f"{stage[:2]} ({duration(seconds)})")
    remedies = {
        "reranker": _(
            "The reranker takes long, in {stages}: take a smaller `reranker` (without a GPU "
            "cross-encoder/mmarco-mMiniLMv2-L12-H384-v1, a quarter of the work of BAAI/bge-reranker-base; null: none) "
            "and let 04 tune it (`tune_reranker`), lower `recall_max_pairs` in 01_positives and `num_negatives` in "
            "03_hard_negatives, or compute on a GPU"
        ),
        "tuning the reranker": _(
            "Tuning the reranker takes long, in {stages}: take a smaller `reranker` in 04_train (without a GPU "
            "cross-encoder/mmarco-mMiniLMv2-L12-H384-v1), or lower `reranker_epochs` or `negatives` there"
        ),
        "translation": _(
            "Translating takes long, in {stages}: lower `max_texts` or `candidates` in 02_backtranslate, or set "
            "`enabled: false` there"
        ),
        "training": _(
            "Training takes long, in {stages}: lower `epochs` or `negatives` in 04_train or `max_length`, or take a "
            "smaller `model`"
        ),
        "encoding": _("Encoding takes long, in {stages}: lower `max_length`, or take a smaller `model`"),
    }
    lines = [remedies[part].format(stages=", ".join(stages)) for part, stages in long.items() if part in remedies]
    if long:
        lines.append(_("For a first look: `sample_fraction: 0.1` in 01_positives"))
    needed, there = max((cost.memory for cost in found.values()), default=0.0), _physical_memory()
    if there and needed > 0.9 * there:
        words = _(
            "About {needed} of memory are needed and this machine has {there}: set `mini_batch_size: 16` in 04_train, "
            "or lower `batch_size` or `max_length`"
        )
        lines.append(words.format(needed=_gib(needed), there=_gib(there)))
    return lines


def _physical_memory() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):  # not every system tells
        return 0.0


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _rounded(number: float) -> str:
    """Two leading digits: what an estimate is worth."""
    digits = max(len(str(int(number))) - 2, 0)
    return f"{round(number, -digits):,.0f}"


def _width(text: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    return sum(2 if ord(character) > 0x2E80 else 1 for character in text)


__all__ = ["Estimate", "about", "advice", "table"]
