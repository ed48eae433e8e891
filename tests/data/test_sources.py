import csv
import datetime
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from asked import check_sources
from hypothesis import given, settings, strategies as st

from bgetune.config.sources import ClickSource, CorpusSource, GradedSource, PairSource, Source, Sources, SynonymSource
from bgetune.data import delimited, missing, sources, tables, textfiles
from bgetune.data.delimited import Dialect
from bgetune.data.sources import (
    external_files,
    label,
    read_clicks,
    read_corpus,
    read_pairs,
    read_synonyms,
)
from bgetune.errors import InputError
from bgetune.paths import ROOT

PAIRS = [("支付密码忘了", "忘记支付密码", 1.0), ("改 登录密码, 怎么改", 'say "hi"', 0.0)]


def write(path: Path, data: str | bytes) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def rows(table: pd.DataFrame) -> list[tuple]:
    return list(table.itertuples(index=False, name=None))


def drops(dropped: pd.DataFrame) -> dict[str, int]:
    tables.check("dropped", dropped)
    return dict(zip(dropped.reason, dropped.rows, strict=True))


def as_csv(delimiter=",", header=True, newline="\r\n") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=newline)
    if header:
        writer.writerow(["text_a", "text_b", "label"])
    writer.writerows(PAIRS)
    return out.getvalue()


def pairs_of(path: str, **options) -> list[tuple]:
    table, dropped = read_pairs(PairSource(path=path, label_column="label", **options))
    assert dropped.empty
    return rows(table)


# --- every format gives the same rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "\x01"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_csv_of_any_delimiter_and_encoding(tmp_path, delimiter, encoding):
    assert pairs_of(write(tmp_path / "p.csv", as_csv(delimiter).encode(encoding))) == PAIRS


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_csv_of_any_line_end(tmp_path, newline):
    assert pairs_of(write(tmp_path / "p.csv", as_csv(newline=newline))) == PAIRS


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_gzip_is_seen_by_its_content(tmp_path, encoding):
    data = gzip.compress(as_csv().encode(encoding))
    assert pairs_of(write(tmp_path / "p.csv.gz", data)) == PAIRS
    assert pairs_of(write(tmp_path / "really_zipped.csv", data)) == PAIRS


def test_given_encoding_and_delimiter(tmp_path):
    path = write(
        tmp_path / "p.dat", as_csv("~").replace("密码", "密碼").replace("忘记", "忘記").encode("big5", "replace")
    )
    table, _ = read_pairs(PairSource(path=path, format="csv", delimiter="~", encoding="big5", label_column="label"))
    assert "密碼" in table.a[0]
    path = write(tmp_path / "long.csv", "text_a||text_b\na|b||c\n")
    assert rows(read_pairs(PairSource(path=path, delimiter="||"))[0]) == [("a|b", "c", 1.0)]


def test_tsv_json_lines_parquet_and_excel(tmp_path):
    frame = pd.DataFrame(PAIRS, columns=["text_a", "text_b", "label"])
    assert pairs_of(write(tmp_path / "p.tsv", as_csv("\t"))) == PAIRS
    lines = frame.to_json(orient="records", lines=True)
    assert pairs_of(write(tmp_path / "p.jsonl", lines)) == PAIRS
    assert pairs_of(write(tmp_path / "p.ndjson.gz", gzip.compress(lines.encode()))) == PAIRS
    frame.to_parquet(tmp_path / "p.parquet")
    assert pairs_of(str(tmp_path / "p.parquet")) == PAIRS
    frame.to_excel(tmp_path / "p.xlsx", index=False)
    assert pairs_of(str(tmp_path / "p.xlsx")) == PAIRS
    frame.to_excel(tmp_path / "s.xlsx", index=False, sheet_name="second")
    assert pairs_of(str(tmp_path / "s.xlsx"), table="second") == PAIRS


def test_columns_by_number_without_a_header_line(tmp_path):
    columns = {"header": False, "a_column": 0, "b_column": "1"}
    path = write(tmp_path / "p.csv", as_csv(header=False))
    assert rows(read_pairs(PairSource(path=path, label_column=2, **columns))[0]) == PAIRS
    pd.DataFrame(PAIRS).to_excel(tmp_path / "p.xlsx", index=False, header=False)
    assert rows(read_pairs(PairSource(path=str(tmp_path / "p.xlsx"), label_column=2, **columns))[0]) == PAIRS
    bom = write(tmp_path / "bom.csv", b"\xef\xbb\xbf" + as_csv(header=False).encode())
    assert rows(read_pairs(PairSource(path=bom, label_column=2, **columns))[0]) == PAIRS


def test_blank_lines_nulls_and_a_last_line_without_end(tmp_path):
    path = write(tmp_path / "p.csv", "\n\ntext_a,text_b,label\na,b,1\n\n\\N,b,1\nc,NULL,1\nd , e,1")
    table, dropped = read_pairs(PairSource(path=path, label_column="label"))
    assert rows(table) == [("a", "b", 1.0), ("d", "e", 1.0)]
    assert drops(dropped) == {"no text": 2}


def test_a_column_of_texts_is_not_cut_at_its_commas(tmp_path):
    path = write(tmp_path / "c.csv", 'text\n你好,世界\n"quoted, ""so"""\nplain\n\n')
    assert read_corpus(CorpusSource(path=path))[0].text.tolist() == ["你好,世界", 'quoted, "so"', "plain"]
    path = write(tmp_path / "c.txt", "你好, 世界\nplain\nx, y, z\n")
    table, _ = read_corpus(CorpusSource(path=path, header=False, text_column=0, kind="query"))
    assert rows(table) == [(text, "", "query") for text in ("你好, 世界", "plain", "x, y, z")]


def test_synonym_lists(tmp_path):
    path = write(tmp_path / "s.tsv", "code\twords\nA\t登录密码 登陆密码  登录口令\nB\t单独\nC\t\n")
    table, dropped = read_synonyms(SynonymSource(path=path, separator=" "))
    assert [list(words) for words in table.words] == [["登录密码", "登陆密码", "登录口令"]]
    assert drops(dropped) == {"fewer than two words": 2}


# --- files as they are: stray quotes, ragged rows, broken bytes ---------------------------------------------------


def test_a_stray_quote_neither_loses_nor_glues_rows(tmp_path):
    lines = ['a1\t"b1', 'a2\tb2"', 'a3 "x" y\tb3', '"a4"z\tb4', '5" pipe\tb5', "a6\tb6"]
    path = write(tmp_path / "log.tsv", "text_a\ttext_b\n" + "\n".join(lines))
    table, dropped = read_pairs(PairSource(path=path))
    assert [(a, b) for a, b, _ in rows(table)] == [tuple(line.split("\t")) for line in lines]
    assert dropped.empty


def test_a_quoted_field_may_run_over_lines(tmp_path):
    path = write(tmp_path / "qa.csv", 'text_a,text_b\nq1,"one\ntwo, ""2""\n\nthree"\nq2,plain\n"q\r\n3",a3\n')
    table, dropped = read_pairs(PairSource(path=path))
    assert [(a, b) for a, b, _ in rows(table)] == [("q1", 'one two, "2"  three'), ("q2", "plain"), ("q 3", "a3")]
    assert dropped.empty


def test_two_stray_quotes_do_not_swallow_the_rows_between(tmp_path):
    path = write(tmp_path / "log.csv", 'text_a,text_b,n\na1,b1,"x\na2,b2,y\na3,b3,z"\n')
    table, _ = read_pairs(PairSource(path=path))
    assert table.a.tolist() == ["a1", "a2", "a3"]


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\0\r") | st.sampled_from('",\n\t; 中'))
FIELD = FIELD.filter(lambda field: field.strip() not in ("", *missing.NARROW))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6), delimiter=st.sampled_from(",\t;"))
def test_what_a_csv_writer_wrote_is_read(tmp_path_factory, pairs, delimiter):
    file = tmp_path_factory.mktemp("csv") / "p.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, delimiter=delimiter).writerows([("text_a", "text_b"), *pairs])
    table, dropped = read_pairs(PairSource(path=str(file), delimiter=delimiter))
    assert dropped.empty
    read = [(a.split(), b.split()) for a, b, _ in rows(table)]
    assert read == [(a.split(), b.split()) for a, b in pairs]


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.text(st.sampled_from('ab",\t 中')).filter(str.strip), min_size=1, max_size=8))
def test_python_and_duckdb_cut_lines_alike(lines):
    connection = sources.connect()
    for delimiter in (",", "\t", ""):
        cut = delimited.cut_sql(delimiter)
        found = connection.con.execute(f"SELECT {cut} FROM (SELECT unnest(?::VARCHAR[]) AS line)", [lines]).fetchall()
        assert [fields for (fields,) in found] == [delimited.cut(line, Dialect(delimiter)) for line in lines]


def test_ragged_rows_are_counted_with_a_masked_example(tmp_path):
    path = write(tmp_path / "p.csv", "text_a,text_b\na,b\n打13800138000\nc,d,e\nf,g\n")
    table, dropped = read_pairs(PairSource(path=path))
    assert table.a.tolist() == ["a", "f"]
    assert rows(dropped) == [(path, "not 2 fields in the line", 2, "c,d,e")]
    assert dropped.attrs["rows"] == {path: 4}
    path = write(tmp_path / "q.csv", "text_a,text_b\na,b\n打13800138000\n")
    assert read_pairs(PairSource(path=path))[1].example.tolist() == ["打<电话>"]


def test_lines_that_cannot_be_decoded_are_counted(tmp_path):
    good = [f"问题{number},答案{number}" for number in range(30)]
    lines = ["text_a,text_b", *good[:20], *good[20:]]
    data = "\n".join(lines).encode().replace("问题7,".encode(), b"\xff\xfe7,")
    table, dropped = read_pairs(PairSource(path=write(tmp_path / "p.csv", data)))
    assert len(table) == 29
    assert "问题7" not in set(table.a)
    assert drops(dropped) == {"not utf-8": 1}
    assert list(dropped.attrs["rows"].values()) == [30]
    assert dropped.example[0].startswith("line 9:")


def test_nul_and_lone_carriage_returns_do_not_cut_lines(tmp_path):
    for bad, good in ((b"a\x00a", "aa"), (b"a\ra", "a a")):
        path = write(tmp_path / "p.csv", b"text_a,text_b\n" + bad + b",b\n")
        assert rows(read_pairs(PairSource(path=path))[0]) == [(good, "b", 1.0)]


def test_bad_json_lines_are_counted(tmp_path):
    path = write(
        tmp_path / "c.jsonl", '{"text": "a", "a.b": 1}\n{"text": \n[1]\n\n{"text": null}\n{"text": 5}\n{"x": 1}\n'
    )
    table, dropped = read_corpus(CorpusSource(path=path))
    assert table.text.tolist() == ["a", "5"]
    assert drops(dropped) == {"no JSON object in the line": 2, "no text": 2}
    assert read_corpus(CorpusSource(path=path, text_column="a.b"))[0].text.tolist() == ["1"]


def test_labels_that_are_no_numbers_are_counted(tmp_path):
    path = write(tmp_path / "p.csv", "text_a,text_b,label\na,b,1\nc,d,perhaps\ne,f,nan\ng,,0\n")
    table, dropped = read_pairs(PairSource(path=path, label_column="label"))
    assert rows(table) == [("a", "b", 1.0)]
    assert drops(dropped) == {"label is no number": 2, "no text": 1}


# --- click logs ---------------------------------------------------------------------------------------------------

SOGOUQ = [
    "00:00:00\t2982199073774412\t[支付 密码]\t8 3\texample.com/a",
    "23:59:59\t07594220010824798\t[]\t1 1\texample.com/b",
    "00:00:01\t5228056822071097\t[[重复]\t14 5\texample.com/c?x=%BE",
]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8"])
def test_the_layout_of_sogouq(tmp_path, encoding):
    path = write(tmp_path / "access_log.txt", "\n".join(SOGOUQ).encode(encoding))
    columns = {"time_column": 0, "user_column": 1, "query_column": 2, "rank_column": 3, "url_column": 4}
    clicks, dropped = read_clicks(ClickSource(path=path, format="tsv", header=False, **columns))
    found = clicks.order_by("time").to_pandas()
    assert found["query"].tolist() == ["支付 密码", "[重复"]
    assert found["rank"].tolist() == [8, 14]
    assert found.user_id.tolist() == ["2982199073774412", "5228056822071097"]
    assert found.time.tolist() == [datetime.datetime(1970, 1, 1), datetime.datetime(1970, 1, 1, 0, 0, 1)]
    assert found.session_id.isna().all()
    assert drops(dropped) == {"no query": 1}


def test_the_real_sogouq_sample(shared):
    clicks, dropped = read_clicks(
        ClickSource(path=str(shared / "data/sogouq_sample_200806.tsv.gz"), rank_column="rank")
    )
    assert clicks.count().execute() + dropped.rows.sum() == 10_000
    assert clicks.filter(clicks["query"].startswith("[") & clicks["query"].endswith("]")).count().execute() == 0
    assert clicks["rank"].count().execute() == 10_000


@pytest.mark.parametrize(
    ("given", "time"),
    [
        ("2026-03-02T08:31:39", "2026-03-02 08:31:39"),
        ("2026-03-02 08:31:39.25", "2026-03-02 08:31:39.25"),
        ("2026/03/02 08:31", "2026-03-02 08:31:00"),
        ("2026-03-02T08:31:39+08:00", "2026-03-02 00:31:39"),
        ("2026-03-02T08:31:39Z", "2026-03-02 08:31:39"),
        ("2026-03-02", "2026-03-02 00:00:00"),
        ("20260302083139", "2026-03-02 08:31:39"),
        ("1772440299", "2026-03-02 08:31:39"),
        ("1772440299.5", "2026-03-02 08:31:39.5"),
        ("1772440299123", "2026-03-02 08:31:39.123"),
        ("1772440299123456", "2026-03-02 08:31:39.123456"),
        ("02/Mar/2026:08:31:39", "2026-03-02 08:31:39"),
        ("08:31:39", "1970-01-01 08:31:39"),
    ],
)
def test_times(tmp_path, given, time):
    path = write(tmp_path / "c.csv", f"time,user_id,query,url\n{given},u,q,x\n")
    assert read_clicks(ClickSource(path=path))[0].time.execute().tolist() == [pd.Timestamp(time)]


def test_rows_without_query_user_or_time_are_counted(tmp_path):
    data = "time,user_id,query,url,dwell\n08:00:00,u,q,,3.5\n08:00:00,u, ,x,1\n08:00:00,,q,x,1\nsoon,u,q,x,1\n"
    clicks, dropped = read_clicks(ClickSource(path=write(tmp_path / "c.csv", data), dwell_column="dwell"))
    (row,) = clicks.to_pandas().to_dict("records")
    assert (row["dwell"], row["query"]) == (3.5, "q")
    assert pd.isna(row["url"])
    assert drops(dropped) == {"no query": 1, "no user": 1, "time not readable": 1}
    assert [str(kind) for kind in clicks.schema().types] == [
        *["timestamp(6)", "string", "string", "string", "string", "string", "int64", "float64"]
    ]


def test_logs_without_users_sessions_times_or_urls(tmp_path):
    path = write(tmp_path / "c.csv", "query,title,session\nq1,t1,s\nq2,,s\n")
    source = ClickSource(
        path=path, user_column=None, time_column=None, url_column=None, title_column="title", session_column="session"
    )
    found = read_clicks(source)[0].order_by("query").to_pandas()
    assert len(set(found.user_id)) == 1
    assert found.url.tolist()[0] == "t1"
    assert found.url.isna().tolist() == [False, True]
    assert found.time.isna().all()
    nobody = source.model_copy(update={"session_column": None})
    assert read_clicks(nobody)[0].user_id.execute().nunique() == 2
    # numbers of rows and sessions begin anew in the log of the next day
    (tmp_path / "d.csv").write_text((tmp_path / "c.csv").read_text())
    for one in (source, nobody):
        other = one.model_copy(update={"path": str(tmp_path / "d.csv")})
        users = [set(read_clicks(log)[0].user_id.execute()) for log in (one, other)]
        assert not users[0] & users[1]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("12", 12),
        ("3.5", 3.5),
        ("12s", 12),
        ("8 秒", 8),
        ("1500ms", 1.5),
        ("00:01:30", 90),
        ('"1,234"', 1234),
        ("?", None),
    ],
)
def test_the_length_of_a_visit_is_read_in_seconds(tmp_path, given, seconds):
    path = write(tmp_path / "c.csv", f"time,user_id,query,url,dwell\n08:00:00,u,q,x,{given}\n")
    clicks, dropped = read_clicks(ClickSource(path=path, dwell_column="dwell"))
    (found,) = clicks.dwell.to_pandas()
    assert pd.isna(found) if seconds is None else found == seconds
    assert drops(dropped) == ({"dwell not readable as a number (the row is used)": 1} if seconds is None else {})


def test_click_logs_stay_lazy(tmp_path):
    path = tmp_path / "c.csv"
    clicks, _ = read_clicks(ClickSource(path=write(path, "time,user_id,query,url\n08:00:00,u,q,x\n")))
    with path.open("a") as file:
        file.write("08:00:01,u,q,y\n")
    assert clicks.count().execute() == 2


# --- databases ----------------------------------------------------------------------------------------------------


def test_sqlite_and_duckdb(tmp_path):
    with sqlite3.connect(tmp_path / "p.sqlite") as connection:
        connection.execute("CREATE TABLE pairs (text_a TEXT, text_b TEXT, label INTEGER)")
        connection.executemany("INSERT INTO pairs VALUES (?, ?, ?)", PAIRS)
    connection.close()
    with duckdb.connect(str(tmp_path / "p.duckdb")) as connection:
        connection.execute("CREATE TABLE pairs (text_a TEXT, text_b TEXT, label DECIMAL(3, 1))")
        connection.executemany("INSERT INTO pairs VALUES (?, ?, ?)", PAIRS)
    for scheme in ("sqlite", "duckdb"):
        url = f"{scheme}:///{tmp_path}/p.{scheme}"
        table = PairSource(url=url, table="pairs", label_column="label")
        query = PairSource(
            url=url, query="SELECT text_a AS q, text_b, label AS n FROM pairs", a_column="q", label_column="n"
        )
        for source in (table, query):
            found, dropped = read_pairs(source)
            assert rows(found) == PAIRS
            assert dropped.empty
        check_sources(Sources(pairs=[table, query]))
        with pytest.raises(InputError, match="nowhere"):
            read_pairs(PairSource(url=url, table="nowhere"))
        with pytest.raises(InputError, match="no column x; it has text_a, text_b, label"):
            read_pairs(PairSource(url=url, table="pairs", a_column="x"))
        with pytest.raises(InputError, match="no such file"):
            read_pairs(PairSource(url=f"{scheme}:///{tmp_path}/none", table="pairs"))
    assert not (tmp_path / "none").exists()


def test_duckdb_joins_files(tmp_path):
    queries = write(tmp_path / "q.csv", "id,text\nq1,how\n")
    documents = write(tmp_path / "d.jsonl", '{"id": "d1", "text": "so"}\n')
    judged = write(tmp_path / "r.csv", "q,d,score\nq1,d1,3\n")
    query = f"""SELECT q.text AS a, d.text AS b, score FROM '{judged}' r
        JOIN '{queries}' q ON q.id = r.q JOIN '{documents}' d ON d.id = r.d"""
    relative = query.replace(str(tmp_path), os.path.relpath(tmp_path, ROOT))  # to the repository, wherever we are
    for text in (query, relative):
        source = GradedSource(url="duckdb://", query=text, a_column="a", b_column="b", label_column="score")
        assert rows(read_pairs(source)[0]) == [("how", "so", 3.0)]


def test_postgres(postgres, tmp_path, monkeypatch):
    psycopg = pytest.importorskip("psycopg")
    secret = os.environ["PGTEST_PASSWORD"]
    port = int(postgres.rsplit(":", 1)[1].split("/")[0])
    with psycopg.connect(host="127.0.0.1", port=port, user="tester", password=secret, dbname="postgres") as connection:
        connection.execute("CREATE SCHEMA logs")
        connection.execute("CREATE SEQUENCE logs.counter")
        connection.execute(
            'CREATE TABLE logs.clicks ("when" timestamptz, who bigint, query text, url text, pos smallint)'
        )
        connection.execute(
            "INSERT INTO logs.clicks VALUES ('2026-03-02 08:31:39+08', 7, '支付密码', NULL, NULL), "
            "('2026-03-02 08:31:50+08', 7, '忘记支付密码', 'a', 2), (now(), 8, NULL, 'b', 1)"
        )
        connection.execute(
            "INSERT INTO logs.clicks SELECT now(), n, 'q' || n, 'u', 1 FROM generate_series(1, 250000) n"
        )
    columns = {"time_column": "when", "user_column": "who", "rank_column": "pos"}
    source = ClickSource(url=postgres, table="logs.clicks", **columns)
    clicks, dropped = read_clicks(source)
    assert clicks.count().execute() == 250_002
    assert drops(dropped) == {"no query": 1}
    first = clicks.order_by("time").limit(2).to_pandas()
    assert first.time.tolist() == [pd.Timestamp("2026-03-02 00:31:39"), pd.Timestamp("2026-03-02 00:31:50")]
    assert first.user_id.tolist() == ["7", "7"]
    assert first["query"].tolist() == ["支付密码", "忘记支付密码"]
    assert first.url.isna().tolist() == [True, False]
    assert first["rank"].tolist()[1] == 2
    query = ClickSource(
        url=postgres, query="SELECT * FROM logs.clicks WHERE who = 7 AND pos IS NOT DISTINCT FROM 2", **columns
    )
    assert read_clicks(query)[0].url.execute().tolist() == ["a"]
    assert label(source) == f"postgres://127.0.0.1:{port}/postgres logs.clicks"

    writing = query.model_copy(update={"query": "SELECT *, setval('logs.counter', 9) FROM logs.clicks"})
    with pytest.raises(InputError, match="read-only transaction"):
        read_clicks(writing)

    check_sources(Sources(clicks=[source, query]))
    with pytest.raises(InputError, match="no column nobody; it has when, who, query, url, pos"):
        read_clicks(source.model_copy(update={"user_column": "nobody"}))
    for wrong in (
        source.model_copy(update={"table": "logs.none"}),
        query.model_copy(update={"query": "SELECT 1 FROM x"}),
    ):
        with pytest.raises(InputError, match=r"logs\.none|\"x\"") as error:
            read_clicks(wrong)
        assert secret not in str(error.value)
    monkeypatch.setenv("PGTEST_PASSWORD", "another/secret")
    with pytest.raises(InputError, match="authentication failed") as error:
        read_clicks(source)
    assert "another" not in str(error.value)
    monkeypatch.delenv("PGTEST_PASSWORD")
    with pytest.raises(InputError, match="export PGTEST_PASSWORD"):
        read_clicks(source)


def test_a_database_whose_driver_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "ibis.backends.postgres", raising=False)
    with pytest.raises(InputError, match=r"pip install 'bgetune\[postgres\]'"):
        read_pairs(PairSource(url="postgres://user@localhost/db", table="pairs"))


# --- what a user gets wrong ---------------------------------------------------------------------------------------


def bad_files(folder: Path) -> dict[str, tuple[str | bytes, str]]:
    return {
        "empty.csv": ("", "is empty"),
        "blank.csv": ("\n \n", "is empty"),
        "header.csv": ("text_a,text_b\n", "no row after the header"),
        "column.csv": ("text_a,textb\nx,y\n", "no column text_b.*did you mean textb"),
        "foreign.csv": ("q,a\n如何,怎么\n", "no column text_a; it has q, a"),
        "nothing.csv": ("text_a,text_b\n,x\ny,\n", "no row can be used.*no text: 2"),
        "binary.csv": (b"text_a,text_b\n" + bytes(range(128, 256)) * 20, "neither UTF-8 nor GB18030.*set encoding"),
        "broken.csv.gz": (gzip.compress(b"text_a,text_b\na,b\n" * 999)[:-20], "damaged gzip"),
        "not.jsonl": ("text_a,text_b\n", "line 1: no JSON object"),
        "array.jsonl": ("[]\n", "line 1: no JSON object"),
        "not.parquet": ("PAR0", "cannot be read"),
        "not.xlsx": ("PK", "not an Excel workbook"),
        "no_format.dat": ("a", "set format"),
    }


@pytest.mark.parametrize("name", list(bad_files(Path())))
def test_bad_files_are_named_with_the_remedy(tmp_path, name):
    data, message = bad_files(tmp_path)[name]
    source = PairSource(path=write(tmp_path / name, data))
    with pytest.raises(InputError, match=message) as error:
        read_pairs(source)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    if name not in ("nothing.csv", "broken.csv.gz"):  # these take more than a look at the beginning
        with pytest.raises(InputError, match=message):
            check_sources(Sources(pairs=[source]))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("big5", "我忘記了登錄密碼,請問怎麼辦"),
        ("euc_jp", "パスワードを忘れた,再設定の方法はありますか"),
        ("cp1251", "как, сменить пароль"),
    ],
)
def test_other_encodings_are_not_read_as_gb18030(tmp_path, encoding, text):
    lines = "".join(f"{text}{number}\n" for number in range(50))
    path = write(tmp_path / "o.csv", b"text_a,text_b\n" + lines.encode(encoding))
    for read in (read_pairs, lambda source: check_sources(Sources(pairs=[source]))):
        with pytest.raises(InputError, match=r"o\.csv: neither UTF-8 nor GB18030;.*set encoding"):
            read(PairSource(path=path))
    assert read_pairs(PairSource(path=path, encoding=encoding))[0].a[0] == text.split(",")[0]
    with pytest.raises(InputError, match=r"o\.csv, line 2: not utf-8 \(50 of 51 lines are not\);.*set encoding"):
        read_pairs(PairSource(path=path, encoding="utf-8"))
    with pytest.raises(InputError, match="encoding utf-9 is unknown"):
        read_pairs(PairSource(path=path, encoding="utf-9"))


def test_times_that_are_none_name_the_column(tmp_path):
    path = write(tmp_path / "c.csv", "time,user_id,query,url\nsoon,u,q,x\nlater,u,q,x\n")
    with pytest.raises(InputError, match=r"c\.csv: no row can be used.*time not readable"):
        read_clicks(ClickSource(path=path))


def test_check_sources_names_every_problem_with_its_parameter(tmp_path):
    good = write(tmp_path / "p.csv", as_csv())
    with pytest.raises(InputError) as error:
        check_sources(
            Sources(
                pairs=[PairSource(path=good), PairSource(path=good, label_column="score")],
                corpus=[CorpusSource(path=str(tmp_path / "none.csv"))],
            )
        )
    first, second = str(error.value).splitlines()
    assert first.startswith("sources.pairs[1]: ")
    assert "no column score" in first
    assert "label_column" in first
    assert second.startswith("sources.corpus[0]: ")
    assert "no such file" in second


def test_check_sources_reads_the_beginning_only(tmp_path, monkeypatch):
    path = write(tmp_path / "p.csv", "text_a,text_b\n" + "a,b\n" * 2_000_000)
    read = []
    original = textfiles.chunks
    monkeypatch.setattr(textfiles, "chunks", lambda *a: (read.append(len(c)) or c for c in original(*a)))
    check_sources(Sources(pairs=[PairSource(path=path)]))
    assert sum(read) <= 2 << 20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "either path"),
        ({"path": "a.csv", "url": "duckdb://", "table": "t"}, "either path"),
        ({"url": "duckdb://"}, "either table or query"),
        ({"url": "duckdb://", "table": "t", "query": "q"}, "either table or query"),
        ({"path": "a.csv", "query": "q"}, "query needs url"),
        ({"url": "postgres://me:secret@host/db", "table": "t"}, "a password or key in the address"),
        ({"url": "postgres://host/db?password=secret", "table": "t"}, "a password or key in the address"),
    ],
)
def test_sources_that_contradict_themselves(values, message):
    with pytest.raises(ValueError, match=message):
        Source(**values)


def test_external_files_and_labels(tmp_path):
    given = Sources(
        clicks=[ClickSource(path="demo://small/clicks.csv"), ClickSource(path="data/c.csv")],
        pairs=[PairSource(path="data/c.csv"), PairSource(url="sqlite:///x.db", table="t")],
    )
    assert external_files(given) == ["demo://small/clicks.csv", "data/c.csv", "x.db"]
    assert label(given.pairs[1]) == "sqlite:///x.db t"
    assert label(PairSource(url="mysql://me:${P}@host/db?ssl=1", query="select 1")) == "mysql://host/db"


def test_importing_sources_does_not_import_torch():
    code = "import sys, bgetune.data.sources, bgetune.positives.pairs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_json_of_examples_is_untouched(tmp_path):
    path = write(tmp_path / "c.jsonl", json.dumps({"text": 'a "q" \\ \n b', "n": {"x": 1}}) + "\n")
    assert read_corpus(CorpusSource(path=path))[0].text.tolist() == ['a "q" \\ \n b']
    with pytest.raises(InputError, match=r"column n holds objects; name one of its fields: n\.x"):
        read_corpus(CorpusSource(path=path, text_column="n"))
    assert read_corpus(CorpusSource(path=path, text_column="n.x"))[0].text.tolist() == ["1"]
