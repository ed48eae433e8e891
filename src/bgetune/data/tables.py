"""The tables that cross from one notebook to the next: their columns, types and rules.

`check` is called on every read and write, so a notebook never works on a table of another shape.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrorReason

from bgetune.errors import InternalError
from bgetune.locale import N_, _

SOURCES = {
    "given": 1.0,
    "co_click": 0.9,
    "rewrite": 0.8,
    "qa": 0.8,
    "synonym": 0.8,
    "recall": 0.7,
    "back_translation": 0.6,
    "generated": 0.5,
    "same_document": 0.4,
    "neighbor": 0.4,
}
"""The pyramid of trust: where an edge of the positive graph comes from, and how far its weight can reach."""

OBSERVED = ("given", "co_click", "rewrite", "qa", "synonym")
"""Sources that people speak in: by labels, by what they wrote, by what they clicked."""
MADE = ("back_translation", "generated", "same_document")
"""Sources that no person speaks in. Their pairs train; they judge only where people's pairs are too few."""

SPLITS = ("train", "dev", "test")
KINDS = ("query", "document")


def _text_id(says: str, **rules: Any) -> pa.Column:
    return pa.Column(str, pa.Check.str_matches(r"^[0-9a-f]{16}$"), description=says, **rules)


def _not_itself(table: pd.DataFrame) -> pd.Series:
    return table["a_id"] != table["b_id"]


SPLIT = N_("train, dev or test; a whole cluster has one split")
FIRST_ID, SECOND_ID = N_("id of the first text in `texts`"), N_("id of the second text")
QUERY_ID, OTHER_ID = N_("id of the query in `texts`"), N_("id of the text that is compared with it")
LABEL = N_("1: one meaning (or the text answers the query), 0: not")
DEV_OR_TEST = N_("dev chooses, test judges")
BEFORE, AFTER = N_("cosine of the base model"), N_("cosine of the tuned model")
RERANKER = N_("the reranker's score in [0, 1]; missing where it read nothing")

MEASURED = {
    "epoch": N_("passes over the groups"),
    "loss": N_("the whole loss"),
    "ranking": N_("the part of the loss that ranks positives above negatives"),
    "orthogonality": N_("the part of the loss that spreads unrelated texts"),
    "learning_rate": N_("of the step"),
    "auc": N_("area under the ROC curve on dev"),
    "average_precision": N_("area under the precision-recall curve on dev"),
    "labelled_auc": N_("area under the ROC curve for the labelled pairs alone"),
    "share_0.6_0.9": N_("share of positives and hard negatives that score between 0.6 and 0.9"),
    "mean_squared_cosine_random": N_("mean squared cosine of random pairs"),
    "crowded_share": N_("share of pairs where the middle four fifths of the scores lay before training"),
    "mean_positive": N_("mean score of the positives"),
    "mean_negative": N_("mean score of the hard negatives"),
    "mrr@10": N_("mean reciprocal rank of the first positive, 0 beyond rank 10"),
}
"""The columns of the training log, beside the step; dev measures are missing at steps that were not evaluated."""


def _log(description: str) -> pa.DataFrameSchema:
    measured = {
        name: pa.Column("float64", nullable=True, required=False, description=says) for name, says in MEASURED.items()
    }
    step = pa.Column("int64", description=N_("optimiser steps done; 0 is the base model"))
    return pa.DataFrameSchema({"step": step, **measured}, strict=True, description=description)


SCHEMAS = {
    "texts": pa.DataFrameSchema(
        {
            "text_id": _text_id(N_("the first 16 hexadecimal digits of the SHA-256 of the text"), unique=True),
            "text": pa.Column(
                str, pa.Check.str_length(min_value=1), description=N_("normalised, with personal data masked")
            ),
            "kind": pa.Column(
                str, pa.Check.isin(KINDS), description=N_("query or document: decides which prompt goes before it")
            ),
            "count": pa.Column(
                "int64", pa.Check.ge(1), description=N_("how often the sources mention it (searches, rows)")
            ),
        },
        strict=True,
        description=N_("One row a distinct normalised text."),
    ),
    "edges": pa.DataFrameSchema(
        {
            "a_id": _text_id(FIRST_ID),
            "b_id": _text_id(N_("id of the second text; always the larger of the two")),
            "source": pa.Column(
                str, pa.Check.isin(list(SOURCES)), description=N_("what says that the two belong together")
            ),
            "support": pa.Column("int64", pa.Check.ge(1), description=N_("distinct users or rows that say so")),
            "weight": pa.Column(
                "float64",
                [pa.Check.gt(0), pa.Check.le(1)],
                description=N_("trust in the source times strength of the evidence, in (0, 1]"),
            ),
        },
        checks=pa.Check(lambda table: table["a_id"] < table["b_id"], name="a_id < b_id"),
        unique=["a_id", "b_id", "source"],
        strict=True,
        description=N_("The positive graph: one row a pair of texts and source."),
    ),
    "clusters": pa.DataFrameSchema(
        {
            "text_id": _text_id(N_("id of the text in `texts`"), unique=True),
            "cluster_id": _text_id(N_("texts with the same value are taken to mean the same")),
            "split": pa.Column(str, pa.Check.isin(SPLITS), description=SPLIT),
        },
        strict=True,
        description=N_("The cluster and the split of every text."),
    ),
    "splits": pa.DataFrameSchema(
        {
            "text_id": _text_id(N_("id of the text in `texts`"), unique=True),
            "split": pa.Column(str, pa.Check.isin(SPLITS), description=SPLIT),
        },
        strict=True,
        description=N_(
            "What runs on all data decided, for later runs in the same folder: a held-out text never trains."
        ),
    ),
    # `label` is the one place where `positive_grade` is applied
    "graded": pa.DataFrameSchema(
        {
            "a_id": _text_id(FIRST_ID),
            "b_id": _text_id(SECOND_ID),
            "grade": pa.Column(
                "float64",
                pa.Check.in_range(0, 1),
                description=N_("1: the same, 0: different; grades are scaled to 0..1"),
            ),
            "label": pa.Column(
                "int64", pa.Check.isin([0, 1]), description=N_("1 where the grade reaches `positive_grade`")
            ),
            "origin": pa.Column(
                str,
                pa.Check.isin(["pairs", "graded"]),
                description=N_("the kind of source: pairs (0/1 labels) or graded"),
            ),
            "split": pa.Column(str, pa.Check.isin(SPLITS), description=SPLIT),
        },
        checks=pa.Check(_not_itself, name="a_id != b_id"),
        unique=["a_id", "b_id"],
        strict=True,
        description=N_("Pairs that people labelled or graded."),
    ),
    # labelled pairs of people are in `graded`
    "heldout": pa.DataFrameSchema(
        {
            "query_id": _text_id(QUERY_ID),
            "text_id": _text_id(OTHER_ID),
            "label": pa.Column("int64", pa.Check.isin([0, 1]), description=LABEL),
            "kind": pa.Column(
                str,
                pa.Check.isin(["positive", "hard_negative", "random"]),
                description=N_("positive (by the graph), hard_negative (by the miner) or random"),
            ),
            "split": pa.Column(str, pa.Check.isin(["dev", "test"]), description=DEV_OR_TEST),
        },
        unique=["query_id", "text_id"],
        strict=True,
        description=N_("Pairs of dev and test that no training sees."),
    ),
    "rejected": pa.DataFrameSchema(
        {
            "query_id": _text_id(QUERY_ID),
            "text_id": _text_id(N_("id of the candidate")),
            "rank": pa.Column(
                "int64", pa.Check.ge(1), description=N_("among the texts nearest to the query; 1 is the nearest")
            ),
            "similarity": pa.Column("float64", description=N_("cosine of the model that mines")),
            "reranker": pa.Column("float64", nullable=True, description=RERANKER),
            "rule": pa.Column(str, description=N_("the first rule that rejected the candidate")),
        },
        strict=True,
        description=N_(
            "Candidates that a rule rejected, of 5,000 queries at most; the manifest counts those of all (`rules`)."
        ),
    ),
    # not in `graded`: those are labels of people
    "near_misses": pa.DataFrameSchema(
        {
            "a_id": _text_id(N_("id of the near-miss in `texts`")),
            "b_id": _text_id(N_("id of the document that does not answer it, or of a query of that document")),
            "grade": pa.Column("float64", pa.Check.eq(0), description=N_("0: different")),
        },
        unique=["a_id", "b_id"],
        strict=True,
        description=N_("Pairs that a language model wrote to be different: known negatives, which no person checked."),
    ),
    "paraphrases": pa.DataFrameSchema(
        {
            "origin_id": _text_id(N_("id of the text that it was made from")),
            "text_id": _text_id(N_("id of the paraphrase")),
            "text": pa.Column(str, description=N_("the paraphrase, normalised")),
            "source": pa.Column(
                str,
                pa.Check.isin(["back_translation", "generated"]),
                description=N_("back_translation, or generated by a language model"),
            ),
            "via": pa.Column(str, description=N_("the pivot languages or the model that made it")),
            "pivot_text": pa.Column(
                str, description=N_("the translation in the pivot language; empty where none was made")
            ),
            "support": pa.Column("int64", pa.Check.ge(1), description=N_("how many candidates came to this text")),
            "asks": pa.Column(bool, description=N_("whether it is a query that was written for a document")),
            "change": pa.Column(
                "float64",
                pa.Check.in_range(0, 1),
                description=N_("edited characters by length, compared with the origin"),
            ),
            "fluency": pa.Column(
                "float64",
                nullable=True,
                description=N_("how likely the translator finds its text: geometric mean of its tokens' probabilities"),
            ),
            "agreement": pa.Column(
                "float64",
                nullable=True,
                description=N_(
                    "how likely the pivot text still is when the paraphrase is translated again; the worst word counts"
                ),
            ),
            "similarity": pa.Column("float64", nullable=True, description=N_("cosine to the origin")),
            "own_similarity": pa.Column(
                "float64", nullable=True, description=N_("cosine to the nearest text of the origin's cluster")
            ),
            "other_similarity": pa.Column(
                "float64", nullable=True, description=N_("cosine to the nearest text of any other cluster")
            ),
            "reranker": pa.Column("float64", nullable=True, description=RERANKER),
            "reason": pa.Column(str, description=N_("the rule of the gate that dropped it; empty for what is kept")),
        },
        unique=["origin_id", "text"],
        strict=True,
        description=N_("What was translated or generated, and what the gate measured."),
    ),
    "judged": pa.DataFrameSchema(
        {
            "query_id": _text_id(QUERY_ID),
            "text_id": _text_id(OTHER_ID),
            "label": pa.Column("int64", pa.Check.isin([0, 1]), description=LABEL),
            "kind": pa.Column(
                str, pa.Check.isin(["positive", "hard_negative"]), description=N_("positive or hard_negative")
            ),
            "split": pa.Column(str, pa.Check.isin(["dev", "test"]), description=DEV_OR_TEST),
            "cluster_id": pa.Column(
                str, description=N_("the cluster of the query: intervals resample clusters, not pairs")
            ),
            "before": pa.Column("float64", description=BEFORE),
            "after": pa.Column("float64", description=AFTER),
        },
        strict=True,
        description=N_("The pairs that calibration and the verdict stand on, with the scores of both models."),
    ),
    "slices": pa.DataFrameSchema(
        {
            "dimension": pa.Column(str, description=N_("what the pairs are divided by: length, source or frequency")),
            "slice": pa.Column(str, description=N_("the part of it")),
            "pairs": pa.Column("int64", description=N_("test pairs in this part")),
            "positives": pa.Column("int64", description=N_("how many of them are positives")),
            **{
                name + side: pa.Column("float64", nullable=True, description=says)
                for name, model in {
                    "before": N_("AUC of the base model; missing where there are too few pairs"),
                    "after": N_("AUC of the tuned model; missing where there are too few pairs"),
                }.items()
                for side, says in {
                    "": model,
                    "_low": N_("lower bound of its 95 % interval"),
                    "_high": N_("upper bound of its 95 % interval"),
                }.items()
            },
        },
        strict=True,
        description=N_("How well both models separate parts of the test pairs."),
    ),
    "training_log": _log(
        N_("One row a step at which something was measured; a column that no step measured is left out."),
    ),
    "reranker_log": _log(N_("The same of the reranker's training, where `tune_reranker` asks for one.")),
    "mistakes": pa.DataFrameSchema(
        {
            "side": pa.Column(
                str,
                pa.Check.isin(["missed", "accepted"]),
                description=N_("missed: one meaning, rejected; accepted: different meanings, accepted"),
            ),
            "query": pa.Column(str, description=N_("the text that asks")),
            "text": pa.Column(str, description=N_("the text that it is compared with")),
            "before": pa.Column("float64", description=BEFORE),
            "after": pa.Column("float64", description=AFTER),
            "probability": pa.Column("float64", description=N_("the calibrated score in [0, 1]")),
        },
        strict=True,
        description=N_("What the tuned model gets most wrong on test, the worst first."),
    ),
    "dropped": pa.DataFrameSchema(
        {
            "source": pa.Column(str, description=N_("kind of source or step")),
            "reason": pa.Column(str, description=N_("why the rows were not used")),
            "rows": pa.Column("int64", description=N_("how many")),
            "example": pa.Column(str, description=N_("one of them, masked")),
        },
        strict=True,
        description=N_("Rows that a notebook did not use, counted by reason: nothing is lost in silence."),
    ),
}


def check(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table with its columns in order and of the types that its schema names.

    An empty column has no type of its own, and pandas gives a column of whole numbers or texts several: what can take
    the schema's type without a change of any value takes it.

    Args:
        name: a key of `SCHEMAS`; a table without a schema is returned as it is.

    Raises:
        InternalError: naming table, column and the first offending value.
    """
    schema = SCHEMAS.get(name)
    if schema is None:
        return table
    # a fresh index: pandera cannot report duplicates under a repeated one
    table = table.reset_index(drop=True)
    types = {column: _plain_type(rule) for column, rule in schema.columns.items() if column in table}
    table = table.assign(**{column: _cast(table[column], dtype) for column, dtype in types.items()})
    try:
        return schema.validate(table)[[column for column in schema.columns if column in table]]
    except pa.errors.SchemaErrors as error:
        complaints = (str(one["error"]) for kind in error.message["SCHEMA"].values() for one in kind)
        complaint = "; ".join(re.sub(" not in DataFrameSchema.*", " is not in its schema", each) for each in complaints)
        raise InternalError(_("table {name}: {complaint}").format(name=name, complaint=complaint)) from None
    except pa.errors.SchemaError as error:
        raise InternalError(
            _("table {name}: {complaint}").format(name=name, complaint=_complaint(error, table))
        ) from None


def _plain_type(rule: pa.Column) -> str:
    return "str" if "str" in str(rule.dtype) else str(rule.dtype)


def _cast(values: pd.Series, dtype: str) -> pd.Series:
    """The values in another type, or as they are where that would change one of them."""
    if dtype == "str":
        return values.astype(str) if all(isinstance(value, str) for value in values) else values
    try:
        cast = values.astype(dtype)
    except (TypeError, ValueError):
        return values
    same = (cast == values) | (cast.isna() & values.isna())
    return cast if same.all() else values


def _complaint(error: pa.errors.SchemaError, table: pd.DataFrame) -> str:
    """A failure in one line: column, first offending value, rule."""
    column = error.schema.name if isinstance(error.schema, pa.Column) else None
    place = f"column {column}: " if column else ""
    if error.reason_code == SchemaErrorReason.WRONG_DATATYPE:
        return f"{place}not of type {_plain_type(error.schema)}, for example {_shown(table[column].iloc[0])}"
    cases = error.failure_cases
    if not isinstance(cases, pd.DataFrame) or cases.empty:
        return place + " ".join(str(error).split())
    value = cases["failure_case"].iloc[0]
    rule = getattr(error.check, "name", None) or error.check or error.reason_code.name.lower()
    return f"{place}{_shown(value)} ({rule})"


def _shown(value: Any) -> str:
    return repr(value.item() if hasattr(value, "item") else value)
