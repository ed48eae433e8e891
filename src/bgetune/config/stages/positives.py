"""The parameters of 01_positives."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bgetune.config import engines
from bgetune.config.augmentation import Judged
from bgetune.config.base import (
    POSITIVE_GRADE,
    Embeds,
    FaissIndex,
    Grade,
    Reranks,
    SearchMemory,
    SearchParams,
    Seeded,
    Truth,
)
from bgetune.config.sources import ClickSource, Sources
from bgetune.locale import _


class Positives(Judged, Reranks, Embeds, Seeded):
    """01_positives: click logs, rewrites, QA, synonyms, labelled pairs and recall become the positive graph."""

    sources: Sources = Field(Sources(), description="The team's own data.")
    engine: str = Field(
        engines.DUCKDB,
        description="Where click logs are counted: duckdb (this process); a Spark master (local[4], spark://host:7077, "
        "yarn, k8s://...), for tables and Parquet folders; postgres://user:${PGPASSWORD}@host/db, for its own tables.",
    )
    positive_grade: Grade = POSITIVE_GRADE
    truth: Truth = None
    sample_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of users, pairs and texts to use, for a first look. The same share is drawn every time.",
    )
    mask: list[Literal["email", "id_card", "card", "phone"]] = Field(
        ["email", "id_card", "card", "phone"],
        description="Kinds of personal data to replace by tokens such as <电话>. []: none.",
    )
    opencc: str | None = Field(
        None,
        description="OpenCC configuration applied to all texts, such as t2s (to simplified characters). Null: none.",
    )
    strip_markup: bool = Field(
        False,
        description="Whether to leave HTML tags out of all texts; entities such as &amp; always become characters.",
    )
    document_pairs: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether two parts of one document become weak positives: its title and its body, a heading and "
        "its section, a sentence and the text beside it. auto: only where no other source gives a positive and no "
        "language model writes queries (02_backtranslate.generation).",
    )
    synonym_lexicon: bool = Field(
        False, description="Whether to join texts that become equal when synonyms in them are replaced."
    )
    session_gap_minutes: float = Field(
        30,
        gt=0,
        description="Minutes without a search after which a user's session ends, where the log has no session ids.",
    )
    rewrite_window_seconds: float = Field(
        120, gt=0, description="Maximum seconds between a search without a click and the rewritten query that follows."
    )
    robot_searches_per_day: int = Field(
        300, ge=1, description="Maximum number of rows of a user on one day; users with more are dropped as robots."
    )
    min_dwell_seconds: float = Field(
        2, ge=0, description="Minimum seconds on a page; shorter clicks are dropped as mis-clicks. Needs dwell_column."
    )
    min_support: int = Field(
        2,
        ge=1,
        description="Minimum number of distinct users that must support a pair from a click log. Larger "
        "values give fewer, surer pairs.",
    )
    misclick_rate: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Assumed share of clicks on a wrong document; pairs with so few clicks that wrong clicks alone "
        "explain them are dropped.",
    )
    min_npmi: float = Field(
        0.1,
        ge=-1,
        le=1,
        description="Minimum normalised pointwise mutual information of a query and a clicked document.",
    )
    min_jaccard: float = Field(0.05, ge=0, le=1, description="Minimum Jaccard overlap of the clicks of two queries.")
    hub_cap: int = Field(
        100,
        ge=2,
        description="Maximum number of distinct queries of a document; clicks on documents with more, such as "
        "home pages, are not used.",
    )
    recall_neighbors: int = Field(
        10, ge=1, le=200, description="Number of nearest neighbours of each text that are proposed as positives."
    )
    recall_similarity: float = Field(
        0.98,
        ge=-1,
        le=1,
        description="Minimum similarity of a proposed pair. Smaller values propose more and cost more reranker time.",
    )
    index: FaissIndex = "auto"
    search_params: SearchParams = Field({})
    memory_mb: SearchMemory = 512
    recall_reranker_score: float = Field(
        0.9, ge=0, le=1, description="Minimum reranker score, in both directions, that confirms a proposed pair."
    )
    recall_max_pairs: int = Field(
        50000,
        ge=0,
        description="Maximum number of pairs the reranker reads: proposed pairs first, then the least certain "
        "pairs of the log.",
    )
    veto_reranker_score: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="Minimum reranker score, in both directions, of a pair that only the log supports; pairs "
        "below are dropped. Null: none is dropped.",
    )
    max_cluster_size: int = Field(
        60, ge=2, description="Maximum number of texts in a cluster; larger clusters are cut at their weakest edges."
    )
    dev_fraction: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Share of the texts for dev, on which checkpoints are chosen and scores are calibrated.",
    )
    test_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of the texts for test, which only the final evaluation uses."
    )

    @classmethod
    def _secret_remedy(cls, field: str) -> str:
        if field == "engine":
            return _("write ${NAME} in url and set NAME in the environment")
        return super()._secret_remedy(field)

    @model_validator(mode="after")
    def _logs_at_the_engine(self) -> Positives:
        kind = engines.kind(self.engine)
        if kind is None:
            raise ValueError(
                _("engine is duckdb, a Spark master (local[4], spark://host:7077, yarn) or postgres://user@host/db")
            )
        for number, source in enumerate(self.sources.clicks):
            if problem := _not_at(source, kind, self.engine):
                raise ValueError(_("sources.clicks.{number}: {problem}").format(number=number, problem=problem))
        return self

    @model_validator(mode="after")
    def _agree(self) -> Positives:
        if self.dev_fraction + self.test_fraction > 0.9:
            raise ValueError(
                _("dev_fraction and test_fraction together leave less than a tenth to train on; lower them")
            )
        if (self.veto_reranker_score or 0) > self.recall_reranker_score:
            raise ValueError(
                _(
                    "veto_reranker_score is above recall_reranker_score: what confirms a pair would veto it; "
                    "lower the veto"
                )
            )
        return self


def _not_at(source: ClickSource, kind: str, engine: str) -> str:
    """Why the engine cannot count a log where it lies; "" where it can."""
    if kind == "duckdb":
        alone = source.path is None and source.url is None
        return _("a table alone is a table of engine; set engine, or give path or url") if alone else ""
    if source.time_format is not None:
        return _("time_format is for files; make times of the column in a view, and name that in table")
    if source.query is not None:
        return _("an engine counts tables, not a query; make a view of the query and name it in table")
    if source.url is not None and source.url != engine:
        return _("engine counts its own tables only; give table without url, or set engine: duckdb")
    if source.path is not None and (kind == "database" or source.format not in (None, "parquet")):
        return _("engine does not read this file; give table, with Spark also a Parquet folder, or set engine: duckdb")
    return ""
