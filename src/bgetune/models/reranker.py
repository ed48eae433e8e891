"""The reranker: a cross-encoder that scores in [0, 1] whether a text means the same as (or answers) another one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tqdm import tqdm

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models import hub, spread
from bgetune.models.cache import CACHE_VERSION, KEY, RowCache, cached_rows, content_key
from bgetune.models.encoder import Precision
from bgetune.models.shape import positions
from bgetune.models.tokens import tokenize
from bgetune.paths import cache_root

if TYPE_CHECKING:
    from bgetune.config.base import Embeds

BLOCK = 2048
"""Number of pairs scored between two writes to the cache."""

CACHE = Path("data/cache/reranker")


class Reranker:
    """A cross-encoder for sequence classification with one logit (bge-reranker) or two (different, same).

    Args:
        location: a folder, a hub name, or ``demo://...``.
        max_length: maximum number of tokens read of a pair.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0``, ``mps``.
        precision: number format of the computation, as in `bgetune.models.encoder.Encoder`; for ``int8``, float32.
        cache_dir: folder of the cache of scores; None: no cache. The default is ``data/cache/reranker``.
        parameter: the parameter that named the model, for error messages.
        processes: number of processes that share the scoring of many pairs, by way of the cache; one for each GPU.

    Raises:
        InputError: if there is no such model, or it has more than two outputs.
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
        processes: int = 1,
    ):
        self.location = str(location)
        self.max_length = max_length
        self.device = device
        self.parameter = parameter
        self.processes = processes
        self.folder = hub.fetch(location, parameter)
        self._precision = precision
        self.cache_dir = None if cache_dir is None else cache_root() / cache_dir
        self._lock = threading.Lock()

    @classmethod
    def of(cls, parameters: Embeds, location: str | Path, **options: Any) -> Self:
        """The reranker that the parameters of a notebook ask for; arguments as for `Encoder.of`."""
        options |= {"processes": parameters.launcher.processes}
        return cls(location, max_length=parameters.max_length, device=parameters.device, **options)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, tokenizer and configuration."""
        return hub.fingerprint(self.folder)

    @cached_property
    def precision(self) -> str:
        """Number format of the computation; ``auto`` is resolved for the device."""
        return "float32" if self._precision == "int8" else hub.precision(self._precision, self.device)

    def score(self, pairs: Sequence[tuple[str, str]], *, progress: bool = True) -> np.ndarray:
        """Score pairs.

        Args:
            pairs: n pairs (query, text), in this direction; repeated ones are scored once.
            progress: whether to show a progress bar (on stderr) while pairs are scored.

        Returns:
            (n,) float32 in [0, 1].
        """
        if not len(pairs):
            return np.empty(0, dtype=np.float32)
        with self._lock:
            rows = cached_rows(
                [tuple(pair) for pair in pairs],
                self._forward,
                cache=self._cache,
                keys=_keys,
                block=BLOCK,
                label=_("reranking"),
                unit=_("pair"),
                progress=progress,
                share_out=None if self.processes == 1 else lambda blocks: spread.fill(self, blocks),
                least_shared=spread.BLOCKS * self.processes * BLOCK,
            )
        return rows[:, 0]

    def fill(self, pairs: list[tuple[str, str]], bar: tqdm) -> None:
        """Score distinct pairs into the cache, without a look at what is there: a process's part of the work."""
        assert self._cache is not None
        self._cache.add(_keys(pairs), self._forward(pairs, bar))

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
            raise InputError(
                _("{model}: a reranker has one output or two, this one {count}; give another model").format(
                    model=self.location, count=count
                )
            )
        return tokenizer, model.to(hub.torch_device(self.device)).eval()

    @cached_property
    def _cache(self) -> RowCache | None:
        if self.cache_dir is None:
            return None
        return RowCache(
            self.cache_dir / content_key(CACHE_VERSION, self.fingerprint, str(self.max_length), self.precision)
        )

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
            # of two logits, the softmax; SciPy's expit gives a number the same result at every place of an array
            scores[batch] = expit(logits[:, -1:] - (logits[:, :1] if logits.shape[1] == 2 else 0))
            bar.update(len(batch))
        return scores


def _keys(pairs: list[tuple[str, str]]) -> np.ndarray:
    return np.array([content_key(*pair) for pair in pairs], dtype=KEY)
