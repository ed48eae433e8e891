"""Checks of a model before anything is computed: architecture, weights, tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bgetune.errors import InputError
from bgetune.files import sha256
from bgetune.locale import _
from bgetune.models import hub
from bgetune.models.cache import content_key
from bgetune.paths import cache_root

Role = Literal["encoder", "reranker", "translator"]

ROLES: dict[str, Role] = {
    "model": "encoder",
    "guide": "encoder",
    "reranker": "reranker",
    "to_pivot": "translator",
    "from_pivot": "translator",
}
"""Role of the model that a parameter names, by the last part of the parameter's name."""

UNKNOWN = 0.2
"""Maximum share of unknown tokens in a team's texts."""

SAMPLE = 500
"""Maximum number of texts that are checked."""

FOLDER = Path("data/cache/checks")

_LAYER = re.compile(r"\blayers?\.\d+\.")


def check_model(location: str | Path, parameter: str, role: Role, texts: Sequence[str] | None = None) -> None:
    """Check a model: the architecture of its role, complete and finite weights, and the matching tokenizer.

    Loads the model. A model that passed is not loaded again while its files are unchanged.

    Args:
        location: a folder, a hub name, or ``demo://...``.
        parameter: the parameter that named the model, for the message.
        role: an encoder of sentences, a reranker (cross-encoder with one output or two), or a translator.
        texts: examples of the texts that the model will read, of which `SAMPLE` are checked; None: no such check.

    Raises:
        InputError: one line that names parameter, folder or file, and the remedy: no such model, no safetensors, a
            broken file, code of its own, another role, missing weights or layers, weights that are not finite, no
            tokenizer, one that does not fit the weights, more than `UNKNOWN` of the texts' tokens unknown.
    """
    folder = hub.fetch(location, parameter)
    texts = list(dict.fromkeys(text[:200] for text in texts or ()))[:SAMPLE]
    stats = [(file, file.stat()) for file in hub.files(folder)]
    passed = content_key(
        *(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats),
        *(role, version("transformers"), sha256(Path(__file__)), *texts),
    )
    mark = cache_root() / FOLDER / passed
    if mark.is_file():
        return
    for file, _stat in stats:
        if file.suffix == ".json":
            hub.read_json(file, parameter)
    _check_role(folder, parameter, role)
    rows = _check_weights(folder, parameter, role)
    _check_tokenizer(folder, parameter, rows, texts)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _check_role(folder: Path, parameter: str, role: Role) -> None:
    """Check the architecture that config.json names."""
    config = hub.read_json(folder / "config.json", parameter)
    name = (config.get("architectures") or [""])[0]
    if name.endswith("ForSequenceClassification"):
        found, kind = "reranker", _("a classifier of pairs (cross-encoder, {architecture})").format(architecture=name)
    elif name.endswith(("ForConditionalGeneration", "MTModel")):
        found, kind = "translator", _("a translator ({architecture})").format(architecture=name)
    else:
        found, kind = "encoder", _("an encoder of single texts ({architecture})").format(architecture=name)
    wanted = {
        "encoder": _("an encoder of sentences, such as BAAI/bge-small-zh-v1.5"),
        "reranker": _("a cross-encoder with one output, such as BAAI/bge-reranker-base"),
        "translator": _("a translator, such as Helsinki-NLP/opus-mt-zh-en"),
    }[role]
    if name and found != role:
        raise InputError(
            _("{parameter}: {folder} is {kind}; what is needed is {wanted}").format(
                parameter=parameter, folder=folder, kind=kind, wanted=wanted
            )
        )
    outputs = len(config.get("id2label") or ()) or config.get("num_labels", 2)
    if role == "reranker" and outputs > 2:
        raise InputError(
            _("{parameter}: {folder} has {outputs} outputs; what is needed is {wanted}").format(
                parameter=parameter, folder=folder, outputs=outputs, wanted=wanted
            )
        )


def _check_weights(folder: Path, parameter: str, role: Role) -> int:
    """Check that the weights match the configuration and are finite; returns the number of rows of the embeddings."""
    import torch

    with hub.loading(folder, parameter):
        model, info = _class(folder, parameter, role).from_pretrained(
            folder,
            output_loading_info=True,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype="auto",
        )
    # an encoder's pooler is not used; position_ids are computed when the model is loaded
    unused = ("pooler", "position_ids") if role == "encoder" else ("position_ids",)
    missing = sorted(key for key in info["missing_keys"] if not set(unused) & set(key.split(".")))
    if missing:
        raise InputError(
            _(
                "{parameter}: {folder} lacks {count} weights of a {model} ({names}), which would be random numbers; "
                "copy or download the model again, or give one made for this role"
            ).format(
                parameter=parameter,
                folder=folder,
                count=len(missing),
                model=type(model).__name__,
                names=_shown(missing),
            )
        )
    surplus = sorted(key for key in info["unexpected_keys"] if _LAYER.search(key))
    if surplus:
        raise InputError(
            _(
                "{parameter}: {folder} holds {count} weights of layers ({names}) that its config.json does not know: "
                "config.json belongs to another model; copy or download the model again"
            ).format(parameter=parameter, folder=folder, count=len(surplus), names=_shown(surplus))
        )
    wrong = sorted(name for name, weights in model.named_parameters() if not torch.isfinite(weights).all())
    if wrong:
        raise InputError(
            _(
                "{parameter}: {folder} has weights that are not finite ({names}): its training has diverged, or the "
                "file is damaged; give another model"
            ).format(parameter=parameter, folder=folder, names=_shown(wrong))
        )
    return model.get_input_embeddings().weight.shape[0]


def _class(folder: Path, parameter: str, role: Role) -> Any:
    """The class of transformers that the pipeline loads such a model with."""
    import transformers

    if role == "reranker":
        return transformers.AutoModelForSequenceClassification
    if role == "translator":
        return transformers.AutoModelForSeq2SeqLM
    name = (hub.read_json(folder / "config.json", parameter).get("architectures") or [""])[0]
    # of T5, the encoder alone: AutoModel would want the decoder, too
    return getattr(transformers, name) if name.endswith("EncoderModel") else transformers.AutoModel


def _check_tokenizer(folder: Path, parameter: str, rows: int, texts: list[str]) -> None:
    from transformers import AutoTokenizer

    with hub.loading(folder, parameter):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    names = [name for name in tokenizer.vocab_files_names.values() if not name.endswith("_config.json")]
    if names and not any((folder / name).is_file() for name in names):
        raise InputError(
            _(
                "{parameter}: {folder} has no tokenizer (none of {files}), without which it cannot read a text; copy "
                "the tokenizer of the model that this one was made from"
            ).format(parameter=parameter, folder=folder, files=", ".join(sorted(names)))
        )
    highest, size = max(tokenizer.get_vocab().values()), len(tokenizer)
    if highest >= rows or size < rows / 4:
        raise InputError(
            _(
                "{parameter}: {folder}: the tokenizer has {size} tokens, the weights {rows}: they belong to two "
                "models; copy or download the model again"
            ).format(parameter=parameter, folder=folder, size=size, rows=rows)
        )
    if texts and tokenizer.unk_token_id is not None:
        share = _unknown(tokenizer, texts)[1]
        if share > UNKNOWN:
            raise InputError(
                _(
                    "{parameter}: {folder} does not know {share:.0%} of the tokens of your texts; choose a model of "
                    "their language (BAAI/bge-small-zh-v1.5 for Chinese, BAAI/bge-m3 for many)"
                ).format(parameter=parameter, folder=folder, share=share)
            )


def _unknown(tokenizer: Any, texts: list[str]) -> tuple[int, float]:
    """How many texts have a token that a tokenizer does not know, and the share of such tokens."""
    read = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]  # without warnings of long texts
    unknown = [np.array(row, int) == tokenizer.unk_token_id for row in read]
    every = np.concatenate(unknown) if unknown else np.zeros(0)
    return sum(bool(row.any()) for row in unknown), float(every.mean()) if len(every) else 0.0


def unknown_tokens(folder: str | Path, texts: Sequence[str]) -> str:
    """A sentence: how many texts a model cannot read whole, since tokens of theirs are unknown to it.

    Raises:
        InputError: where the model has no tokenizer that can be loaded.
    """
    from transformers import AutoTokenizer

    folder = hub.fetch(folder, "model")
    with hub.loading(folder, "model"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    known = tokenizer.unk_token_id is None
    number, share = (0, 0.0) if known else _unknown(tokenizer, list(texts))
    return _(
        "{number:,} of {count:,} texts hold tokens that the model does not know ({share:.2%} of the tokens)"
    ).format(number=number, count=len(texts), share=share)


def _shown(names: list[str]) -> str:
    return ", ".join(names[:2]) + ("..." if len(names) > 2 else "")
