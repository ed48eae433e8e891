"""What the files of a model say of its size, without loading it."""

from __future__ import annotations

from pathlib import Path

from bgetune.models.hub import read_json


def dimension(folder: Path) -> int | None:
    """Numbers of a vector: what the last dense module puts out, else the width of the transformer; None: unknown."""
    modules = folder / "modules.json"
    for module in reversed(read_json(modules, "model") if modules.is_file() else []):
        settings = folder / str(module.get("path", "")) / "config.json"
        if str(module.get("type", "")).endswith(".Dense") and settings.is_file():
            return read_json(settings, "model").get("out_features")
    config = read_json(folder / "config.json", "model")
    return config.get("hidden_size") or config.get("d_model")


def positions(folder: Path) -> int | None:
    """Tokens that a model can tell the places of; None: unknown, or no limit."""
    config = read_json(folder / "config.json", "model")
    count = config.get("max_position_embeddings")
    # RoBERTa begins to count after the padding's number
    return count - config.get("pad_token_id", 1) - 1 if count and "roberta" in config.get("model_type", "") else count
