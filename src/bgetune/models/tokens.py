"""Tokenising, and batches of texts of similar length: shared by the encoder, the reranker and the translators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetune.models.hub import torch_device

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

CPU_TOKENS = 2048
"""Number of tokens in a batch on a CPU, so that the output of a layer fits into its cache."""

FIXED_TOKENS = 512
"""Number of tokens in a batch of fixed shape on a CPU; few, because incomplete batches cost as much as full ones."""

BLOCK = 256
"""Number of texts tokenised at a time."""

MARGIN = 128
"""Number of tokens kept behind those that are read, because a word that is cut off may be split into other tokens.
WordPiece makes one unknown token of a word of more than 100 characters, so that no change reaches further back."""


def token_batches(lengths: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Split rows into batches of similar length.

    Args:
        lengths: (n,) number of tokens of each row.
        budget: maximum number of tokens in a batch, padding included; a longer row is a batch of its own.

    Yields:
        (b,) row numbers. Long rows come first, so that a lack of memory shows at the start.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        count = max(1, budget // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts, not yet padded.

    Attributes:
        columns: name of a model's input (``input_ids``, ``token_type_ids``) -> n lists of integers.
        padding: name of an input -> the number that fills it up.
        lengths: (n,) int64, number of tokens of each text.
    """

    columns: dict[str, list[list[int]]]
    padding: dict[str, int]
    lengths: np.ndarray

    def arrays(self, rows: np.ndarray, shape: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """A model's inputs, (b, tokens) int64 each.

        Args:
            rows: (b,) row numbers.
            shape: shape of the result, filled up with rows of one token of padding; None: as long as the longest row.
        """
        lengths = self.lengths[rows]
        if shape is None:
            shape = len(rows), int(lengths.max())
        lengths = np.concatenate([lengths, np.ones(shape[0] - len(rows), dtype=lengths.dtype)])
        inside = np.arange(shape[1]) < lengths[:, None]
        arrays = {"attention_mask": inside.astype(np.int64)}
        inside[len(rows) :] = False
        for name, column in self.columns.items():
            padded = np.full(shape, self.padding[name], dtype=np.int64)
            padded[inside] = np.concatenate([column[row] for row in rows])
            arrays[name] = padded
        return arrays

    def features(self, rows: np.ndarray, device: Any, shape: tuple[int, int] | None = None) -> dict[str, torch.Tensor]:
        """The arrays of `arrays` as tensors on a device."""
        import torch

        return {name: torch.from_numpy(array).to(device) for name, array in self.arrays(rows, shape).items()}

    def compute(
        self, model: Callable[[dict[str, torch.Tensor]], torch.Tensor], device: str, longest: int, *, fixed: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Compute a model's outputs batch by batch.

        The last bits of a text's output depend on the shape of its batch: libraries sum in another order for other
        sizes, attention without padding is computed in another way than with a mask, and where several threads share a
        product, the place of a row matters. With `fixed`, the output of a text depends on the text alone: its length
        decides the width of its batch, and the width the number of rows; the last row of every batch is a dummy, so
        that there is always padding; and on a CPU each batch is computed by one thread, several batches at a time. This
        costs 15 % more time (BERT with 4 layers, 3,000 texts of 5 to 120 tokens), and up to one incomplete batch for
        each width.

        Args:
            model: features of b texts -> (b, d).
            device: see `hub.torch_device`.
            longest: maximum number of tokens of a text.
            fixed: whether outputs are cached, and so must not depend on the other texts.

        Yields:
            Row numbers (b,) and outputs (b, d) float32. Long rows come first, so that a lack of memory shows at the
            start.
        """
        import torch

        place = torch_device(device)

        def one(batch: tuple[np.ndarray, tuple[int, int] | None]) -> tuple[np.ndarray, np.ndarray]:
            rows, shape = batch
            with torch.inference_mode():
                return rows, model(self.features(rows, place, shape)).float().cpu().numpy()[: len(rows)]

        if not fixed:
            yield from map(one, ((rows, None) for rows in token_batches(self.lengths, token_budget(device))))
        elif place != "cpu":
            yield from map(one, self._fixed_batches(16 * FIXED_TOKENS, longest))
        else:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                    yield from pool.map(one, self._fixed_batches(FIXED_TOKENS, longest))
            finally:
                torch.set_num_threads(threads)

    def _fixed_batches(self, budget: int, longest: int) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        """Row numbers and shapes of the batches of fixed shape, see `compute`."""
        widths = np.minimum(_widths(self.lengths), longest)
        for width in np.unique(widths)[::-1]:
            count = max(2, budget // int(width))
            rows = np.flatnonzero(widths == width)
            for start in range(0, len(rows), count - 1):
                yield rows[start : start + count - 1], (count, int(width))


def _widths(lengths: np.ndarray) -> np.ndarray:
    """Round lengths up to multiples of 8, from 64 on of 16, from 128 on of 32, and so on."""
    step = 2.0 ** np.maximum(np.ceil(np.log2(np.maximum(lengths, 1))) - 3, 3)
    return (np.ceil(lengths / step) * step).astype(np.int64)


def tokenize(tokenizer: Any, *texts: list[str], max_length: int, target: bool = False) -> Tokens:
    """Tokenise n texts, or n pairs of texts, and cut them to a maximum length.

    Args:
        tokenizer: of transformers.
        texts: one list or two.
        max_length: maximum number of tokens, special ones included.
        target: whether the texts are the output of a translator, not its input.
    """
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    columns: dict[str, list[list[int]]] = {}
    size = BLOCK if len(texts) == 1 else BLOCK // 16  # because of the memory that `shorten` describes
    for start in range(0, len(texts[0]), size):
        whole = [some[start : start + size] for some in texts]
        block = [shorten(tokenizer, some, max_length) for some in whole]
        if len(texts) == 2 and (max_length - tokenizer.num_special_tokens_to_add(pair=True)) % 2:
            _keep_the_longer_one_longer(tokenizer, whole, block, max_length)
        encoded = tokenizer(
            **{"text_target": block[0]} if target else dict(zip(("text", "text_pair"), block, strict=False)),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
        )
        for name in padding:
            if name in encoded:
                columns.setdefault(name, []).extend(encoded[name])
    ids = columns.setdefault("input_ids", [])
    return Tokens(columns, padding, np.array([len(row) for row in ids], dtype=np.int64))


def shorten(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[str]:
    """Cut long texts `MARGIN` tokens behind those that are read.

    A fast tokenizer keeps everything that it cuts off, of pairs every combination, which takes gigabytes of memory for
    long texts. Other tokenizers keep nothing, and their texts are not cut.

    Args:
        tokenizer: of transformers, or a `tokenizers.Tokenizer`.
        texts: n texts.
        max_length: number of tokens that are read.

    Returns:
        n texts with the same first `max_length` tokens.
    """
    inner = tokenizer if hasattr(tokenizer, "encode_batch_fast") else getattr(tokenizer, "backend_tokenizer", None)
    # most tokens have at least one character
    if inner is None or all(len(text) <= max_length for text in texts):
        return list(texts)
    with _whole_texts(inner):
        return [text if len(text) <= max_length else _shortened(inner, text, max_length + MARGIN) for text in texts]


def _keep_the_longer_one_longer(
    tokenizer: Any, whole: list[list[str]], block: list[list[str]], max_length: int
) -> None:
    """Where both texts of a pair are cut, keep the one with more tokens longer, because it gets the odd token."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        return
    with _whole_texts(inner):
        for row, pair in enumerate(zip(*whole, strict=True)):
            if all(len(side[row]) < len(text) for side, text in zip(block, pair, strict=True)):
                first, second = (len(inner.encode(text, add_special_tokens=False)) for text in pair)
                side = 0 if first > second else 1
                block[side][row] = _shortened(inner, pair[side], max_length + 2 * MARGIN)


@contextmanager
def _whole_texts(inner: Tokenizer) -> Iterator[None]:
    """Turn cutting and padding of a tokenizer off inside this context."""
    truncation, padding = inner.truncation, inner.padding
    inner.no_truncation()
    inner.no_padding()
    try:
        yield
    finally:
        if truncation is not None:
            inner.enable_truncation(**truncation)
        if padding is not None:
            inner.enable_padding(**padding)


def _shortened(inner: Tokenizer, text: str, count: int) -> str:
    """A text up to the end of its token number `count`. As blanks and unknown words may have many characters for each
    token, more of the text is read until there are enough tokens."""
    size = 8 * count
    while True:
        offsets = inner.encode(text[:size], add_special_tokens=False).offsets
        if len(offsets) > count:
            return text[: offsets[count - 1][1]]
        if size >= len(text):
            return text
        size *= 4


def preprocessor(model: SentenceTransformer) -> Callable[..., dict[str, Any]]:
    """`model.preprocess` for texts of any length, see `shorten`."""

    def preprocess(texts: Sequence[str], *arguments: Any, **options: Any) -> dict[str, Any]:
        return model.preprocess(shorten(model.tokenizer, texts, model.max_seq_length or 512), *arguments, **options)

    return preprocess


def token_budget(device: str) -> int:
    """Maximum number of tokens in a batch on a device."""
    return 65_536 if torch_device(device).startswith("cuda") else CPU_TOKENS
