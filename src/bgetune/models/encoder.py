"""The encoder: texts to unit vectors, batched by length and cached by content."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from tqdm import tqdm

from bgetune.files import remove
from bgetune.locale import _
from bgetune.models import bert, hub, spread
from bgetune.models.cache import CACHE_VERSION, RowCache, cached_rows, content_key, content_keys
from bgetune.models.prompts import Prompts
from bgetune.models.tokens import Tokens, tokenize
from bgetune.paths import cache_root

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from bgetune.config.base import Embeds
    from bgetune.models.export import Graph

SHARD = 8192
"""Number of texts encoded between two writes to the cache, which a killed run loses at most."""

CACHE = Path("data/cache/embeddings")

Precision = Literal["float32", "bfloat16", "float16", "int8", "auto"]


class Encoder:
    """A sentence encoder: a folder of sentence-transformers, or of a plain BERT as BGE's own trainer writes it.

    A folder without ``modules.json`` is read with CLS pooling and normalisation, which BGE needs and which
    sentence-transformers would silently replace by mean pooling.

    Args:
        location: a folder, a hub name, or ``demo://...``.
        prompts: prefixes of the texts; None: those of the model (see `bgetune.models.prompts`).
        max_length: maximum number of tokens read of a text, special tokens and prompt included.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0``, ``mps``.
        precision: number format of the computation. ``auto`` is bfloat16 on a CPU that supports it, float16 on a GPU,
            else float32; ``int8`` computes on the CPU by ONNX Runtime (see `bgetune.models.export`), whatever the
            device. Vectors are float32 in any case.
        cache_dir: folder of the cache of vectors; None: no cache. The default is ``data/cache/embeddings``.
        parameter: the parameter that named the model, for error messages.
        processes: number of processes that share the encoding of many texts, by way of the cache; one for each GPU.

    The cache key is a hash of weights, tokenizer, pooling, normalisation, maximum length, precision, prompt and text,
    not the model's name, so that a tuned model in the same folder gets no old vectors. The model is loaded at the first
    text that is not in the cache.

    Raises:
        InputError: if there is no such model; for ``int8``, at the first use, if ONNX Runtime is missing.

    Example:
        >>> encoder = Encoder("demo://small/encoder")
        >>> encoder.encode(["支付密码忘了怎么办", "忘记登录密码"]).shape
        (2, 128)
    """

    def __init__(
        self,
        location: str | Path,
        *,
        prompts: Prompts | None = None,
        max_length: int = 128,
        device: str = "auto",
        precision: Precision = "float32",
        cache_dir: Path | str | None = CACHE,
        parameter: str = "model",
        processes: int = 1,
    ):
        self.location = str(location)
        self.max_length = max_length
        self.device = device
        self.parameter = parameter
        self.processes = processes
        self.folder = hub.fetch(location, parameter)
        self.prompts = Prompts.of(self.folder) if prompts is None else prompts
        self._precision = precision
        self.cache_dir = None if cache_dir is None else cache_root() / cache_dir
        self._lock = threading.Lock()

    @classmethod
    def of(cls, parameters: Embeds, location: str | Path | None = None, **options: Any) -> Self:
        """The encoder that the parameters of a notebook ask for.

        Constructors named `of` are the one place below the notebooks that takes a notebook's parameters: every notebook
        makes its encoder in this way, and the two instructions become prompts by one rule.

        Args:
            parameters: with `model`, `query_instruction`, `document_instruction`, `max_length` and `device`.
            location: another model than `parameters.model`, such as the tuned one.
            options: further arguments of `Encoder`.
        """
        location = parameters.model if location is None else location
        prompts = Prompts.of(hub.fetch(location), parameters.query_instruction, parameters.document_instruction)
        options |= {"processes": parameters.launcher.processes}
        return cls(location, prompts=prompts, max_length=parameters.max_length, device=parameters.device, **options)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, tokenizer, pooling and normalisation."""
        return hub.fingerprint(self.folder)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        if self.precision == "int8":
            return self._graph.dimension
        dimension = self._bert.dimension if self._bert else self.model.get_embedding_dimension()
        assert dimension is not None  # every model has a pooling, which knows it
        return dimension

    @cached_property
    def precision(self) -> str:
        """Number format of the computation; ``auto`` is resolved for the device."""
        return hub.precision(self._precision, self.device)

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, progress: bool = True) -> np.ndarray:
        """Encode texts.

        Args:
            texts: n texts; repeated ones are encoded once.
            prompt: prefix of each text, one of `prompts`; None: the one of texts that are compared with their own kind.
            progress: whether to show a progress bar (on stderr) while texts are encoded.

        Returns:
            (n, d) float32, rows of length 1; large ones are memory-mapped (`bgetune.models.cache.new_rows`).
        """
        prompt = self.prompts.symmetric if prompt is None else prompt
        with self._lock:
            if not len(texts):
                return np.empty((0, self.dimension), dtype=np.float32)
            return cached_rows(
                texts,
                lambda some, bar: self._forward([prompt + text for text in some], bar),
                cache=self._cache,
                keys=lambda some: content_keys(prompt, some),
                block=SHARD,
                label=_("encoding"),
                unit=_("text"),
                progress=progress,
                share_out=None if self.processes == 1 else lambda blocks: spread.fill(self, blocks, prompt),
                least_shared=spread.BLOCKS * self.processes * SHARD,
            )

    def fill(self, texts: list[str], prompt: str, bar: tqdm) -> None:
        """Encode distinct texts into the cache, without a look at what is there: a process's part of the work."""
        assert self._cache is not None
        self._cache.add(content_keys(prompt, texts), self._forward([prompt + text for text in texts], bar))

    @cached_property
    def model(self) -> SentenceTransformer:
        """The loaded model, which adds no prompt by itself; for ``int8`` the model that the graph is exported from."""
        if self.precision == "int8":
            return _load(self.folder, "cpu", "float32", self.parameter)
        return _load(self.folder, hub.torch_device(self.device), self.precision, self.parameter)

    @cached_property
    def _cache(self) -> RowCache | None:
        if self.cache_dir is None:
            return None
        return RowCache(
            self.cache_dir / content_key(CACHE_VERSION, self.fingerprint, str(self.max_length), self.precision)
        )

    @cached_property
    def _bert(self) -> bert.Bert | None:
        """The faster implementation for BERT on a CPU; None for other models, which sentence-transformers computes."""
        supported = bert.supports(self.folder, self.device, self.precision)
        return bert.Bert(self.folder, self.precision) if supported else None

    @cached_property
    def _graph(self) -> Graph:
        """The int8 graph, from the cache or exported."""
        from bgetune.models import export

        if self.cache_dir is None:
            with tempfile.TemporaryDirectory() as temporary:
                export.write(self.model, Path(temporary), ["int8"])
                return export.Graph(Path(temporary), "int8", self.max_length)
        folder = self.cache_dir / "graphs" / self.fingerprint
        if not export.is_intact(folder):
            remove(folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                made = Path(temporary) / "graph"
                export.write(self.model, made, ["int8"])
                export.write_checksum(made)
                try:
                    os.replace(made, folder)
                except OSError:
                    if not folder.is_dir():  # else another process was faster, with the same graph
                        raise
        return export.Graph(folder, "int8", self.max_length)

    def _forward(self, texts: list[str], bar: tqdm) -> np.ndarray:
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        for batch, vectors in (
            self._graph.encode(texts, alone=self._cache is not None)
            if self.precision == "int8"
            else self._batches(texts)
        ):
            rows[batch] = vectors
            bar.update(len(batch))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-12)

    def _batches(self, texts: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._bert:
            model, device = lambda features: self._bert(**features), "cpu"
        else:
            model, device = lambda features: self.model.forward(features)["sentence_embedding"], self.device
        return self._tokenize(texts).compute(model, device, self._longest, fixed=self._cache is not None)

    @property
    def _longest(self) -> int:
        """Maximum number of tokens read of a text."""
        most = self._bert.max_length if self._bert else self.model.max_seq_length
        return min(self.max_length, most or self.max_length)

    def _tokenize(self, texts: list[str]) -> Tokens:
        if self._bert:
            return self._bert.tokenize(texts, self._longest)
        return tokenize(self.model.tokenizer, texts, max_length=self._longest)


def _load(folder: Path, device: str, precision: str, parameter: str) -> SentenceTransformer:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    options = {"use_safetensors": True, "dtype": getattr(torch, precision)}
    safe = {"local_files_only": True, "trust_remote_code": False}
    with hub.loading(folder, parameter):
        if (folder / "modules.json").is_file():
            model = SentenceTransformer(
                str(folder), device=device, model_kwargs=options, local_files_only=True, trust_remote_code=False
            )
        else:
            every = {"model_kwargs": safe | options, "processor_kwargs": safe, "config_kwargs": safe}
            transformer = modules.Transformer(str(folder), **every)
            pooling = modules.Pooling(transformer.get_embedding_dimension(), "cls")
            model = SentenceTransformer(
                modules=[transformer, pooling, modules.Normalize()], device=device, trust_remote_code=False
            )
    # texts have their prompts already when they are encoded
    model.prompts, model.default_prompt_name = {}, None
    return model.eval()
