"""The parameters of 05_calibrate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bgetune.config.base import Embeds, Reranks, Seeded
from bgetune.locale import _

Quantile = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]


class Calibrate(Reranks, Embeds, Seeded):
    """05_calibrate: drift before and after, calibrated scores, thresholds that guarantee a precision."""

    precisions: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.90, 0.95, 0.99],
        description="Precisions to guarantee; for each the lowest threshold that reaches it is given.",
    )
    recalls: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.90, 0.95], description="Recalls to guarantee; for each the highest threshold that reaches it is given."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the guaranteed precisions.")
    prior: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of positives among the pairs that production scores. Null: the same as among the "
        "calibration pairs.",
    )
    min_labelled: int = Field(
        100,
        ge=2,
        description="Minimum number of labelled pairs of each label in dev and in test for calibration to use "
        "them; with fewer, the positives and hard negatives of 03_hard_negatives are used.",
    )
    calibration: Literal["auto", "min_max", "platt", "isotonic", "beta"] = Field(
        "auto",
        description="Map from cosine to probability. auto: the one with the lowest log loss on held-out dev clusters; "
        "for another one the report shows what it costs. min_max is linear and no probability.",
    )
    min_max_quantiles: list[Quantile] = Field(
        [0.0, 1.0],
        min_length=2,
        max_length=2,
        description="For min_max: quantiles of the dev pairs' cosines that become 0 and 1. [0.01, 0.99]: single "
        "extreme pairs do not stretch the scale.",
    )
    min_max_bounds: list[Cosine] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="For min_max: the cosines that become 0 and 1, by hand. Null: at min_max_quantiles.",
    )
    isotonic_min_pairs: int = Field(
        1000,
        ge=10,
        description="Minimum number of dev pairs from which on calibration: auto also considers isotonic, which "
        "overfits smaller samples.",
    )
    resamples: int = Field(
        500, ge=100, le=10000, description="Number of bootstrap resamples for the confidence intervals."
    )
    top_k: int = Field(10, ge=1, le=1000, description="Number of search results to evaluate and rerank.")
    search_queries: int = Field(300, ge=10, description="Maximum number of dev and of test queries to search with.")

    @model_validator(mode="after")
    def _agree(self) -> Calibrate:
        for name in ("min_max_quantiles", "min_max_bounds"):
            pair = getattr(self, name)
            if pair is not None and pair[0] >= pair[1]:
                raise ValueError(_("{name}: the first must be below the second: they become 0 and 1").format(name=name))
        return self
