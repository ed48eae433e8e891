"""Cross-encoder scores in [0, 1]: does the second text mean (or answer) the first?"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bgetune.errors import InputError
from bgetune.models import hub
from bgetune.models.cache import KEY, METHOD, RowCache, content_key, rows_of
from bgetune.models.encoder import Precision
from bgetune.models.shape import positions
from bgetune.models.tokens import tokenize
from bgetune.paths import cache_root

BLOCK = 2048
"""Pairs scored between two writes to the cache."""

CACHE = Path("data/cache/reranker")


class Reranker:
    """A cross-encoder for sequence classification with one logit (bge-reranker) or two (different, same).

    Args:
        location: a folder, a hub name, or ``demo://...``.
        max_length: tokens of a pair that are read.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0``, ``mps``.
        precision: what the model computes in, as in `bgetune.models.encoder.Encoder`; for ``int8``, float32.
        cache_dir: where scores are kept between runs; None keeps none. The default is ``data/cache/reranker``.

    Raises:
        InputError: if the model cannot be had, or has more than two outputs.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        max_length: int = 128,
        device: str = "auto",
        precision: Precision = "float32",
        cache_dir: Path | str | None = CACHE,
        parameter: str = "reranker",
    ):
        self.location = str(location)
        self.max_length = max_length
        self.device = device
        self.parameter = parameter
        self.folder = hub.fetch(location, parameter)
        self._precision = precision
        self._cache_dir = None if cache_dir is None else cache_root() / cache_dir
        self._lock = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, tokenizer and configuration."""
        return hub.fingerprint(self.folder)

    @cached_property
    def precision(self) -> str:
        """What the model computes in: ``auto`` resolved for the device."""
        return "float32" if self._precision == "int8" else hub.precision(self._precision, self.device)

    def score(self, pairs: Sequence[tuple[str, str]], *, progress: bool = True) -> np.ndarray:
        """The scores of pairs.

        Args:
            pairs: n pairs (query, text), in this direction; repeated ones are scored once.
            progress: show a bar (on stderr) while pairs are scored.

        Returns:
            (n,) float32 in [0, 1].
        """
        if not len(pairs):
            return np.empty(0, dtype=np.float32)
        with self._lock:
            rows = rows_of(
                [tuple(pair) for pair in pairs],
                self._forward,
                cache=self._cache,
                keys=lambda some: np.array([content_key(*pair) for pair in some], dtype=KEY),
                block=BLOCK,
                label="reranking",
                unit="pair",
                progress=progress,
            )
        return rows[:, 0]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        safe = {"local_files_only": True, "trust_remote_code": False}
        with hub.loading(self.folder, self.parameter):
            tokenizer = AutoTokenizer.from_pretrained(self.folder, **safe)
            model = AutoModelForSequenceClassification.from_pretrained(
                self.folder, use_safetensors=True, dtype=getattr(torch, self.precision), **safe
            )
        if model.config.num_labels > 2:
            count = model.config.num_labels
            raise InputError(f"{self.location}: a reranker has one output or two, this one {count}; give another model")
        return tokenizer, model.to(hub.torch_device(self.device)).eval()

    @cached_property
    def _cache(self) -> RowCache | None:
        if self._cache_dir is None:
            return None
        return RowCache(self._cache_dir / content_key(METHOD, self.fingerprint, str(self.max_length), self.precision))

    def _forward(self, pairs: list[tuple[str, str]], bar: tqdm) -> np.ndarray:
        from scipy.special import expit

        tokenizer, model = self._loaded
        length = min(self.max_length, tokenizer.model_max_length, positions(self.folder) or self.max_length)
        first, second = map(list, zip(*pairs, strict=True))
        tokens = tokenize(tokenizer, first, second, max_length=length)
        scores = np.empty((len(pairs), 1), dtype=np.float32)
        batches = tokens.compute(
            lambda features: model(**features).logits, self.device, length, fixed=self._cache is not None
        )
        for batch, logits in batches:
            logits = logits.astype(float)
            # two logits: the softmax; SciPy's expit, unlike torch's sigmoid, computes every number of an array alike
            scores[batch] = expit(logits[:, -1:] - (logits[:, :1] if logits.shape[1] == 2 else 0))
            bar.update(len(batch))
        return scores
