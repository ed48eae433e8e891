"""Profiles: the only place where a parameter's default, range and help text are written.

A profile is one YAML file: shared parameters at the top level and a section per notebook. A notebook's
parameters are the fields of its model below; a value is looked up in the notebook's own arguments first, then in
its section, then at the top level of the profile, and last comes the default given here. A profile may start from
another one (`base`), and may be a study: a grid of values (`study`), each combination a run of its own.

`python -m bgetune.params` rewrites what is generated from these models: `params/template.yaml`,
`params/schema.json` and the `parameters` cell of every notebook.
"""

from __future__ import annotations

import copy
import difflib
import itertools
import json
import re
import textwrap
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from bgetune.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
"""The repository: relative paths in a profile are relative to it."""


class Section(BaseModel):
    """A part of a profile: unknown keys are errors, values never change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


ModelLocation = Annotated[str, "model"]
"""A model's folder, hub name or demo:// location: the pipeline checks them all before the first notebook."""


# --- shared parameters: written once at the top of a profile, used by the notebooks whose model has them ----------


class Seeded(Section):
    seed: int = Field(42, ge=0, description="Every random choice of the run follows from it.")


class Embeds(Section):
    model: ModelLocation = Field(
        "demo://standard/encoder",
        description="Embedding model to tune: a folder, a hub name such as BAAI/bge-small-zh-v1.5, or demo://...",
    )
    query_instruction: str = Field(
        "",
        description="Put before a query that searches documents (not before query-to-query pairs). "
        "BGE zh v1.5: 为这个句子生成表示以用于检索相关文章：",
    )
    max_length: int = Field(128, ge=8, le=8192, description="Tokens of a text that the encoder reads.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0, mps.")


class Reranks(Section):
    reranker: ModelLocation | None = Field(
        "demo://standard/reranker",
        description="Cross-encoder that confirms and vetoes: a folder, a hub name, demo://..., or null for none.",
    )


# --- 01_positives -------------------------------------------------------------------------------------------------


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
        # the profile is copied into the run's folder and the manifest
        if self.url and re.search(r"//[^/@]*:(?!\$\{\w+\}@)[^/@]+@|(password|pwd|token)=(?!\$\{)", self.url, re.I):
            raise ValueError("no password in url: write ${NAME} and set NAME in the environment")
        return self


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
    positive_grade: float | None = Field(
        1.0, gt=0, le=1, description="From this grade on, scaled, a pair is a positive too. Null: none is."
    )


class SynonymSource(Source):
    """Lists of expressions of one meaning."""

    words_column: str = Field("words", description="All expressions of one meaning in one cell.")
    separator: str = Field("|", min_length=1, description="Between them.")


class CorpusSource(Source):
    """Further texts."""

    text_column: str = Field("text", description="One text a row.")
    kind: Literal["query", "document"] = Field("document", description="What these texts are.")


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


class Positives(Reranks, Embeds, Seeded):
    """01_positives: click logs, rewrites, QA, synonyms, labelled pairs and recall become the positive graph."""

    sources: Sources = Field(Sources(), description="The team's own data.")
    truth: str | None = Field(None, description="Known meanings (text, meaning), to measure with. Demo and tests only.")
    sample_fraction: float = Field(
        1.0, gt=0, le=1, description="A stable share of users, pairs and texts, for a first look."
    )
    mask: list[Literal["email", "id_card", "card", "phone"]] = Field(
        ["email", "id_card", "card", "phone"], description="Personal data replaced by tokens such as <电话>. []: none."
    )
    opencc: str | None = Field(None, description="OpenCC configuration for all texts: t2s makes them simplified.")
    synonym_lexicon: bool = Field(
        False, description="Also join texts that become one another when synonyms in them are replaced."
    )
    session_gap_minutes: float = Field(
        30, gt=0, description="A user's pause that ends a session, where the log has no session ids."
    )
    rewrite_window_seconds: float = Field(
        120, gt=0, description="A rewrite comes at most this long after the search that found nothing."
    )
    robot_searches_per_day: int = Field(
        300, ge=1, description="A user with more rows on one day is a program; its rows are dropped."
    )
    min_dwell_seconds: float = Field(
        2, ge=0, description="A click that is left sooner is a mis-click (needs dwell_column)."
    )
    min_support: int = Field(2, ge=1, description="Distinct users a pair of a click log takes.")
    misclick_rate: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="How often a click goes to some wrong document: pairs that such noise explains are dropped.",
    )
    min_npmi: float = Field(
        0.1,
        ge=-1,
        le=1,
        description="Normalised pointwise mutual information of a query and a clicked document.",
    )
    min_jaccard: float = Field(0.05, ge=0, le=1, description="Overlap of the clicks of two queries of one document.")
    hub_cap: int = Field(
        100, ge=2, description="A document clicked after more distinct queries says nothing about any of them."
    )
    recall_neighbors: int = Field(10, ge=1, le=200, description="Nearest texts that each text proposes.")
    recall_similarity: float = Field(0.98, ge=-1, le=1, description="Similarity from which a pair is proposed.")
    recall_reranker_score: float = Field(
        0.9, ge=0, le=1, description="Reranker's score, in both directions, from which a pair is confirmed."
    )
    recall_max_pairs: int = Field(
        50000, ge=0, description="Pairs that the reranker reads at most: proposals first, then the log's least sure."
    )
    veto_reranker_score: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="A pair that only the log speaks for is dropped below this score in a direction. Null: no veto.",
    )
    max_cluster_size: int = Field(60, ge=2, description="Larger clusters are cut at their weakest edges.")
    dev_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of the texts to validate and calibrate on.")
    test_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of the texts that only the last judgement sees.")


# --- 02_backtranslate ---------------------------------------------------------------------------------------------


class Endpoint(Section):
    """A server that texts are sent to, and how it is asked."""

    base_url: str | None = Field(None, description="https://.../v1 of the endpoint. Null: nothing is generated.")
    model: str | None = Field(None, description="The model's name there.")
    key_variable: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key.")
    json_mode: bool = Field(True, description="Ask for response_format json_object; false where it is not known.")
    concurrency: int = Field(4, ge=1, le=64, description="Requests at a time.")
    max_requests: int = Field(1000, ge=1, description="Budget of a run, repeated requests included.")
    requests_per_minute: int | None = Field(None, ge=1, description="Rate limit. Null: none.")
    timeout: float = Field(60, gt=0, description="Seconds to wait for an answer.")
    retries: int = Field(3, ge=0, le=10, description="Further tries after a failed or malformed answer.")


class Service(Endpoint):
    """A translation service. Texts are sent to it: they leave this machine."""

    name: Literal["openai", "deepl", "libretranslate", "baidu", "tencent", "google"] = Field(
        "openai",
        description="openai: any OpenAI-compatible endpoint (base_url, model, key_variable), the only one that gives "
        "several candidates. deepl and tencent need pip install 'bgetune[translate]'. The others' keys are taken from "
        "the environment: DEEPL_AUTH_KEY; LIBRETRANSLATE_API_KEY (if it wants one); BAIDU_APPID and BAIDU_APPKEY; "
        "TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY; GOOGLE_API_KEY.",
    )
    base_url: str | None = Field(
        None,
        description="https://.../v1 of openai, http://localhost:5000 of libretranslate. Null: the service's own.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Service:
        if self.name == "openai" and not (self.base_url and self.model):
            raise ValueError("openai needs base_url (https://.../v1) and model")
        if self.name == "libretranslate" and not self.base_url:
            raise ValueError("libretranslate needs base_url, such as http://localhost:5000")
        return self


class Pivot(Section):
    """A language to translate by way of, and who translates: two models (MarianMT, NLLB, M2M100...) or a service."""

    language: str = Field("en", description="Name of the language, for tables and plots.")
    to_pivot: ModelLocation | None = Field(
        None, description="Translator to that language: a folder, a hub name, or demo://standard/zh-en."
    )
    from_pivot: ModelLocation | None = Field(None, description="Translator back: demo://standard/en-zh.")
    service: Service | None = Field(
        None, description="Instead of the models, a translation service. Texts are sent to it: they leave this machine."
    )
    text_code: str | None = Field(
        None,
        description="The texts' language as a multilingual model or a service calls it: zho_Hans (NLLB), zh (M2M100, "
        "baidu, tencent), ZH-HANS (deepl), zh-CN (google).",
    )
    pivot_code: str | None = Field(None, description="The pivot language in the same way: eng_Latn, en, EN-US.")

    @model_validator(mode="after")
    def _one_way(self) -> Pivot:
        models = [self.to_pivot, self.from_pivot]
        if any(models) == bool(self.service) or (any(models) and not all(models)):
            raise ValueError("give either to_pivot and from_pivot (two models) or service")
        if self.service and not (self.text_code and self.pivot_code):
            raise ValueError("with service, give text_code and pivot_code, the languages as it calls them: zh and en")
        return self


class Generation(Endpoint):
    """An OpenAI-compatible endpoint that writes queries for documents and paraphrases. Texts are sent to it."""

    queries: int = Field(3, ge=0, le=20, description="Queries to write for a document that has none.")
    paraphrases: int = Field(0, ge=0, le=20, description="Paraphrases to write for a query.")
    prompt_language: Literal["zh", "en"] = Field("zh", description="Language of the prompts.")
    temperature: float = Field(0.8, ge=0, le=2, description="Higher is more varied.")


class Gate(Section):
    """What a paraphrase must hold to be kept; null or false turns a rule off."""

    min_characters: int | None = Field(4, ge=1, description="Shorter texts are dropped.")
    min_change: float | None = Field(
        0.15, ge=0, le=1, description="Edited characters / length (signs and blanks aside): less is a copy."
    )
    length_ratio: tuple[float, float] | None = Field((0.5, 2.0), description="Length over the origin's length.")
    numbers: bool = Field(True, description="The same numbers and units, Chinese numerals too.")
    latin: bool = Field(True, description="The same Latin words and codes (app, vip, 5g) in Chinese text.")
    terms: list[str] = Field([], description="Product names and other terms that must be the same in both.")
    negation: bool = Field(True, description="Negated both or neither.")
    min_fluency: float | None = Field(
        0.5, ge=0, le=1, description="Mean probability of its tokens by the translator that made it."
    )
    min_agreement: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="Translated again, no word of the pivot text may lose more of its probability than down to this.",
    )
    similarity: tuple[float, float] | None = Field(
        (0.5, 1.0), description="Band of the similarity to the origin; wide, because a drifted model's scores bunch."
    )
    own_cluster_margin: float | None = Field(
        0.0,
        ge=-1,
        le=1,
        description="More than so much nearer to its own cluster than to any other that means something else.",
    )
    min_reranker: float | None = Field(0.9, ge=0, le=1, description="The reranker's score with the origin.")
    max_per_text: int | None = Field(3, ge=1, description="Most paraphrases kept of one text, the most changed first.")


class Backtranslate(Reranks, Embeds, Seeded):
    """02_backtranslate: paraphrases by way of another language or an LLM, and the gate they must pass."""

    truth: str | None = Positives.model_fields["truth"]
    enabled: bool = Field(True, description="False: nothing is added, to see whether it pays.")
    pivots: list[Pivot] = Field([], description="Languages to translate by way of. None: no back-translation.")
    max_texts: int | None = Field(
        20000, ge=1, description="Texts of the train split to paraphrase, spread over the clusters. Null: all."
    )
    candidates: int = Field(4, ge=1, le=50, description="Paraphrases asked for per text and pivot.")
    decoding: Literal["sampling", "beam"] = Field(
        "sampling", description="How the way back is chosen; the way there is always the most likely one."
    )
    top_p: float = Field(0.8, gt=0, le=1, description="Sampling: nucleus.")
    temperature: float = Field(0.7, gt=0, le=5, description="Sampling: higher is more varied.")
    num_beams: int = Field(4, ge=1, le=64, description="Beams of the way there, and of the way back with beam.")
    generation: Generation = Field(Generation(), description=Generation.__doc__)
    gate: Gate = Field(Gate(), description=Gate.__doc__)


# --- 03_hard_negatives --------------------------------------------------------------------------------------------


class HardNegatives(Reranks, Embeds, Seeded):
    """03_hard_negatives: candidates by search, the rules that reject false negatives, training groups."""

    truth: str | None = Positives.model_fields["truth"]
    num_negatives: int = Field(5, ge=1, le=100, description="Hard negatives of a query, at most.")
    rank_min: int = Field(1, ge=1, description="First rank of the search that may become a negative.")
    rank_max: int = Field(100, ge=1, le=2000, description="Last rank: how deep the search goes.")
    window_low: float | None = Field(0.6, ge=-1, le=1, description="Similarity a negative must reach. Null: any.")
    window_high: float | None = Field(None, ge=-1, le=1, description="Similarity a negative must not pass. Null: any.")
    margin: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="A negative stays this share below the positives, similarity measured after what all texts have in "
        "common is taken out (whitening). Applies where no reranker vetoes. Null: no such rule: the nearest teach more"
        ", even where a third of them are unknown positives; 0.05 keeps those out.",
    )
    cluster_rule: bool = Field(True, description="No text of the query's cluster is a negative. False: no direct edge.")
    veto_score: float | None = Field(
        0.3, ge=0, le=1, description="Reranker score from which a candidate is no negative. Null: no veto."
    )
    promote_score: float | None = Field(
        0.9, ge=0, le=1, description="Reranker score, in both directions, of a missed positive. Null: none is promoted."
    )
    promote_neighbors: bool = Field(
        False,
        description="In a later round: two texts that the tuned model finds nearest to each other are positives, too, "
        "unless the reranker vetoes. Scores bunch less; where near-misses abound, ranking suffers.",
    )
    sampling: Literal["top", "random", "band"] = Field(
        "top", description="Which of those that pass: the most similar, any, or one from each of equal bands of ranks."
    )
    too_few: Literal["fewer", "random"] = Field(
        "fewer", description="When too few pass: fewer negatives, or random texts of other clusters to fill up."
    )
    max_positives: int = Field(10, ge=1, description="Positives of a query, the best supported first.")
    index: str = Field("Flat", description="Flat is exact; for millions of texts FAISS's IVF4096,Flat, HNSW32...")
    search_params: dict[str, int] = Field({}, description="Of that index: {nprobe: 32} or {efSearch: 128}.")
    memory_mb: int = Field(512, ge=16, description="Working memory of the search, in MiB.")
    precision: Literal["float32", "bfloat16", "float16", "int8", "auto"] = Field(
        "float32",
        description="What the models compute in; auto is twice as fast, and the same on one machine only. int8: the "
        "encoder by ONNX Runtime on the CPU (pip install 'bgetune[onnx]'), the reranker in float32.",
    )
    heldout_per_cluster: int = Field(20, ge=1, description="Positive pairs of a dev or test cluster that are judged.")
    review_limit: int = Field(200, ge=0, description="Doubtful pairs written to review.csv for a person to judge.")
    review_file: str | None = Field(None, description="Judged review file of another run, to honour here too.")


# --- 04_train -----------------------------------------------------------------------------------------------------


class GeneralSource(Source):
    """Labelled or graded pairs of general text, which training should not make worse."""

    a_column: str = Field("text_a", description="First text.")
    b_column: str = Field("text_b", description="Second text.")
    label_column: str = Field("label", description="Two values are judged by AUC, more by Spearman's correlation.")


class Train(Embeds, Seeded):
    """04_train: fine-tuning by sentence-transformers or FlagEmbedding."""

    backend: Literal["sentence_transformers", "flagembedding"] = Field(
        "sentence_transformers",
        description="Who trains. flagembedding is the official trainer of BGE: of what says how to train, it takes "
        "epochs, batch_size, learning_rate, warmup, weight_decay, scale, negatives, precision and max_length alone.",
    )
    loss: Literal["ranking", "gist"] = Field(
        "ranking",
        description="ranking: MultipleNegativesRanking, without the false negatives that the clusters know; gist: the "
        "guide's vectors mask further ones (GISTEmbed).",
    )
    scale: float = Field(20.0, gt=0, le=200, description="1 / temperature of the ranking loss; BGE was made with 50.")
    compare: Literal["query", "batch"] = Field(
        "query",
        description="A positive must score above the negatives of its own query, or above those of all queries of the "
        "batch, which makes the scores of different queries comparable, as one threshold for all needs.",
    )
    symmetric: bool = Field(
        True, description="With compare: query, positives must find their query, too, not only the query its positive."
    )
    spread: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Weight of a term that spreads the scores of unrelated texts around 0; 1 spreads them further, and "
        "tells near-misses apart a little worse.",
    )
    matryoshka: list[Annotated[int, Field(ge=2)]] = Field(
        [],
        description="Lengths, such as [64, 128], to which vectors may be cut later; the ranking loss trains them, too.",
    )
    guide: ModelLocation | None = Field(
        None, description="Model that masks for gist. Null: the model as it was before training."
    )
    guide_margin: float = Field(0.0, ge=-1, le=1, description="For gist, in cosine: larger masks more.")
    graded_loss: Literal["none", "cosent", "angle", "cosine"] = Field(
        "cosent", description="For labelled and graded pairs, which train along; none leaves them out."
    )
    mixing: Literal["proportional", "round_robin"] = Field(
        "proportional", description="Groups and graded pairs: all of both once an epoch, or by turns while both last."
    )
    positives: int | None = Field(
        None, ge=1, description="Most positives of a query in a batch. Null: so many that all have their turn."
    )
    negatives: int = Field(4, ge=0, description="Most hard negatives that a query brings into a batch.")
    denoising_epochs: int = Field(
        0,
        ge=0,
        description="Passes over the texts of the train split, also those without a positive, before the training: the "
        "model learns to tell a text from a part of it (TSDAE). Pays if the model hardly knows such texts and "
        "positives are few; [0, 3] with --set compares. 0: none.",
    )
    denoising_texts: int | None = Field(
        50_000, ge=1, description="Most texts for denoising_epochs, drawn by the seed. Null: all."
    )
    epochs: int = Field(3, ge=1, description="Passes over all queries.")
    batch_size: int = Field(64, ge=2, description="Queries in a batch, per process.")
    mini_batch_size: int | None = Field(
        None,
        ge=1,
        description="Texts encoded at a time (GradCache): large batches in little memory. Null: all at once.",
    )
    learning_rate: float = Field(5e-5, gt=0, le=1, description="At its highest; it then falls to 0 in a line.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    lora_rank: int | None = Field(
        None,
        ge=1,
        description="Train low-rank additions to the linear layers (LoRA) instead of all weights; 8 to 64 are usual, "
        "with about ten times the learning rate. They are merged into the weights of the saved model. Null: no LoRA.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="What is computed in (weights stay float32); auto: bfloat16 on a GPU or CPU with instructions for "
        "it, else float32.",
    )
    gradient_checkpointing: bool = Field(False, description="Less memory, about a third more time.")
    eval_steps: int | None = Field(
        None, ge=1, description="Steps between two looks at dev, each with a checkpoint. Null: a tenth of the training."
    )
    dev_pairs: int = Field(
        2000, ge=1, description="Most dev pairs of a kind to look at, and most general pairs, drawn by the seed."
    )
    metric: Literal["auc", "average_precision", "labelled_auc", "mrr@10"] = Field(
        "average_precision", description="On dev: the checkpoint that is best by it becomes the model."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many looks at dev without a better metric. Null: never."
    )
    general: GeneralSource | None = Field(
        None,
        description="Labelled or graded pairs of general text: what the model forgets while it learns is measured on "
        "them. Null: not measured.",
    )
    merge_weight: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the tuned weights in the model; the rest are those from before training (LM-Cocktail), "
        "which brings back forgotten general text. 1: the tuned model as it is.",
    )
    tensorboard: bool = Field(
        False, description="Write event files, too: tensorboard --logdir runs/NAME/04_train/tensorboard"
    )
    push_to_hub: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="Also upload the model to this repository of the hub, team/name, private if it is new. The token "
        "is taken from the environment variable HF_TOKEN. Null: nothing leaves this machine.",
    )
    onnx: list[Literal["float32", "int8"]] = Field(
        [], description="Also write the tuned model as ONNX in these precisions (pip install 'bgetune[onnx]')."
    )


# --- 05_calibrate -------------------------------------------------------------------------------------------------


class Calibrate(Reranks, Embeds, Seeded):
    """05_calibrate: drift before and after, calibrated scores, thresholds with a promise."""

    precisions: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.90, 0.95, 0.99], description="Precisions to promise, each with the lowest threshold that keeps it."
    )
    recalls: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.90, 0.95], description="Shares of the positives to reach, each with the highest threshold that does."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the promised precisions.")
    prior: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of positives in production. Null: as among the calibration pairs.",
    )
    min_labelled: int = Field(
        100,
        ge=2,
        description="Pairs labelled by people, of either label, that dev and test each must have for calibration to "
        "use them; with fewer, the positives and hard negatives of 03_hard_negatives are used.",
    )
    positive_grade: float = Field(
        0.75, gt=0, le=1, description="Graded pairs from this grade on (of 0..1) count as the same meaning."
    )
    isotonic_min_pairs: int = Field(1000, ge=10, description="Dev pairs below which isotonic is not offered.")
    resamples: int = Field(500, ge=100, le=10000, description="Bootstrap resamples of clusters, for the intervals.")
    top_k: int = Field(10, ge=1, le=1000, description="Search results that are judged and reranked.")
    search_queries: int = Field(300, ge=10, description="Queries searched with, at most, in dev and in test.")


STAGES: dict[str, type[Section]] = {
    "01_positives": Positives,
    "02_backtranslate": Backtranslate,
    "03_hard_negatives": HardNegatives,
    "04_train": Train,
    "05_calibrate": Calibrate,
}

ROUND = ("03_hard_negatives", "04_train")
"""The stages that run once in every round."""


class Shared(Reranks, Embeds, Seeded):
    """Parameters that several notebooks use."""

    truth: str | None = Positives.model_fields["truth"]


ProfileModel = create_model(
    "Profile",
    __base__=Shared,
    name=(
        str | None,
        Field(None, description="Names the run's folder, runs/NAME. Default: the file's name."),
    ),
    base=(
        str | None,
        Field(None, description="Another profile, whose values hold where this one gives none."),
    ),
    study=(
        dict[str, Annotated[list[Any], Field(min_length=1)]],
        Field(
            {},
            description="Values to try, such as {04_train.scale: [10, 20, 50]}: every combination becomes a run of its "
            "own, runs/NAME/scale=10, and a page compares them.",
        ),
    ),
    rounds=(
        int,
        Field(
            1,
            ge=1,
            le=9,
            description="How often 03 and 04 run: from the second time on, the model tuned last mines the negatives.",
        ),
    ),
    **{
        f"stage_{stage}": (model | None, Field(None, alias=stage, description=model.__doc__))
        for stage, model in STAGES.items()
    },
)
"""A whole profile file: shared parameters, and a section per notebook that may give any of them another value."""


@dataclass(frozen=True)
class Profile:
    """A run as the user wrote it, checked as a whole: a profile, or one combination of a study's values.

    Attributes:
        name: names the run's folder; of a study, the study's name and the values tried: study_temperature/scale=10.
        path: the file it was read from.
        values: what the file and its base say, with `--set` applied: shared values and one dictionary per section.
    """

    name: str
    path: Path
    values: dict[str, Any]

    @property
    def rounds(self) -> int:
        """How often 03 and 04 run."""
        return self.values.get("rounds", 1)


def load_profiles(path: str | Path, overrides: typing.Sequence[str] = ()) -> list[Profile]:
    """Read and check a profile: one run, or of a study one for each combination of its values.

    Args:
        path: a YAML file, relative to the working directory or to the repository.
        overrides: `key=value` or `section.key=value`, values in YAML. A list for a parameter that takes a single
            value (a list of lists for one that takes a list) is a study of these values.

    Raises:
        InputError: naming file, line and key, and for an unknown key the nearest known one.
    """
    file = find_file(path)
    values, places = _read_profile(file)
    for override in overrides:
        _apply_override(values, override)
    _check(values, places, file)
    name = values.get("name") or file.stem
    if any(not part or part.startswith(".") or part != Path(part).name for part in name.split("/")):
        raise InputError(f"{file}: name must be a plain folder name, not {name!r}")
    study = values.pop("study", {})
    if not study:
        return [Profile(name, file, values)]
    return [
        Profile(f"{name}/{label}", file, variant) for label, variant in _variants(values, study, places, file).items()
    ]


def load_profile(path: str | Path, overrides: typing.Sequence[str] = ()) -> Profile:
    """Read and check the profile of a single run; see `load_profiles`."""
    profiles = load_profiles(path, overrides)
    if len(profiles) > 1:
        raise InputError(
            f"{path} is a study of {len(profiles)} runs: ./run_all.sh {path} runs them; in a notebook, take the "
            f"profile of one of them: runs/{profiles[0].name}/profile.yaml"
        )
    return profiles[0]


def find_file(path: str | Path) -> Path:
    """A file given relative to the working directory or to the repository, as an absolute path."""
    for candidate in (Path(path).expanduser(), ROOT / path):
        if candidate.is_file():
            return candidate.resolve()
    raise InputError(f"{path}: no such file (looked in {Path.cwd()} and {ROOT})")


def resolve(stage: str, profile: Profile, arguments: dict[str, Any] | None = None) -> tuple[Section, dict[str, str]]:
    """One notebook's parameters and where each came from.

    Args:
        stage: a key of `STAGES`.
        arguments: the notebook's own variables; None means "as the profile says". Names that are no
            parameters of the notebook are passed over.

    Returns:
        The checked model, and for each field one of "notebook", "profile" (its section), "profile (shared)", "default".

    Raises:
        InputError: naming the parameter.
    """
    model = STAGES[stage]
    section = profile.values.get(stage) or {}
    layers = {
        "notebook": {key: value for key, value in (arguments or {}).items() if value is not None},
        "profile": section,
        "profile (shared)": {key: value for key, value in profile.values.items() if key not in STAGES},
    }
    values, origins = {}, {}
    for field in model.model_fields:
        origin = next((name for name, layer in layers.items() if field in layer), "default")
        origins[field] = origin
        if origin != "default":
            values[field] = layers[origin][field]
    try:
        return model.model_validate(values), origins
    except ValidationError as error:
        raise InputError("\n".join(f"{stage}{_describe(issue, model)}" for issue in error.errors())) from None


def model_locations(values: typing.Mapping[str, Section]) -> list[tuple[str, str]]:
    """Every model that the notebooks of a profile will load: location and parameter, each location once."""
    found: dict[str, str] = {}
    for stage, section in values.items():
        if getattr(section, "enabled", True):
            for location, parameter in _locations(section, stage):
                shared = parameter.removeprefix(f"{stage}.")
                found.setdefault(location, shared if shared in Shared.model_fields else parameter)
    return list(found.items())


def _locations(value: Any, name: str) -> typing.Iterator[tuple[str, str]]:
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _locations(item, f"{name}.{number}")
    elif isinstance(value, BaseModel):
        for field, info in type(value).model_fields.items():
            inner = getattr(value, field)
            if isinstance(inner, str) and ("model" in info.metadata or "model" in _marks(info.annotation)):
                yield inner, f"{name}.{field}"
            else:
                yield from _locations(inner, f"{name}.{field}")


def _marks(annotation: Any) -> list[Any]:
    return [*getattr(annotation, "__metadata__", ()), *(m for a in typing.get_args(annotation) for m in _marks(a))]


# --- reading and checking -----------------------------------------------------------------------------------------


def _read_profile(file: Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[tuple, str]]:
    """The mapping in a file laid over that of its base, and of every key in it the place: "FILE, line N"."""
    values, lines = _read_yaml(file)
    places = {key: f"{file}, line {line}" for key, line in lines.items()}
    base = values.pop("base", None)
    if base is None:
        return values, places
    if not isinstance(base, str):
        raise InputError(f"{places[('base',)]}: base: the path of another profile, not {base!r}")
    try:
        found = find_file(base)
    except InputError as error:
        raise InputError(f"{places[('base',)]}: base: {error}") from None
    if found in (*above, file):
        raise InputError(f"{places[('base',)]}: base: {found} is based on this file itself")
    merged, merged_places = _read_profile(found, (*above, file))
    merged.pop("name", None)
    _merge(merged, values, (), merged_places)
    return merged, merged_places | places


def _merge(under: dict[str, Any], over: dict[str, Any], prefix: tuple, places: dict[tuple, str]) -> None:
    """Lay a mapping over another: mappings are merged, other values replaced, and with them what `places` says."""
    for key, value in over.items():
        place = (*prefix, key)
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            _merge(under[key], value, place, places)
        else:
            under[key] = value
            for old in [old for old in places if old[: len(place)] == place]:
                del places[old]


def _read_yaml(file: Path) -> tuple[dict[str, Any], dict[tuple, int]]:
    """The mapping in a file, and the line (from 1) of every key in it."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{file}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(values, dict):
        raise InputError(f"{file}: a profile is a mapping of parameters; see params/template.yaml")
    lines: dict[tuple, int] = {}
    _collect_lines(node, (), lines, file)
    return values, lines


def _collect_lines(node: yaml.Node, prefix: tuple, lines: dict[tuple, int], file: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*prefix, key.value)
            line = key.start_mark.line + 1
            if place in lines:
                raise InputError(f"{file}, line {line}: {key.value} is given twice (first in line {lines[place]})")
            lines[place] = line
            _collect_lines(value, place, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines[(*prefix, position)] = item.start_mark.line + 1
            _collect_lines(item, (*prefix, position), lines, file)


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals:
        raise InputError(f"--set {override}: write --set section.parameter=value, for example 04_train.epochs=2")
    if key == "base":
        raise InputError(f"--set {override}: the base of a profile is given in its file")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set {override}: the value is not YAML; quote it") from None
    study = values.get("study")
    if _is_study(key, value):
        _assign(values, "study", (study if isinstance(study, dict) else {}) | {key: value}, f"--set {override}")
        return
    if isinstance(study, dict):
        study.pop(key, None)
    _assign(values, key, value, f"--set {override}")


def _assign(values: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set `section.parameter`, making the sections on the way."""
    *sections, name = key.split(".")
    for part in sections:
        if values.get(part) is None:
            values[part] = {}
        values = values[part]
        if not isinstance(values, dict):
            raise InputError(f"{origin}: {part} is not a section")
    values[name] = value


def _is_study(key: str, value: Any) -> bool:
    """Whether `--set key=value` gives several values to try: a list for a parameter that takes none."""
    model, field = ProfileModel, None
    for part in key.split("."):
        field = next((field for name, field in model.model_fields.items() if part == (field.alias or name)), None)
        if field is None:
            return False
        model = next(_models_in(field.annotation), BaseModel)
    if not isinstance(value, list):
        return False
    return _plain_type(field.annotation) != "list" or (
        bool(value) and all(item is None or isinstance(item, list) for item in value)
    )


def _variants(
    values: dict[str, Any], study: dict[str, list[Any]], places: dict[tuple, str], file: Path
) -> dict[str, dict[str, Any]]:
    """The values of each run of a study, checked, by the run's label."""
    at = {key: _place(("study", key), places, file) for key in study}
    for key in study.keys() & {"name", "base", "study"}:
        raise InputError(f"{at[key]}: study: {key} is no parameter to try values of")
    # a complaint about a value that is tried names its line in the study
    steps = {key: tuple(key.split(".")) for key in study}
    sections = {place[:depth]: at[key] for key, place in steps.items() for depth in range(1, len(place))}
    places = sections | places | {place: at[key] for key, place in steps.items()}
    combinations = [dict(zip(study, chosen, strict=True)) for chosen in itertools.product(*study.values())]
    variants = dict(zip(_labels(combinations), (copy.deepcopy(values) for _ in combinations), strict=True))
    for chosen, variant in zip(combinations, variants.values(), strict=True):
        for key, value in chosen.items():
            _assign(variant, key, value, f"{at[key]}: study: {key}")
        _check(variant, places, file)
    return variants


def _labels(combinations: list[dict[str, Any]]) -> list[str]:
    """Names of folders for the runs of a study: scale=10,loss=gist; odd characters are replaced, long values cut."""
    short = {key: key.rsplit(".", 1)[-1] for key in combinations[0]}
    names = {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}
    labels = []
    for chosen in combinations:
        texts = {
            key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in chosen.items()
        }
        safe = {key: re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-.")[:40] for key, text in texts.items()}
        labels.append(",".join(f"{names[key]}={text}" for key, text in safe.items()))
    return [label if labels.count(label) == 1 else f"{label},{n}" for n, label in enumerate(labels, start=1)]


def _check(values: dict[str, Any], places: dict[tuple, str], file: Path) -> None:
    """Raise what the models object to, each with its place."""
    try:
        ProfileModel.model_validate(values)
    except ValidationError as error:
        problems = (_place(issue["loc"], places, file) + _describe(issue, ProfileModel) for issue in error.errors())
        raise InputError("\n".join(problems)) from None


def _known_keys(model: type[BaseModel], place: tuple) -> dict[str, str]:
    """The keys that are known at a place of a profile, by the name a user writes."""
    for step in place:
        if isinstance(step, int):
            continue
        field = next(f for name, f in model.model_fields.items() if step in (name, f.alias))
        model = next(iter(_models_in(field.annotation)))
    return {field.alias or name: name for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _place(key: tuple, places: dict[tuple, str], file: Path) -> str:
    while key and key not in places:
        key = key[:-1]
    return places[key] if key else str(file)


def _describe(issue: typing.Mapping[str, Any], model: type[BaseModel]) -> str:
    *place, key = issue["loc"]
    name = ".".join(map(str, issue["loc"]))
    if issue["type"] == "extra_forbidden":
        known = _known_keys(model, tuple(place))
        owners = [stage for stage, section in STAGES.items() if key in section.model_fields and not place]
        near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.5)
        if owners:
            hint = f"it belongs in the section {owners[0]}"
        elif near:
            hint = f"did you mean {near[0]}?"
        else:
            hint = f"known here: {', '.join(known)}"
        return f": unknown key {name}; {hint}"
    given = json.dumps(issue["input"], ensure_ascii=False, default=str)
    given = re.sub(r"//[^/@\s]*@|((?:password|pwd|token)=)[^&\s\"]*", r"//\1***", given)  # a URL's secrets
    given = given if len(given) <= 80 else given[:77] + "..."
    return f": {name}: {issue['msg'].removeprefix('Value error, ')}, not {given}"


# --- what is generated from the models ----------------------------------------------------------------------------


def template() -> str:
    """`params/template.yaml`: every key with its default, range and meaning."""
    lines = [
        "# Every parameter there is, at its default. Copy this file, keep what you change, delete the rest.",
        "# Made by `python -m bgetune.params`. Relative paths are relative to the repository.",
        "# Shared parameters stand at the top; a section may give any of its own another value.",
        "",
        "# name: my_run                 # names the run's folder, runs/my_run; default: this file's name",
        "# base: params/demo.yaml       # another profile, whose values hold where this one gives none",
        "# study:                       # values to try: every combination is a run, and a page compares them",
        "#   04_train.scale: [10, 20, 50]",
        *_template_lines(ProfileModel, "", {"rounds"}),
        *_template_lines(Shared, ""),
    ]
    for stage, model in STAGES.items():
        own = {name for name in model.model_fields if name not in Shared.model_fields}
        lines += ["", f"# {model.__doc__}", f"{stage}:" if own else f"{stage}: {{}}"]
        lines += _template_lines(model, "  ", own)
    return "\n".join(lines) + "\n"


def _template_lines(model: type[BaseModel], indent: str, only: set[str] | None = None) -> list[str]:
    lines = []
    for name, field in model.model_fields.items():
        if only is not None and name not in only:
            continue
        lines += [f"{indent}# {line}" for line in textwrap.wrap(_help(field), 108)]
        inner = next(_models_in(field.annotation), None)
        if inner is None:
            lines.append(f"{indent}{name}: {_default(field)}")
        elif field.default is None:
            lines.append(f"{indent}{name}: null")
            lines += [f"{indent}#  {key}: {_default(f)}  # {_help(f)}" for key, f in inner.model_fields.items()]
        elif typing.get_origin(field.annotation) is list:
            lines.append(f"{indent}{name}: []")
            for number, (key, item) in enumerate(inner.model_fields.items()):
                lines.append(f"{indent}#  {'- ' if number == 0 else '  '}{key}: {_default(item)}  # {_help(item)}")
                for deeper in _models_in(item.annotation):
                    fields = deeper.model_fields.items()
                    lines += [f"{indent}#      {name}: {_default(f)}  # {_help(f)}" for name, f in fields]
            for title, values in SOURCE_EXAMPLES.get(name, {}).items() if model is Sources else ():
                lines += [f"{indent}# {line}" for line in textwrap.wrap(f"Example: {title}.", 108)]
                example = yaml.safe_dump([values], allow_unicode=True, sort_keys=False, width=100)
                lines += [f"{indent}#  {line}" for line in example.splitlines()]
        else:
            lines += [f"{indent}{name}:", *_template_lines(inner, indent + "  ")]
    return lines


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10**6).split("\n")[0]


def _help(field: FieldInfo) -> str:
    """The description, with the range or the choices where there are any."""
    bounds = []
    for rule in field.metadata:
        # no "=" sign: papermill counts those in a parameter's line
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if getattr(rule, name, None) is not None:
                bounds.append(f"{sign} {getattr(rule, name)}")
    choices = [str(value) for value in _choices(field.annotation)]
    notes = ", ".join(bounds) or " | ".join(choices)
    return f"{field.description} ({notes})" if notes else str(field.description)


def _choices(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [choice for argument in typing.get_args(annotation) for choice in _choices(argument)]


def schema() -> str:
    """`params/schema.json`: the JSON schema of a profile, for editors."""
    return json.dumps(ProfileModel.model_json_schema(by_alias=True), ensure_ascii=False, indent=2) + "\n"


def parameters_cell(stage: str) -> str:
    """The source of a notebook's cell tagged `parameters`: typed, commented, None for "as the profile says"."""
    lines = [
        'profile: str = "params/demo.yaml"  # The profile: a YAML file like params/template.yaml',
        "run_dir: str = None  # Folder of the run. None: runs/NAME, by the profile's name",
        *(
            ["round_number: int = 1  # Which round of mining and training; in a later one the model tuned last mines"]
            * (stage in ROUND)
        ),
        "# Below, None means: as the profile says, else the default in [brackets].",
    ]
    for name, field in STAGES[stage].model_fields.items():
        kind = _plain_type(field.annotation)
        default = "" if kind == "dict" else f" [{_default(field)}]"
        lines.append(f"{name}: {kind} = None  # {_help(field)}{default}")
    return "\n".join(lines)


def _plain_type(annotation: Any) -> str:
    """The built-in type that stands for an annotation in a notebook."""
    origin = typing.get_origin(annotation) or annotation
    if origin is Literal:
        return type(typing.get_args(annotation)[0]).__name__
    if origin is typing.Annotated:
        return _plain_type(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return _plain_type(next(a for a in typing.get_args(annotation) if a is not type(None)))
    if origin in (list, tuple):
        return "list"
    if origin is dict or issubclass(origin, BaseModel):
        return "dict"
    return origin.__name__


def write_generated() -> list[Path]:
    """Rewrite what follows from the models; returns the files that changed."""
    import nbformat

    wanted = {ROOT / "params/template.yaml": template(), ROOT / "params/schema.json": schema()}
    for stage in STAGES:
        file = ROOT / "notebooks" / f"{stage}.ipynb"
        if file.exists():
            notebook = nbformat.read(file, as_version=4)
            cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
            cell.source = parameters_cell(stage)
            wanted[file] = nbformat.writes(notebook) + "\n"
    changed = [file for file, text in wanted.items() if not file.exists() or file.read_text("utf-8") != text]
    for file in changed:
        file.write_text(wanted[file], encoding="utf-8")
    return changed


if __name__ == "__main__":
    for changed_file in write_generated():
        print(f"wrote {changed_file.relative_to(ROOT)}")
