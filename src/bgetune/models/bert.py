"""A fast implementation of BERT with CLS pooling for CPUs, which BGE's models need.

Importing sentence-transformers takes as long as encoding ten thousand short questions. This module reads weights and
tokenizer from the folder, fuses activation, bias and residual into oneDNN's matrix products, and computes the last
layer only for the token that CLS pooling uses. Nothing is approximated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models import hub, layout
from bgetune.models.tokens import BLOCK, Tokens, shorten

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"


def supports(folder: Path, device: str, precision: str) -> bool:
    """Whether `Bert` computes a model of sentence-transformers: a BERT with CLS pooling, on a CPU that has oneDNN."""
    config = _read(folder, "config.json")
    if not (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and (folder / WEIGHTS).is_file()
        and (folder / "tokenizer.json").is_file()
        and layout.pooling(folder) == "cls"
    ):
        return False
    import torch

    # bfloat16 only where the CPU supports it, else it would be emulated
    computed = {"float32", hub.precision("auto", "cpu")}
    # private functions that torch.compile calls, too; not every build of torch has them
    fused = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return fused and hub.torch_device(device) == "cpu" and precision in computed


class Bert:
    """A BERT encoder for inference, see `supports`.

    Args:
        folder: a folder of sentence-transformers or transformers.
        precision: float32 or bfloat16.

    Attributes:
        dimension: length of a vector.
        max_length: maximum number of tokens that the model takes.

    Raises:
        InputError: if the weights are not those of a BERT model.
    """

    def __init__(self, folder: Path, precision: str):
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from tokenizers import Tokenizer, normalizers

        config, settings = _read(folder, "config.json"), _read(folder, "sentence_bert_config.json")
        self.dimension = config["hidden_size"]
        limits = (_read(folder, "tokenizer_config.json").get("model_max_length"), settings.get("max_seq_length"))
        self.max_length = int(min(config["max_position_embeddings"], *(limit for limit in limits if limit)))
        self._heads, self._eps = config["num_attention_heads"], config.get("layer_norm_eps", 1e-12)
        self._pad = config.get("pad_token_id") or 0
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        if settings.get("do_lower_case"):
            inner = [self._tokenizer.normalizer] if self._tokenizer.normalizer else []
            self._tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *inner])
        self._type = getattr(torch, precision)
        try:
            weights = load_file(folder / WEIGHTS)
            weights = {name.removeprefix("bert."): weight.to(self._type) for name, weight in weights.items()}
            self._words, places, kinds = (
                weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
            )
            self._places = places + kinds[0]
            self._norm = _affine(weights, "embeddings.LayerNorm")
            self._layers = [_Layer(weights, f"encoder.layer.{n}.") for n in range(config["num_hidden_layers"])]
        except (SafetensorError, KeyError) as error:
            raise InputError(
                _("{file}: the model cannot be loaded: no BERT, {error}; copy or download the model again").format(
                    file=folder / WEIGHTS, error=error
                )
            ) from None

    def tokenize(self, texts: list[str], max_length: int) -> Tokens:
        """Tokenise texts, and cut them to a maximum length."""
        max_length = min(max_length, self.max_length)
        self._tokenizer.enable_truncation(max_length)
        ids = []
        for start in range(0, len(texts), BLOCK):
            block = shorten(self._tokenizer, texts[start : start + BLOCK], max_length)
            ids += [encoding.ids for encoding in self._tokenizer.encode_batch_fast(block)]
        return Tokens({"input_ids": ids}, {"input_ids": self._pad}, np.array([len(row) for row in ids]))

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The vectors (b, d) float32 of tokens (b, tokens) int64 and their mask of 0 and 1, padded on the right."""
        import torch
        from torch.nn.functional import embedding, layer_norm

        size = (self.dimension,)
        inside = attention_mask.bool()[:, None, None]
        mask = None if inside.all() else torch.zeros(inside.shape, dtype=self._type).masked_fill_(~inside, -torch.inf)
        states = embedding(input_ids, self._words) + self._places[: input_ids.shape[1]]
        states = layer_norm(states, size, *self._norm, self._eps)
        for layer in self._layers:
            read = states[:, :1].contiguous() if layer is self._layers[-1] else states
            attended = self._attend(layer, read, states, mask)
            read = layer_norm(_linear(attended, layer.out, plus=read), size, *layer.out_norm, self._eps)
            inner = _linear(read, layer.up, activation="gelu")
            states = layer_norm(_linear(inner, layer.down, plus=read), size, *layer.down_norm, self._eps)
        return states[:, 0].float()

    def _attend(
        self, layer: _Layer, read: torch.Tensor, states: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        from torch.nn.functional import scaled_dot_product_attention

        query, key, value = (
            _linear(rows, weights).view(*rows.shape[:2], self._heads, -1).transpose(1, 2)
            for rows, weights in ((read, layer.query), (states, layer.key), (states, layer.value))
        )
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2).reshape(read.shape)


class _Layer:
    """The weights of a layer; those of matrix products are reordered for oneDNN."""

    def __init__(self, weights: dict[str, torch.Tensor], prefix: str):
        self.query, self.key, self.value = (
            _packed(weights, f"{prefix}attention.self.{name}") for name in ("query", "key", "value")
        )
        self.out, self.out_norm = _sublayer(weights, f"{prefix}attention.output")
        self.up = _packed(weights, f"{prefix}intermediate.dense")
        self.down, self.down_norm = _sublayer(weights, f"{prefix}output")


Affine = tuple["torch.Tensor", "torch.Tensor"]
"""Weight and bias."""


def _sublayer(weights: dict[str, torch.Tensor], name: str) -> tuple[Affine, Affine]:
    return _packed(weights, f"{name}.dense"), _affine(weights, f"{name}.LayerNorm")


def _affine(weights: dict[str, torch.Tensor], name: str) -> Affine:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _packed(weights: dict[str, torch.Tensor], name: str) -> Affine:
    import torch

    weight, bias = weights.pop(f"{name}.weight"), weights.pop(f"{name}.bias")
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()), bias.contiguous()


def _linear(
    rows: torch.Tensor, weights: Affine, *, activation: str = "none", plus: torch.Tensor | None = None
) -> torch.Tensor:
    """rows @ weight.T + bias, with an activation, or added to other rows, in one pass over the result."""
    import torch

    if plus is not None:
        return torch.ops.mkldnn._linear_pointwise.binary(rows, plus, *weights, "add")
    return torch.ops.mkldnn._linear_pointwise(rows, *weights, activation, [], "none" if activation == "gelu" else "")


def _read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text("utf-8")) if (folder / name).is_file() else {}
