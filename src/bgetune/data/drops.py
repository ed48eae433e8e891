"""Rows that are not used, counted by reason, with an example that may be shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from bgetune.data.text import mask_personal_data, normalize


def dropped_rows(rows: Iterable[tuple[str, str, int, Any]]) -> pd.DataFrame:
    """A `dropped` table (see `tables.SCHEMAS`) of (source, reason, rows, example), examples masked and shortened."""
    rows = [(source, reason, int(count), _shown(example)) for source, reason, count, example in rows if count]
    table = pd.DataFrame(rows, columns=["source", "reason", "rows", "example"])
    return table.astype({"source": str, "reason": str, "rows": "int64", "example": str})


def _shown(example: Any) -> str:
    text = mask_personal_data(normalize("" if example is None else str(example)))[0]
    return text if len(text) <= 60 else text[:59] + "…"
