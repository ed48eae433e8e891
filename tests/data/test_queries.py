"""The query of a source: one SELECT, on a connection that reads what it names and changes nothing."""

import os
import sqlite3

import duckdb
import pytest

from bgetune.config.sources import PairSource, Sources
from bgetune.data.queries import one_duckdb_select, one_select
from bgetune.data.sources import check_source, external_files, read_pairs
from bgetune.errors import InputError
from bgetune.paths import ROOT

READING = [
    "SELECT text_a, text_b FROM pairs",
    "WITH p AS (SELECT * FROM pairs) SELECT * FROM p;",
    "SELECT text_a, text_b FROM pairs UNION ALL SELECT text_b, text_a FROM pairs -- both ways",
    "(SELECT * FROM pairs)",
]
CHANGING = [
    "SELECT 1; SELECT 2",
    "SELECT * FROM pairs; DROP TABLE pairs",
    "SELECT * FROM pairs); DROP TABLE pairs; SELECT * FROM (SELECT 1",
    "INSERT INTO pairs VALUES ('a', 'b')",
    "WITH gone AS (DELETE FROM pairs RETURNING *) SELECT * FROM gone",
    "SELECT * FROM (WITH gone AS (DELETE FROM pairs RETURNING *) SELECT * FROM gone) AS x",
    "ATTACH 'new.db' AS new",
    "PRAGMA table_info(pairs)",
    "EXPLAIN SELECT 1",
    "",
    "-- nothing",
    "SELEC text_a",
]


@pytest.mark.parametrize("dialect", ["postgres", "mysql", "sqlite"])
def test_one_select_of_a_database(dialect):
    for query in READING:
        assert one_select(query, dialect).sql(dialect)
    for query in [*CHANGING, "SELECT * INTO copy FROM pairs", "COPY pairs TO 'x.csv'"]:
        with pytest.raises(InputError, match=r"^query "):
            one_select(query, dialect)


def test_one_select_of_duckdb():
    for query in [*READING, "FROM pairs", "VALUES (1, 2)", "SELECT 'a; COPY b' AS text_a"]:
        assert one_duckdb_select(query)["statements"]
    for query in [*CHANGING, "COPY pairs TO 'x.csv'", "INSTALL httpfs", "SET threads = 1"]:
        with pytest.raises(InputError, match=r"^query "):
            one_duckdb_select(query)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.csv").write_text("text_a,text_b\nhow,so\n", "utf-8")
    (tmp_path / "b.csv").write_text("text_a,text_b\nwhy,thus\n", "utf-8")
    (tmp_path / "secret.txt").write_text("secret", "utf-8")
    return tmp_path


def pairs(query: str) -> list[tuple]:
    table, _ = read_pairs(PairSource(url="duckdb://", query=query))
    return sorted(table[["a", "b"]].itertuples(index=False, name=None))


def test_the_files_that_a_query_names_are_inputs(folder):
    query = f"SELECT a.* FROM '{folder}/a.csv' a, read_csv('{folder}/*.csv') b WHERE a.text_a != '{folder}/no.csv'"
    given = Sources(pairs=[PairSource(url="duckdb://", query=query)])
    assert external_files(given) == [f"{folder}/*.csv", f"{folder}/a.csv", f"{folder}/b.csv"]


def test_a_query_reads_the_files_that_it_names(folder):
    both = [("how", "so"), ("why", "thus")]
    relative = os.path.relpath(folder, ROOT)
    for place in (folder, relative):
        assert pairs(f"SELECT * FROM '{place}/a.csv'") == both[:1]
        assert pairs(f"FROM read_csv('{place}/*.csv');") == both
        assert pairs(f"SELECT * FROM read_csv(['{place}/a.csv', '{place}/b.csv']) -- both") == both
        assert pairs(f"WITH a AS (FROM '{place}/a.csv') SELECT * FROM a UNION FROM '{place}/b.csv'") == both


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS text_a, 2 AS text_b); COPY (SELECT 1) TO '{folder}/a.csv'; SELECT * FROM (SELECT 1",
        "WITH w AS (COPY (SELECT 1) TO '{folder}/new.csv') SELECT 1 AS text_a, 2 AS text_b",
        # the files that COPY would touch are named
        "WITH w AS (COPY (SELECT 1) TO '{folder}/a.csv') SELECT '{folder}/tmp_a.csv' AS text_a, 2 AS text_b",
        "SELECT content AS text_a, content AS text_b FROM read_text('{folder}/sec' || 'ret.txt')",
        "SELECT file AS text_a, file AS text_b FROM glob('{folder}' || '/*')",
        "SELECT * FROM 'https://example.com/pairs.csv'",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{folder}/new.csv''')",
        "ATTACH '{folder}/new.db'",
    ],
)
def test_a_query_of_duckdb_neither_writes_nor_reads_anything_else(folder, query):
    (folder / "tmp_a.csv").write_text("x\n", "utf-8")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(InputError, match=r"^sources\.pairs\[0\]: duckdb://: ") as error:
        check_source(PairSource(url="duckdb://", query=query.replace("{folder}", str(folder))), "sources.pairs[0]")
    assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_file_that_a_query_names_and_is_not_there(folder):
    with pytest.raises(InputError, match=r"none\.csv is not there, or query does not name it"):
        pairs(f"SELECT * FROM '{folder}/none.csv'")


def test_databases_are_opened_to_read(folder):
    with sqlite3.connect(folder / "p.sqlite") as connection:
        connection.execute("CREATE TABLE pairs (text_a TEXT, text_b TEXT)")
        connection.execute("INSERT INTO pairs VALUES ('how', 'so')")
    connection.close()
    with duckdb.connect(str(folder / "p.duckdb")) as connection:
        connection.execute("CREATE TABLE pairs AS SELECT 'how' AS text_a, 'so' AS text_b")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for scheme in ("sqlite", "duckdb"):
        url = f"{scheme}:///{folder}/p.{scheme}"
        for query in READING:
            assert len(read_pairs(PairSource(url=url, query=query))[0]) >= 1
        for query in CHANGING:
            with pytest.raises(ValueError, match="query "):  # an InputError, or the profile's own check
                read_pairs(PairSource(url=url, query=query))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
