"""What each stage computes, how long that takes and how much memory it needs, from counts and measured speeds.

The shares below (how many candidates reach the reranker, say) are those of the runs that README.md describes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bgetune.config.augmentation import Endpoint
from bgetune.config.base import Embeds
from bgetune.config.stages import Backtranslate, Calibrate, HardNegatives, Positives, Train
from bgetune.estimate.counts import Counts
from bgetune.estimate.speed import Job, Speed
from bgetune.models import processes, spread
from bgetune.models.encoder import SHARD
from bgetune.models.reranker import BLOCK
from bgetune.training import halving
from bgetune.training.groups import default_epochs

SMALL = 20 << 20
"""Bytes of weights below which a model is not timed: its speed hardly matters, and loading it takes longer."""
ASSUMED = {"encoder": 0.0002, "training": 0.001, "reranker": 0.0005, "translator": 0.004}
"""Seconds of a text, or pair, for such models, at a `pace` of 1."""

START = 5.0
"""Seconds that the kernel of a notebook takes until its libraries are there, its figures and tables, at a pace of 1."""
TEXT = 0.0008
"""Seconds of the tables' work on a text."""
RESAMPLE = 0.02
"""Seconds of a bootstrap resample of 05."""

PROPOSED = (0.05, 0.6)
"""Pairs of a text that recall proposes to the reranker: few where scores are spread, many where they bunch."""
GATE = 0.5
"""Share of the paraphrases that the reranker reads."""
MINED = (5.0, 9.0)
"""Pairs of a query that the reranker reads in 03."""
FORCED = 0.1
"""Time of scoring a translation, as a share of making it."""

LIBRARIES = 0.9 * 2**30
"""Bytes that a notebook holds without models and data."""


@dataclass
class Cost:
    """Of a stage.

    Attributes:
        low, high: seconds.
        memory: bytes.
        texts, pairs, translations, steps: what is computed: texts encoded, pairs that the reranker reads, texts
            translated there and back, training steps.
        parts: what most of the time goes to -> seconds: reranker, translation, training, tuning the reranker,
            encoding.
        requests: to servers, at most, retries included, by the parameter that asks for them. No time is counted for
            them.
    """

    low: float = 0.0
    high: float = 0.0
    memory: float = LIBRARIES
    texts: float = 0.0
    pairs: tuple[float, float] = (0.0, 0.0)
    translations: float = 0.0
    steps: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)

    def ask(self, parameter: str, endpoint: Endpoint, texts: float) -> None:
        """Count the requests that so many texts take at most: each once and with all retries, within the budget."""
        if texts > 0:
            most = min(texts * (1 + endpoint.retries), endpoint.max_requests)
            self.requests[parameter] = self.requests.get(parameter, 0.0) + most

    def add(self, part: str, low: float, high: float | None = None) -> None:
        high = low if high is None else high
        self.low, self.high = self.low + low, self.high + high
        self.parts[part] = self.parts.get(part, 0.0) + (low + high) / 2

    @property
    def seconds(self) -> float:
        """What a single number would be."""
        return (self.low * self.high) ** 0.5


def pace() -> float:
    """How many times slower than the machine on which the constants were measured, by a small computation."""
    numbers = np.random.default_rng(0).random((384, 384), dtype=np.float32)
    numbers @ numbers
    begun = time.perf_counter()
    for _ in range(40):
        numbers @ numbers
    return max((time.perf_counter() - begun) / REFERENCE, 0.2)


REFERENCE = 0.06
"""Seconds that it takes there."""


@dataclass(frozen=True)
class Speeds:
    """Seconds of a text or pair by role; NaN: the profile has no such model."""

    by_job: Mapping[Job, Speed]
    pace: float

    def of(self, role: str) -> float:
        """The mean of the models of a role: with two translators, of the way there and of the way back."""
        found = [speed.seconds for job, speed in self.by_job.items() if job.role == role]
        return sum(found) / len(found) if found else ASSUMED[role] * self.pace

    def encoder(self) -> Speed:
        """What was measured of the encoder in training, which tells of its size, too."""
        return next((s for job, s in self.by_job.items() if job.role == "training"), Speed(0.0))

    def weights(self, role: str) -> float:
        """Bytes of the largest model of a role."""
        return max((speed.weights for job, speed in self.by_job.items() if job.role == role), default=0)


def cost(stage: str, values: Mapping[str, Embeds], counts: Counts, speeds: Speeds) -> Cost:
    """What a stage takes.

    Args:
        stage: the name of a notebook.
        values: the parameters of all of them.
        counts: of the run.
    """
    found, parameters = Cost(), values[stage]
    idle = isinstance(parameters, Backtranslate) and not (parameters.enabled and parameters.pivots)
    found.add("tables", (START + (0.1 if idle else 1.0) * TEXT * counts.texts) * speeds.pace)
    found.memory += counts.texts * 4 * 768 * 3
    match parameters:
        case Positives() as options:
            _positives(found, options, counts, speeds)
        case Backtranslate() as options:
            _backtranslate(found, options, counts, speeds)
        case HardNegatives() as options:
            _hard_negatives(found, options, counts, speeds)
        case Train() as options:
            _train(found, options, counts, speeds)
        case Calibrate() as options:
            _calibrate(found, options, counts, speeds)
    return found


def _encode(found: Cost, options: Embeds, texts: float, speeds: Speeds) -> None:
    found.texts += texts
    number, faster = _shared(options, texts, SHARD)
    found.memory += number * speeds.weights("encoder")
    found.add("encoding", texts * speeds.of("encoder") / faster)


def _rerank(found: Cost, options: Embeds, low: float, high: float, speeds: Speeds) -> None:
    found.pairs = (found.pairs[0] + low, found.pairs[1] + high)
    number, faster = _shared(options, high, BLOCK)
    found.memory += number * speeds.weights("reranker")
    found.add("reranker", low * speeds.of("reranker") / faster, high * speeds.of("reranker") / faster)


def _shared(options: Embeds, items: float, block: int) -> tuple[int, float]:
    """How many processes of `launcher` compute items, and how many times faster than one: one where these are few."""
    number = options.launcher.processes
    if items <= spread.BLOCKS * number * block:
        return 1, 1.0
    return number, processes.speedup(number, options.device)


def _positives(found: Cost, options: Positives, counts: Counts, speeds: Speeds) -> None:
    if options.reranker is None:
        return
    _encode(found, options, counts.texts, speeds)
    least, most = ((counts.asked or 0) + share * counts.texts for share in PROPOSED)
    # both directions of each
    low, high = (2 * min(pairs, options.recall_max_pairs) for pairs in (least, most))
    _rerank(found, options, low, high, speeds)
    if options.judge.base_url:
        found.ask("judge", options.judge, high)  # what the reranker confirms, in both orders


def _backtranslate(found: Cost, options: Backtranslate, counts: Counts, speeds: Speeds) -> None:
    _ask_for_paraphrases(found, options, counts)
    local = [pivot for pivot in options.pivots if pivot.service is None]
    if not options.enabled or not local:
        return
    found.translations = min(options.max_texts or counts.queries, counts.queries)
    made = found.translations * options.candidates * len(local)
    one = speeds.of("translator")
    found.add("translation", len(local) * found.translations * 2 * one + 2 * made * FORCED * one)
    found.memory += speeds.weights("translator")
    _encode(found, options, 0.6 * made, speeds)
    if options.reranker is not None:
        _rerank(found, options, GATE * made / 2, GATE * made, speeds)


def _ask_for_paraphrases(found: Cost, options: Backtranslate, counts: Counts) -> None:
    """A request for each document and task, each query to paraphrase, each text there and each translation back."""
    if not options.enabled:
        return
    origins, wanted = min(options.max_texts or counts.queries, counts.queries), options.generation
    if wanted.base_url:
        tasks = (wanted.queries > 0) + (wanted.near_misses > 0)
        asked = tasks * counts.documents + (origins if wanted.paraphrases else 0)
        found.ask("02_backtranslate.generation", wanted, asked)
    for pivot in options.pivots:
        if pivot.service is not None:
            found.ask("02_backtranslate.pivots.service", pivot.service, 2 * origins)


def _hard_negatives(found: Cost, options: HardNegatives, counts: Counts, speeds: Speeds) -> None:
    # with a reranker, 01 has encoded and kept the vectors
    _encode(found, options, counts.texts if options.reranker is None else 0.0, speeds)
    found.add("tables", counts.queries * options.rank_max * 2.5e-5 * speeds.pace)
    if options.reranker is not None and (options.veto_score is not None or options.promote_score is not None):
        scale = (5 + options.num_negatives) / 10
        _rerank(found, options, MINED[0] * scale * counts.queries, MINED[1] * scale * counts.queries, speeds)
    if options.judge.base_url:
        # what the reranker confirms, and the pairs of review.csv: both in both orders
        proposed = found.pairs[1] if options.promote_score is not None else 0.0
        found.ask("judge", options.judge, 2 * (proposed + options.review_limit))


def _train(found: Cost, options: Train, counts: Counts, speeds: Speeds) -> None:
    epochs = options.epochs or default_epochs(int(counts.queries), evaluates=True)
    positives = options.positives or max(1.0, min(counts.positives, 10) / epochs)
    texts = options.batch_size * (1 + positives + options.negatives)
    launcher = options.launcher
    together = options.batch_size * launcher.processes * launcher.nodes
    steps = -(-counts.queries // together) * epochs
    graded = 0.0 if options.graded_loss == "none" else -(-counts.graded // together) * epochs
    tried = halving.rounds(len({options.learning_rate, *options.learning_rates}))
    times = 1 + sum(count * share for count, share in tried)
    found.steps = times * (steps + graded)
    one, model = speeds.of("training"), speeds.encoder()
    slower = launcher.processes / processes.speedup(launcher.processes, options.device)
    found.add("training", slower * found.steps * model.parameters * 0.004)  # AdamW
    slower *= 4 / 3 if options.gradient_checkpointing else 1.0
    found.add("training", slower * one * times * (steps * texts + graded * 2 * options.batch_size))
    looks = min(10, steps) if options.eval_steps is None else steps / options.eval_steps
    dev = counts.heldout / 2
    looks += 3 * sum(count for count, _ in tried)
    found.add("evaluation", (looks + 6) * dev * one / 3)
    found.texts = texts
    at_once = min(options.mini_batch_size or texts, texts)
    if options.tune_reranker and options.reranker is not None:
        _tune_reranker(found, options, counts, speeds)
    layers = model.parameters**0.5  # activations of a token grow with width and depth
    activations = at_once * (model.tokens or options.max_length) * layers * 40_000
    found.memory += launcher.processes * (16e6 * model.parameters + activations)


def _tune_reranker(found: Cost, options: Train, counts: Counts, speeds: Speeds) -> None:
    """A query is read with a positive, its hard negatives and a random text; a gradient takes two forward passes."""
    graded = 0.0 if options.graded_loss == "none" else counts.graded
    pairs = options.reranker_epochs * (counts.queries * (2 + options.negatives) + graded)
    found.add("tuning the reranker", 3 * pairs * speeds.of("reranker"))
    found.memory += 4 * speeds.weights("reranker")  # weights, gradients and AdamW's two moments


def _calibrate(found: Cost, options: Calibrate, counts: Counts, speeds: Speeds) -> None:
    _encode(found, options, 2 * counts.heldout + counts.texts, speeds)
    found.add("tables", options.resamples * RESAMPLE * speeds.pace)
    if options.reranker is not None:
        pairs = 2 * min(options.search_queries, counts.heldout / 2) * options.top_k
        _rerank(found, options, 0.7 * pairs, pairs, speeds)
