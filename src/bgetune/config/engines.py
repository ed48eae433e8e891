"""Where click logs are counted: what `engine` of 01_positives may be."""

from __future__ import annotations

import re
from typing import Literal

DUCKDB = "duckdb"
_SPARK = re.compile(r"local(\[[\w*,]+\])?|local-cluster\[\d+, *\d+, *\d+\]|spark://\S+|k8s://\S+|yarn")
_DATABASE = re.compile(r"postgres(ql)?://\S+")


def kind(engine: str) -> Literal["duckdb", "spark", "database"] | None:
    """What an engine is: DuckDB in this process, a master of Spark, or the URL of a database; None for neither."""
    if engine == DUCKDB:
        return "duckdb"
    if _SPARK.fullmatch(engine):
        return "spark"
    return "database" if _DATABASE.fullmatch(engine) else None
