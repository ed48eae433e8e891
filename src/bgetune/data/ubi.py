"""OpenSearch's and Elasticsearch's logs by the User Behavior Insights schema (UBI 1.3): queries and events, joined."""

from __future__ import annotations

from collections.abc import Collection

from bgetune.data.engine import literal

QUERIES = {"query_id", "user_query", "query_response_hit_ids"}
EVENTS = {"query_id", "action_name", "event_attributes.object.object_id"}
"""Columns that tell a file of queries and a file of events, one JSON object a line."""

COLUMNS = {
    **{"query_column": "user_query", "user_column": "client_id", "time_column": "timestamp"},
    **{"url_column": "object_id", "rank_column": "position", "clicked_column": "clicked"},
}
"""Parameters of the click source that `select` gives the rows of."""


def is_part(columns: Collection[str], wanted: Collection[str] | None = None) -> bool:
    """Whether a table with these columns is the queries or the events, or of one of them."""
    return any(part <= set(columns) for part in ((QUERIES, EVENTS) if wanted is None else (set(wanted),)))


def select(queries: str, events: str) -> str:
    """A SELECT of DuckDB: a row for each result shown, with its position and whether it was clicked.

    Args:
        queries, events: files of the two indices, exported as JSON Lines.
    """
    hits = "coalesce(nullif(query_response_hit_ids, []), [NULL])"  # a search without a result is a search
    return (
        f"SELECT s.*, c.query_id IS NOT NULL AS clicked FROM (SELECT query_id, user_query, client_id, timestamp, "
        f"unnest({hits}) AS object_id, unnest(range(1, len({hits}) + 1)) AS position FROM {literal(queries)}) s "
        f"LEFT JOIN (SELECT DISTINCT query_id, event_attributes.object.object_id AS object_id FROM {literal(events)} "
        f"WHERE action_name = 'click') c ON c.query_id = s.query_id AND c.object_id::VARCHAR = s.object_id::VARCHAR"
    )
