"""How fast this machine computes with a profile's models: each is loaded and timed on a few texts.

That happens in a process of its own (`python -m bgetune.estimate.speed`), which holds no memory afterwards and can be
stopped. What was measured is kept in `data/cache/speed` under the models' files, so that it happens once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bgetune import files
from bgetune.models import hub
from bgetune.models.cache import content_key
from bgetune.paths import cache_root

FOLDER = Path("data/cache/speed")
VERSION = "4"
"""Of what is measured: another one forgets what is known."""
ENOUGH = 0.6
"""Seconds of a part after which no larger one, eight times as long at most, is tried."""
PATIENCE = 90.0
"""Seconds after which a process that measures is stopped."""


@dataclass(frozen=True)
class Job:
    """A model to be timed.

    Attributes:
        role: encoder, training (the encoder with its gradients), reranker, or translator.
        options: further arguments of the model's class; those of `Decoding` for a translator.
    """

    role: str
    location: str
    max_length: int
    device: str
    options: tuple[tuple[str, Any], ...] = ()

    def key(self) -> str:
        """What the speed depends on, but for the texts."""
        folder = hub.fetch(self.location)
        stats = [(file, file.stat()) for file in hub.files(folder)]
        machine = (str(os.cpu_count()), os.environ.get("OMP_NUM_THREADS", ""), VERSION)
        weights = (f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
        return content_key(*machine, json.dumps(asdict(self)), *weights)


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        seconds: of a text, or of a pair.
        tokens: mean number of a text that the model reads; 0: not measured.
        weights: bytes of the model's files of weights.
        parameters: millions.
    """

    seconds: float
    tokens: float = 0.0
    weights: int = 0
    parameters: float = 0.0


class Measurement:
    """The speeds of models: known ones at once, the others from a process that is started here.

    Args:
        jobs: models.
        texts: some of those that they will read.
    """

    def __init__(self, jobs: Sequence[Job], texts: Sequence[str]):
        self.keys = {job: job.key() for job in jobs}
        self.known = {job: speed for job, key in self.keys.items() if (speed := _read(key)) is not None}
        missing = [job for job in jobs if job not in self.known]
        self.process: subprocess.Popen[str] | None = None
        if missing and texts:
            asked = json.dumps({"jobs": [asdict(job) for job in missing], "texts": list(texts)})
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self.missing, self.asked = missing, asked

    def wait(self) -> dict[Job, Speed]:
        """The speeds of all models that could be timed."""
        if self.process is not None:
            try:
                answer, _errors = self.process.communicate(self.asked, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                answer, _errors = self.process.communicate()
            for job, line in zip(self.missing, answer.splitlines(), strict=False):
                if (found := json.loads(line)) is not None:
                    self.known[job] = Speed(**found)
                    files.write_atomic(cache_root() / FOLDER / f"{self.keys[job]}.json", line)
            self.process = None
        return self.known


def _read(key: str) -> Speed | None:
    try:
        return Speed(**json.loads((cache_root() / FOLDER / f"{key}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not measured yet, or by another version
        return None


# --- in the process that measures ---------------------------------------------------------------------------------


def main() -> None:
    """Time the models that stdin asks for: a line of JSON each, null for one that cannot be timed."""
    asked = json.load(sys.stdin)
    import torch

    torch.manual_seed(0)
    for entry in asked["jobs"]:
        try:
            job = Job(**entry | {"options": tuple(map(tuple, entry["options"]))})
            speed: Speed | None = _measure(job, asked["texts"])
        except Exception:  # a model that does not fit: the run will say what is wrong with it
            speed = None
        print(json.dumps(speed and asdict(speed)), flush=True)


def _measure(job: Job, texts: list[str]) -> Speed:
    folder = hub.fetch(job.location)
    weights = sum(file.stat().st_size for file in folder.glob(f"*{hub.WEIGHTS}"))
    work, tokens, parameters = {
        "encoder": _encoder,
        "training": _training,
        "reranker": _reranker,
        "translator": _translator,
    }[job.role](job, texts)
    return Speed(_rate(work, len(texts)), tokens, weights, parameters)


def _rate(work: Callable[[slice], Any], count: int) -> float:
    """Seconds of an item in the fastest of some parts, ever larger ones: small ones are mostly overhead."""
    work(slice(0, 2))  # loads the model
    took, rate = 0.0, float("inf")
    for size in (1, 8, 64, 256):
        if took > ENOUGH:
            break
        size = min(size, count)
        begun = time.perf_counter()
        work(slice(count - size, count))
        took = time.perf_counter() - begun
        rate = min(rate, took / size)
    return rate


def _encoder(job: Job, texts: list[str]) -> tuple[Callable[[slice], Any], float, float]:
    from bgetune.models import Encoder

    encoder = Encoder(job.location, max_length=job.max_length, device=job.device, cache_dir=None)
    return lambda part: encoder.encode(texts[part], progress=False), 0.0, 0.0


def _training(job: Job, texts: list[str]) -> tuple[Callable[[slice], Any], float, float]:
    """Forward and backward through the encoder, in the number format of the training."""
    import torch

    from bgetune.models import Encoder

    model = Encoder(job.location, max_length=job.max_length, device=job.device, cache_dir=None).model.train()
    model.max_seq_length = min(job.max_length, model.max_seq_length or job.max_length)
    wanted = dict(job.options).get("precision", "auto")
    bfloat16 = wanted == "bfloat16" or (wanted == "auto" and hub.precision("auto", model.device.type) != "float32")

    def work(part: slice) -> None:
        given = model.preprocess(texts[part]).items()
        features = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in given}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            vectors = model(features)["sentence_embedding"]
        vectors.float().sum().backward()
        model.zero_grad()

    mask = model.preprocess(texts[:100])["attention_mask"]
    return work, float(mask.sum() / len(mask)), sum(part.numel() for part in model.parameters()) / 1e6


def _reranker(job: Job, texts: list[str]) -> tuple[Callable[[slice], Any], float, float]:
    from bgetune.models import Reranker

    reranker = Reranker(job.location, max_length=job.max_length, device=job.device, cache_dir=None)
    pairs = list(zip(texts, [*texts[1:], texts[0]], strict=True))
    return lambda part: reranker.score(pairs[part], progress=False), 0.0, 0.0


def _translator(job: Job, texts: list[str]) -> tuple[Callable[[slice], Any], float, float]:
    from bgetune.augment.backtranslate import Translator
    from bgetune.augment.decoding import Decoding

    options = dict(job.options)
    codes = {name: options.pop(name) for name in ("source_code", "target_code")}
    translator = Translator(job.location, **codes, device=job.device, cache=None)
    return lambda part: translator.translate(texts[part], Decoding(**options), progress=False), 0.0, 0.0


if __name__ == "__main__":
    main()
