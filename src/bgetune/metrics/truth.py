"""Known meanings of texts (of the demo world, or of a labelled sample), to measure what logs cannot show.

Two texts mean the same when they have the same meaning. A text of meaning "" (junk, a page without a topic) means the
same as no other text. Texts without a known meaning are left out of every metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from bgetune.data.text import Normalizer
from bgetune.errors import InputError
from bgetune.locale import _


def read_truth(file: str | Path, normalizer: Normalizer) -> dict[str, str]:
    """Read a CSV file with the columns text and meaning.

    Args:
        file: in UTF-8.
        normalizer: the one of the run, so that the ids are those of its tables.

    Returns:
        text_id -> meaning.

    Raises:
        InputError: naming the file and the missing column.
    """
    table = pd.read_csv(file, keep_default_na=False, dtype=str)
    for column in ("text", "meaning"):
        if column not in table:
            raise InputError(
                _("truth: {file} has no column {column}; it has {columns}").format(
                    file=file, column=column, columns=", ".join(table.columns)
                )
            )
    return dict(zip(table["text"].map(normalizer.text_id), table["meaning"], strict=True))


def same_meaning(a_id: pd.Series, b_id: pd.Series, truth: Mapping[str, str]) -> pd.Series:
    """Whether pairs of texts mean the same: (n,) 1.0 or 0.0, NaN where a meaning is not known.

    Args:
        a_id, b_id: (n,) ids of texts, with the same index.
        truth: see `read_truth`.
    """
    a, b = a_id.map(truth), b_id.map(truth)
    return ((a == b) & (a != "")).astype(float).where(a.notna() & b.notna())
