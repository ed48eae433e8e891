"""What every section of a profile is made of, and the parameters that several notebooks share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bgetune import hubs
from bgetune.config.annotations import models_in
from bgetune.config.secrets import find_secret
from bgetune.locale import _

SECRET = "secret"
"""The type of pydantic's error for a value that looks like a secret: such a value is never shown."""


class Section(BaseModel):
    """A part of a profile: unknown keys are errors, values never change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_secret(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name, "the validator of a field"
        if not any(models_in(cls.model_fields[info.field_name].annotation)):  # these look at their own fields
            for found in filter(None, map(find_secret, _texts(value))):
                words = {"what": found, "remedy": cls._secret_remedy(info.field_name)}
                raise PydanticCustomError(SECRET, _("it holds {what}, and a profile is copied; {remedy}"), words)

        return value

    @classmethod
    def _secret_remedy(cls, field: str) -> str:
        return _("set it in the environment")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(item)


def _a_location(value: str) -> str:
    if problem := hubs.wrong_address(value):
        raise ValueError(problem)
    return value


ModelLocation = Annotated[str, "model", AfterValidator(_a_location)]
"""A model's folder, hub name, modelscope:// or demo:// location: the pipeline checks all before the first notebook."""

Truth = Annotated[
    str | None,
    Field(
        description="Table with the true meaning of texts (columns text, meaning), to measure with. For the "
        "demo and tests."
    ),
]
Grade = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="Minimum grade (scaled to 0..1) of a positive among the graded pairs, in every notebook: "
        "in training, on dev and in calibration.",
    ),
]
POSITIVE_GRADE = 0.75
FaissIndex = Annotated[
    str,
    Field(
        description="How nearest texts are searched: auto (exactly up to 100,000 texts, beyond by an IVF index of "
        "FAISS), Flat (exactly), or a FAISS index factory string such as IVF4096,Flat or HNSW32."
    ),
]
SearchParams = Annotated[
    dict[str, int],
    Field(
        description="Search parameters of that index: {nprobe: 32} or {efSearch: 128}. Larger values find more and "
        "take longer. Unset, auto takes nprobe 32."
    ),
]
SearchMemory = Annotated[int, Field(ge=16, description="Working memory of the search, in MiB.")]


class Seeded(Section):
    seed: int = Field(
        42, ge=0, description="Seed of every random choice: two runs with the same seed give the same result."
    )


class Launcher(Section):
    """Several processes, one for each GPU, started by torchrun."""

    processes: int = Field(
        1,
        ge=1,
        description="Number of processes on each machine: that of its GPUs. A batch has batch_size queries of each.",
    )
    nodes: int = Field(
        1, ge=1, description="Number of machines. All see the run's folder; 04 prints what to start on the others."
    )
    rendezvous: str | None = Field(
        None,
        pattern=r"^[^\s:]+:\d+$",
        description="HOST:PORT at which the machines meet: a free port of one of them. Needed where nodes is above 1.",
    )

    @model_validator(mode="after")
    def _where_to_meet(self) -> Launcher:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(_("with several nodes, give rendezvous: HOST:PORT, a free port of one of them"))
        return self


class Embeds(Section):
    model: ModelLocation = Field(  # type: ignore[assignment]  # None is refused before any run: `require_model`
        None,
        description="Embedding model to tune, required: a folder, a hub name such as BAAI/bge-small-zh-v1.5, the "
        "same from ModelScope (modelscope://BAAI/bge-small-zh-v1.5; pip install 'bgetune[modelscope]'), or demo://...",
    )
    query_instruction: str | None = Field(
        None,
        description="Prompt before a query that searches documents (not where queries are compared with queries). "
        "Null: as the model says; '': none. BGE zh v1.5: 为这个句子生成表示以用于检索相关文章：",
    )
    document_instruction: str | None = Field(
        None,
        description="Prompt before a document that is searched. Null: as the model says; '': none. With one, two "
        "texts of the same kind that are compared both get the query's prompt, as E5 wants it ('query: ' and "
        "'passage: ').",
    )
    max_length: int = Field(
        128,
        ge=8,
        le=8192,
        description="Maximum number of tokens the encoder reads of a text; longer texts are cut. Larger "
        "values need more memory and time.",
    )
    device: str = Field("auto", description="Device to compute on: auto (GPU if there is one), cpu, cuda, cuda:0, mps.")
    launcher: Launcher = Field(
        Launcher(),
        description="Processes that train together and share the encoding of many texts and the reranking of many "
        "pairs, such as {processes: 4} for four GPUs. The in-batch negatives of a query then come from the batches of "
        "all processes.",
    )

    @model_validator(mode="after")
    def _no_single_device(self) -> Embeds:
        if self.launcher.processes > 1 and ":" in self.device:
            raise ValueError(
                _("launcher: {processes} processes cannot share {device}; set device to auto or cuda").format(
                    processes=self.launcher.processes, device=self.device
                )
            )
        return self

    @field_validator("model", mode="wrap")
    @classmethod
    def _may_be_missing(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        """A profile that another one is based on need not name a model; a run must (`require_model`)."""
        return None if value is None else check(value)


class Reranks(Section):
    reranker: ModelLocation | None = Field(
        None,
        description="Cross-encoder that confirms and vetoes: a folder, a hub name, demo://..., or null for none.",
    )
