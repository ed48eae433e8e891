"""Saving a tuned model: one folder for every loader of embedding models, and its model card."""

from __future__ import annotations

import copy
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from bgetune.errors import InputError
from bgetune.hubs import download
from bgetune.locale import N_, _
from bgetune.models import hub, layout
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import NO_PROMPTS, Prompts
from bgetune.paths import MODELSCOPE, is_hub_name, locate

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import SentenceTransformer

PRIVATE = ("model", "device", "general", "push_to_hub", "query_instruction", "document_instruction")
"""Parameters that a model card does not list: they name files and servers, or are elsewhere in the card."""


def save(model: SentenceTransformer, folder: str | Path, prompts: Prompts = NO_PROMPTS, dtype: str = "float32") -> None:
    """Write a model so that every loader of embedding models gives the same vectors.

    Safetensors weights, tokenizer, pooling, a normalisation (added if the model has none) and the prompts, in the
    layout of `bgetune.models.layout`.

    Args:
        model: a transformer and its pooling.
        folder: made if missing.
        prompts: the prompts that the model was trained with.
        dtype: type of the saved weights, a name of torch; the model itself is not changed.
    """
    from sentence_transformers.sentence_transformer import modules

    if not any(isinstance(module, modules.Normalize) for module in model):
        model.append(modules.Normalize())
    if dtype != "float32":
        import torch

        model = copy.deepcopy(model).to(getattr(torch, dtype))
    settings = prompts.saved()
    model.prompts, model.default_prompt_name = settings["prompts"], settings["default_prompt_name"]
    try:
        with hub.quiet():
            model.save_pretrained(str(folder), create_model_card=False)
    finally:
        model.prompts, model.default_prompt_name = {}, None  # in memory, texts have their prompts already
    config = model.transformers_model.config if model.transformers_model is not None else None
    limits = (model.max_seq_length, getattr(config, "max_position_embeddings", None))
    length = min((limit for limit in limits if limit), default=512)
    lower_case = bool(getattr(model[0], "do_lower_case", False))
    layout.make_classic(Path(folder), max_length=int(length), lower_case=lower_case)


def agreement(folder: Path, model: SentenceTransformer, texts: Sequence[str]) -> dict[str, float]:
    """Compare the vectors of a saved model with those of the model in memory.

    Args:
        folder: as `save` leaves it.
        model: what was saved, in float32.
        texts: n texts.

    Returns:
        mean_cosine and min_cosine of a text's two vectors, norm_error (how far a norm is from 1, at most), mib (size of
        the weights).
    """
    vectors = model.encode(list(texts), prompt="", normalize_embeddings=True, show_progress_bar=False)
    saved = Encoder(folder, max_length=model.max_seq_length or 512, device="cpu", cache_dir=None)
    rows = saved.encode(texts, prompt="", progress=False)
    cosine = (rows * vectors).sum(axis=1)
    return {
        "mean_cosine": float(cosine.mean()),
        "min_cosine": float(cosine.min()),
        "norm_error": float(np.abs(np.linalg.norm(rows, axis=1) - 1).max()),
        "mib": sum(file.stat().st_size for file in folder.glob(f"*{hub.WEIGHTS}")) / 2**20,
    }


def model_card(
    folder: Path,
    base_model: str,
    *,
    parameters: Mapping[str, Any],
    counts: Mapping[str, int],
    result: pd.DataFrame,
    run_name: str,
    dtype: str = "float32",
    matryoshka: Sequence[int] = (),
    judged: str = "",
) -> str:
    """The text of the README.md of a saved model, in the language in use.

    It names no file or server of the team's: it may be published.

    Args:
        folder: as `save` leaves it; pooling, prompts and maximum length are read from there.
        base_model: folder, hub name or demo:// of the model before training; of a folder, only its name is shown.
        parameters: the values of 04_train to list; those of `PRIVATE` names are left out.
        counts: what the model was trained on -> how many.
        result: as `forgetting.compare` returns it; its last column is this model.
        run_name: name of the run, whose 05_calibrate writes the thresholds.
        dtype: type of the saved weights.
        matryoshka: lengths to which vectors may be cut.
        judged: what to say of dev pairs that no person made, see `bgetune.graph.outlook.said`.
    """
    base = shown_name(base_model)
    shown = {name: value for name, value in parameters.items() if name not in PRIVATE}
    run = escape(f"runs/{run_name}")
    measures = ((name, *(f"{value:.4f}" for value in row)) for name, *row in result.itertuples())
    prompts, pooling = Prompts.of(folder), layout.pooling(folder)
    pooled = _(_POOLED.get(pooling or "", _OTHER))
    length = json.loads((folder / layout.TRANSFORMER).read_text(encoding="utf-8"))["max_seq_length"]
    title = _("{base}, fine-tuned by bgetune").format(base=escape(base))
    what = _(
        "A sentence embedding model with {pooling} and vectors of length 1: the dot product of two is their cosine. It "
        "reads the first {length} tokens of a text."
    )
    thresholds = _(
        "Scores of this model lie elsewhere than those of its base: a threshold that was chosen for the base does not "
        "hold here. Thresholds with their precision, and the calibration that makes scores probabilities, are in "
        "`scoring.json`, which the notebook 05_calibrate writes for the weights of this very model: "
        "`{run}/05_calibrate/scoring.json`. It belongs beside this folder, not into it; "
        '`bgetune.scoring.Scorer.load("{run}")` reads both.'
    )
    trained_on = table((N_("what"), N_("number")), ((_(name), number) for name, number in counts.items()))
    note = f"**{judged}**\n\n" if judged else ""
    sections = [
        (_("Thresholds"), thresholds.format(run=run)),
        (_("Training data"), trained_on),
        (_("Parameters"), table((N_("parameter"), N_("value")), shown.items())),
        (_("On held-out pairs (dev)"), note + table((N_("measure"), *result.columns), measures)),
    ]
    return f"""---
{front(base_model, run_name, result)}---

# {title}

{what.format(pooling=pooled, length=length)}{_stored(dtype)}

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
{_calls(prompts)}
```

{_other_loaders(pooling, prompts, length)}
{_prompts(prompts)}{_lengths(matryoshka)}
{chr(10).join(section(*titled) for titled in sections)}"""


def shown_name(base_model: str) -> str:
    """A base model as a card names it: of a folder, only its name."""
    return base_model if is_hub_name(base_model) or "://" in base_model else Path(base_model).name


def front(
    base_model: str,
    run_name: str,
    result: pd.DataFrame,
    *,
    task: str = "sentence-similarity",
    tags: Sequence[str] = ("sentence-transformers", "sentence-similarity", "feature-extraction", "bgetune"),
) -> str:
    """The card's metadata, as a model hub reads them (YAML).

    The licence is the one that the base model's own card names; of a base without a card beside it, none is claimed.
    """
    head: dict[str, Any] = {"library_name": "sentence-transformers", "pipeline_tag": task, "tags": list(tags)}
    if is_hub_name(base_model):
        head["base_model"] = base_model.removeprefix(MODELSCOPE)  # both hubs name a model OWNER/NAME
    if licence := _licence(base_model):
        head["license"] = licence
    measured = [
        {"type": str(measure), "value": round(float(value), 4)}
        for measure, value in result.iloc[:, -1].items()
        if np.isfinite(value)
    ]
    if measured:
        found = {
            "task": {"type": task},
            "dataset": {"name": "held-out pairs (dev)", "type": "private"},
            "metrics": measured,
        }
        head["model-index"] = [{"name": escape(run_name), "results": [found]}]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True)


def _licence(base_model: str) -> str | None:
    """The licence that a model's card names, None where it names none, or there is no card."""
    if base_model.startswith("demo://"):
        return None
    try:
        card = (download(base_model) if is_hub_name(base_model) else locate(base_model)) / "README.md"
    except InputError:  # of a hub that cannot be reached
        return None
    if not card.is_file():
        return None
    try:
        _before, head, _text = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
        named = yaml.safe_load(head).get("license")
    except (ValueError, AttributeError, yaml.YAMLError):
        return None
    return named if isinstance(named, str) else None


def section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}\n"


def _stored(dtype: str) -> str:
    if dtype == "float32":
        return ""
    stored = _(
        "Its weights are stored in {dtype}: read them as float32 for the vectors that its thresholds were chosen on."
    )
    return f"\n{stored.format(dtype=dtype)}"


_POOLED = {
    "cls": N_("CLS pooling (the first token's vector)"),
    "mean": N_("mean pooling (the mean of the tokens' vectors)"),
}

_OTHER = N_("its base model's pooling")

_FLAG = ("cls", "mean")
"""Poolings of FlagEmbedding's `FlagModel`."""


def _calls(prompts: Prompts) -> str:
    """Python code that encodes the texts of each task with sentence-transformers."""
    if prompts == NO_PROMPTS:
        return 'vectors = model.encode(["..."])  # ' + _("queries and documents alike: no prompt")
    searching, compared = _("that search documents"), _("compared with texts of their own kind")
    return f"""queries = model.encode(["..."], prompt_name="query")  # {searching}
documents = model.encode(["..."], prompt_name="document")
questions = model.encode(["..."]{_named(prompts)})  # {compared}"""


def _named(prompts: Prompts) -> str:
    name = prompts.saved()["default_prompt_name"]
    return f', prompt_name="{name}"' if name else ""


def _other_loaders(pooling: str | None, prompts: Prompts, length: int) -> str:
    if pooling not in _FLAG:
        return _(
            "`bgetune.models.encoder.Encoder(...)` gives the same vectors. FlagEmbedding's `FlagModel` does not: it "
            "knows no such pooling."
        )
    ours = _("`bgetune.models.encoder.Encoder(...)` gives the same vectors; so does FlagEmbedding, called so:")
    given = {
        "pooling_method": pooling,
        "query_instruction_for_retrieval": prompts.query or None,
        "passage_instruction_for_retrieval": prompts.document or None,
        "query_max_length": length,
        "passage_max_length": length,
        "use_fp16": False,
    }
    options = "".join(f"    {name}={_literal(value)},\n" for name, value in given.items() if value is not None)
    return f"""{ours}

```python
from FlagEmbedding import FlagModel

model = FlagModel(
    "path/to/this/folder",
{options})
queries, documents = model.encode_queries(["..."]), model.encode_corpus(["..."])
```
"""


def _literal(value: str | int) -> str:
    """A Python literal, escaped so that a text cannot end the block of Markdown that it is in."""
    text = repr(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False)
    return "".join(f"\\u{ord(letter):04x}" if letter in "`<>&" else letter for letter in text)


def _prompts(prompts: Prompts) -> str:
    if prompts == NO_PROMPTS:
        return ""
    rows = [
        (_("a query that searches documents"), prompts.query),
        (_("a document that is searched"), prompts.document),
        (_("texts of one kind that are compared, both"), prompts.symmetric),
    ]
    shown = [(what, json.dumps(text, ensure_ascii=False)) for what, text in rows]
    why = _("The model was trained with these prompts, and its scores are valid only with them.")
    return "\n" + section(_("Prompts"), why + "\n\n" + table((N_("put before"), N_("prompt")), shown))


def _lengths(lengths: Sequence[int]) -> str:
    if not lengths:
        return ""
    shown = ", ".join(map(str, lengths))
    may = _("Vectors may be cut to these lengths: {lengths} (`SentenceTransformer(..., truncate_dim={first})`).")
    return f"\n{may.format(lengths=shown, first=lengths[0])}\n"


def table(head: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> str:
    lines: list[Iterable[Any]] = [map(_, head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(escape(str(cell)) for cell in line) + " |" for line in lines)


def escape(text: str) -> str:
    """Escape a text for a cell of a Markdown table: no HTML, no further column, no further line."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
