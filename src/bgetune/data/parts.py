"""What an opened source is made of: parts with columns, each as SQL of DuckDB."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import pandas as pd
import pyarrow as pa

from bgetune.config.sources import Source
from bgetune.data.engine import connect, numbers
from bgetune.errors import InputError, joined
from bgetune.locale import _

Rows = tuple[str, tuple[str, int, str] | None]


@dataclass(frozen=True)
class Column:
    """A column of a part, as SQL.

    Attributes:
        text: its value as text.
        items: its values as a list of texts.
        nested: SQL test of a row whose value is a list or an object; "" where that cannot be.
        type: scalar, list, object.
    """

    text: str
    items: str
    nested: str = ""
    type: str = "scalar"


@dataclass(frozen=True)
class Part:
    """A file of a source, a sheet, or what a database gave.

    Attributes:
        name: what messages call it.
        columns: by name, in order.
        rows: (names of columns, first=None) -> SQL that selects its rows, and lines lost; called when they are read,
            since a file may have to be rewritten first. With `first` only some rows of its beginning, twice as many.
        broken: SQL: why a row is none, or null.
        example: SQL: a row as text.
        facts: what was recognised: what it is -> its value.
        doubled: names that two columns have.
        hint: where the wanted columns could be, for the message that one is not there.
    """

    name: str
    columns: Mapping[str, Column]
    rows: Callable[..., Rows]
    broken: str = "NULL::VARCHAR"
    example: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    doubled: tuple[str, ...] = ()
    hint: Callable[[str], str] = lambda name: ""


@dataclass(frozen=True)
class Opened:
    """A source whose parts and their columns are known."""

    source: Source
    parts: tuple[Part, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.parts[0].columns)

    def require(self, names: Iterable[str]) -> None:
        """Raise InputError for a column that is not there, or there twice, or holds no single values."""
        for part, name in itertools.product(self.parts, list(names)):
            if name in part.doubled:
                raise InputError(
                    _("{file}: column {name} is there twice; rename or remove one of them").format(
                        file=part.name, name=name
                    )
                )
            parameters = [key for key in type(self.source).model_fields if getattr(self.source, key) == name]
            if name not in part.columns:
                there = ", ".join(part.columns)
                near = difflib.get_close_matches(name, part.columns, n=1, cutoff=0.6)
                remedy = _("map the columns in the profile, for example {parameter}: {column}")
                if near:
                    remedy = _(
                        "did you mean {column}? Map the columns in the profile, for example {parameter}: {column}"
                    )
                raise InputError(
                    joined(
                        _("{file}: no column {name}; it has {columns}").format(
                            file=part.name, name=name, columns=there
                        ),
                        part.hint(name),
                        remedy.format(parameter=parameters[0], column=near[0] if near else next(iter(part.columns))),
                    )
                )
            _require_values(part, name, lists=not set(parameters).isdisjoint(self.source.LISTS))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What DuckDB cannot read, said in one line."""
    try:
        yield
    except duckdb.Error as error:
        raise InputError(
            _("{name}: cannot be read: {problem}; is the format right?").format(
                name=name, problem=str(error).splitlines()[0]
            )
        ) from None


def wanted(source: Source) -> list[str]:
    """The columns of a source that its parameters name."""
    names = [getattr(source, name) for name in type(source).model_fields if name.endswith("_column")]
    return [name for name in names if name is not None]


def _require_values(part: Part, column: str, *, lists: bool) -> None:
    kind = part.columns[column].type
    inner = [name for name in part.columns if name.startswith(f"{column}.")]
    if kind == "object":
        named = _("make a column of text of it")
        if inner:
            named = _("name one of its fields: {fields}").format(fields=", ".join(inner))
        raise InputError(
            _("{file}: column {column} holds objects; {named}").format(file=part.name, column=column, named=named)
        )
    if kind == "list" and not lists:
        raise InputError(
            _(
                "{file}: column {column} holds lists, which this kind of source does not take; write a "
                "row for each item (kinds that take lists: groups, qa and pairs in b_column, synonyms, "
                "corpus)"
            ).format(file=part.name, column=column)
        )


def copied(data: pd.DataFrame | pa.Table | pa.RecordBatchReader) -> str:
    """A table of the working database with the data."""
    name = f"copy_{next(numbers)}"
    connection = connect().con
    connection.register("incoming", data)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
    connection.unregister("incoming")
    return name
