"""The click log with all results that were shown: for trying what results that users pass over say."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from bgetune_demo.language import stream
from bgetune_demo.lexicon import Meaning
from bgetune_demo.log import COLUMNS, Writer, clicks
from bgetune_demo.world import Tables

if TYPE_CHECKING:
    import pandas as pd

RESULTS = 10  #: on a page of results
#: Shares of the results by what they are: they answer the query, a near-miss, the same service; the others are popular.
ANSWER, NEAR_MISS, SERVICE = 0.3, 0.45, 0.15
PASSED_OVER = 0.35  #: share of the answers that users see and do not click, though they want one


class _Engine:
    """Finds results for a query, good and bad ones."""

    def __init__(self, tables: Tables, rng: random.Random):
        self.writer, self.tables, self.rng = Writer(tables, random.Random(0)), tables, rng
        self.by_id = {meaning.id: meaning for meaning in tables.lexicon.meanings}

    def result(self, meaning: Meaning | None, answer: float) -> str:
        """A title; one that answers the query with the share ``answer``."""
        popular, draw = self.tables.lexicon.popular, self.rng.random()
        if meaning is None:
            return self.rng.choice(popular)
        if draw < answer:
            return self.rng.choice(self.tables.titles[meaning])
        draw = self.rng.random() * (1 - ANSWER)
        if draw < NEAR_MISS and self.writer.close[meaning]:
            return self.rng.choice(self.tables.titles[self.rng.choice(self.writer.close[meaning])])
        if draw < NEAR_MISS + SERVICE:
            return self.rng.choice(self.tables.titles[self.writer.topic(meaning.service)])
        return self.rng.choice(popular)

    def page(self, meaning: Meaning | None, clicked: dict[int, str]) -> dict[int, str]:
        """Position -> title of all results of a search, of which these were clicked."""
        page, last = dict(clicked), max(clicked, default=0)
        for rank in range(1, RESULTS + 1):
            answer = ANSWER * PASSED_OVER if rank < last else ANSWER
            title = self.result(meaning, answer)
            if rank not in page and title not in page.values():  # a page may have fewer results
                page[rank] = title
        return page


def results(tables: Tables) -> pd.DataFrame:
    """`log.clicks` with a row for each result shown, the column ``clicked`` (1 or 0) last; other rows are unchanged.

    A search without a click is a page of results without one. The robot's rows stay as they are, all clicked.
    """
    import pandas as pd

    log = clicks(tables)
    engine = _Engine(tables, stream(tables.world.seed, "shown"))
    rows = []
    for (session, query), some in itertools.groupby(log.itertuples(index=False), lambda row: (row[2], row[3])):
        found = list(some)
        if session.endswith("-s0"):
            rows += [(*row, 1) for row in found]
            continue
        known = tables.meaning.get(_plain(query)) or tables.meaning.get(query) or ("", "")
        clicked: dict[int, str] = {}
        for row in found:
            if isinstance(row.title, str):
                rank = int(row.rank)
                while rank in clicked:
                    rank += 1
                clicked[rank] = row.title
                rows.append((*row[:6], rank, row.dwell_seconds, 1))
        for rank, title in sorted(engine.page(engine.by_id.get(known[0]), clicked).items()):
            if rank not in clicked:
                url = engine.writer.urls[title]
                rows.append((*found[0][:4], url, title, rank, None, 0))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "clicked"])
    return table.astype({"rank": "Int64"})


def _plain(query: str) -> str:
    from bgetune.data.text import normalize

    return normalize(query)
