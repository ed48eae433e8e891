"""Prompts, the prefixes of texts when they are encoded: one rule for every encoder of the pipeline.

A text is encoded for one of two tasks. In a search, a query is compared with documents, and the two sides may take
different prompts. Texts of one kind (two queries, two documents) are compared with each other, and both sides take the
same prompt. A model's prompts are read from its `config_sentence_transformers.json`; parameters replace them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bgetune.errors import InputError
from bgetune.locale import _

CONFIG = "config_sentence_transformers.json"

QUERY = ("query",)
DOCUMENT = ("document", "passage", "corpus")
"""Names of a prompt in the order in which sentence-transformers looks for them (`encode_query`, `encode_document`)."""

SYMMETRIC = "symmetric"
"""Name of a saved prompt for texts of one kind that is neither that of queries nor that of documents."""


@dataclass(frozen=True)
class Prompts:
    """The prefixes of texts.

    Attributes:
        query: prefix of a query that searches documents.
        document: prefix of a document that is searched.
        symmetric: prefix of texts that are compared with their own kind, on both sides. Unless the model names one, it
            is the query's prompt for models that need a prompt for every text (E5: "query: " for symmetric tasks), and
            "" for models that need one only for queries that search (BGE).
    """

    query: str = ""
    document: str = ""
    symmetric: str = ""

    @classmethod
    def of(cls, folder: Path, query: str | None = None, document: str | None = None) -> Prompts:
        """The prompts of a model.

        Args:
            folder: folder of the model.
            query: the parameter `query_instruction`; None: the model's, "": none.
            document: the parameter `document_instruction`, likewise.

        The prompt named `query` is that of queries, the prompt named `document`, `passage` or `corpus` that of
        documents. A model's default prompt (`default_prompt_name`) is used where it names no other.

        Raises:
            InputError: if the model's configuration of its prompts cannot be read.
        """
        named, default = _read(folder / CONFIG)
        as_the_model_says = query is None and document is None
        query = _first(named, QUERY, default) if query is None else query
        document = _first(named, DOCUMENT, default) if document is None else document
        if as_the_model_says and default is not None:
            return cls(query, document, default)
        return cls(query, document, query if document else "")

    def saved(self) -> dict[str, Any]:
        """The entries `prompts` and `default_prompt_name` of `config_sentence_transformers.json`: `of` reads the same.

        `SentenceTransformer.encode` without a prompt's name then encodes for texts of one kind, `prompt_name="query"`
        and `prompt_name="document"` for a search.
        """
        named = {"query": self.query, "document": self.document}
        if not self.symmetric and not (self.query and self.document):
            return {"prompts": named, "default_prompt_name": None}
        name = next((name for name, text in named.items() if text == self.symmetric), SYMMETRIC)
        return {"prompts": named | {name: self.symmetric}, "default_prompt_name": name}

    def before(self, kinds: np.ndarray, counterparts: np.ndarray) -> np.ndarray:
        """The prompt of each text, (n,) object.

        Args:
            kinds: (n,) "query" or "document", the kind of each text.
            counterparts: (n,) the kind of the text that it is compared with. Only a query and a document are a search.
        """
        kinds, counterparts = np.asarray(kinds, dtype=object), np.asarray(counterparts, dtype=object)
        own = np.where(kinds == "document", self.document, self.query)
        return np.where(kinds == counterparts, self.symmetric, own).astype(object)


NO_PROMPTS = Prompts()
"""The prompts of models that need none."""


def _first(named: Mapping[str, str], names: tuple[str, ...], default: str | None) -> str:
    """The first prompt of these names that is not empty; the default where there is no prompt of these names."""
    found = [named[name] for name in names if name in named]
    return next(filter(None, found), "" if found else default or "")


def _read(file: Path) -> tuple[dict[str, str], str | None]:
    """The model's named prompts, and the text of its default one (None where it has none)."""
    if not file.is_file():
        return {}, None
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        named = {name: text or "" for name, text in (settings.get("prompts") or {}).items()}
        default = settings.get("default_prompt_name")
        if not all(isinstance(text, str) for text in named.values()) or (default is not None and default not in named):
            raise ValueError(_("prompts must be texts, and default_prompt_name the name of one"))
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            _("{file}: the model's prompts cannot be read ({error}); copy or download it again").format(
                file=file, error=error
            )
        ) from None
    return named, None if default is None else named[default]
