# ruff: noqa: PD003, PD004 (isnull and notnull are Ibis's here)
"""Logs counted where they lie, on Spark and in PostgreSQL: the same frames as DuckDB's, row for row."""

import hashlib
import os
import shutil
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from bgetune.config.sources import ClickSource
from bgetune.config.stages import Positives
from bgetune.data import backends, log_tables
from bgetune.data.backends import Engine
from bgetune.data.sources import read_clicks
from bgetune.errors import InputError
from bgetune.paths import locate
from bgetune.positives import clicks

SETTINGS = {
    **{"session_gap_minutes": 30, "rewrite_window_seconds": 120},
    **{"robot_searches_per_day": 15, "min_dwell_seconds": 2},
}
FRAMES = ("texts", "clicks", "rewrites", "skips", "dropped")
FACTS = ("masked", "searches", "abandoned", "users", "days", "one_day")

needs_spark = pytest.mark.skipif(
    find_spec("pyspark") is None or not (os.environ.get("JAVA_HOME") or shutil.which("java")),
    reason="needs PySpark and Java (pip install 'bgetune[spark]'; Debian: openjdk-17-jre-headless)",
)


# --- the logs -----------------------------------------------------------------------------------------------------

QUERIES = [
    "支付密码忘了",
    "忘记支付密码",
    " 改密码　",
    "[登录密码]",
    "ＶＩＰ 会员",
    "app login",
    "NaN",
    "",
    "www.x.com",
    "13812345678 是谁",
]
TITLES = ["支付密码怎么找回", "登录密码怎么找回", " 会员介绍 ", "null", None, ""]
URLS = ["https://h.example/1", "https://h.example/2", "7", " 8 ", "-", "1.23457E+18", None]


def drawn(rows: int) -> dict[str, list]:
    """Rows of a log with everything that logs have: robots, junk, missing values and how people spell them."""
    random = np.random.default_rng(5)

    def some(values):
        return [values[number] for number in random.integers(len(values), size=rows)]

    users = [f" u{number} " if number % 5 else "n/a" for number in random.integers(60, size=rows)]
    users = ["robot" if robot else user for robot, user in zip(random.random(rows) < 0.05, users, strict=True)]
    seconds = np.sort(random.integers(3 * 86_400, size=rows))
    return {
        "time": [datetime(2026, 3, 1) + timedelta(seconds=int(second)) for second in seconds],
        "user_id": users,
        "session_id": some(["s1", "s2", "s3", "-", None]),
        "query": some(QUERIES),
        "url": some(URLS),
        "title": some(TITLES),
        "rank": some([1, 2, 3, 9, -1, None]),
        "dwell": some([0.5, 1.9, 30.0, None]),
        "clicked": some(["1", "click", "展示", "0", None, "perhaps"]),
    }


LOGS = {
    "clicks": {"title_column": "title", "dwell_column": "dwell", "timezone": "Asia/Shanghai"},
    "impressions": {
        **{"session_column": "session_id", "rank_column": "rank", "clicked_column": "clicked", "title_column": "title"},
        "timezone": "Europe/Berlin",
    },
    "epochs": {"user_column": None, "session_column": "session_id", "title_column": None},
}
"""Name of a log -> how its source names the columns."""


def table(name: str) -> pa.Table:
    rows = drawn(1500)
    if name == "epochs":
        rows["time"] = [int(time.timestamp()) * 1000 for time in rows["time"]]
    return pa.table(rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name of a log -> a folder of its Parquet files."""
    made = {}
    for name in LOGS:
        made[name] = tmp_path_factory.mktemp(name)
        rows = table(name)
        for part in range(2):
            pq.write_table(rows.slice(part * 700, 700 + 100 * part), made[name] / f"part-{part}.parquet")
    return made


@pytest.fixture(scope="module")
def by_duckdb(folders):
    """Name of a log -> what DuckDB dropped and counted of it."""
    return {name: counted(ClickSource(path=str(folder), **LOGS[name])) for name, folder in folders.items()}


def counted(source: ClickSource, engine: str = "duckdb", **changes) -> tuple[pd.DataFrame, clicks.Counts]:
    log, dropped = read_clicks(source, engine)
    return dropped, clicks.count(clicks.union([log]), **SETTINGS | changes)


def assert_same(found, wanted, but=()):
    dropped, expected = (one[0].drop(columns=["source", *but]) for one in (found, wanted))
    pd.testing.assert_frame_equal(dropped, expected)
    assert list(found[0].attrs["rows"].values()) == list(wanted[0].attrs["rows"].values())
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(found[1], name), getattr(wanted[1], name), obj=name)
    for name in FACTS:
        assert getattr(found[1], name) == getattr(wanted[1], name), name


def test_the_log_of_the_tests_has_everything(by_duckdb):
    dropped, counts = by_duckdb["impressions"]
    assert len(counts.skips)
    assert len(counts.clicks)
    assert (counts.clicks["document"] < 0).any()
    assert len(by_duckdb["clicks"][1].rewrites)
    assert {"no query", "no user", "clicked is neither yes nor no"} <= set(dropped["reason"])
    assert dropped["reason"].str.contains("rounded by Excel").any()
    assert dropped["reason"].str.contains("url read as missing").any()
    assert counts.dropped["reason"].str.startswith("robot").any()
    assert by_duckdb["clicks"][1].dropped["reason"].str.startswith("click not counted").any()


# --- Spark --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """The master of a Spark in this process, which keeps Hive's tables in a folder of its own."""
    folder = tmp_path_factory.mktemp("spark")
    hive = {
        "javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder / 'metastore'};create=true",
        "hive.metastore.warehouse.dir": str(folder / "warehouse"),
        "datanucleus.schema.autoCreateAll": "true",
        "hive.metastore.schema.verification": "false",
    }
    properties = "".join(
        f"<property><name>{key}</name><value>{value}</value></property>" for key, value in hive.items()
    )
    (folder / "hive-site.xml").write_text(f"<configuration>{properties}</configuration>")
    settings = {
        **{
            "spark.ui.enabled": "false",
            "spark.driver.memory": "700m",
            "spark.executor.memory": "700m",
            "spark.sql.shuffle.partitions": "2",
        },
        **{"spark.sql.warehouse.dir": str(folder / "warehouse"), "spark.local.dir": str(folder)},
        **{"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"},
        "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dderby.system.home={folder}",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
    }
    (folder / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    import pyspark

    home = folder / "home"  # a cluster writes beside its programs
    home.mkdir()
    for part in Path(pyspark.__file__).parent.iterdir():
        (home / part.name).symlink_to(part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(folder))
        patch.setenv("SPARK_HOME", str(home))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        yield "local[2]"
        backends.disconnect("local[2]")


@needs_spark
@pytest.mark.slow
@pytest.mark.parametrize("name", ["clicks", "impressions", "epochs"])
def test_spark_counts_parquet_folders_as_duckdb_does(spark, folders, by_duckdb, name):
    assert_same(counted(ClickSource(path=str(folders[name]), **LOGS[name]), spark), by_duckdb[name])


@needs_spark
@pytest.mark.slow
def test_spark_counts_tables_of_hive(spark, folders, by_duckdb):
    session = backends.connect(spark).backend._session
    assert session.conf.get("spark.sql.catalogImplementation") == "hive"
    session.sql("CREATE DATABASE logs")
    in_utc = "to_utc_timestamp(time, 'Asia/Shanghai')"  # Hive's times are those of UTC
    rows = session.read.parquet(str(folders["clicks"])).selectExpr(f"{in_utc} AS time", "* EXCEPT (time)")
    rows.write.format("hive").saveAsTable("logs.clicks")
    source = ClickSource(table="logs.clicks", **LOGS["clicks"])
    assert_same(counted(source, spark), by_duckdb["clicks"], but=["example"])  # which shows the time in UTC
    assert log_tables.first_rows(source, spark, 3).shape == (3, 9)
    with pytest.raises(InputError, match=r"logs\.none: cannot be read by the engine"):
        read_clicks(ClickSource(table="logs.none"), spark)
    with pytest.raises(InputError, match="no column nobody; it has time, user_id, session_id"):
        read_clicks(source.model_copy(update={"user_column": "nobody"}), spark)
    with pytest.raises(InputError, match="column dwell is of type float64; make text or whole numbers of it"):
        read_clicks(source.model_copy(update={"user_column": "dwell"}), spark)


@needs_spark
@pytest.mark.slow
def test_spark_reads_times_written_as_text(spark, tmp_path):
    texts = [
        "2026-03-02 08:31:39",
        "2026-03-02T08:31:39.5Z",
        "2026-03-02 08:31:39+08:00",
        "2026-02-31 08:00:00",
        "soon",
    ]
    rows = {"time": texts, "user_id": list("abcde"), "query": ["改密码"] * 5, "url": ["x"] * 5}
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    source = ClickSource(path=str(tmp_path), timezone="Asia/Shanghai")
    found, dropped = read_clicks(source, spark)
    wanted = read_clicks(source)[0].order_by("user_id").time.execute()
    pd.testing.assert_series_equal(found.order_by("user_id").time.execute(), wanted, check_dtype=False)
    assert dropped[["reason", "rows"]].to_numpy().tolist() == [["time not readable", 2]]


@needs_spark
@pytest.mark.slow
def test_spark_stores_uploads_and_hashes(spark):
    check_engine(backends.connect(spark))
    assert not [name for name in backends.connect(spark).backend.list_tables() if name.startswith("bgetune")]


@needs_spark
@pytest.mark.slow
def test_a_cluster_of_two_counts_as_duckdb_does(spark, folders, by_duckdb):
    backends.disconnect(spark)  # a process has one session
    cluster = "local-cluster[2,1,700]"
    try:
        assert_same(counted(ClickSource(path=str(folders["clicks"]), **LOGS["clicks"]), cluster), by_duckdb["clicks"])
    finally:
        backends.disconnect(cluster)


def check_engine(engine: Engine):
    """Numbers stay beside nulls, hashes are those of MD5, and what was stored is gone after the block."""
    expected = {
        text: int.from_bytes(hashlib.md5(text.encode()).digest()[:8], "little") % 2**63
        for text in ("", "a", "支付密码")
    }
    numbers = pa.array([2**40 + 1, None, -1, 0], pa.int64())
    rows = pa.table({"text": ["a", "支付密码", "", None], "number": numbers})
    with engine.upload(rows) as uploaded, engine.store(uploaded.mutate(hash=engine.hash(uploaded.text))) as stored:
        found = stored.select("text", "number").to_pyarrow().to_pylist()
        assert {row["text"]: row["number"] for row in found} == {"": -1, "a": 2**40 + 1, None: 0, "支付密码": None}
        assert stored.filter(stored.text.isnull()).hash.execute().isna().tolist() == [True]
        known = stored.filter(stored.text.notnull())  # without nulls, or large numbers are rounded on the way here
        known = known.select("text", "hash", digest=engine.digest(known.text)).to_pyarrow().to_pylist()
        assert {row["text"]: row["hash"] for row in known} == expected
        assert hashlib.md5(b"a").hexdigest() in [row["digest"] for row in known]
    with pytest.raises(Exception, match=stored.get_name().split(".")[-1]):
        stored.count().execute()


def test_duckdb_stores_uploads_and_hashes():
    check_engine(backends.connect("duckdb"))


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(postgres, folders):
    """The URL of a database that holds the logs."""
    pytest.importorskip("psycopg")
    backend = backends.connect(postgres).backend
    backend.create_database("logs")
    for name in LOGS:
        backend.create_table(name, table(name), database="logs")
    yield postgres
    backends.disconnect(postgres)


@pytest.mark.parametrize("name", list(LOGS))
def test_postgres_counts_its_tables_as_duckdb_does(database, by_duckdb, name):
    assert_same(counted(ClickSource(table=f"logs.{name}", **LOGS[name]), database), by_duckdb[name])


def test_a_share_of_users_is_the_same_everywhere(database, folders):
    by_duckdb = counted(ClickSource(path=str(folders["clicks"]), **LOGS["clicks"]), sample_fraction=0.5)
    found = counted(ClickSource(table="logs.clicks", **LOGS["clicks"]), database, sample_fraction=0.5)
    assert 0 < by_duckdb[1].users < 40
    assert_same(found, by_duckdb)


def test_postgres_stores_uploads_and_hashes(database):
    engine = backends.connect(database)
    check_engine(engine)
    left = engine.backend.raw_sql("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'bgetune%'")
    assert left.fetchone() == (0,)


def test_a_source_of_the_engine_may_name_its_url(database, by_duckdb):
    source = ClickSource(url=database, table="logs.clicks", **LOGS["clicks"])
    assert Positives(engine=database, sources={"clicks": [source]}).engine == database
    log_tables.check(source, database)
    assert counted(source, database)[1].searches == by_duckdb["clicks"][1].searches
    backends.connect(database).backend.raw_sql("CREATE VIEW logs.texts AS SELECT *, time::text AS t FROM logs.clicks")
    with pytest.raises(InputError, match="column t is of type string; make timestamps, or seconds since 1970, of it"):
        log_tables.check(ClickSource(table="logs.texts", time_column="t"), database)


@pytest.mark.slow
def test_notebook_01_counts_at_the_engine_and_writes_the_same_tables(database, tmp_path):
    import bgetune_demo
    from bgetune.runs import execute

    bgetune_demo.prepare("small")
    file = locate("demo://small/clicks.csv")
    rows = duckdb.sql(f"FROM read_csv('{file}')").to_arrow_table()
    backends.connect(database).backend.create_table("searches", rows, database="logs")
    given = {"session_column": "session_id", "rank_column": "rank", "dwell_column": "dwell_seconds"}
    given |= {"title_column": "title", "timezone": "UTC"}
    for engine, source in (("duckdb", {"path": str(file)}), (database, {"table": "logs.searches"})):
        folder = tmp_path / engine.split(":")[0]
        folder.mkdir()
        section = {"engine": engine, "sources": {"clicks": [source | given]}}
        profile = {"model": "demo://small/encoder", "max_length": 32, "01_positives": section}
        (folder / "profile.yaml").write_text(yaml.safe_dump(profile, allow_unicode=True), "utf-8")
        execute.run_notebook("01_positives", folder / "profile.yaml", folder / "run")
    for name in ("texts", "edges", "clusters"):
        found, wanted = (
            pd.read_parquet(tmp_path / kind / "run/01_positives" / f"{name}.parquet") for kind in ("postgres", "duckdb")
        )
        assert len(wanted) > 100
        pd.testing.assert_frame_equal(found, wanted)
    shown = (tmp_path / "postgres/run/notebooks/01_positives.ipynb").read_text("utf-8")
    assert "logs.searches" in shown
    assert os.environ["PGTEST_PASSWORD"] not in shown


# --- what can be wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "source", "message"),
    [
        ("oracle://h/db", {"table": "t"}, "engine is duckdb, a Spark master"),
        ("duckdb", {"table": "t"}, "a table alone is a table of engine"),
        ("local[2]", {"url": "sqlite:///x.db", "query": "SELECT 1"}, "an engine counts tables, not a query"),
        ("local[2]", {"url": "postgres://h/db", "table": "t"}, "engine counts its own tables only"),
        ("yarn", {"path": "log.csv", "format": "csv"}, "engine does not read this file"),
        ("postgres://h/db", {"path": "logs"}, "engine does not read this file"),
        ("local[2]", {"table": "t", "time_format": "%d"}, "time_format is for files"),
        ("postgres://me:hunter2@h/db", {"table": "t"}, r"write \$\{NAME\} in url"),
    ],
)
def test_sources_that_an_engine_cannot_count_are_refused(engine, source, message):
    with pytest.raises(ValueError, match=message):
        Positives(engine=engine, sources={"clicks": [source]})


def test_what_an_engine_needs_is_said(monkeypatch):
    source = ClickSource(table="t")
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"engine: local\[2\] needs PySpark: pip install 'bgetune\[spark\]'"):
        log_tables.check(source, "local[2]")
    monkeypatch.setattr(backends, "find_spec", find_spec)
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(InputError, match=r"needs Java 17 or newer: install it .* or set JAVA_HOME"):
        log_tables.check(source, "yarn")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setattr(backends.shutil, "which", lambda name: __file__)
    with pytest.raises(InputError, match=r"engine: spark://127.0.0.1:9 cannot be reached \(Connection refused\)"):
        log_tables.check(source, "spark://127.0.0.1:9")
    with pytest.raises(InputError, match=r"connection failed|refused"):
        log_tables.check(source, "postgres://me@127.0.0.1:9/db")
    monkeypatch.delenv("NO_SUCH", raising=False)
    with pytest.raises(InputError, match="export NO_SUCH="):
        log_tables.check(source, "postgres://me:${NO_SUCH}@h/db")
