"""The team's own data: where each source lies and which of its columns is which."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from bgetune.config.base import Section
from bgetune.locale import N_, _


class Source(Section):
    """A table of the team's. Subclasses name the columns it must have, with the column names of the file."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # a column of a file without a header line is named 2

    LISTS: ClassVar[tuple[str, ...]] = ()
    """Parameters whose columns may hold lists: each item is a value."""
    TABLE_ALONE: ClassVar[bool] = False
    """Whether a table needs no url: it is one of 01_positives.engine."""

    path: str | None = Field(
        None,
        description="File (csv, tsv, jsonl, json, parquet, arrow, xlsx, xls, ods; also .gz, .bz2, .zst, .xz, .zip), "
        "folder of parts, pattern (data/*.csv, data/**/*.parquet) or address (s3://, https://, hdfs://).",
    )
    format: Literal["csv", "tsv", "jsonl", "json", "parquet", "arrow", "xlsx"] | None = Field(
        None, description="File format. Null: told by the file's name. json is a list of objects; xlsx is any workbook."
    )
    delimiter: str | None = Field(None, min_length=1, description="Column delimiter of a csv file. Null: recognised.")
    encoding: str | None = Field(
        None,
        description="Text encoding, such as utf-8 or gb18030. Null: recognised (UTF-8, UTF-16 with a BOM, GB18030).",
    )
    escape: bool | None = Field(
        None,
        description="Whether a backslash makes a delimiter, quote or line break part of a csv field, as Spark, Hive "
        "and MySQL write it. Null: recognised.",
    )
    skip_rows: int = Field(0, ge=0, description="Lines or rows to leave out above the header line, such as a title.")
    header: bool = Field(
        True,
        description="Whether the first line holds the column names. False: columns are named by number, starting at 0.",
    )
    url: str | None = Field(
        None,
        description="Database instead of a file: sqlite:///..., duckdb:///..., postgres://user:${PGPASSWORD}@host/db, "
        "mysql://, clickhouse://, trino://, bigquery://, impala://; ${NAME} is taken from the environment.",
    )
    table: str | None = Field(
        None,
        description="Table of the database, or sheet of the workbook (null: the first with rows; '*': all). Of a click "
        "log without path and url: a table of 01_positives.engine.",
    )
    query: str | None = Field(None, description="SQL query instead of a table.")

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if self.TABLE_ALONE and self.table and not (self.path or self.url or self.query):
            return self
        if (self.path is None) == (self.url is None):
            raise ValueError(_("give either path (a file) or url (a database)"))
        if self.url and (self.table is None) == (self.query is None):
            raise ValueError(_("with url, give either table or query"))
        if self.path and self.query:
            raise ValueError(_("query needs url (duckdb:// queries files); a file has none"))
        if self.url and not re.match(r"\w[\w+]*://", self.url):
            raise ValueError(
                _("url begins with the kind of database: sqlite:///..., duckdb://, postgres://...; a file: path")
            )
        if self.query is not None and not self.query.strip():
            raise ValueError(_("query is empty; give a SELECT, or table"))
        return self

    @classmethod
    def _secret_remedy(cls, field: str) -> str:
        return _("write ${NAME} in url and set NAME in the environment")


class ClickSource(Source):
    """A click log."""

    TABLE_ALONE = True

    query_column: str = Field("query", description="Column with the search query.")
    user_column: str | None = Field(
        "user_id", description="Column with the user id. Null: every session counts as a user of its own."
    )
    session_column: str | None = Field(
        None, description="Column with the session id. Null: sessions are built from the user and session_gap_minutes."
    )
    time_column: str | None = Field(
        "time", description="Column with the time of the search: a date and time, seconds since 1970, or HH:MM:SS."
    )
    time_format: str | None = Field(
        None, description="Format of time_column, as strptime takes it: '%d/%m/%Y %H:%M'. Null: recognised row by row."
    )
    timezone: str | None = Field(
        None,
        description="Time zone of times that name none: Asia/Shanghai, UTC. Null: this machine's. Times are stored in "
        "UTC.",
    )
    url_column: str | None = Field(
        "url",
        description="Column with the id or URL of the clicked document; empty for a search without a click. "
        "Null: the title identifies the document.",
    )
    title_column: str | None = Field(
        None, description="Column with the title of the clicked document, which becomes a positive of the query."
    )
    rank_column: str | None = Field(None, description="Column with the position of the clicked result; 1 is the top.")
    dwell_column: str | None = Field(None, description="Column with the seconds spent on the clicked page.")
    clicked_column: str | None = Field(
        None,
        description="Column that says whether a result shown was clicked: 1 or 0, click or impression. With "
        "rank_column, results passed over above a click become evidence against a pair. Null: every row with a "
        "document is a click.",
    )

    @model_validator(mode="after")
    def _something_clicked(self) -> ClickSource:
        if self.url_column is None and self.title_column is None:
            raise ValueError(_("a click log needs url_column or title_column"))
        return self

    def columns(self) -> dict[str, str | None]:
        """Column of a click log as the pipeline knows it -> column of the source, None where it has none."""
        return {
            "query": self.query_column,
            "user_id": self.user_column,
            "session_id": self.session_column,
            "time": self.time_column,
            "url": self.url_column or self.title_column,
            "title": self.title_column,
            "rank": self.rank_column,
            "dwell": self.dwell_column,
            "clicked": self.clicked_column,
        }

    def required(self) -> dict[str, str]:
        """Column without which a row is none -> what its dropped rows are counted under."""
        reasons = {"query": "no query"}
        if self.user_column:
            reasons["user_id"] = "no user"
        if self.time_column:
            reasons["time"] = "time not readable"
        if self.clicked_column:
            reasons["clicked"] = "clicked is neither yes nor no"
        return reasons


Use = Annotated[
    Literal["all", "train", "heldout"],
    Field(
        description="Where the pairs may be used. all: split by cluster; train: only for training; heldout: "
        "only for evaluation (dev and test)."
    ),
]


class PairSource(Source):
    """Pairs of texts, labelled or not."""

    LISTS = ("b_column",)

    a_column: str = Field("text_a", description="Column with the first text (question or query).")
    b_column: str = Field("text_b", description="Column with the second text (answer or document).")
    label_column: str | None = Field(
        None, description="Column with the label, same or different. Null: every row is a positive pair."
    )
    use: Use = "all"


class GradedSource(PairSource):
    """Pairs with graded relevance."""

    label_column: str = Field("grade", description="Column with the grade, a number.")
    grade_range: tuple[float, float] | None = Field(
        None,
        description="Lowest and highest possible grade; they become 0 and 1. Null: the lowest and highest "
        "grade of the data.",
    )
    unknown_grades: list[float] = Field([], description="Grades that mean nobody judged, such as -1 or 99: left out.")

    @model_validator(mode="before")
    @classmethod
    def _one_threshold(cls, values: Any) -> Any:
        if isinstance(values, dict) and "positive_grade" in values:
            raise ValueError(_("positive_grade holds for all graded pairs now: give it at the top of the profile"))
        return values

    @model_validator(mode="after")
    def _a_range(self) -> GradedSource:
        if self.grade_range and self.grade_range[0] >= self.grade_range[1]:
            raise ValueError(_("grade_range: the lowest grade comes first; write [0, 4]"))
        return self


class GroupSource(Source):
    """Queries with lists of positives and negatives: FlagEmbedding's training files."""

    LISTS = ("positives_column", "negatives_column")

    query_column: str = Field("query", description="Column with the query.")
    positives_column: str = Field("pos", description="Column with the positives of the query: a list, or one text.")
    negatives_column: str | None = Field(
        "neg", description="Column with its negatives, labelled different. Null: none."
    )
    use: Use = "all"


class TripletSource(Source):
    """Triplets: an anchor, a positive and a negative."""

    LISTS = ("positive_column", "negative_column")

    anchor_column: str = Field("anchor", description="Column with the anchor.")
    positive_column: str = Field("positive", description="Column with the positive of the anchor.")
    negative_column: str | None = Field(
        "negative", description="Column with its negative, labelled different. Null: none."
    )
    use: Use = "all"


class QrelsSource(Source):
    """Relevance judgements by ids, with queries and documents in files of their own: BEIR and C-MTEB."""

    path: str | None = Field(
        None,
        description="The judgements (qrels): a file, or a folder of BEIR's layout, which also has queries and corpus.",
    )
    queries: str | None = Field(None, description="File or folder of the queries. Null: beside the judgements.")
    corpus: str | None = Field(None, description="File or folder of the documents. Null: beside the judgements.")
    query_id_column: str = Field(
        "query-id", description="Column with the query's id in the judgements (also recognised: qid, query_id)."
    )
    document_id_column: str = Field(
        "corpus-id", description="Column with the document's id there (also recognised: pid, docid, corpus_id)."
    )
    relevance_column: str = Field(
        "score", description="Column with the relevance (also recognised: relevance, label, rel)."
    )
    id_column: str = Field(
        "_id", description="Column with the id in queries and corpus (also recognised: id, qid, pid)."
    )
    text_column: str = Field("text", description="Column with the text there; a document's title is put before it.")
    positive_relevance: float = Field(
        1, gt=0, description="Minimum relevance of a positive pair; pairs of relevance 0 are labelled different."
    )
    use: Use = "all"


class SynonymSource(Source):
    """Lists of expressions of one meaning."""

    LISTS = ("words_column",)

    words_column: str = Field(
        "words", description="Column that holds all synonyms of one meaning, in one cell or as a list."
    )
    separator: str = Field("|", min_length=1, description="Separator between the synonyms in a cell of text.")


class CorpusSource(Source):
    """Further texts."""

    LISTS = ("text_column",)

    text_column: str = Field("text", description="Column with the text.")
    title_column: str | None = Field(
        None, description="Column with the document's title, which is put before the text. Null: none."
    )
    kind: Literal["query", "document"] = Field("document", description="Whether these texts are queries or documents.")


class GeneralSource(Source):
    """Labelled or graded pairs of general text, which training should not make worse."""

    LISTS = ("b_column",)

    a_column: str = Field("text_a", description="Column with the first text.")
    b_column: str = Field("text_b", description="Column with the second text.")
    label_column: str = Field(
        "label",
        description="Column with the label or grade. Two distinct values are evaluated by AUC, more by "
        "Spearman's correlation.",
    )


class Sources(Section):
    """The team's own data."""

    clicks: list[ClickSource] = Field([], description="Click logs: one row for each click or search without a click.")
    qa: list[PairSource] = Field([], description="Questions with their answers.")
    synonyms: list[SynonymSource] = Field([], description="Lists of synonyms.")
    pairs: list[PairSource] = Field([], description="Pairs of texts labelled 1 (same meaning) or 0 (different).")
    groups: list[GroupSource] = Field(
        [], description="Queries with lists of positives and negatives (FlagEmbedding's {query, pos, neg})."
    )
    triplets: list[TripletSource] = Field([], description="Triplets of an anchor, a positive and a negative.")
    qrels: list[QrelsSource] = Field([], description="Relevance judgements by ids, as BEIR and C-MTEB have them.")
    graded: list[GradedSource] = Field([], description="Pairs of texts with graded relevance, scaled to 0..1.")
    corpus: list[CorpusSource] = Field(
        [], description="Further texts without labels, searched for missed positives and hard negatives."
    )

    def every(self) -> dict[str, Source]:
        """All sources by their place in the profile: clicks.0, clicks.1, qa.0."""
        kinds = {kind: getattr(self, kind) for kind in type(self).model_fields}
        return {f"{kind}.{place}": source for kind, listed in kinds.items() for place, source in enumerate(listed)}


SOURCE_EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "clicks": {
        N_("SogouQ's log as published: GB18030, tabs, no header line, the time of day, [query], rank and order, url"): {
            **{"path": "data/SogouQ/access_log.20080601.decode.filter", "format": "tsv", "header": False},
            **{"time_column": "0", "user_column": "1", "query_column": "2", "rank_column": "3", "url_column": "4"},
        },
        N_("a search log in PostgreSQL (pip install 'bgetune[postgres]'); the password is in the environment"): {
            "url": "postgres://reader:${PGPASSWORD}@db.example.com/search",
            "query": "SELECT * FROM searches WHERE day >= '2026-01-01'",
            **{"time_column": "searched_at", "title_column": "clicked_title", "url_column": "clicked_url"},
        },
        N_("results shown, a row each, clicked or not: what users pass over keeps texts apart"): {
            **{"path": "data/impressions.parquet", "url_column": "doc_id", "title_column": "doc_title"},
            **{"rank_column": "position", "clicked_column": "clicked"},
        },
    },
    "qa": {
        N_("the questions and answers of a help desk, second sheet of a workbook"): {
            **{"path": "data/faq.xlsx", "table": "published", "a_column": "question", "b_column": "answer"},
        },
    },
    "synonyms": {
        N_("Cilin, which separates by blanks"): {
            **{"path": "data/cilin_synonyms.tsv.gz", "words_column": "words", "separator": " "},
        },
    },
    "pairs": {
        N_("the benchmark of a team, kept for judging alone"): {
            **{"path": "data/labelled.csv", "label_column": "label", "use": "heldout"},
        },
    },
    "graded": {
        N_("STS-B, 0 to 5"): {
            **{"path": "data/stsb.tsv", "label_column": "score", "grade_range": [0, 5]},
        },
        N_("relevance judgements in three files, joined by DuckDB"): {
            "url": "duckdb://",
            "query": "SELECT q.text AS text_a, d.text AS text_b, score FROM 'data/qrels.csv' r "
            "JOIN 'data/queries.jsonl' q ON q.id = r.query_id JOIN 'data/docs.jsonl' d ON d.id = r.doc_id",
            "label_column": "score",
        },
    },
    "groups": {
        N_("a training file of FlagEmbedding, one {query, pos, neg} a line"): {"path": "data/train.jsonl"},
    },
    "triplets": {
        N_("a data set of Hugging Face's datasets, as save_to_disk leaves it"): {"path": "data/triplets/train"},
    },
    "qrels": {
        N_("a folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv"): {
            **{"path": "data/beir", "use": "heldout"},
        },
    },
    "corpus": {
        N_("a text a line"): {**{"path": "data/questions.txt", "header": False, "text_column": "0", "kind": "query"}},
    },
}
"""For the template: kind of source -> what it is -> its values."""
