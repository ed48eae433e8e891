"""Shared by the miniature models: tokenizer, batches, and a training loop whose results repeat byte for byte."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bgetune_demo.lexicon import LEXICON

if TYPE_CHECKING:
    import torch
    from transformers import BertConfig, BertTokenizer

MAX_TOKENS = 48
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@contextlib.contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Make torch deterministic inside this context; its random state and settings are restored afterwards.

    One thread is used: models this small gain little from a second one, and sums depend on the number of threads.

    Args:
        seed: seed of torch.
    """
    import torch

    state, strict = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        torch.set_rng_state(state)


def tokenizer() -> BertTokenizer:
    """A BERT tokenizer; its tokens are the lexicon's Chinese characters, and single Latin letters, digits and signs."""
    from transformers import BertTokenizer

    chinese = sorted({char for char in LEXICON.read_text(encoding="utf-8") if ord(char) > 0x2E80})
    ascii_signs = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper()]
    inside = [f"##{sign}" for sign in ascii_signs if sign.isalnum()]
    vocabulary = [*SPECIALS, *ascii_signs, *inside, "。", "、", *chinese]
    tokens = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    return BertTokenizer(vocab=tokens, do_lower_case=True, model_max_length=MAX_TOKENS)


def bert_config(vocabulary: int, layers: int, width: int, **extra: Any) -> BertConfig:
    """The configuration of a small BERT with attention heads of size 32, without dropout.

    The standard deviation of the initial weights is larger than BERT's 0.02, which suits a width of 768: a narrow model
    would start with equal vectors and learn nothing for hundreds of steps.

    Args:
        vocabulary: number of tokens.
        layers: number of layers.
        width: length of a vector.
        extra: further arguments of `BertConfig`.
    """
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        intermediate_size=4 * width,
        max_position_embeddings=2 * MAX_TOKENS,
        initializer_range=0.08,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **extra,
    )


def encode(tokens: BertTokenizer, texts: Sequence[str], other: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
    """Tokenise n texts (or pairs of texts) to padded tensors (n, tokens); `rows` takes batches from them."""
    return dict(
        tokens(
            list(texts),
            None if other is None else list(other),
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS if other is None else 2 * MAX_TOKENS,
            return_tensors="pt",
        )
    )


def rows(tensors: dict[str, torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
    """A batch of some rows, cut to the length of the longest one."""
    mask = tensors["attention_mask"][index]
    width = int(mask.sum(dim=1).max())
    return {name: tensor[index][:, :width] for name, tensor in tensors.items()}


def fit(
    model: torch.nn.Module,
    loss: Callable[[int], torch.Tensor],
    steps: int,
    rate: float,
    label: str,
    progress: bool,
    betas: tuple[float, float] = (0.9, 0.98),
) -> None:
    """Train by AdamW, with warm-up over a tenth of the steps and linear decay.

    Args:
        model: changed in place.
        loss: step -> loss; it chooses the batch.
        steps: number of steps.
        rate: peak learning rate.
        label: of the progress bar.
        progress: whether to show it.
        betas: of AdamW.
    """
    import torch
    from tqdm.auto import tqdm

    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=betas, weight_decay=0.01)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, max(0, steps - step) / max(1, steps - warm))
    )
    bar = tqdm(range(steps), desc=label, disable=not progress)
    for step in bar:
        optimiser.zero_grad()
        value = loss(step)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 0 and progress:
            bar.set_postfix(loss=f"{value.item():.3f}")
    model.eval()
