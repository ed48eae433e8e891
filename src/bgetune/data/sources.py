"""The team's own data, whatever it lies in: files and databases become tables of the columns the pipeline knows.

Everything is read by DuckDB; click logs stay lazy and stream. Rows that cannot be used are counted: every reader
returns them beside its table as `dropped`, and with them the values that were read as missing for their spelling.
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import pandas as pd

from bgetune.config.engines import DUCKDB
from bgetune.config.sources import (
    ClickSource,
    CorpusSource,
    GeneralSource,
    GroupSource,
    PairSource,
    QrelsSource,
    Source,
    Sources,
    SynonymSource,
    TripletSource,
)
from bgetune.data import databases, labels, log_tables, missing, opening, places, qrels, queries, times
from bgetune.data.databases import label
from bgetune.data.drops import ROUNDED_FORM, counted_drops
from bgetune.data.engine import connect, identifier, literal
from bgetune.data.log_tables import LOG_IDS, UNREAD
from bgetune.data.opening import Raw
from bgetune.data.parts import Opened, reading, wanted
from bgetune.errors import InputError
from bgetune.locale import _

PARSED = ("time", "rank", "dwell")
"""Those of which only what can be read as a time or number counts."""


# --- the readers --------------------------------------------------------------------------------------------------


def read_clicks(source: ClickSource, engine: str = DUCKDB) -> tuple[ibis.Table, pd.DataFrame]:
    """A click log, lazily: one row a click, or a search without one.

    Args:
        engine: where the log is counted (01_positives.engine); one other than DuckDB reads it where it lies.

    Returns:
        An Ibis table of the engine, for DuckDB in the database of `connect()`, its rows in no promised order, with the
        columns time (timestamp in UTC; times of day lie on 1970-01-01; null without a time column), user_id (string),
        session_id (string, nullable), query (string, as typed, without SogouQ's brackets), url (string, null in a
        search without a click), title (string, nullable), rank (int64, nullable), dwell (float64, seconds, nullable),
        and clicked (bool) where the source has clicked_column. And the table `dropped`.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    if engine != DUCKDB:
        return log_tables.read(source, engine)
    raw = opening.view(source, source.columns(), ids=LOG_IDS, parsed=PARSED)
    # numbers of rows and sessions begin anew in each file
    alone = f"{literal(label(source) + ' ')} || coalesce('session ' || session_id, 'row ' || row_number() OVER ())"
    values = {
        "time": _time_sql(source, raw) if source.time_column else "NULL::TIMESTAMP",
        "user_id": "user_id" if source.user_column else alone,
        "session_id": "session_id",
        "query": r"nullif(trim(regexp_replace(query, '^\[(.*)\]$', '\1')), '')",
        "url": "url",
        "title": "title",
        "rank": "try_cast(regexp_extract(rank, '^[0-9]+') AS BIGINT)",
        "dwell": times.seconds_sql("dwell"),
    }
    if source.clicked_column:
        values["clicked"] = labels.clicked_sql("clicked")
    rules = {reason: f"{column} IS NULL" for column, reason in source.required().items()}
    return _select(raw, values, rules, unread=UNREAD)


def read_pairs(source: PairSource | GeneralSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs of texts with their labels.

    A list in b_column makes a pair of each of its items.

    Returns:
        A table in the file's order with the columns a, b (strings as given) and label (float64: words such as yes and
        是 are 1, no and 否 are 0; 1.0 where the source has no label column). And the table `dropped`.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    columns = {"a": source.a_column, "b": source.b_column, "label": source.label_column}
    opened = opening.open_source(source)
    looked_at = _label_like(opened) if source.label_column is None else {}
    raw = opening.view(opened, columns | looked_at, lists=["b"])
    _require_no_labels(raw, looked_at)
    rules = {"no text": "a IS NULL OR b IS NULL"}
    value = "1.0::DOUBLE"
    if source.label_column:
        value = labels.label_sql("label")
        rules["label is no number"] = "label IS NULL OR NOT isfinite(label)"
    return _frame(_select(raw, {"a": "a", "b": "b", "label": value}, rules, unnest="b"))


def read_groups(source: GroupSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Queries with their positives and negatives, as labelled pairs: see `read_pairs`."""
    lists = {"pos": source.positives_column, "neg": source.negatives_column}
    return _labelled_lists(source, source.query_column, lists)


def read_triplets(source: TripletSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Triplets as labelled pairs, each pair of an anchor and a positive once: see `read_pairs`."""
    lists = {"pos": source.positive_column, "neg": source.negative_column}
    table, dropped = _labelled_lists(source, source.anchor_column, lists)
    return table.drop_duplicates(ignore_index=True), dropped


def _labelled_lists(source: Source, query: str, lists: dict[str, str | None]) -> tuple[pd.DataFrame, pd.DataFrame]:
    raw = opening.view(source, {"a": query, **lists}, lists=list(lists))
    pairs = " UNION ALL ".join(
        f"SELECT row, {rank} AS side, a, unnest({_never_empty(name) if name == 'pos' else name}) AS b, {one} AS label, "
        f"broken, example FROM numbered"
        for rank, (name, one) in enumerate({"pos": "1.0", "neg": "0.0"}.items())
        if lists[name]
    )
    view = f"{raw.view}_pairs"
    connect().raw_sql(
        f"CREATE VIEW {view} AS WITH numbered AS MATERIALIZED (SELECT *, row_number() OVER () AS row FROM {raw.view}) "
        f"SELECT a, {missing.text_sql('trim(b)')} AS b, label, broken, example FROM ({pairs}) ORDER BY row, side"
    )
    raw = Raw(source, view, (), raw.lost)
    values = {"a": "a", "b": "b", "label": "label::DOUBLE"}
    return _frame(_select(raw, values, {"no text": "a IS NULL OR b IS NULL"}))


def read_synonyms(source: SynonymSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lists of expressions that mean the same.

    Returns:
        A table in the file's order with the column words (a list of two or more strings as given). And `dropped`.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    raw = opening.view(source, {"words": source.words_column}, lists=["words"])
    split = f"flatten(list_transform(words, lambda x: string_split(x, {literal(source.separator)})))"
    cut = f"list_filter(list_transform({split}, lambda x: trim(x)), lambda x: x <> '')"
    return _frame(_select(raw, {"words": cut}, {"fewer than two words": "coalesce(len(words), 0) < 2"}))


def read_corpus(source: CorpusSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Further texts; a list makes a row of each of its items.

    Returns:
        A table in the file's order with the columns text and title (string as given, "" for no title) and kind (query
        or document). And `dropped`.

    Raises:
        InputError: naming the file and the line or column, and the remedy.
    """
    raw = opening.view(source, {"text": source.text_column, "title": source.title_column}, lists=["text"])
    title = "coalesce(title, '')" if source.title_column else "''"
    values = {"text": "text", "title": title, "kind": literal(source.kind)}
    return _frame(_select(raw, values, {"no text": "text IS NULL"}, unnest="text"))


def _frame(selected: tuple[ibis.Table, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    table, dropped = selected
    return table.to_pandas(), dropped


def _never_empty(column: str) -> str:
    """A list of DuckDB, a missing text where it is empty: unnesting would lose its row."""
    return f"CASE WHEN len({column}) > 0 THEN {column} ELSE [NULL] END"


def _time_sql(source: ClickSource, raw: Raw) -> str:
    if source.time_format is None:
        return times.time_sql(source.timezone, None, _order(source, raw))
    return times.time_sql(source.timezone, source.time_format, None)


def _order(source: ClickSource, raw: Raw) -> str | None:
    """Which of day and month comes first in times such as 1/5/2026: the one that is over 12 somewhere.

    Raises:
        InputError: where none is.
    """
    found = f"SELECT time FROM {raw.view} WHERE time IS NOT NULL AND broken IS NULL"
    ambiguous = f"regexp_matches(time, {literal(times.AMBIGUOUS)})"
    with reading(label(source)):
        run = connect().raw_sql
        first = run(f"SELECT min(time) FROM (FROM ({found} LIMIT 1000) WHERE {ambiguous})").fetchall()[0][0]
        if first is None:
            return None
        parts = "regexp_extract_all(time, '[0-9]+')"
        one, two = run(
            f"SELECT max({parts}[1]::INT), max({parts}[2]::INT) FROM ({found}) WHERE {ambiguous}"
        ).fetchall()[0]
    if one > 12 and two > 12:
        raise InputError(
            _("{source}: column {column}: day and month come first by turns; write them one way").format(
                source=label(source), column=source.time_column
            )
        )
    if max(one, two) <= 12:
        raise InputError(
            _(
                "{source}: column {column}: {first} could be either day or month first; set time_format, "
                "for example '%d/%m/%Y %H:%M:%S' or '%m/%d/%Y %H:%M:%S'"
            ).format(source=label(source), column=source.time_column, first=first)
        )
    return "day" if one > 12 else "month"


def _label_like(opened: Opened) -> dict[str, str]:
    """Columns whose names say that they hold labels: name in the view -> name."""
    names = [name for name in opened.columns if name.strip().lower() in labels.COLUMNS]
    names = [name for name in names if name not in wanted(opened.source)]
    usable = [
        name
        for name in names
        if all(name in part.columns and part.columns[name].type == "scalar" for part in opened.parts)
    ]
    return {f"label_{number}": name for number, name in enumerate(usable)}


def _require_no_labels(raw: Raw, columns: dict[str, str]) -> None:
    """Raise InputError where one of the columns, which are no label_column, holds labels of which some say no."""
    for column, name in columns.items():
        rows = connect().raw_sql(f"SELECT DISTINCT {column} FROM (FROM {raw.view} LIMIT 10000) LIMIT 100").fetchall()
        try:
            says_no = labels.is_label_column(name, [value for (value,) in rows])
        except InputError as error:
            raise InputError(_("{place}: {problem}").format(place=label(raw.source), problem=error)) from None
        if says_no:
            raise InputError(
                _(
                    "{source}: column {name} looks like labels, some of which say no, and without "
                    "label_column every row is a positive pair; set label_column: {name}, or leave the "
                    "column out of the file"
                ).format(source=label(raw.source), name=name)
            )


def _select(
    raw: Raw, values: dict[str, str], rules: dict[str, str], unnest: str = "", unread: Sequence[str] = ()
) -> tuple[ibis.Table, pd.DataFrame]:
    """The rows that no rule objects to, as a lazy table, and what was dropped.

    `attrs["rows"]` of the latter says how many rows the source has in all: {name of the source: rows}.

    Args:
        values: name -> SQL of the view's columns.
        rules: reason -> SQL test of the values.
        unnest: a column of lists of which every item makes a row.
        unread: columns of numbers: how many could not be read is counted, the rows are used.
    """
    connection = connect()
    rows = raw.view
    if unnest:
        items = f"SELECT * REPLACE (unnest({_never_empty(unnest)}) AS {unnest}) FROM {raw.view}"
        rows = f"(SELECT * REPLACE ({missing.text_sql(f'trim({unnest})')} AS {unnest}) FROM ({items}))"
    name = label(raw.source)
    cases = " ".join(f"WHEN {test} THEN {literal(reason)}" for reason, test in rules.items())
    columns = ", ".join(f"{value} AS {identifier(column)}" for column, value in values.items())
    given = "".join(f", {column}_raw, {column} AS {column}_id" for column in raw.ids)
    given += "".join(f", {column} AS {column}_text" for column in unread)
    told = "".join(
        f", count({column}_raw) - count({column}_id), min(CASE WHEN {column}_id IS NULL THEN {column}_raw END)"
        for column in raw.ids
    )
    told += "".join(
        f", count(*) FILTER ({rounded}), min(CASE WHEN {rounded} THEN {column}_raw END)"
        for column in raw.ids
        for rounded in (f"{column}_raw ILIKE '%E+__' AND regexp_full_match({column}_raw, {literal(ROUNDED_FORM)})",)
    )
    told += "".join(
        f", count({column}_text) FILTER ({column} IS NULL), min(CASE WHEN {column} IS NULL THEN {column}_text END)"
        for column in unread
    )
    view, used = f"{raw.view}_rows", f"{raw.view}_used"
    with reading(name):
        connection.raw_sql(
            f"CREATE VIEW {view} AS SELECT *, CASE WHEN broken IS NOT NULL THEN broken {cases} END AS reason "
            f"FROM (SELECT {columns}{given}, broken, example FROM {rows})"
        )
        connection.raw_sql(f"CREATE VIEW {used} AS SELECT {', '.join(values)} FROM {view} WHERE reason IS NULL")
        counts = connection.raw_sql(
            f"SELECT reason, count(*), min(CASE WHEN reason IS NOT NULL THEN example END){told} FROM {view} "
            "GROUP BY reason ORDER BY ALL"
        ).fetchall()
    return connection.table(used), counted_drops(name, counts, raw.ids, raw.lost, unread)


# --- before a run -------------------------------------------------------------------------------------------------


def check_source(source: Source, name: str, engine: str = DUCKDB) -> None:
    """Check that a source is there, can be read and has its columns; reads only the beginning.

    Args:
        name: the parameter that a message names.
        engine: where click logs are counted (01_positives.engine).

    Raises:
        InputError: naming the parameter, the file and the remedy.
    """
    try:
        if isinstance(source, QrelsSource):
            qrels.check(source)
            return
        if isinstance(source, ClickSource):
            if engine != DUCKDB:
                log_tables.check(source, engine)
                return
            times.time_sql(source.timezone, source.time_format, None)
        opened = opening.open_source(source)
        opened.require(wanted(source))
    except InputError as error:
        raise InputError(_("{place}: {problem}").format(place=name, problem=error)) from None


def external_files(sources: Sources) -> list[str]:
    """The paths of all sources that are files: each part of a pattern, databases of SQLite and DuckDB, and the files
    that a query of DuckDB reads.

    They are a notebook's inputs: it runs again when they change. What other machines hold is not watched.
    """
    return list(dict.fromkeys(path for source in sources.every().values() for path in _external(source)))


def _external(source: Source) -> list[str]:
    given = [source.path, databases.embedded(source)]
    if isinstance(source, QrelsSource):
        given += [source.queries, source.corpus]
    if source.query and (source.url or "").startswith("duckdb://"):
        given += queries.named_files(source.query)
    return [file for path in given if path for file in places.described(path)]


def external_file(source: Source) -> str | None:
    """The path of a source that is a file or folder, as the profile gives it; None for a server."""
    found = _external(source)
    return found[0] if found else None
