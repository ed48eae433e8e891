"""The folder of an embedding model: its pooling, and the classic layout that every loader reads.

sentence-transformers 5.4 and later write class paths and a pooling configuration of their own, which earlier versions,
Text Embeddings Inference, vLLM and FlagEmbedding's users cannot read. Models on the hub are in the classic layout, and
all versions read it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bgetune.errors import InputError
from bgetune.locale import _

MODULES = "modules.json"
POOLING = "1_Pooling/config.json"
TRANSFORMER = "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"

CLASSIC = {name: f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize", "Dense")}
"""Names of the modules' classes in the classic layout."""

MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Poolings of sentence-transformers, and their flags in the classic layout."""


OFFICIAL = {"cls": "cls", "mean": "mean", "lasttoken": "last_token"}
"""Poolings of sentence-transformers that FlagEmbedding's trainer has, and their names there."""


def pooling(folder: Path) -> str | None:
    """The pooling of a model: a key of `MODES`.

    Returns:
        "cls" for a folder without modules, as FlagEmbedding's trainer writes it; None if there are other modules than a
        transformer, one pooling and a normalisation.
    """
    if not (folder / MODULES).is_file():
        return "cls"
    modules = _read(folder / MODULES)
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    modes = _modes(_read(folder / modules[1]["path"] / "config.json"))
    return modes[0] if len(modes) == 1 else None


def official_pooling(folder: Path) -> str:
    """The name of a model's pooling in FlagEmbedding's trainer.

    Raises:
        InputError: if the trainer does not have it.
    """
    found = pooling(folder)
    if found not in OFFICIAL:
        raise InputError(
            _(
                "04_train.backend: flagembedding trains models with {known} pooling only, and that of {folder} is "
                "{found}; set backend to sentence_transformers"
            ).format(known=", ".join(OFFICIAL), folder=folder, found=found or _("made of several modules"))
        )
    return OFFICIAL[found]


def copy_modules(source: Path, folder: Path) -> None:
    """Copy the pooling and further modules of a model to a plain folder of transformers.

    Args:
        source: folder of sentence-transformers; without modules, nothing is copied.
        folder: folder with the transformer's weights.
    """
    if (source / MODULES).is_file():
        for module in _read(source / MODULES):
            if module["path"] and (source / module["path"]).is_dir():
                shutil.copytree(source / module["path"], folder / module["path"], dirs_exist_ok=True)
        for name in (TRANSFORMER, PROMPTS, MODULES):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)


def make_classic(folder: Path, *, max_length: int, lower_case: bool) -> None:
    """Rewrite a folder of sentence-transformers in the classic layout.

    Args:
        folder: as `SentenceTransformer.save_pretrained` leaves it.
        max_length: maximum number of tokens that the model reads of a text.
        lower_case: whether texts are lower-cased before they are tokenised.
    """
    modules = _read(folder / MODULES)
    for module in modules:
        name = module["type"].rsplit(".", 1)[-1]
        module["type"] = CLASSIC.get(name, module["type"])
        if name == "Pooling":
            file = folder / module["path"] / "config.json"
            saved = _read(file)
            flags = {flag: mode in _modes(saved) for mode, flag in MODES.items()}
            width = saved.get("word_embedding_dimension") or saved["embedding_dimension"]
            # prompts are pooled like the rest of a text, in training and evaluation alike
            _write(file, {"word_embedding_dimension": width, **flags, "include_prompt": True})
        elif name == "Normalize":
            (folder / module["path"]).mkdir(exist_ok=True)
    _write(folder / MODULES, modules)
    _write(folder / TRANSFORMER, {"max_seq_length": max_length, "do_lower_case": lower_case})
    settings = _read(folder / PROMPTS)
    kept = ("__version__", "prompts", "default_prompt_name", "similarity_fn_name")
    _write(folder / PROMPTS, {name: settings.get(name) for name in kept})


def _modes(settings: dict[str, Any]) -> list[str]:
    """The poolings that a configuration of either layout turns on."""
    if (mode := settings.get("pooling_mode")) is not None:
        return [mode] if isinstance(mode, str) else list(mode)
    return [mode for mode, flag in MODES.items() if settings.get(flag) is True]


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
