"""The size of a model by its configuration, without loading it."""

from __future__ import annotations

from pathlib import Path

from bgetune.models.hub import read_json


def dimension(folder: Path) -> int | None:
    """Length of a vector: the output size of the last dense module, else the hidden size; None if unknown."""
    modules = folder / "modules.json"
    for module in reversed(read_json(modules, "model") if modules.is_file() else []):
        settings = folder / str(module.get("path", "")) / "config.json"
        if str(module.get("type", "")).endswith(".Dense") and settings.is_file():
            return read_json(settings, "model").get("out_features")
    config = read_json(folder / "config.json", "model")
    return config.get("hidden_size") or config.get("d_model")


def positions(folder: Path) -> int | None:
    """Number of positions of a model, special tokens included; None if unknown or unlimited."""
    config = read_json(folder / "config.json", "model")
    count = config.get("max_position_embeddings")
    # RoBERTa numbers positions from the id of the padding token + 1
    return count - config.get("pad_token_id", 1) - 1 if count and "roberta" in config.get("model_type", "") else count
