"""LoRA (arXiv 2106.09685) by peft: small trainable matrices beside frozen weights, merged into them at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def add(model: SentenceTransformer, rank: int, seed: int) -> None:
    """Freeze a model and add a low-rank adapter to every linear layer of its transformer.

    All linear layers, because an encoder's feed-forward layers hold most of its weights; not the pooler, which CLS
    pooling does not use. alpha is 2 * rank, so that one learning rate suits every rank.

    Args:
        model: changed in place.
        rank: rank of the adapters.
        seed: seed of their initial weights.
    """
    import torch
    from peft import LoraConfig

    torch.manual_seed(seed)
    model.add_adapter(
        LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", exclude_modules=r"(.*\.)?pooler\..*")
    )


def read(model: SentenceTransformer, checkpoint: Path) -> None:
    """Load the adapter weights of a checkpoint; it holds nothing else, because nothing else was trained."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    assert model.transformers_model is not None  # `add` needed it, too
    set_peft_model_state_dict(model.transformers_model, load_file(checkpoint / "adapter_model.safetensors"))


def merge(model: SentenceTransformer, base: SentenceTransformer) -> SentenceTransformer:
    """Merge the adapters into the weights, and load these into `base`.

    Args:
        model: with adapters; changed in place.
        base: the same model without adapters, as it was loaded.

    Returns:
        `base`.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    base.load_state_dict(model.state_dict())
    return base
