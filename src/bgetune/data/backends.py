"""Where click logs are counted: DuckDB, Spark or PostgreSQL, and what each of them does in its own way.

The counting itself is written as Ibis expressions, the same for all.
"""

from __future__ import annotations

import functools
import operator
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.expr import datatypes as dt

from bgetune.config import engines
from bgetune.config.sources import ClickSource
from bgetune.data import databases, engine
from bgetune.errors import InputError, reason
from bgetune.locale import _

TIMEOUT = 5.0
"""Seconds to wait for Spark's master before saying that it cannot be reached."""


@dataclass(frozen=True)
class Engine:
    """What counts a log: a backend of Ibis.

    Every method takes and returns expressions of that backend.
    """

    backend: ibis.BaseBackend

    @classmethod
    def of(cls, table: ibis.Table) -> Engine:
        """The engine that a table lies in; DuckDB for one in memory."""
        return cls(table._find_backend(use_default=True))

    @property
    def casts_safely(self) -> bool:
        """Whether a text that is no time becomes null in a cast (`try_cast`), not an error."""
        return self.backend.name == "pyspark"

    @contextmanager
    def store(self, rows: ibis.Table) -> Iterator[ibis.Table]:
        """The rows, computed once because they are read more than once; gone after the block."""
        if self.backend.name == "pyspark":
            with rows.cache() as cached:  # in memory and on the executors' disks
                cached.count().execute()  # Spark computes it now, while what it is made of is still stored
                yield cached
            return
        name = f"bgetune_{uuid.uuid4().hex}"
        try:
            table = self.backend.create_table(name, rows, temp=True)
            if self.backend.name == "postgres":
                self._run(f'ANALYZE "{name}"')  # nobody else does, and without it joins are planned blindly
            yield table
        finally:
            self._run(f'DROP TABLE IF EXISTS "{name}"')  # Ibis's own drop fails with recent versions of sqlglot

    def _run(self, sql: str) -> None:
        ran = self.backend.raw_sql(sql)
        if self.backend.name == "postgres":
            with closing(ran):
                pass

    @contextmanager
    def upload(self, rows: pa.Table) -> Iterator[ibis.Table]:
        """A table of this process as one of the engine; gone after the block."""
        if self.backend.name != "pyspark":
            table = ibis.memtable(rows)
            with self.store(table) if self.backend.name == "postgres" else _itself(table) as stored:
                yield stored
            return
        # not by Ibis: by way of pandas, numbers beside nulls would become null
        name = f"bgetune_{uuid.uuid4().hex}"
        session = self.backend._session
        session.createDataFrame(rows).createOrReplaceTempView(name)
        try:
            yield self.backend.table(name)
        finally:
            session.catalog.dropTempView(name)

    def digest(self, text: ibis.Value) -> ibis.Value:
        """MD5 of a text as 32 hexadecimal digits."""
        return _md5(text)

    def hash(self, text: ibis.Value) -> ibis.Value:
        """A number of 63 bits for a text, the same in every engine: MD5's first bytes, the lowest first."""
        if self.backend.name == "duckdb":
            return (_md5_number(text) & ibis.literal(2**63 - 1, "uint64")).cast("int64")
        digest = _md5(text)
        if self.backend.name == "pyspark":
            low, high = (_conv(_pairs(digest, first), 16, 10).cast("int64") for first in (0, 4))
            return ((high & (2**31 - 1)) << 32) | low
        octets = _decode(digest, "hex")
        return functools.reduce(
            operator.or_,
            ((_get_byte(octets, n).cast("int64") & (127 if n == 7 else 255)) << (8 * n) for n in range(8)),
        )

    def row_number(self) -> ibis.Value:
        """A number that no other row has."""
        return _increasing_id() if self.backend.name == "pyspark" else ibis.row_number()

    def since_1970(self, microseconds: ibis.Value) -> ibis.Value:
        """Microseconds since 1970 as timestamps in UTC."""
        if self.backend.name == "pyspark":
            return _timestamp_micros(microseconds).cast("timestamp")
        return _to_timestamp(microseconds / 1e6).cast("timestamp")

    def with_zones(self, table: ibis.Table) -> ibis.Table:
        """The table, with a time zone in the types of points in time: Ibis takes Spark's TIMESTAMP for a local time."""
        if self.backend.name != "pyspark":
            return table
        fields = self.backend._session.sql(self.backend.compile(table)).schema
        points = [field.name for field in fields if field.dataType.typeName() == "timestamp"]
        return table.mutate(**{name: table[name].cast(_UTC) for name in points}) if points else table

    def to_utc(self, time: ibis.Value, zone: str) -> ibis.Value:
        """A local time of a zone (IANA name) in UTC, both without zone."""
        if zone == "UTC":
            return time
        if self.backend.name == "pyspark":
            return _to_utc_timestamp(time, zone).cast("timestamp")
        return _timezone(zone, time).cast("timestamp")


@contextmanager
def _itself(table: ibis.Table) -> Iterator[ibis.Table]:
    yield table


def _pairs(digest: ibis.Value, first: int) -> ibis.Value:
    """Four bytes of a digest as hexadecimal digits, the last byte first."""
    pairs = [digest.substr(2 * byte, 2) for byte in reversed(range(first, first + 4))]
    return functools.reduce(operator.add, pairs)


# --- functions of the engines --------------------------------------------------------------------------------------


_UTC = dt.Timestamp(timezone="UTC")


@ibis.udf.scalar.builtin(name="md5", signature=((str,), str))
def _md5(text): ...


@ibis.udf.scalar.builtin(name="md5_number", signature=((str,), dt.uint64))
def _md5_number(text):  # of 128 bits, which Ibis has not
    ...


@ibis.udf.scalar.builtin(name="conv", signature=((str, int, int), str))
def _conv(text, base, to): ...


@ibis.udf.scalar.builtin(name="decode", signature=((str, str), dt.binary))
def _decode(text, encoding): ...


@ibis.udf.scalar.builtin(name="get_byte", signature=((dt.binary, int), dt.int32))
def _get_byte(octets, place): ...


@ibis.udf.scalar.builtin(name="monotonically_increasing_id", signature=((), dt.int64))
def _increasing_id(): ...


@ibis.udf.scalar.builtin(name="to_utc_timestamp", signature=((dt.timestamp, str), _UTC))
def _to_utc_timestamp(time, zone): ...


@ibis.udf.scalar.builtin(name="timestamp_micros", signature=((int,), _UTC))
def _timestamp_micros(microseconds): ...


@ibis.udf.scalar.builtin(name="to_timestamp", signature=((float,), _UTC))
def _to_timestamp(seconds): ...


@ibis.udf.scalar.builtin(name="timezone", signature=((str, dt.timestamp), _UTC))
def _timezone(zone, time): ...


# --- connecting ---------------------------------------------------------------------------------------------------


_CONNECTED: dict[str, Engine] = {}


def connect(name: str) -> Engine:
    """The engine of this name (01_positives.engine): one for the process. Its sessions are in UTC.

    Raises:
        InputError: naming what is missing, or why it cannot be reached.
    """
    if name not in _CONNECTED:
        kind = engines.kind(name)
        if kind == "duckdb":
            return Engine(engine.connect())
        if kind == "spark":
            require(name)
            backend = _spark(name)
        else:
            backend = databases.connect(ClickSource(url=name, table="engine"))
        _CONNECTED[name] = Engine(backend)
    return _CONNECTED[name]


def require(name: str) -> None:
    """Raise InputError where a package, Java or Spark's master is missing for an engine; starts nothing."""
    if engines.kind(name) != "spark":
        return
    if find_spec("pyspark") is None:
        raise InputError(_("engine: {name} needs PySpark: pip install 'bgetune[spark]'").format(name=name))
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if os.environ.get("JAVA_HOME") else shutil.which("java")
    if java is None or not Path(java).is_file():
        raise InputError(
            _(
                "engine: {name} needs Java 17 or newer: install it (Debian: apt-get install openjdk-17-jre-headless), "
                "or set JAVA_HOME to where it is"
            ).format(name=name)
        )
    if name.startswith("spark://"):
        # Spark itself tries for minutes; of several masters one is enough
        problems = [_unreachable(address) for address in name.removeprefix("spark://").split(",")]
        if all(problems):
            raise InputError(
                _("engine: {name} cannot be reached ({problem}); start Spark's master, or correct the address").format(
                    name=name, problem=problems[0]
                )
            )


def _unreachable(address: str) -> str:
    """Why nothing answers at HOST:PORT; "" where something does."""
    host, _colon, port = address.rpartition(":")
    try:
        socket.create_connection((host or address, int(port) if host else 7077), TIMEOUT).close()
    except (OSError, ValueError) as error:
        return reason(error) if isinstance(error, OSError) else str(error)
    return ""


def _spark(master: str) -> ibis.BaseBackend:
    """A session of Spark; with Hive's tables where its configuration says where they are (hive-site.xml)."""
    from pyspark.sql import SparkSession

    options = {
        "spark.app.name": "bgetune",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master(master)
    for key, value in options.items():
        builder = builder.config(key, value)
    folders = [os.environ.get("SPARK_CONF_DIR"), os.environ.get("HIVE_CONF_DIR")]
    if any(folder and Path(folder, "hive-site.xml").is_file() for folder in folders):
        builder = builder.enableHiveSupport()
    try:
        return ibis.pyspark.connect(builder.getOrCreate())
    except Exception as error:  # of the Java machine, of the cluster: Spark has many
        raise InputError(
            _("engine: {name} did not start: {problem}; see Spark's messages above, or set engine: duckdb").format(
                name=master, problem=(str(error).strip() or type(error).__name__).splitlines()[0]
            )
        ) from None


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What an engine cannot read, said in one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # every engine has its own
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            _("{name}: cannot be read by the engine: {problem}; correct table or path").format(
                name=name, problem=problem
            )
        ) from None


def disconnect(name: str) -> None:
    """End the session of an engine other than DuckDB, so that its memory and cores are free for others."""
    if found := _CONNECTED.pop(name, None):
        found.backend.disconnect()
