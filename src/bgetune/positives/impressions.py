"""Results that a log shows without a click: searches that led to none, and results that users saw and passed over.

Users look at results from the top down (the cascade model; N. Craswell et al., "An experimental comparison of click
position-bias models", WSDM 2008): they saw what stands above a click, and perhaps not what stands below the last one.
"""

from __future__ import annotations

import ibis

KEYS = ["user", "search", "query"]
"""Rows that are alike in these are one search."""


def searches(rows: ibis.Table) -> ibis.Table:
    """A row for each click, and one for each search without a click.

    Args:
        rows: a row for each result shown: time, user, session, has_session, query, junk, title, document, rank, dwell
            and clicked.

    Returns:
        The same columns without clicked.
    """
    each = _with_search(rows)
    columns = [name for name in rows.columns if name != "clicked"]
    kept = {"time": each.time.min(), "session": each.session.min(), "clicks": ibis.ifelse(each.clicked, 1, 0).sum()}
    nothing = each.group_by(*KEYS, "junk", "has_session").agg(**kept).filter(ibis._.clicks == 0)
    missing = {name: ibis.null(rows[name].type()) for name in ("title", "document", "rank", "dwell")}
    return ibis.union(rows.filter(rows.clicked).select(columns), nothing.mutate(**missing).select(columns))


def skips(rows: ibis.Table, robots: ibis.Table) -> ibis.Table:
    """query, document, users: distinct users who saw the document above one that they clicked, and never clicked it.

    Args:
        rows: see `searches`; rows without a rank say nothing.
        robots: the users to leave out.
    """
    seen = _with_search(rows).filter(ibis._.document.notnull() & ibis._.query.notnull() & ibis._["rank"].notnull())
    seen = seen.anti_join(robots, "user")
    clicked = seen.filter(seen.clicked)
    last = clicked.group_by(*KEYS).agg(last=clicked["rank"].max())
    above = seen.filter(~seen.clicked).join(last, KEYS).filter(ibis._["rank"] < ibis._["last"])
    pairs = above.select("user", "query", "document").distinct()
    pairs = pairs.anti_join(clicked.select("user", "query", "document"), ["user", "query", "document"])
    return pairs.group_by("query", "document").agg(users=ibis._.count()).order_by("query", "document")


def _with_search(rows: ibis.Table) -> ibis.Table:
    """The rows with `search`: the session, else the day."""
    day = ibis.coalesce(rows.time.cast("date"), ibis.date("1970-01-01")).epoch_days().cast("int64")
    return rows.mutate(search=ibis.ifelse(rows.has_session, rows.session.cast("int64"), day))
