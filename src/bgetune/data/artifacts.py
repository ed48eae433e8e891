"""Every artifact of a run, described: what `docs/artifacts.md` and its Chinese twin are generated from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bgetune import locale
from bgetune.data.tables import SCHEMAS
from bgetune.locale import N_, _

WRITTEN = {
    "01_positives": ("texts", "edges", "clusters", "splits", "graded", "dropped", "normalizer.json"),
    "02_backtranslate": ("paraphrases", "near_misses", "texts", "edges", "clusters", "dropped"),
    "03_hard_negatives": ("train.jsonl", "review.csv", "heldout", "rejected", "edges", "clusters"),
    "04_train": ("model", "onnx", "training_log", "reranker", "reranker_log", "dropped"),
    "05_calibrate": ("scoring.json", "README.md", "judged", "mistakes", "slices", "figures/*.png"),
}
"""Notebook -> what it writes into its folder. A table, a Parquet file, replaces that of an earlier notebook."""

FILES = {
    "normalizer.json": N_("How texts are normalised and what is masked: later notebooks and production do the same."),
    "train.jsonl": N_(
        "The training groups, one JSON object a line, in FlagEmbedding's format; "
        '`datasets.load_dataset("json", data_files=...)` reads it, too.'
    ),
    "review.csv": N_("Doubtful pairs for people to judge, in a spreadsheet or in notebook 03. The next run obeys."),
    "model": N_(
        "The tuned model, a folder for sentence-transformers, FlagEmbedding, Text Embeddings Inference and vLLM; its "
        "README.md is the model card."
    ),
    "onnx": N_("The tuned model as ONNX graphs, where `onnx` in 04_train asks for them."),
    "reranker": N_(
        "The tuned reranker, where `tune_reranker` in 04_train asks for it: a folder for sentence-transformers' "
        "`CrossEncoder`, FlagEmbedding's `FlagReranker` and Text Embeddings Inference; its README.md is the model card."
    ),
    "scoring.json": N_(
        "What `Scorer` needs: model and checksum of its weights, prompts, calibration, thresholds with their promises. "
        "No pickle, no code."
    ),
    "README.md": N_("The model card with the thresholds as numbers, also in the terms of vector stores."),
    "figures/*.png": N_("The figures of the index page, to be used elsewhere."),
}
"""Artifacts that are no tables."""

FIELDS = {
    "train.jsonl": {
        "query": (N_("text"), N_("the query")),
        "pos": (N_("list of texts"), N_("positives: texts of the same cluster, or answers to the query")),
        "neg": (N_("list of texts"), N_("hard negatives; empty where none was safe")),
        "pos_scores": (N_("list of numbers"), N_("the reranker's scores of the positives; similarities without one")),
        "neg_scores": (N_("list of numbers"), N_("the same of the hard negatives")),
        "prompt": (N_("text"), N_("prompt before the query; empty for none")),
        "text_prompt": (N_("text"), N_("prompt before positives and negatives")),
        "source": (N_("text"), N_("where its best supported positive comes from")),
    },
    "review.csv": {
        "query": (N_("text"), N_("the query")),
        "candidate": (N_("text"), N_("the text that may mean the same")),
        "similarity": (N_("decimal number"), N_("cosine of the model that mines")),
        "reranker": (N_("decimal number"), N_("the reranker's score in [0, 1]; missing where it read nothing")),
        "reason": (N_("text"), N_("why a person should look")),
        "verdict": (N_("text"), N_("to be filled in: same or different (s or d); empty for unsure")),
    },
}
"""The fields of files that have rows."""


def reference() -> str:
    """The reference of all artifacts as Markdown, in the language in use."""
    other = {"en": "[中文](artifacts.zh-CN.md)", "zh": "[English](artifacts.md)"}[locale.language()]
    title = _("Artifacts: what a run writes, column by column")
    lines = [
        f"# {title}",
        "",
        other,
        "",
        "<!-- Made by `python -m bgetune.config.generate` from src/bgetune/data/tables.py; do not edit. -->",
        "",
        _(
            "A run's folder is `runs/NAME`. Every notebook writes into a folder of its own; `manifest.json` names each "
            "artifact with its rows and SHA-256. Where several notebooks write a table, the last one's holds. Read one "
            'with `pd.read_parquet("runs/NAME/01_positives/texts.parquet")`.'
        ),
        "",
        *_markdown(
            [_("notebook"), _("writes")],
            [(stage, ", ".join(f"[{name}](#{_anchor(name)})" for name in names)) for stage, names in WRITTEN.items()],
        ),
    ]
    for name in dict.fromkeys(name for names in WRITTEN.values() for name in names):
        stages = ", ".join(stage for stage, names in WRITTEN.items() if name in names)
        lines += ["", f"## {name}", ""]
        if name in SCHEMAS:
            lines += [f"{_(SCHEMAS[name].description)} (`{name}.parquet`: {stages})", "", *_columns(name)]
        else:
            lines += [f"{_(FILES[name])} ({stages})"]
            if name in FIELDS:
                rows = [(f"`{field}`", _(kind), _(says)) for field, (kind, says) in FIELDS[name].items()]
                lines += ["", *_markdown([_("field"), _("type"), _("what it says")], rows)]
    return "\n".join(lines) + "\n"


def _columns(name: str) -> list[str]:
    rows = []
    for column, rule in SCHEMAS[name].columns.items():
        notes = [_("may be missing")] * bool(rule.nullable) + [_("only where it was measured")] * (not rule.required)
        says = _(rule.description) + (f" ({', '.join(notes)})" if notes else "")
        rows.append((f"`{column}`", _(_type(rule)), says))
    return _markdown([_("column"), _("type"), _("what it says")], rows)


def _type(rule: Any) -> str:
    names: Mapping[str, str] = {
        "int64": N_("integer"),
        "float64": N_("decimal number"),
        "bool": N_("true or false"),
    }
    return names.get(str(rule.dtype), N_("text"))


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _anchor(name: str) -> str:
    """How GitHub makes the link of a heading."""
    return "".join(character for character in name.lower() if character.isalnum() or character in "_-")
