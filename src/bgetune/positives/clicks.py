# ruff: noqa: PD003, PD004 (isnull and notnull are Ibis's here)
"""Counts of click logs: distinct users of each query and clicked document, and of each query rewrite.

The counting is written as Ibis expressions and runs where the log is (DuckDB in process, Spark, PostgreSQL), with the
same result: sessions, robots and junk first, then the users. The result is small; `evidence` decides which pairs it
supports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bgetune.data import text
from bgetune.data.backends import Engine
from bgetune.data.text import STANDARD, Normalizer
from bgetune.positives import impressions

SKIPS = ("query", "document", "users")


@dataclass(frozen=True)
class Counts:
    """The counts of a click log.

    The number of a query or title is its row in `texts`. The number of a document is that of its title or, where the
    log has no title for it, a negative number of its own.

    Attributes:
        texts: text_id, text, kind, count (searches of a query, clicks on a title).
        clicks: query, document (numbers), users (distinct users who clicked the document after the query), examination
            (probability that users looked at these results, by their ranks: mean of 1 / log2(1 + rank), 1 if unknown).
        rewrites: query, rewrite (numbers), users (distinct users who clicked nothing for the query and then something
            for the rewrite, in one session).
        skips: query, document (numbers), users (distinct users who saw the document above one that they clicked, and
            did not click it); empty where the log holds clicks alone.
        dropped: reason, rows, example.
        masked: kind of personal data -> how often it was masked, in distinct texts.
        searches: number of rows of the log that were used.
        abandoned: number of them that are searches without a click.
        users: number of distinct users.
        days: (first, last) time of the log; None if it has no times.
        one_day: the only day of all rows, robots included; None where there are several, or no times.
    """

    texts: pd.DataFrame
    clicks: pd.DataFrame
    rewrites: pd.DataFrame
    dropped: pd.DataFrame
    masked: Counter[str] = field(default_factory=Counter)
    searches: int = 0
    abandoned: int = 0
    users: int = 0
    days: tuple[pd.Timestamp, pd.Timestamp] | None = None
    one_day: pd.Timestamp | None = None
    skips: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({n: [] for n in SKIPS}, dtype="int64"))

    def used_texts(self) -> pd.DataFrame:
        """The texts of rows that were used (not those of robots only)."""
        return self.texts[self.texts["count"] > 0]

    def summary(self) -> pd.DataFrame:
        """A table of one column with the main counts, and what cannot be mined from the log."""
        facts = {"rows used": f"{self.searches:,}", "users": f"{self.users:,}"}
        if self.days:
            facts["from, to"] = f"{self.days[0]:%Y-%m-%d %H:%M}, {self.days[1]:%Y-%m-%d %H:%M}"
        facts["searches without a click"] = f"{self.abandoned:,}"
        facts["query and document pairs"] = f"{len(self.clicks):,}"
        facts["rewrites (query, other query)"] = f"{len(self.rewrites):,}"
        if len(self.skips):
            facts["results seen above a click and passed over (query, document)"] = f"{len(self.skips):,}"
        if not self.searches:
            facts = {"click log": "none, or no usable row"}
        elif not self.abandoned:
            facts["rewrites (query, other query)"] = "cannot be mined: the log holds no search without a click"
        elif not self.days:
            facts["rewrites (query, other query)"] = "cannot be mined: the log has no times (time_column)"
        if self.one_day is not None:
            of_day = self.one_day == pd.Timestamp(0)
            day = "times of day without dates: all rows are one day" if of_day else f"one: {self.one_day:%Y-%m-%d}"
            facts["days"] = f"{day}; users with a few rows a day may look like robots (raise robot_searches_per_day)"
        return pd.DataFrame(facts.items(), columns=["click log", ""]).set_index("click log")


# --- counting: Ibis -----------------------------------------------------------------------------------------------

LOG = {
    "time": "timestamp",
    "user_id": "string",
    "session_id": "string",
    "query": "string",
    "url": "string",
    "title": "string",
    "rank": "int64",
    "dwell": "float64",
}
"""Columns of a click log -> types of Ibis."""


def union(logs: Sequence[ibis.Table]) -> ibis.Table:
    """Several logs as one table; an empty table for no log. Where one of them says what was clicked, all do."""
    if any("clicked" in log.columns for log in logs):
        logs = [log if "clicked" in log.columns else log.mutate(clicked=ibis.literal(True)) for log in logs]
    if logs:
        return ibis.union(*logs) if len(logs) > 1 else logs[0]
    return ibis.memtable(pd.DataFrame(columns=list(LOG)), schema=LOG)


def count(
    log: ibis.Table,
    *,
    session_gap_minutes: float,
    rewrite_window_seconds: float,
    robot_searches_per_day: int,
    min_dwell_seconds: float,
    sample_fraction: float = 1.0,
    normalizer: Normalizer = STANDARD,
) -> Counts:
    """Count the distinct users of each query and document, and of each query and rewrite.

    Rows of robots, junk queries and short visits are left out.

    Args:
        log: time (timestamp or null), user_id, session_id (nullable), query, url, title, rank, dwell (nullable);
            a row with neither url nor title is a search without a click. With a column clicked (bool), a row is a
            result shown; one without a click makes its document one that was seen, where a later result was clicked.
        session_gap_minutes: pause of a user that ends a session, where the log has no session ids.
        rewrite_window_seconds: maximum time between a search without a click and its rewrite.
        robot_searches_per_day: maximum number of rows of a user on one day; all rows of other users are dropped.
        min_dwell_seconds: minimum length of a visit; a search with a shorter one counts as one without a click.
        sample_fraction: share of the users to count, always the same ones.
        normalizer: normalises and masks texts.
    """
    engine = Engine.of(log)
    if sample_fraction < 1:
        log = log.filter(engine.digest(log.user_id) < f"{int(sample_fraction * 16**8):08x}")
    numbered, kept, examples, masked = _clean(log, normalizer)
    with ExitStack() as stack:
        with (
            engine.upload(numbered) as strings,
            engine.store(_rows(log, strings, engine)) as shown,
            engine.store(impressions.searches(shown)) if "clicked" in log.columns else nullcontext(shown) as rows,
            engine.store(_robots(rows, robot_searches_per_day)) as robots,
        ):
            skips = {"skips": impressions.skips(shown, robots).to_pandas()} if rows is not shown else {}
            one_day = _one_day(rows)
            dropped = _drops(rows, robots, examples, robot_searches_per_day, min_dwell_seconds)
            usable = _usable(rows, robots, min_dwell_seconds, session_gap_minutes)
            usable = stack.enter_context(engine.store(usable))  # outlives the rows: the memory they take is needed
        return Counts(
            dropped=dropped,
            masked=masked,
            one_day=one_day,
            **skips,
            **_aggregates(usable, kept, rewrite_window_seconds),
        )


def _aggregates(rows: ibis.Table, texts: pd.DataFrame, rewrite_window_seconds: float) -> dict[str, Any]:
    """The attributes texts, clicks, rewrites, searches, abandoned, users and days of `Counts`."""
    clicks = (
        rows.filter(rows.document.notnull())
        .group_by("query", "document", "user")
        .agg(rank=ibis._["rank"].min())
        .group_by("query", "document")
        # rounded, because threads add up in any order
        .agg(
            users=ibis._.count(),
            examination=(1 / (1 + ibis._["rank"].fill_null(1).clip(1, 1000)).log2()).mean().round(6),
        )
        .order_by("query", "document")
        .to_pandas()
    )
    rewrites = _rewrites(rows, rewrite_window_seconds).to_pandas()
    facts = rows.agg(
        searches=rows.count(),
        abandoned=rows.document.isnull().sum(),
        users=rows.user.nunique(),
        first=rows.time.min(),
        last=rows.time.max(),
    ).to_pandas()
    facts = facts.iloc[0]
    searched = rows.group_by(number=rows.query).agg(n=rows.count()).to_pandas().set_index("number")["n"]
    titled = rows.filter(rows.title.notnull())
    clicked = titled.group_by(number=titled.title).agg(n=titled.count()).to_pandas().set_index("number")["n"]
    texts = texts.assign(
        count=searched.add(clicked, fill_value=0).reindex(texts.index, fill_value=0).astype("int64"),
        kind=np.where(texts.index.isin(searched.index), "query", "document"),
    )
    return {
        "texts": texts,
        "clicks": clicks,
        "rewrites": rewrites,
        "searches": int(facts["searches"]),
        "abandoned": int(facts["abandoned"] or 0),
        "users": int(facts["users"]),
        "days": None if pd.isna(facts["first"]) else (facts["first"], facts["last"]),
    }


# Most strings of a Chinese log are in normal form and neither junk nor personal data, which Arrow finds out quickly.
_PLAIN = r"^[\x{4e00}-\x{9fff}a-z0-9]*[\x{4e00}-\x{9fff}][\x{4e00}-\x{9fff}a-z0-9]*$"
_NUMBER = "[0-9]{11}"


def _clean(log: ibis.Table, normalizer: Normalizer) -> tuple[pa.Table, pd.DataFrame, dict[str, str], Counter[str]]:
    """Normalise every distinct string of the log.

    Normalisation is written in Python, so it reads distinct strings instead of rows, and only those that need it.

    Returns:
        A table raw, number (of its normal form), junk (reason, null for a usable string); the numbered texts (text_id,
        text); reason -> an example; kind of personal data -> how often it was masked.
    """
    strings = ibis.union(log.select(raw=log.query), log.select(raw=log.title), distinct=True)
    found = strings.filter(strings.raw.notnull()).to_pyarrow()["raw"].combine_chunks().cast(pa.string())
    raw = found.take(pc.sort_indices(found))  # by bytes; a database may sort otherwise
    plain = pc.and_(pc.match_substring_regex(raw, _PLAIN), pc.invert(pc.match_substring_regex(raw, _NUMBER)))
    plain = pc.and_(plain, pc.greater(pc.utf8_length(raw), 1))
    if normalizer.opencc:
        plain = pa.array(np.zeros(len(raw), dtype=bool))
    normals, reasons = [], []
    examples: dict[str, str] = {}
    masked: Counter[str] = Counter()
    for string in raw.filter(pc.invert(plain)).to_pylist():
        normal, found = normalizer.masked(string)
        if found:
            masked += found
        reason = text.junk_reason(normal)
        if reason:
            examples.setdefault(reason, normal)
        normals.append(None if reason else normal)
        reasons.append(reason)
    normal = pc.replace_with_mask(raw, pc.invert(plain), pa.array(normals, pa.string())).dictionary_encode()
    junk = pc.replace_with_mask(pa.nulls(len(raw), pa.string()), pc.invert(plain), pa.array(reasons, pa.string()))
    kept = pd.DataFrame({"text": normal.dictionary.to_pandas()}, dtype=str)
    kept.insert(0, "text_id", pd.Series([text.text_id(value) for value in normal.dictionary.to_pylist()], dtype=str))
    table = pa.table({"raw": raw, "number": normal.indices.cast(pa.int64()), "junk": junk})
    return table, kept, examples, masked


def _rows(log: ibis.Table, strings: ibis.Table, engine: Engine) -> ibis.Table:
    """The log with numbers instead of strings, and 63-bit hashes instead of users and urls."""
    titles = strings.view()
    joined = log.left_join(strings, log.query == strings.raw).drop("raw")
    joined = joined.rename(query_number="number", query_junk="junk")
    joined = joined.left_join(titles, joined.title == titles.raw)
    # negative, so that it is never mistaken for a title's number
    return joined.select(
        time=joined.time,
        user=engine.hash(joined.user_id),
        session=engine.hash(joined.user_id + "\t" + joined.session_id),
        has_session=joined.session_id.notnull(),
        query=joined.query_number,
        junk=joined.query_junk,
        title=joined.number,
        document=ibis.coalesce(joined.number, -1 - engine.hash(joined.url)),
        rank=joined["rank"],
        dwell=joined.dwell,
        **({"clicked": joined.clicked} if "clicked" in log.columns else {}),
    )


def _day(rows: ibis.Table) -> ibis.Value:
    """The date of each row; one date for all rows without a time."""
    return ibis.coalesce(rows.time.cast("date"), ibis.date("1970-01-01"))


def _one_day(rows: ibis.Table) -> pd.Timestamp | None:
    """The only day of all rows with a time."""
    ends = rows.agg(first=rows.time.min(), last=rows.time.max()).to_pandas().iloc[0]
    if pd.isna(ends["first"]) or ends["first"].date() != ends["last"].date():
        return None
    return pd.Timestamp(ends["first"]).normalize()


def _robots(rows: ibis.Table, limit: int) -> ibis.Table:
    """The users with more than `limit` rows on one day."""
    daily = rows.group_by(rows.user, day=_day(rows)).agg(n=rows.count())
    return daily.filter(daily.n > limit).select("user").distinct()


def _short(rows: ibis.Table, min_dwell_seconds: float) -> ibis.Value:
    """Whether the visit of each row is too short to count."""
    return (rows.dwell < min_dwell_seconds).fill_null(False)


def _drops(
    rows: ibis.Table, robots: ibis.Table, examples: dict[str, str], robot_limit: int, min_dwell_seconds: float
) -> pd.DataFrame:
    """Numbers of rows that are not used, by reason. Each row counts once, under the first reason that applies."""
    honest = rows.anti_join(robots, "user")
    junk = honest.filter(honest.query.isnull()).group_by("junk").agg(rows=ibis._.count()).to_pandas()
    found = [
        (f"robot: a user with over {robot_limit} rows on one day", rows.semi_join(robots, "user").count(), ""),
        (
            f"click not counted: left within {min_dwell_seconds:g} seconds",
            honest.filter(honest.query.notnull() & _short(honest, min_dwell_seconds)).count(),
            "",
        ),
    ]
    counted = [(reason, int(number.to_pandas()), example) for reason, number, example in found]
    counted += [
        (f"junk query: {reason}", int(number), examples.get(reason, ""))
        for reason, number in sorted(junk.fillna({"junk": "empty"}).itertuples(index=False))
    ]
    table = pd.DataFrame(counted, columns=["reason", "rows", "example"])
    return table[table["rows"] > 0].reset_index(drop=True)


def _usable(rows: ibis.Table, robots: ibis.Table, min_dwell_seconds: float, gap_minutes: float) -> ibis.Table:
    """The rows of people with a usable query, with sessions; short visits become searches without a click."""
    rows = rows.anti_join(robots, "user")
    rows = rows.filter(rows.query.notnull())
    short = _short(rows, min_dwell_seconds)
    rows = rows.mutate(
        document=ibis.ifelse(short, ibis.null("int64"), rows.document),
        title=ibis.ifelse(short, ibis.null("int64"), rows.title),
    )
    if rows.filter(~rows.has_session).count().to_pandas():
        rows = _with_sessions(rows, gap_minutes)
    return rows.select("time", "user", "session", "query", "title", "document", "rank")


def _with_sessions(rows: ibis.Table, gap_minutes: float) -> ibis.Table:
    """The rows with session numbers, made from the users' pauses, where they have no session id."""
    window = ibis.window(group_by=[rows.user, rows.has_session], order_by=rows.time)
    pause = rows.time.epoch_seconds() - rows.time.lag().over(window).epoch_seconds()
    rows = rows.mutate(begins=ibis.ifelse(pause > gap_minutes * 60, 1, 0))
    window = ibis.window(group_by=[rows.user, rows.has_session], order_by=rows.time, preceding=None, following=0)
    made = rows.begins.sum().over(window)
    return rows.mutate(session=ibis.ifelse(rows.has_session, rows.session, made))


def _rewrites(rows: ibis.Table, window_seconds: float) -> ibis.Table:
    """query, rewrite, users: a search without a click, and the next query with a click of the session in the window."""
    rows = rows.filter(rows.time.notnull())
    searches = rows.group_by("user", "session", "query").agg(
        time=rows.time.min(), last=rows.time.max(), clicked=rows.document.notnull().any()
    )
    # A search and the clicked one that follows it share the number of clicked searches still to come.
    backwards = ibis.window(
        group_by=[searches.user, searches.session],
        order_by=[searches.time.desc(), searches.query.desc()],
        preceding=None,
        following=0,
    )
    searches = searches.mutate(block=ibis.ifelse(searches.clicked, 1, 0).sum().over(backwards))
    clicked = searches.filter(searches.clicked).select("user", "session", "block", rewrite="query", rewritten="time")
    found = searches.filter(~searches.clicked).join(clicked, ["user", "session", "block"])
    seconds = found.rewritten.epoch_seconds() - found["last"].epoch_seconds()
    found = found.filter((found["query"] != found.rewrite) & (seconds <= window_seconds))
    pairs = found.select("query", "rewrite", "user").distinct()
    return pairs.group_by("query", "rewrite").agg(users=pairs.count()).order_by("query", "rewrite")
