"""Export to ONNX: files that need neither torch nor sentence-transformers, from tokens to unit vectors.

A folder written by `write` holds ``float32.onnx`` or ``int8.onnx`` or both, ``tokenizer.json`` and a ``README.md`` that
says how to use them. Pooling and normalisation are part of a graph; batch and sequence may have any length. ``int8`` is
ONNX Runtime's dynamic quantisation: weights in 8 bits with a scale for each column, activations scaled for each batch,
so that a vector depends a little (in the fourth digit of a cosine) on its batch.

Needs ``pip install 'bgetune[onnx]'``.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bgetune.errors import InputError
from bgetune.files import sha256
from bgetune.locale import _
from bgetune.models import tokens
from bgetune.models.cache import content_key
from bgetune.models.tokens import CPU_TOKENS, Tokens, shorten, token_batches

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Kind = Literal["float32", "int8"]

OUTPUT = "sentence_embedding"
"""Name of the output, (batch, dimension) float32; the inputs are those of the tokenizer, (batch, sequence) int64."""

CHECKSUM = "checksum"
"""The file with an exported folder's checksum."""

ONE_FILE = 2**31 - 2**24
"""Maximum bytes of weights in one file, because a protobuf message is limited to 2 GiB. Others go into FILE.data."""


def write(model: SentenceTransformer, folder: Path, kinds: Sequence[Kind], max_length: int | None = None) -> None:
    """Write a model's graphs, its tokenizer and a README.md.

    Args:
        model: a transformer, its pooling and a normalisation; on the CPU, in float32.
        folder: made if missing.
        kinds: which graphs.
        max_length: maximum number of tokens read of a text, if lower than the model's.

    Raises:
        InputError: if a package is missing, or the model's tokenizer is not a fast one.
    """
    require()
    folder.mkdir(parents=True, exist_ok=True)
    length = min(filter(None, (max_length, model.max_seq_length)), default=512)
    _write_tokenizer(model, folder / "tokenizer.json", length)
    with _quiet():
        full = folder / "float32.onnx"
        _trace(model, full)
        if "int8" in kinds:
            from onnxruntime.quantization import quantize_dynamic

            large = _is_large(model)
            quantize_dynamic(full, folder / "int8.onnx", per_channel=True, use_external_data_format=large)
    if "float32" not in kinds:
        for file in folder.glob("float32.onnx*"):
            file.unlink()
    parts = (
        "# " + _("The model as ONNX"),
        _("Texts in, vectors of length 1 out: pooling and normalisation are part of the graph."),
        _("After `pip install onnxruntime tokenizers`:"),
        _CODE.format(kind=kinds[0], length=length),
        _("A query that searches documents takes the instruction of the model's card in front."),
    )
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def require(*packages: str) -> None:
    """Check that packages are installed, by default those that exporting needs.

    Raises:
        InputError: naming the missing ones and how to install them.
    """
    missing = [name for name in packages or ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(
            _("ONNX needs packages that are missing ({missing}): pip install 'bgetune[onnx]'").format(
                missing=", ".join(missing)
            )
        )


def write_checksum(folder: Path) -> None:
    """Write the checksum of an exported folder, for `is_intact`."""
    (folder / CHECKSUM).write_text(_checksum(folder), encoding="utf-8")


def is_intact(folder: Path) -> bool:
    """Whether a folder exists and matches the checksum of `write_checksum`."""
    return (folder / CHECKSUM).is_file() and (folder / CHECKSUM).read_bytes() == _checksum(folder).encode()


def _checksum(folder: Path) -> str:
    return content_key(*(f"{file.name} {sha256(file)}" for file in sorted(folder.iterdir()) if file.name != CHECKSUM))


class Graph:
    """An exported graph and its tokenizer, computed on the CPU by ONNX Runtime.

    Args:
        folder: as `write` leaves it.
        kind: which of its graphs.
        max_length: maximum number of tokens read of a text, if lower than the folder's.

    Raises:
        InputError: if onnxruntime is missing.
    """

    def __init__(self, folder: Path, kind: Kind, max_length: int | None = None):
        require("onnxruntime")
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))  # 0: as many as there are cores
        self.session = onnxruntime.InferenceSession(folder / f"{kind}.onnx", options, ["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        truncation, padding = self.tokenizer.truncation, self.tokenizer.padding
        assert truncation is not None  # `write` sets both
        assert padding is not None
        self.max_length = min(filter(None, (max_length, truncation["max_length"])))
        self.tokenizer.enable_truncation(self.max_length)
        self.padding = {"input_ids": padding["pad_id"], "token_type_ids": padding["pad_type_id"]}
        self.tokenizer.no_padding()  # batches are made after tokenising, and padded then

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.session.get_outputs()[0].shape[1]

    def encode(self, texts: Sequence[str], *, alone: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encode texts batch by batch.

        Args:
            texts: n texts.
            alone: whether each text is a batch of its own, so that its vector does not depend on the others.

        Yields:
            The numbers of the texts of a batch (b,), and their vectors (b, d) float32.
        """
        columns: dict[str, list[list[int]]] = {"input_ids": [], "token_type_ids": []}
        for start in range(0, len(texts), tokens.BLOCK):
            block = shorten(self.tokenizer, texts[start : start + tokens.BLOCK], self.max_length)
            for encoding in self.tokenizer.encode_batch_fast(block):
                columns["input_ids"].append(encoding.ids)
                columns["token_type_ids"].append(encoding.type_ids)
        lengths = np.array([len(ids) for ids in columns["input_ids"]], dtype=np.int64)
        encoded = Tokens(columns, self.padding, lengths)
        names = [node.name for node in self.session.get_inputs()]
        for rows in token_batches(lengths, 1 if alone else CPU_TOKENS):
            arrays = encoded.arrays(rows)
            yield rows, self.session.run([OUTPUT], {name: arrays[name] for name in names})[0]


def agreement(
    folder: Path, kinds: Sequence[Kind], texts: Sequence[str], vectors: np.ndarray
) -> dict[str, dict[str, float]]:
    """Compare the vectors of exported graphs with those of the model.

    Args:
        folder: as `write` leaves it.
        kinds: which graphs.
        texts: n texts.
        vectors: (n, d) of the model.

    Returns:
        kind -> mean_cosine and min_cosine of a text's two vectors, norm_error (how far a norm is from 1, at most),
        mib (size of the file).
    """
    table: dict[str, dict[str, float]] = {}
    for kind in kinds:
        rows = np.empty_like(vectors)
        for batch, found in Graph(folder, kind).encode(texts):
            rows[batch] = found
        norms = np.linalg.norm(rows, axis=1)
        cosine = np.einsum("nd,nd->n", rows, vectors) / norms / np.linalg.norm(vectors, axis=1)
        table[kind] = {
            "mean_cosine": float(cosine.mean()),
            "min_cosine": float(cosine.min()),
            "norm_error": float(np.abs(norms - 1).max()),
            "mib": sum(file.stat().st_size for file in folder.glob(f"{kind}.onnx*")) / 2**20,
        }
    return table


def _trace(model: SentenceTransformer, file: Path) -> None:
    import torch

    class Embed(torch.nn.Module):
        """Takes the model's inputs as arguments, where sentence-transformers takes a dictionary."""

        def __init__(self, inner: SentenceTransformer, names: list[str]):
            super().__init__()
            self.inner = inner
            self.names = names

        def forward(self, *columns: torch.Tensor) -> torch.Tensor:
            return self.inner.forward(dict(zip(self.names, columns, strict=True)))[OUTPUT]

    # two texts of different length: the exporter takes a length of 1, or a mask without padding, for a constant
    sample = model.tokenizer(["a b c", "d"], padding=True, return_tensors="pt")
    names = list(sample)
    torch.onnx.export(
        Embed(model, names).eval(),
        tuple(sample.values()),
        file,
        input_names=names,
        output_names=[OUTPUT],
        dynamic_shapes=(tuple({0: "batch", 1: "sequence"} for _ in names),),
        external_data=_is_large(model),
        dynamo=True,
        verbose=False,
    )


def _write_tokenizer(model: SentenceTransformer, file: Path, length: int) -> None:
    from tokenizers import Tokenizer

    if not getattr(model.tokenizer, "is_fast", False):
        raise InputError(
            _("onnx: {tokenizer} has no tokenizer.json, which ONNX Runtime's users need; leave onnx empty").format(
                tokenizer=type(model.tokenizer).__name__
            )
        )
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(
        pad_id=model.tokenizer.pad_token_id,
        pad_type_id=model.tokenizer.pad_token_type_id,
        pad_token=model.tokenizer.pad_token,
    )
    tokenizer.save(str(file))


def _is_large(model: SentenceTransformer) -> bool:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters()) > ONE_FILE


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings about packages and passes, which do not matter here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


_CODE = """```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")  # cuts at {length} tokens, pads to the longest text of a batch
session = onnxruntime.InferenceSession("{kind}.onnx")


def embed(texts):
    encoded = tokenizer.encode_batch(texts)
    columns = {{
        "input_ids": [text.ids for text in encoded],
        "attention_mask": [text.attention_mask for text in encoded],
        "token_type_ids": [text.type_ids for text in encoded],
    }}
    wanted = [node.name for node in session.get_inputs()]
    return session.run(None, {{name: np.array(columns[name], dtype=np.int64) for name in wanted}})[0]


left, right = embed(["..."]), embed(["..."])
print(left @ right.T)  # similarities
```"""
