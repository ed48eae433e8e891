"""Texts to unit vectors, each distinct text once: sorted by length, batched by tokens, cached by content."""

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
from bgetune.models import bert, hub
from bgetune.models.cache import METHOD, RowCache, content_key, content_keys, rows_of
from bgetune.models.prompts import Prompts
from bgetune.models.tokens import Tokens, tokenize
from bgetune.paths import cache_root

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from bgetune.config.base import Embeds
    from bgetune.models.export import Graph

SHARD = 8192
"""Texts encoded between two writes to the cache: what a killed run loses at most."""

CACHE = Path("data/cache/embeddings")

Precision = Literal["float32", "bfloat16", "float16", "int8", "auto"]


class Encoder:
    """A sentence encoder: a folder of sentence-transformers, or of a plain BERT as BGE's own trainer writes it.

    A folder without ``modules.json`` is read with CLS pooling and normalisation, which BGE needs and which
    sentence-transformers would silently replace by mean pooling.

    Args:
        location: a folder, a hub name, or ``demo://...``.
        prompts: what is put before texts; None: what the model says (see `bgetune.models.prompts`).
        max_length: tokens of a text that are read, special tokens and prompt included.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0``, ``mps``.
        precision: what the model computes in. ``auto`` is bfloat16 on a CPU that computes in it, float16 on a GPU, else
            float32; ``int8`` computes on the CPU by ONNX Runtime (see `bgetune.models.export`), whatever the device.
            Vectors
            are float32 whatever it is.
        cache_dir: where vectors are kept between runs; None keeps none. The default is ``data/cache/embeddings``.

    Vectors are cached under a hash of weights, tokenizer, pooling, normalisation, maximum length, precision,
    prompt and text, never under a name: a tuned model in the same folder finds none of the old vectors. The model
    is loaded when the first text is missing from the cache.

    Raises:
        InputError: if the model cannot be had; for ``int8``, when it is first needed, if ONNX Runtime cannot.

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
    ):
        self.location = str(location)
        self.max_length = max_length
        self.device = device
        self.parameter = parameter
        self.folder = hub.fetch(location, parameter)
        self.prompts = Prompts.of(self.folder) if prompts is None else prompts
        self._precision = precision
        self._cache_dir = None if cache_dir is None else cache_root() / cache_dir
        self._lock = threading.Lock()

    @classmethod
    def of(cls, parameters: Embeds, location: str | Path | None = None, **options: Any) -> Self:
        """The encoder that the parameters of a notebook ask for.

        Args:
            parameters: with `model`, `query_instruction`, `document_instruction`, `max_length` and `device`.
            location: another model than theirs, such as the tuned one.
            options: further arguments.
        """
        location = parameters.model if location is None else location
        prompts = Prompts.of(hub.fetch(location), parameters.query_instruction, parameters.document_instruction)
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
        return self._bert.dimension if self._bert else self.model.get_embedding_dimension()

    @cached_property
    def precision(self) -> str:
        """What the model computes in: ``auto`` resolved for the device."""
        return hub.precision(self._precision, self.device)

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, progress: bool = True) -> np.ndarray:
        """The vectors of texts.

        Args:
            texts: n texts; repeated ones are encoded once.
            prompt: put before each, one of `prompts`; None: that of texts that are compared with their own kind.
            progress: show a bar (on stderr) while texts are encoded.

        Returns:
            (n, d) float32, rows of length 1.
        """
        prompt = self.prompts.symmetric if prompt is None else prompt
        with self._lock:
            if not len(texts):
                return np.empty((0, self.dimension), dtype=np.float32)
            return rows_of(
                texts,
                lambda some, bar: self._forward([prompt + text for text in some], bar),
                cache=self._cache,
                keys=lambda some: content_keys(prompt, some),
                block=SHARD,
                label="encoding",
                unit="text",
                progress=progress,
            )

    @cached_property
    def model(self) -> SentenceTransformer:
        """The loaded model, which puts nothing before a text by itself; for ``int8`` the one its graph is made from."""
        if self.precision == "int8":
            return _load(self.folder, "cpu", "float32", self.parameter)
        return _load(self.folder, hub.torch_device(self.device), self.precision, self.parameter)

    @cached_property
    def _cache(self) -> RowCache | None:
        if self._cache_dir is None:
            return None
        return RowCache(self._cache_dir / content_key(METHOD, self.fingerprint, str(self.max_length), self.precision))

    @cached_property
    def _bert(self) -> bert.Bert | None:
        """What computes the vectors of a BERT on a CPU; other models are left to sentence-transformers."""
        supported = bert.supports(self.folder, self.device, self.precision)
        return bert.Bert(self.folder, self.precision) if supported else None

    @cached_property
    def _graph(self) -> Graph:
        """The int8 graph: of the cache, where it lies under the weights' hash, or made."""
        from bgetune.models import export

        if self._cache_dir is None:
            with tempfile.TemporaryDirectory() as folder:
                export.write(self.model, Path(folder), ["int8"])
                return export.Graph(Path(folder), "int8", self.max_length)
        folder = self._cache_dir / "graphs" / self.fingerprint
        if not export.is_whole(folder):
            remove(folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                made = Path(temporary) / "graph"
                export.write(self.model, made, ["int8"])
                export.seal(made)
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
        """Tokens of a text that are read."""
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
            model = SentenceTransformer(str(folder), device=device, model_kwargs=options, **safe)
        else:
            every = {"model_kwargs": safe | options, "processor_kwargs": safe, "config_kwargs": safe}
            transformer = modules.Transformer(str(folder), **every)
            pooling = modules.Pooling(transformer.get_embedding_dimension(), "cls")
            model = SentenceTransformer(
                modules=[transformer, pooling, modules.Normalize()], device=device, trust_remote_code=False
            )
    # what is encoded has its prompt already: the model must not put its own before it
    model.prompts, model.default_prompt_name = {}, None
    return model.eval()
