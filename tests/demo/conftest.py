"""The small demo world, made once and kept in the usual cache: later runs and other folders reuse it."""

import pandas as pd
import pytest

from bgetune.data.text import STANDARD
from bgetune_demo import resolve


@pytest.fixture(scope="session")
def table():
    """Reads a data item of the small world; empty fields are empty strings."""
    return lambda item, world="small": pd.read_csv(
        resolve(f"demo://{world}/{item}", progress=False), dtype=str, keep_default_na=False
    )


@pytest.fixture(scope="session")
def known(table):
    return table("truth.csv")


@pytest.fixture(scope="session")
def meanings(known):
    """Gives the meanings of texts: "" for one that means nothing, missing for one that the truth does not name."""
    meaning = dict(zip(known.text.map(STANDARD), known.meaning, strict=True))
    return lambda texts: texts.map(STANDARD).map(meaning)


@pytest.fixture(scope="session")
def judged(table, known):
    """Pairs of short texts: 300 that mean the same, 300 near-misses, 300 at random, each (text, text)."""
    sentences = known[(known.meaning.str.count(r"\.") == 3) & (known.text.str.len() < 25)]
    texts = sentences.groupby("meaning").text.apply(list)
    draw = pd.Series(texts.index)
    near = table("near_misses.csv").sample(300, replace=True, random_state=1)
    same = draw.sample(300, replace=True, random_state=2)
    return {
        "same": [tuple(pd.Series(texts[m]).sample(2, random_state=i)) for i, m in enumerate(same)],
        "near": [
            (texts[a][i % len(texts[a])], texts[b][-1 - i % len(texts[b])])
            for i, (a, b) in enumerate(near.itertuples(index=False))
        ],
        "random": [
            (texts[a][0], texts[b][1])
            for a, b in zip(draw.sample(300, replace=True, random_state=3), same, strict=True)
            if a != b
        ],
    }
