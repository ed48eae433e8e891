"""Tokenised texts in batches of like length: shared by the encoder, the reranker and the translators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetune.models.hub import torch_device

if TYPE_CHECKING:
    import torch

CPU_TOKENS = 2048
"""Tokens of a batch on a CPU: what a layer makes of them stays in its cache."""


def token_batches(lengths: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Rows of about one length together, as many as fit.

    Args:
        lengths: (n,) tokens of each row.
        budget: the most tokens, padding included, of a batch; a longer row is a batch of its own.

    Yields:
        Row numbers; long rows come first, so that memory runs out at the start or never.
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
        columns: what the model takes (``input_ids``, ``token_type_ids``): n lists of integers each.
        padding: what fills up each of them.
        lengths: (n,) tokens of each text.
    """

    columns: dict[str, list[list[int]]]
    padding: dict[str, int]
    lengths: np.ndarray

    def arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """A model's input for some rows, padded to the longest of them: (b, tokens) int64 each."""
        lengths = self.lengths[rows]
        inside = np.arange(lengths.max()) < lengths[:, None]
        arrays = {"attention_mask": inside.astype(np.int64)}
        for name, column in self.columns.items():
            padded = np.full(inside.shape, self.padding[name], dtype=np.int64)
            padded[inside] = np.concatenate([column[row] for row in rows])
            arrays[name] = padded
        return arrays

    def features(self, rows: np.ndarray, device: Any) -> dict[str, torch.Tensor]:
        """The same as tensors."""
        import torch

        return {name: torch.from_numpy(array).to(device) for name, array in self.arrays(rows).items()}


def tokenize(tokenizer: Any, *texts: list[str], max_length: int) -> Tokens:
    """Tokens of n texts, or of n pairs of texts, cut to a maximum length."""
    encoded = tokenizer(*texts, truncation=True, max_length=max_length, padding=False, return_attention_mask=False)
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    lengths = np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)
    return Tokens({name: encoded[name] for name in padding if name in encoded}, padding, lengths)


def token_budget(device: str) -> int:
    """Tokens of a batch: enough to keep a GPU busy, few enough to stay in a CPU's cache."""
    return 65_536 if torch_device(device).startswith("cuda") else CPU_TOKENS
