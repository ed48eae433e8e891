import io
import json
import sqlite3
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pandas as pd
import pytest

from bgetune.errors import InputError
from bgetune.scoring import monitor
from bgetune.scoring.__main__ import main
from bgetune.scoring.files import read_pairs


@pytest.fixture
def table(world):
    texts = world.texts["text"].to_numpy()
    return pd.DataFrame({"query": texts[world.left], "document": texts[world.right], "label": world.labels})


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))


def test_pairs_of_a_file_get_scores(world, table, tmp_path, capsys):
    source, target = tmp_path / "pairs.csv", tmp_path / "scored.csv"
    table.head(30).assign(id=range(30)).to_csv(source, index=False)
    assert main([str(source), "--run", str(world.run), "--precision", "0.8", "--output", str(target)]) == 0
    scored = pd.read_csv(target)
    np.testing.assert_allclose(scored["similarity"], world.similarities[:30], atol=1e-5)
    assert scored["id"].tolist() == list(range(30))
    assert scored["probability"].between(0, 1).all()
    assert set(scored["match"]) == {0, 1}
    assert capsys.readouterr().out == ""


def test_a_scored_file_is_scored_anew(world, table, tmp_path):
    table.head(5).assign(similarity="old", probability="", match="x", id=range(5)).to_csv(tmp_path / "a.csv")
    arguments = ["--run", str(world.run), "--output"]
    for source, target, more in (
        ("a", "b", []),
        ("b", "c", ["--precision", "0.8"]),
        ("c", "d", ["--precision", "0.8"]),
    ):
        assert main([str(tmp_path / f"{source}.csv"), *arguments, str(tmp_path / f"{target}.csv"), *more]) == 0
    first, again = pd.read_csv(tmp_path / "b.csv"), pd.read_csv(tmp_path / "d.csv")
    np.testing.assert_allclose(first["similarity"], world.similarities[:5], atol=1e-5)
    np.testing.assert_allclose(again["similarity"], world.similarities[:5], atol=1e-5)
    assert first["match"].tolist() == ["x"] * 5  # without --precision it is a column like any other
    assert set(again["match"]) <= {0, 1}
    assert again["id"].tolist() == list(range(5))


@pytest.mark.parametrize("rows", [1, 5])
def test_other_columns_that_are_named_like_the_texts(world, table, tmp_path, rows):
    named = table.head(rows).rename(columns={"query": "q", "document": "title", "label": "good"})
    named.assign(query="something else", label="perhaps").to_csv(tmp_path / "a.csv", index=False)
    arguments = ["--run", str(world.run), "--columns", "q,title", "--output", str(tmp_path / "b.csv")]
    assert main([str(tmp_path / "a.csv"), *arguments]) == 0
    scored = pd.read_csv(tmp_path / "b.csv")
    np.testing.assert_allclose(scored["similarity"], world.similarities[:rows], atol=1e-5)
    assert scored["query.1"].tolist() == ["something else"] * rows
    read = read_pairs(str(tmp_path / "a.csv"), "q,title", "good")
    assert read["label"].tolist() == table["label"].head(rows).tolist()
    swapped = read_pairs(str(tmp_path / "a.csv"), "title,query")
    assert swapped["document"].tolist() == ["something else"] * rows
    assert swapped["query"].tolist() == table["document"].head(rows).tolist()


@pytest.mark.parametrize(("columns", "label"), [("query,query", None), ("query,document", "query")])
def test_a_column_named_twice_is_refused(tmp_path, columns, label):
    (tmp_path / "a.csv").write_text("query,document\na,b\n", "utf-8")
    with pytest.raises(InputError, match=r"column 'query' is named twice .*; give each"):
        read_pairs(str(tmp_path / "a.csv"), columns, label)


def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_loaded(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("bgetune.scoring.scorer.Scorer.load", None)
    for target, says in (("none/x.csv", "nothing can be written to"), ("", "a folder; give a file in it")):
        assert main(["pairs.csv", "--run", str(world.run), "--output", str(tmp_path / target)]) == 2
        assert says in capsys.readouterr().err


def test_stdin_to_stdout(world, monkeypatch, capsys):
    typed = '\ufefffrage,antwort\n支付密码,"登录, 密码"\n,\n'.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="ascii"))
    assert main(["--run", str(world.run), "--columns", "frage,antwort", "--precision", "0.8"]) == 0
    printed, said = capsys.readouterr()
    scored = pd.read_csv(io.StringIO(printed))
    assert list(scored.columns) == ["query", "document", "similarity", "probability", "match"]
    assert len(scored) == 2  # output rows are input rows
    assert scored["probability"].isna().tolist() == [False, True]  # of empty texts there is nothing to score
    assert scored["match"].iloc[1] == 0
    assert "1 of 2 pairs have an empty text and get no score; the first: row 2" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "no column 'query'; there are: a, b"),
        ("query,document\n1,2,3,4\n5,6,7\n1,2,3,4,5\n", "cannot be read"),
        (b"query,document\n\xff\xfe,x\n", "not UTF-8"),
    ],
)
def test_bad_files_are_one_message(world, tmp_path, capsys, content, message):
    file = tmp_path / "bad.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main([str(file), "--run", str(world.run)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "bad.csv" in error
    assert "Traceback" not in error


def test_missing_run_and_precision(world, tmp_path, capsys):
    assert main(["--run", str(tmp_path / "none")]) == 2
    assert "scoring.json" in capsys.readouterr().err
    assert main(["--run", str(world.run), "--precision", "0.77"]) == 2
    assert "is not guaranteed" in capsys.readouterr().err


def test_formats_and_labels(tmp_path, table):
    rows = table.head(5)
    rows.to_csv(tmp_path / "a.tsv.gz", sep="\t", index=False)
    rows.to_json(tmp_path / "a.jsonl", orient="records", lines=True, force_ascii=False)
    for name in ("a.tsv.gz", "a.jsonl"):
        read = read_pairs(str(tmp_path / name), label="label")
        assert read["query"].tolist() == rows["query"].tolist()
        assert read["label"].tolist() == rows["label"].tolist()
    (tmp_path / "bad.csv").write_text("query,document,label\na,b,perhaps\n", "utf-8")
    with pytest.raises(InputError, match="row 1: column 'label' is 1 or 0, not 'perhaps'"):
        read_pairs(str(tmp_path / "bad.csv"), label="label")
    with pytest.raises(InputError, match="no such file"):
        read_pairs(str(tmp_path / "none.csv"))


def test_monitoring_from_the_command_line(world, table, tmp_path, capsys):
    file = tmp_path / "new.csv"
    table.to_csv(file, index=False)
    arguments = ["--run", str(world.run), "--pairs", str(file)]
    assert monitor.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "stable"
    assert found["psi"] < found["psi_band"]
    table.assign(label=1 - table["label"]).to_csv(file, index=False)
    assert monitor.main([*arguments, "--label", "label"]) == 1
    said = capsys.readouterr().out
    assert "retrain: the model ranks these pairs worse" in said
    assert "was 0.900" in said
    assert monitor.main([*arguments, "--reference", str(file)]) == 0
    said = capsys.readouterr().out
    assert "stable: the scores are distributed as those of the reference" in said
    assert "positives" not in said
    assert monitor.main(["--run", str(world.run), "--pairs", "none.csv"]) == 2
    table.head(20).to_csv(file, index=False)
    assert monitor.main(arguments) == 0
    assert "20 pairs say nothing yet" in capsys.readouterr().out


def test_monitoring_compares_at_the_prior_of_the_run(world, scorer, table, tmp_path, capsys, monkeypatch):
    few = pd.concat([table[table["label"] == 0], table[table["label"] == 1].head(20)])
    few.to_csv(tmp_path / "new.csv", index=False)
    arguments = ["--run", str(world.run), "--pairs", str(tmp_path / "new.csv")]
    assert monitor.main(arguments) == 1
    assert "run 05_calibrate with prior: 0.0" in capsys.readouterr().out
    scorer.settings["data"]["prior"] = len(few.query("label == 1")) / len(few)
    monkeypatch.setattr("bgetune.scoring.scorer.Scorer.load", lambda run: scorer)
    assert monitor.main(arguments) == 0


def test_monitoring_takes_what_a_source_can_be(world, table, tmp_path, capsys, monkeypatch):
    """A folder of parts, a pattern, a packed workbook's kin and a database say what the csv file says."""
    (tmp_path / "parts").mkdir()
    table.head(400).to_parquet(tmp_path / "parts/a.parquet")
    table.iloc[400:].to_parquet(tmp_path / "parts/b.parquet")
    table.rename(columns={"query": "q", "document": "title"}).to_json(
        tmp_path / "log.jsonl.gz", orient="records", lines=True, force_ascii=False
    )
    table.to_csv(tmp_path / "one.csv", index=False)
    with sqlite3.connect(tmp_path / "log.db") as database:
        table.to_sql("log", database, index=False)
    said = []
    for arguments in (
        [str(tmp_path / "one.csv")],
        [str(tmp_path / "parts")],
        [str(tmp_path / "parts/*.parquet")],
        [str(tmp_path / "log.jsonl.gz"), "--columns", "q,title"],
        [f"sqlite:///{tmp_path / 'log.db'}", "--query", "SELECT query, document FROM log"],
    ):
        assert monitor.main(["--run", str(world.run), "--json", "--pairs", *arguments]) == 0, capsys.readouterr().err
        said.append(json.loads(capsys.readouterr().out))
    assert said[0]["pairs"] == len(table)
    assert all(one == said[0] for one in said[1:])
    monkeypatch.chdir(tmp_path)
    assert monitor.main(["--run", str(world.run), "--json", "--pairs", "parts/*.parquet"]) == 0
    assert json.loads(capsys.readouterr().out) == said[0]
    assert monitor.main(["--run", str(world.run), "--pairs", str(tmp_path / "*.orc")]) == 2
    assert "no file fits the pattern" in capsys.readouterr().err


def test_monitoring_takes_files_of_other_machines(world, table, tmp_path, capsys):
    """An object store by fsspec's own (s3:// wants its package), and a web server; what is missing is one message."""
    table.to_csv(tmp_path / "log.csv", index=False)
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "log.csv"), "/bucket/log.csv")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base, said = f"http://127.0.0.1:{server.server_port}", []
    try:
        for location in (
            str(tmp_path / "log.csv"),
            f"{base}/log.csv",
            "memory://bucket/log.csv",
            "memory://bucket/*.csv",
        ):
            assert monitor.main(["--run", str(world.run), "--json", "--pairs", location]) == 0, capsys.readouterr().err
            said.append(json.loads(capsys.readouterr().out))
        assert all(one == said[0] for one in said[1:])
        assert monitor.main(["--run", str(world.run), "--pairs", f"{base}/none.csv"]) == 2
        assert "none.csv: no such file; correct path" in capsys.readouterr().err
    finally:
        server.shutdown()
    assert monitor.main(["--run", str(world.run), "--pairs", "s3://bucket/log.csv"]) == 2
    assert "pip install 'bgetune[s3]'" in capsys.readouterr().err


def test_monitoring_scores_a_sample_and_writes_a_page(world, table, tmp_path, capsys):
    table.to_csv(tmp_path / "<b>.csv", index=False)
    arguments = ["--run", str(world.run), "--pairs", str(tmp_path / "<b>.csv"), "--html", str(tmp_path / "page.html")]
    assert monitor.main([*arguments, "--limit", "300", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 300
    assert sum(found["known_shares"]) == pytest.approx(1)
    assert len(found["new_shares"]) == len(found["edges"]) + 1
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<h1>stable</h1>" in page
    assert f"<td>{found['psi']:.3f}</td>" in page
    assert page.count("<rect") == 2 * len(found["new_shares"])
    assert "&lt;b&gt;.csv" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert monitor.main([*arguments, "--limit", "0"]) == 2
    assert "--limit is 0" in capsys.readouterr().err
