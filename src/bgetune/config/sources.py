"""The team's own data: where each source lies and which of its columns is which."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from bgetune.config.base import Section


class Source(Section):
    """A table of the team's. Subclasses name the columns it must have, with the column names of the file."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # a column of a file without a header line is named 2

    path: str | None = Field(None, description="File (csv, tsv, jsonl, parquet, xlsx, the first three also .gz).")
    format: Literal["csv", "tsv", "jsonl", "parquet", "xlsx"] | None = Field(
        None, description="Null: from the file's name."
    )
    delimiter: str | None = Field(None, min_length=1, description="Of a csv file. Null: recognised.")
    encoding: str | None = Field(None, description="utf-8, gb18030... Null: UTF-8 or GB18030, recognised.")
    header: bool = Field(True, description="False: the file has no header line; columns are named by number, 0 first.")
    url: str | None = Field(
        None,
        description="Database instead of a file: sqlite:///..., duckdb:///..., postgres://user:${PGPASSWORD}@host/db; "
        "${NAME} is taken from the environment.",
    )
    table: str | None = Field(None, description="Table of the database, or sheet of the Excel file.")
    query: str | None = Field(None, description="SQL query instead of a table.")

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if (self.path is None) == (self.url is None):
            raise ValueError("give either path (a file) or url (a database)")
        if self.url and (self.table is None) == (self.query is None):
            raise ValueError("with url, give either table or query")
        if self.path and self.query:
            raise ValueError("query needs url (duckdb:// queries files); a file has none")
        if self.url and not re.match(r"\w[\w+]*://", self.url):
            raise ValueError(
                "url begins with the kind of database: sqlite:///..., duckdb://, postgres://...; a file: path"
            )
        if self.query is not None and not self.query.strip():
            raise ValueError("query is empty; give a SELECT, or table")
        return self

    @classmethod
    def _secret_remedy(cls, field: str) -> str:
        return "write ${NAME} in url and set NAME in the environment"


class ClickSource(Source):
    """A click log."""

    query_column: str = Field("query", description="What was searched.")
    user_column: str | None = Field("user_id", description="Who. Null: every session is a user of its own.")
    session_column: str | None = Field(None, description="Null: sessions are made from user and session_gap_minutes.")
    time_column: str | None = Field("time", description="When: a date and time, seconds since 1970, or HH:MM:SS.")
    url_column: str | None = Field(
        "url", description="What was clicked; empty in a row for a search without a click. Null: the title says."
    )
    title_column: str | None = Field(None, description="Text of what was clicked; a positive of the query.")
    rank_column: str | None = Field(None, description="Position of the click, 1 is the top.")
    dwell_column: str | None = Field(None, description="Seconds spent on the page.")

    @model_validator(mode="after")
    def _something_clicked(self) -> ClickSource:
        if self.url_column is None and self.title_column is None:
            raise ValueError("a click log needs url_column or title_column")
        return self


class PairSource(Source):
    """Pairs of texts, labelled or not."""

    a_column: str = Field("text_a", description="First text (a question, a query).")
    b_column: str = Field("text_b", description="Second text (an answer, a document).")
    label_column: str | None = Field(None, description="Null: every row is a positive pair.")
    use: Literal["all", "train", "heldout"] = Field(
        "all",
        description="all: split by cluster; train: never judged on; heldout: never trained on (dev and test only).",
    )


class GradedSource(PairSource):
    """Pairs with graded relevance."""

    label_column: str = Field("grade", description="The grade, a number.")
    grade_range: tuple[float, float] | None = Field(
        None, description="Lowest and highest grade, which become 0 and 1. Null: those of the data."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_threshold(cls, values: Any) -> Any:
        if isinstance(values, dict) and "positive_grade" in values:
            raise ValueError("positive_grade holds for all graded pairs now: give it at the top of the profile")
        return values

    @model_validator(mode="after")
    def _a_range(self) -> GradedSource:
        if self.grade_range and self.grade_range[0] >= self.grade_range[1]:
            raise ValueError("grade_range: the lowest grade comes first; write [0, 4]")
        return self


class SynonymSource(Source):
    """Lists of expressions of one meaning."""

    words_column: str = Field("words", description="All expressions of one meaning in one cell.")
    separator: str = Field("|", min_length=1, description="Between them.")


class CorpusSource(Source):
    """Further texts."""

    text_column: str = Field("text", description="One text a row.")
    kind: Literal["query", "document"] = Field("document", description="What these texts are.")


class GeneralSource(Source):
    """Labelled or graded pairs of general text, which training should not make worse."""

    a_column: str = Field("text_a", description="First text.")
    b_column: str = Field("text_b", description="Second text.")
    label_column: str = Field("label", description="Two values are judged by AUC, more by Spearman's correlation.")


class Sources(Section):
    """The team's own data."""

    clicks: list[ClickSource] = Field([], description="Click logs: one row a click, one row a search without click.")
    qa: list[PairSource] = Field([], description="Question and answer.")
    synonyms: list[SynonymSource] = Field([], description="Lists of expressions that mean the same.")
    pairs: list[PairSource] = Field([], description="Pairs that people labelled 1 (same) or 0 (different).")
    graded: list[GradedSource] = Field([], description="Pairs with graded relevance, any range (scaled to 0..1).")
    corpus: list[CorpusSource] = Field([], description="Further texts, to mine recall and negatives from.")


SOURCE_EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "clicks": {
        "SogouQ's log as published: GB18030, tabs, no header line, the time of day, [query], rank and order, url": {
            **{"path": "data/SogouQ/access_log.20080601.decode.filter", "format": "tsv", "header": False},
            **{"time_column": "0", "user_column": "1", "query_column": "2", "rank_column": "3", "url_column": "4"},
        },
        "a search log in PostgreSQL (pip install 'bgetune[postgres]'); the password is in the environment": {
            "url": "postgres://reader:${PGPASSWORD}@db.example.com/search",
            "query": "SELECT * FROM searches WHERE day >= '2026-01-01'",
            **{"time_column": "searched_at", "title_column": "clicked_title", "url_column": "clicked_url"},
        },
    },
    "qa": {
        "the questions and answers of a help desk, second sheet of a workbook": {
            **{"path": "data/faq.xlsx", "table": "published", "a_column": "question", "b_column": "answer"},
        },
    },
    "synonyms": {
        "Cilin, which separates by blanks": {
            **{"path": "data/cilin_synonyms.tsv.gz", "words_column": "words", "separator": " "},
        },
    },
    "pairs": {
        "the benchmark of a team, kept for judging alone": {
            **{"path": "data/labelled.csv", "label_column": "label", "use": "heldout"},
        },
    },
    "graded": {
        "STS-B, 0 to 5": {
            **{"path": "data/stsb.tsv", "label_column": "score", "grade_range": [0, 5]},
        },
        "relevance judgements in three files, joined by DuckDB": {
            "url": "duckdb://",
            "query": "SELECT q.text AS text_a, d.text AS text_b, score FROM 'data/qrels.csv' r "
            "JOIN 'data/queries.jsonl' q ON q.id = r.query_id JOIN 'data/docs.jsonl' d ON d.id = r.doc_id",
            "label_column": "score",
        },
    },
    "corpus": {
        "a text a line": {**{"path": "data/questions.txt", "header": False, "text_column": "0", "kind": "query"}},
    },
}
"""For the template: kind of source -> what it is -> its values."""
