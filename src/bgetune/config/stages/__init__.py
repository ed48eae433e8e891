"""The parameters of every notebook, a module each: the only place where a default, a range or a help text is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from bgetune.config.augmentation import Judged
from bgetune.config.base import POSITIVE_GRADE, Embeds, Grade, Reranks, Seeded, Truth
from bgetune.config.stages.backtranslate import Backtranslate
from bgetune.config.stages.calibrate import Calibrate
from bgetune.config.stages.hard_negatives import HardNegatives
from bgetune.config.stages.positives import Positives
from bgetune.config.stages.train import Train

RENAMED = {
    ("04_train", "spread"): "orthogonality_weight",
    ("04_train", "compare"): "loss_scope",
    ("04_train", "drift_price"): "drift_penalty",
}
"""Section and old name of a parameter -> its name now. Profiles with the old one are read, with a warning."""

RENAMED_VALUES = {("04_train", "compare"): {"query": "per_query", "batch": "across_queries"}}
"""Section and old name of a parameter -> its old values, and how they are called now."""

STAGES: dict[str, type[Embeds]] = {
    "01_positives": Positives,
    "02_backtranslate": Backtranslate,
    "03_hard_negatives": HardNegatives,
    "04_train": Train,
    "05_calibrate": Calibrate,
}

ROUND = ("03_hard_negatives", "04_train")
"""The stages that run once in every round."""


class Shared(Judged, Reranks, Embeds, Seeded):
    """Parameters that several notebooks use."""

    positive_grade: Grade = POSITIVE_GRADE
    truth: Truth = None


class _Run(Shared):
    """A run: parameters that several notebooks use, and a section per notebook."""

    name: str | None = Field(None, description="Name of the run's folder, runs/NAME. Default: the file's name.")
    base: str | None = Field(None, description="Another profile, whose values hold where this one gives none.")
    study: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {},
        description="Values to try, such as {04_train.scale: [10, 20, 50]}: every combination becomes a run of its "
        "own, runs/NAME/scale=10, and a page compares them.",
    )
    language: Literal["zh", "en"] | None = Field(
        None, description="Language of reports, figures and tables. Default: the language of the system's locale."
    )
    rounds: int = Field(
        1,
        ge=1,
        le=9,
        description="Number of times that 03 and 04 run; from the second time on, the model of the round before "
        "mines the negatives.",
    )


_SECTIONS: dict[str, Any] = {
    f"stage_{stage}": (model | None, Field(None, alias=stage, description=model.__doc__))
    for stage, model in STAGES.items()
}
ProfileModel: type[_Run] = create_model("Profile", __base__=_Run, **_SECTIONS)
"""A whole profile file: shared parameters, and a section per notebook that may give any of them another value."""
