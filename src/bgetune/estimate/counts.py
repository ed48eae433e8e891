"""How much there is to compute: texts and pairs, by the sources before 01 has run, by its artifacts afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from bgetune.augment import targets
from bgetune.config.engines import DUCKDB
from bgetune.config.stages import Positives
from bgetune.data.sources import external_files, read_clicks
from bgetune.data.text import Normalizer
from bgetune.errors import InputError
from bgetune.graph import outlook, recall
from bgetune.locale import _
from bgetune.paths import locate
from bgetune.positives import clicks, evidence, pairs
from bgetune.runs import manifest

WHOLE = 30 << 20
"""Bytes of sources that are read whole; of more, a share."""


@dataclass(frozen=True)
class Counts:
    """What later notebooks compute with.

    Attributes:
        texts: distinct ones.
        queries: texts of the train split that have a positive: each becomes a training group.
        positives: mean number of a query.
        heldout: texts of dev and test.
        graded: labelled and graded pairs to train on.
        asked: pairs of a click log, which 01 has the reranker read; None: 01 has run.
        share: of the data that was looked at; 1: all.
        documents: those without a query, for which a language model may write some.
    """

    texts: float
    queries: float
    positives: float
    heldout: float
    graded: float
    asked: float | None = None
    share: float = 1.0
    documents: float = 0.0


def count(options: Positives, run_dir: Path, known: bool) -> Counts:
    """The counts of a run.

    Args:
        known: whether 01 is up to date.
    """
    return of_run(run_dir) if known else of_sources(options.model_dump_json())


def of_run(run_dir: Path) -> Counts:
    """From what 01, and what followed it, wrote."""
    texts, edges, clusters, graded = (
        pd.read_parquet(manifest.artifact_path(run_dir, name)) for name in ("texts", "edges", "clusters", "graded")
    )
    heldout = not outlook.enough(edges, clusters)
    train = clusters.loc[clusters["split"].eq("train"), "text_id"]
    ends = pd.concat([edges["a_id"], edges["b_id"]])
    ends = ends[ends.isin(train)]
    queries = ends.nunique()
    return Counts(
        texts=len(clusters),
        queries=queries,
        positives=len(ends) / max(queries, 1),
        heldout=len(clusters) - len(train),
        graded=int(graded["split"].eq("train").sum()),
        documents=len(targets.documents_without_query(texts, edges, clusters, None, 0, heldout=heldout)),
    )


@cache
def of_sources(parameters: str) -> Counts:
    """From the sources, read as 01 reads them; of much data, a share of users and texts.

    Args:
        parameters: of 01, as JSON.
    """
    options = Positives.model_validate_json(parameters)
    size = sum(locate(file).stat().st_size for file in external_files(options.sources) if locate(file).is_file())
    share = min(1.0, WHOLE / max(size, 1))
    normalizer = Normalizer(tuple(options.mask), options.opencc, options.strip_markup)
    fraction = options.sample_fraction * share
    written = pairs.collect(
        options.sources,
        normalizer=normalizer,
        positive_grade=options.positive_grade,
        hub_cap=options.hub_cap,
        sample_fraction=fraction,
    )
    edges, texts, asked = written.edges, written.texts, 0
    if options.sources.clicks and options.engine != DUCKDB:
        raise InputError(
            _("the log at 01_positives.engine is counted by notebook 01; estimate again when that has run")
        )
    if options.sources.clicks:
        counted = clicks.count(
            clicks.union([read_clicks(source)[0] for source in options.sources.clicks]),
            session_gap_minutes=options.session_gap_minutes,
            rewrite_window_seconds=options.rewrite_window_seconds,
            robot_searches_per_day=options.robot_searches_per_day,
            min_dwell_seconds=options.min_dwell_seconds,
            sample_fraction=fraction,
            normalizer=normalizer,
        )
        mined = evidence.mine(
            counted,
            min_support=options.min_support,
            min_npmi=options.min_npmi,
            min_jaccard=options.min_jaccard,
            hub_cap=options.hub_cap,
            misclick_rate=options.misclick_rate,
        )
        both = pd.concat([evidence.to_tables(counted, mined.edges), edges], ignore_index=True)
        asked = len(evidence.to_tables(counted, mined.weak)) + len(recall.least_certain(both, len(both)))
        edges, texts = both, pd.concat([texts, counted.used_texts()])
    return _scaled(options, edges, texts, written, asked, share)


def _scaled(
    options: Positives, edges: pd.DataFrame, texts: pd.DataFrame, written: pairs.Collected, asked: int, share: float
) -> Counts:
    edges = edges.drop_duplicates(["a_id", "b_id"])
    ends = pd.concat([edges["a_id"], edges["b_id"]])
    all_texts, joined = set(texts["text_id"]), set(ends) - written.heldout
    # with sources that are held out as a whole, everything else may be trained on
    train = 1.0 if written.heldout else 1 - options.dev_fraction - options.test_fraction
    heldout = len(written.heldout & all_texts) or len(all_texts) * (1 - train)
    graded = written.graded["use"].ne("heldout").sum() * train**2
    return Counts(
        texts=len(all_texts) / share,
        queries=len(joined) * train / share,
        positives=ends.isin(joined).sum() / max(len(joined), 1),
        heldout=heldout / share,
        graded=graded / share,
        asked=asked / share,
        share=share,
        documents=len(set(texts.loc[texts["kind"] == "document", "text_id"]) - set(ends)) / share,
    )
