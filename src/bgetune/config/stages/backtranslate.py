"""The parameters of 02_backtranslate; `config.augmentation` holds its inner sections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bgetune.config.augmentation import Gate, Generation, Pivot
from bgetune.config.base import Embeds, Reranks, Seeded, Truth


class Backtranslate(Reranks, Embeds, Seeded):
    """02_backtranslate: paraphrases by way of another language or an LLM, and the gate they must pass."""

    truth: Truth = None
    enabled: bool = Field(True, description="Whether to add paraphrases. False: none, to measure whether they pay.")
    pivots: list[Pivot] = Field([], description="Pivot languages to translate through. []: no back-translation.")
    max_texts: int | None = Field(
        20000, ge=1, description="Maximum number of train texts to paraphrase, spread over the clusters. Null: all."
    )
    candidates: int = Field(4, ge=1, le=50, description="Number of paraphrases to ask for, for each text and pivot.")
    decoding: Literal["sampling", "beam"] = Field(
        "sampling",
        description="Decoding method of the translation back into the texts' language: sampling (more varied) "
        "or beam (more literal).",
    )
    top_p: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Nucleus probability of sampling: smaller values stay nearer to the most likely words.",
    )
    temperature: float = Field(
        0.7, gt=0, le=5, description="Sampling temperature: larger values give more varied texts."
    )
    num_beams: int = Field(
        4,
        ge=1,
        le=64,
        description="Number of beams of the translation into the pivot language, and of the way back with "
        "decoding: beam.",
    )
    generation: Generation = Field(Generation(), description=Generation.__doc__)
    gate: Gate = Field(Gate(), description=Gate.__doc__)

    @property
    def writes_queries(self) -> bool:
        """Whether a language model writes queries for documents without any."""
        return self.enabled and self.generation.base_url is not None and self.generation.queries > 0
