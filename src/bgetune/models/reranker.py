"""Cross-encoder scores in [0, 1]: does the second text mean (or answer) the first?"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bgetune.models import hub
from bgetune.models.tokens import token_batches, token_budget, tokenize
from bgetune.models.cache import RowCache, content_key
from bgetune.models.encoder import Precision
from bgetune.errors import InputError
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
        number: dict[tuple[str, str], int] = {}
        inverse = np.array([number.setdefault(tuple(pair), len(number)) for pair in pairs], dtype=np.int64)
        distinct = list(number)
        with self._lock:
            scores = np.empty((len(distinct), 1), dtype=np.float32)
            found = np.zeros(len(distinct), dtype=bool)
            if self._cache:
                keys = np.array([content_key(a, b) for a, b in distinct], dtype="S32")
                scores, found = self._cache.find(keys, scores)
            missing = np.flatnonzero(~found)
            missing = np.array(
                sorted(missing, key=lambda i: (len(distinct[i][0]) + len(distinct[i][1]), distinct[i])), int
            )
            with tqdm(
                total=len(missing), desc="reranking", unit="pair", disable=not (progress and len(missing))
            ) as bar:
                for start in range(0, len(missing), BLOCK):
                    block = missing[start : start + BLOCK]
                    scores[block, 0] = self._forward([distinct[i] for i in block], bar)
                    if self._cache:
                        self._cache.add(keys[block], scores[block])
        return scores[inverse, 0]

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
        return RowCache(self._cache_dir / content_key(self.fingerprint, str(self.max_length), self.precision))

    def _forward(self, pairs: list[tuple[str, str]], bar: tqdm) -> np.ndarray:
        import torch

        tokenizer, model = self._loaded
        length = min(self.max_length, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))
        first, second = map(list, zip(*pairs, strict=True))
        tokens = tokenize(tokenizer, first, second, max_length=length)
        scores = np.empty(len(pairs), dtype=np.float32)
        for batch in token_batches(tokens.lengths, token_budget(self.device)):
            with torch.inference_mode():
                logits = model(**tokens.features(batch, model.device)).logits.float()
                chance = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)[:, 1]
                scores[batch] = chance.cpu().numpy()
            bar.update(len(batch))
        return scores
