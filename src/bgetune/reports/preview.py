"""A look at the sources before anything is computed: their first rows as understood, and what was recognised."""

from __future__ import annotations

import pandas as pd

from bgetune.config.engines import DUCKDB
from bgetune.config.secrets import mask_secrets
from bgetune.config.sources import ClickSource, QrelsSource, Source, Sources
from bgetune.data import labels, log_tables, opening, times
from bgetune.data.databases import label
from bgetune.data.text import Normalizer
from bgetune.errors import joined
from bgetune.locale import N_, _
from bgetune.locale.words import said
from bgetune.reports import tables
from bgetune.reports.tables import Table

ROWS = 10
FACTS = {
    **{"encoding": N_("encoding"), "delimiter": N_("delimiter"), "escape": N_("escape"), "sheets": N_("sheets")},
    **{"timezone": N_("time zone of times that name none"), "engine": N_("counted by")},
}
"""What is said of a source beside its rows."""


def sources(given: Sources, normalizer: Normalizer, engine: str = DUCKDB) -> Table:
    """A table for each source: its first rows, by what they are (query, title, time, label), personal data masked.

    Above it, what was recognised (encoding, delimiter, time zone) and what the profile gives.

    Args:
        engine: where click logs are counted (01_positives.engine).

    Raises:
        InputError: where a source cannot be read.
    """
    shown = [
        tables.table(rows, caption=f"{name}, {about}")
        for name, source in given.every().items()
        for rows, about in [_look(source, normalizer, engine)]
    ]
    return Table("".join(table.html for table in shown), "\n\n".join(table.text for table in shown))


def _look(source: Source, normalizer: Normalizer, engine: str) -> tuple[pd.DataFrame, str]:
    if isinstance(source, QrelsSource):
        return pd.DataFrame({"source": [label(source)]}), _("judgements by ids")
    parts, facts = 1, {}
    if isinstance(source, ClickSource) and engine != DUCKDB:
        first = log_tables.first_rows(source, engine, ROWS)
        facts["engine"] = mask_secrets(engine)
    else:
        opened = opening.open_source(source)
        parts, facts = len(opened.parts), dict(opened.parts[0].facts)
        first = opening.first_rows(source, ROWS).head(ROWS)
    roles = {name.removesuffix("_column"): getattr(source, name) for name in type(source).model_fields}
    roles = {name: roles[name] for name in roles if f"{name}_column" in type(source).model_fields}
    rows = pd.DataFrame(
        {
            f"{said(role)} ({column})" if role != column else role: [
                _value(role, text, source, normalizer) for text in first[column]
            ]
            for role, column in roles.items()
            if column in first
        }
    )
    if isinstance(source, ClickSource) and source.time_column:
        facts["timezone"] = str(times.zone_of(source.timezone))
    shown = [
        _("{name}: {value}").format(name=_(FACTS[name]), value=_fact(source, name, value))
        for name, value in facts.items()
    ]
    several = [_("{number} parts").format(number=parts)] if parts > 1 else []
    return rows, joined(label(source), *several, *shown)


def _fact(source: Source, name: str, value: str) -> str:
    """A fact, and whether the profile gives it."""
    value = {"\t": "tab", " ": "blank"}.get(value, value)
    if getattr(source, name, None) is not None or name in ("sheets", "engine"):
        return value
    how = _("this machine's; set timezone where it is another") if name == "timezone" else _("recognised")
    return _("{value} ({how})").format(value=value, how=how)


def _value(role: str, text: str | None, source: Source, normalizer: Normalizer) -> str | None:
    """A value as the run understands it."""
    if text is None or pd.isna(text):
        return None
    if role == "time" and isinstance(source, ClickSource) and source.time_format is None:
        found = times.parse(text, times.zone_of(source.timezone))
        return f"{text} = {found:%Y-%m-%d %H:%M:%S} UTC" if found else text
    if role == "label" and (number := labels.number(text)) is not None:
        return f"{number:g}"
    return normalizer(text)[:80]
