"""The click log: sessions of people who search, rephrase, change the subject, mis-click and mistype, and one robot."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bgetune_demo.language import stream
from bgetune_demo.lexicon import Meaning, near_misses
from bgetune_demo.world import Tables

if TYPE_CHECKING:
    import pandas as pd

Row = tuple[datetime, str, str, str, str | None, str | None, int | None, float | None]
"""A row of the log, in the order of `COLUMNS`."""

COLUMNS = ["time", "user_id", "session_id", "query", "url", "title", "rank", "dwell_seconds"]
START = datetime(2026, 3, 2)
SITE = "https://help.example.com"

#: Shares of what happens in the log: of the searches, and for the last four of the clicks.
REWRITE, CHANGE_OF_SUBJECT, JUNK, ABANDONED = 0.18, 0.07, 0.03, 0.05
NEAR_MISS_CLICK, SERVICE_CLICK, POPULAR_CLICK, SECOND_CLICK = 0.05, 0.02, 0.05, 0.12
#: Shares of the queries that are spelt oddly, and that hold a phone number or an address.
ODD_SPELLING, PERSONAL = 0.08, 0.006
ROBOT = 0.03  #: share of the rows that are one robot's


def _junk(rng: random.Random) -> str:
    """A query nobody can answer."""
    keys = "qwertyuiopasdfghjklzxcvbnm"
    return rng.choice(
        [
            f"www.example.com/{rng.randint(1, 40)}",
            f"http://shop{rng.randint(1, 20)}.example.com",
            rng.choice("的了啊我1a?x"),
            str(rng.randint(1, 99) * 111),
            "".join(rng.choice(keys) for _ in range(rng.randint(4, 7))),
            rng.choice(["...", "???", "!!!", "test", "测试", "哈哈哈", "在吗", "有人吗"]),
        ]
    )


def _personal(query: str, rng: random.Random) -> str:
    """The query with personal data in it; every number and address is made up."""
    phone, mail = f"138000000{rng.randint(10, 99)}", f"user{rng.randint(10, 99)}@example.com"
    return query + rng.choice([f"我的手机号是{phone}", f"手机{phone}", f"邮箱{mail}"])


def odd_spelling(query: str, rng: random.Random) -> str:
    """The query in full-width letters, upper case or with additional blanks, which normalisation removes."""
    wide = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in query)
    # a blank has no meaning only between Chinese characters
    gaps = [at for at in range(1, len(query)) if min(query[at - 1 : at + 1]) > "\u2e80"]
    at = rng.choice(gaps) if gaps else 0
    parted = [query[:at] + blank + query[at:] for blank in (" ", "  ", "\u3000")]
    return rng.choice([wide, query.upper(), *parted, f"  {query} "])


class Writer:
    """Appends the searches of sessions to the log."""

    def __init__(self, tables: Tables, rng: random.Random):
        self.tables, self.rng = tables, rng
        self.rows: list[Row] = []
        meanings = list(tables.lexicon.meanings)
        rng.shuffle(meanings)
        self.meanings = meanings
        self.popularity = [1 / (rank + 8) for rank in range(len(meanings))]
        self.close: dict[Meaning, list[Meaning]] = {meaning: [] for meaning in meanings}
        for a, b in near_misses(tables.lexicon.meanings):
            self.close[a].append(b)
            self.close[b].append(a)
        titles = [title for meaning in tables.lexicon.meanings for title in tables.titles[meaning]]
        pages = enumerate([*tables.lexicon.popular, *titles])
        self.urls = {title: f"{SITE}/{number:05d}.html" for number, title in pages}

    def topic(self, service: str | None = None) -> Meaning:
        """A meaning by popularity, of ``service`` if given."""
        while True:
            (meaning,) = self.rng.choices(self.meanings, self.popularity)
            if service in (None, meaning.service):
                return meaning

    def wording(self, meaning: Meaning, other_than: str = "") -> str:
        """A query of ``meaning``: a few wordings are frequent, most are rare."""
        queries = [q for q in self.tables.queries[meaning] if q != other_than]
        return self.rng.choices(queries, [1 / (rank + 2) for rank in range(len(queries))])[0]

    def personalised(self, query: str, meaning: Meaning) -> str:
        if self.rng.random() >= PERSONAL:
            return query
        return self.tables.note(_personal(query, self.rng), meaning.id, meaning.service)

    def target(self, meaning: Meaning) -> str:
        """The title somebody who means ``meaning`` clicks: mostly one of its own."""
        draw = self.rng.random()
        if draw < POPULAR_CLICK:
            return self.rng.choice(self.tables.lexicon.popular)
        draw -= POPULAR_CLICK
        if draw < NEAR_MISS_CLICK and self.close[meaning]:
            meaning = self.rng.choice(self.close[meaning])
        elif NEAR_MISS_CLICK <= draw < NEAR_MISS_CLICK + SERVICE_CLICK:
            meaning = self.topic(meaning.service)
        titles = self.tables.titles[meaning]
        return self.rng.choices(titles, [4, 2, 1][: len(titles)])[0]

    def write(self, time: datetime, user: str, session: str, query: str, titles: list[str]) -> datetime:
        """Write a search, a row for each click, or one row without a page. Returns the time of its end."""
        if self.rng.random() < ODD_SPELLING:
            query = odd_spelling(query, self.rng)
        if not titles:
            self.rows.append((time, user, session, query, None, None, None, None))
            return time + timedelta(seconds=self.rng.randint(4, 40))
        for title in titles:
            dwell, rank = round(self.rng.lognormvariate(3.2, 0.9), 1), min(int(self.rng.expovariate(0.5)) + 1, 10)
            self.rows.append((time, user, session, query, self.urls[title], title, rank, dwell))
            time += timedelta(seconds=int(dwell) + 1)
        return time + timedelta(seconds=self.rng.randint(5, 90))

    def session(self, time: datetime, user: str, session: str) -> None:
        """One to three searches of one person, mostly about one service."""
        service = None
        for _ in range(self.rng.choices([1, 2, 3], [5, 3, 2])[0]):
            if self.rng.random() < JUNK:
                clicks = [self.rng.choice(self.tables.lexicon.popular)] if self.rng.random() < 0.3 else []
                time = self.write(time, user, session, self.tables.note(_junk(self.rng), "", ""), clicks)
                continue
            meaning = self.topic(service if self.rng.random() < 0.6 else None)
            service, draw = meaning.service, self.rng.random()
            query = self.personalised(self.wording(meaning), meaning)
            if draw < ABANDONED:
                time = self.write(time, user, session, query, [])
                continue
            if draw < ABANDONED + REWRITE:
                time = self.write(time, user, session, query, [])
                query = self.wording(meaning, query)
            elif draw < ABANDONED + REWRITE + CHANGE_OF_SUBJECT:
                time = self.write(time, user, session, query, [])
                meaning = self.topic()
                query = self.wording(meaning, query)
            clicks = [self.target(meaning)]
            if self.rng.random() < SECOND_CLICK:
                clicks.append(self.target(meaning))
            time = self.write(time, user, session, query, list(dict.fromkeys(clicks)))

    def robot(self, rows: int, user: str) -> None:
        """A crawler: a search every two seconds for hours, clicking anything."""
        time, titles = START + timedelta(days=3, hours=2), list(self.urls)
        for _ in range(rows):
            query, title = self.wording(self.rng.choice(self.meanings)), self.rng.choice(titles)
            self.rows.append((time, user, f"{user}-s0", query, self.urls[title], title, 1, 0.2))
            time += timedelta(seconds=2)


def clicks(tables: Tables) -> pd.DataFrame:
    """The log in the order of time: one row per click, one row without a page for a search that led to none."""
    import pandas as pd

    world, rng = tables.world, stream(tables.world.seed, "log")
    writer = Writer(tables, rng)
    robot = int(ROBOT * world.log_rows)
    number = 0
    while len(writer.rows) < world.log_rows - robot:
        number += 1
        user = f"u{min(int(rng.paretovariate(0.8)), world.users):05d}" if rng.random() < 0.5 else None
        user = user or f"u{rng.randint(1, world.users):05d}"
        start = START + timedelta(days=rng.randrange(world.days), hours=8, seconds=rng.randrange(14 * 3600))
        writer.session(start, user, f"s{number:06d}")
    writer.robot(robot, f"u{world.users + 1:05d}")
    rows = sorted(writer.rows, key=lambda row: (row[0], row[2]))
    table = pd.DataFrame([(row[0].isoformat(sep="T"), *row[1:]) for row in rows], columns=COLUMNS)
    return table.astype({"rank": "Int64"})
