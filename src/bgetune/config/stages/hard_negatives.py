"""The parameters of 03_hard_negatives."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bgetune.config.augmentation import Judged
from bgetune.config.base import Embeds, FaissIndex, Reranks, SearchMemory, SearchParams, Seeded, Truth
from bgetune.locale import _


class HardNegatives(Judged, Reranks, Embeds, Seeded):
    """03_hard_negatives: candidates by search, the rules that reject false negatives, training groups."""

    truth: Truth = None
    num_negatives: int = Field(5, ge=1, le=100, description="Maximum number of hard negatives of a query.")
    rank_min: int = Field(
        1,
        ge=1,
        description="Minimum rank of the search results to consider as negatives: 11 skips the ten nearest, "
        "which may be positives.",
    )
    rank_max: int = Field(
        100,
        ge=1,
        le=2000,
        description="Maximum rank of the search results to consider as negatives: the depth of the search. "
        "With max_false_negatives the search goes deeper where too few texts within this rank are "
        "safe.",
    )
    window_low: float | None = Field(
        None, ge=-1, le=1, description="Minimum similarity of a negative. Null: no minimum."
    )
    window_high: float | None = Field(
        None, ge=-1, le=1, description="Maximum similarity of a negative. Null: no maximum."
    )
    max_false_negatives: float | None = Field(
        0.05,
        gt=0,
        lt=1,
        description="Maximum expected share of false negatives (positives that nobody labelled) among the hard "
        "negatives. The probability that a candidate is one is estimated from the known positives, and candidates "
        "above a limit are left out; a reranker's veto applies in addition. Larger values give harder negatives, more "
        "of them false. Null: no limit.",
    )
    margin: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Relative margin: a negative's similarity must be lower than the positives' by this "
        "share, after whitening (what all texts have in common is taken out). Applies where no "
        "reranker vetoes. Null: no margin, except 0.05 where the probability of "
        "max_false_negatives cannot be estimated.",
    )
    cluster_rule: bool = Field(
        True, description="Whether to reject all texts of the query's cluster. False: only its own positives."
    )
    veto_score: float | None = Field(
        0.3,
        ge=0,
        le=1,
        description="Maximum reranker score of a negative; candidates from this score on may be positives and "
        "are left out. Null: none is left out.",
    )
    promote_score: float | None = Field(
        0.9,
        ge=0,
        le=1,
        description="Minimum reranker score, in both directions, at which a candidate is added to the "
        "positives. Null: none is added.",
    )
    promote_neighbors: bool = Field(
        False,
        description="Whether two texts that are each other's nearest neighbours under the tuned model become "
        "positives in later rounds, unless the reranker vetoes. This reduces similarity drift; "
        "where there are many near-misses, the model ranks worse.",
    )
    sampling: Literal["top", "random", "band"] = Field(
        "top",
        description="Which of the candidates that pass become negatives: the most similar (top), random ones, "
        "or one from each of equal bands of ranks (band).",
    )
    too_few: Literal["fewer", "random"] = Field(
        "fewer",
        description="What to do when too few candidates pass: use fewer negatives, or add random texts of "
        "other clusters.",
    )
    max_positives: int = Field(
        10, ge=1, description="Maximum number of positives of a query; the best supported come first."
    )
    index: FaissIndex = "auto"
    search_params: SearchParams = Field({})
    memory_mb: SearchMemory = 512
    precision: Literal["float32", "bfloat16", "float16", "int8", "auto"] = Field(
        "float32",
        description="Number format the models compute in. auto is about twice as fast; its results repeat on "
        "one machine only. int8 runs the encoder by ONNX Runtime on the CPU (pip install "
        "'bgetune[onnx]') and the reranker in float32.",
    )
    heldout_per_cluster: int = Field(
        20, ge=1, description="Maximum number of positive pairs of each dev or test cluster used for evaluation."
    )
    review_limit: int = Field(
        200, ge=0, description="Maximum number of doubtful pairs written to review.csv for people to label."
    )
    review_file: str | None = Field(None, description="Labelled review.csv of another run, to use here as well.")

    @model_validator(mode="after")
    def _agree(self) -> HardNegatives:
        if self.rank_min > self.rank_max:
            raise ValueError(_("rank_min is above rank_max: no candidate would be left; 1 is the top rank"))
        low, high, veto, promote = self.window_low, self.window_high, self.veto_score, self.promote_score
        if low is not None and high is not None and low >= high:
            raise ValueError(_("window_low is not below window_high: no candidate would be left; null lifts a bound"))
        if veto is not None and promote is not None and promote < veto:
            raise ValueError(
                _("promote_score is below veto_score: what may still be a negative would become a positive; raise it")
            )
        return self
