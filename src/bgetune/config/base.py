"""What every section of a profile is made of, and the parameters that several notebooks share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of a profile: unknown keys are errors, values never change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


ModelLocation = Annotated[str, "model"]
"""A model's folder, hub name or demo:// location: the pipeline checks them all before the first notebook."""


class Seeded(Section):
    seed: int = Field(42, ge=0, description="Every random choice of the run follows from it.")


class Embeds(Section):
    model: ModelLocation = Field(
        "demo://standard/encoder",
        description="Embedding model to tune: a folder, a hub name such as BAAI/bge-small-zh-v1.5, or demo://...",
    )
    query_instruction: str | None = Field(
        None,
        description="Prompt before a query that searches documents (not where queries are compared with queries). "
        "Null: as the model says; '': none. BGE zh v1.5: 为这个句子生成表示以用于检索相关文章：",
    )
    document_instruction: str | None = Field(
        None,
        description="Prompt before a document that is searched. Null: as the model says; '': none. With one, texts of "
        "one kind that are compared take the query's prompt, as E5 wants it ('query: ' and 'passage: ').",
    )
    max_length: int = Field(128, ge=8, le=8192, description="Tokens of a text that the encoder reads.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0, mps.")


class Reranks(Section):
    reranker: ModelLocation | None = Field(
        "demo://standard/reranker",
        description="Cross-encoder that confirms and vetoes: a folder, a hub name, demo://..., or null for none.",
    )
