"""Every message about bad input has one form: a line or few, what is wrong and where, the remedy, and no secret."""

import ast
import gzip
import json
import re
import shutil
import sqlite3
import symtable
import zipfile
from pathlib import Path

import pytest
import test_checks
import tiny
from config import test_reading, test_secrets
from repository import CELLS, STAGE, make_notebook
from test_checks import made, write  # noqa: F401 (fixtures)

from bgetune import pipeline, scoring
from bgetune.config.profile import Profile, load_profile, resolve
from bgetune.config.sources import ClickSource, CorpusSource, GradedSource, PairSource, SynonymSource
from bgetune.data import sources
from bgetune.errors import InputError
from bgetune.files import describe
from bgetune.models.check import check_model
from bgetune.negatives import review
from bgetune.paths import ROOT, locate
from bgetune.runs import manifest
from bgetune.scoring import __main__ as score, monitor
from bgetune.scoring.files import read_pairs
from bgetune.training.groups import read_groups

REMEDY = re.compile(
    r"; |\. [A-Z]|, or |\bsuch as |pip install|did you mean|\bwrite |\bsee |for example|\bneeds? |, not |\bgive |\bset "
    r"|should "
)
"""What a remedy begins with: after what is wrong comes what to do, or what would be right."""
MASKED = ("unter2", "HUNTER2")


def assert_plain(message: str, names: str = "") -> None:
    """The form of every message."""
    lines = message.splitlines()
    if "things to correct first" in lines[0]:
        lines = lines[1:]
    assert len(lines) <= 3, message
    for line in lines:
        assert line == line.strip()
        assert 15 < len(line) < 700, line
        assert re.search(REMEDY, line), f"no remedy: {line}"
        assert not re.search(
            r"Traceback|File \"|line \d+, in |<class|object at 0x|errors\.pydantic|\x1b|NoneType", line
        ), line
        assert not any(secret in line for secret in MASKED), line
        assert line.isprintable(), repr(line)
    assert names in message


def refuse(action, names: str = "") -> None:
    with pytest.raises(InputError) as error:
        action()
    assert_plain(str(error.value), names)


# --- profiles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [text for text, *_ in [*test_reading.ODD_YAML, *test_secrets.TYPED]])
def test_odd_profiles(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    refuse(lambda: load_profile(file), "mine.yaml")


@pytest.mark.parametrize("name", test_reading.ODD_NAMES)
def test_odd_names(tmp_path, name):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: {name}\n", "utf-8")
    refuse(lambda: load_profile(file), "mine.yaml, line 1: name")


@pytest.mark.parametrize("override", test_reading.ODD_OVERRIDES)
def test_odd_overrides(tmp_path, override):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\n", "utf-8")
    refuse(lambda: load_profile(file, [override]))


@pytest.mark.parametrize("name", test_checks.BAD)
def test_profiles_that_could_not_run(write, name):  # noqa: F811
    refuse(lambda: test_checks.check(write(test_checks.BAD[name][0])), "mine.yaml")


ARGUMENTS = [
    ("01_positives", {"min_support": 0}),
    ("01_positives", {"mask": ["name"]}),
    ("01_positives", {"sources": {"qa": [{"path": "a", "url": "duckdb://"}]}}),
    ("03_hard_negatives", {"sampling": "best"}),
    ("04_train", {"loss": None, "epochs": "three"}),
    ("05_calibrate", {"precisions": [0.9, 1.5]}),
]


@pytest.mark.parametrize(("stage", "arguments"), ARGUMENTS)
def test_arguments_of_notebooks(stage, arguments):
    profile = Profile("x", Path("x.yaml"), {"model": "a/b"})
    refuse(lambda: resolve(stage, profile, arguments), stage)


# --- files --------------------------------------------------------------------------------------------------------


def make_files(folder: Path) -> None:
    """Files that are none of what they claim to be."""
    texts = {
        "empty.csv": "",
        "blank.csv": " \n \n",
        "header.csv": "text_a,text_b\n",
        "columns.csv": "frage,antwort\na,b\n",
        "labels.csv": "text_a,text_b,label\na,b,maybe\nc,d,perhaps\n",
        "grades.csv": "text_a,text_b,grade\na,b,2\nc,d,2\n",
        "one_word.csv": "words\nalone\n",
        "times.csv": "time,user_id,query,url\nsoon,u,q,x\n",
        "none.jsonl": "no json\n",
        "list.jsonl": "[1, 2]\n",
        "unknown.dat": "a,b\n",
        "text.parquet": "no parquet",
        "text.xlsx": "no workbook",
        "text.csv.gz": "no gzip",
        "text.sqlite": "no database, but long enough to be looked at as if it were one" * 20,
        "review_column.csv": "query,candidate\na,b\n",
        "review_word.csv": "query,candidate,verdict\na,b,perhaps\n",
        "review_both.csv": "query,candidate,verdict\na,b,same\nb,a,different\n",
        "groups_text.jsonl": "no json\n",
        "groups_list.jsonl": "[]\n",
        "groups_pos.jsonl": '{"query": "a", "pos": "b", "neg": []}\n',
        "groups_none.jsonl": "\n",
        "pairs_label.csv": "query,document,label\na,b,2\n",
        "pairs_column.csv": "a,b\n1,2\n",
        "pairs_ragged.csv": 'query,document\na,b\n"c,d\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    (folder / "latin.csv").write_bytes("text_a,text_b\ncafé,thé\nà la carte,menu\n".encode("latin-1"))
    (folder / "bytes.csv").write_bytes(bytes(range(128, 256)) * 8)
    whole = gzip.compress(b"text_a,text_b\na,b\n" * 1000)
    (folder / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(folder / "zip.xlsx", "w") as archive:
        archive.writestr("a.txt", "a")
    with sqlite3.connect(folder / "some.sqlite") as connection:
        connection.execute("CREATE TABLE pairs (text_a TEXT)")
    connection.close()
    (folder / "folder.csv").mkdir()
    (folder / "run").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "manifest.json").write_text("{")


def pairs(**source):
    return lambda folder: sources.read_pairs(
        PairSource(**{k: str(v).replace("@", str(folder)) for k, v in source.items()})
    )


FILES = {
    "nowhere.csv": pairs(path="@/nowhere.csv"),
    **{
        name: pairs(path=f"@/{name}")
        for name in (
            *("empty.csv", "blank.csv", "header.csv", "columns.csv", "latin.csv", "bytes.csv", "folder.csv"),
            *("none.jsonl", "list.jsonl", "unknown.dat", "text.parquet", "text.xlsx", "zip.xlsx", "cut.csv.gz"),
        )
    },
    "text.csv.gz": pairs(path="@/text.csv.gz", format="csv", a_column="x"),
    "labels.csv": pairs(path="@/labels.csv", label_column="label"),
    "encoding": pairs(path="@/columns.csv", encoding="utf-99"),
    "sheet": pairs(path="@/text.xlsx", table="first"),
    "x" * 300: pairs(path="x" * 300),
    "no.sqlite": pairs(url="sqlite:///@/no.sqlite", table="t"),
    "text.sqlite": pairs(url="sqlite:///@/text.sqlite", table="t"),
    "no table": pairs(url="sqlite:///@/some.sqlite", table="nowhere"),
    "some.sqlite": pairs(url="sqlite:///@/some.sqlite", table="pairs"),
    "two statements": pairs(url="sqlite:///@/some.sqlite", query="SELECT 1; DROP TABLE pairs"),
    "drop": pairs(url="sqlite:///@/some.sqlite", query="DROP TABLE pairs"),
    "no SQL": pairs(url="duckdb://", query="SELEC 1"),
    "no file in a query": pairs(url="duckdb://", query="SELECT * FROM '@/nowhere.csv'"),
    "copy": pairs(url="duckdb://", query="WITH w AS (COPY (SELECT 1) TO '@/w.csv') SELECT 1"),
    "no server": pairs(url="postgres://me@127.0.0.1:9/db", table="t"),
    "no kind": pairs(url="nothing://me@127.0.0.1:9/db", table="t"),
    "no variable": pairs(url="postgres://me:${NO_SUCH_VARIABLE}@127.0.0.1:9/db", table="t"),
    "clicks": lambda folder: sources.read_clicks(ClickSource(path=str(folder / "times.csv"))),
    "click columns": lambda folder: sources.read_clicks(ClickSource(path=str(folder / "labels.csv"))),
    "grades": lambda folder: sources.read_pairs(GradedSource(path=str(folder / "labels.csv"))),
    "synonyms": lambda folder: sources.read_synonyms(SynonymSource(path=str(folder / "one_word.csv"))),
    "corpus": lambda folder: sources.read_corpus(CorpusSource(path=str(folder / "labels.csv"))),
    "review column": lambda folder: review.read_review(folder / "review_column.csv"),
    "review word": lambda folder: review.read_review(folder / "review_word.csv"),
    "review both": lambda folder: review.verdicts(review.read_review(folder / "review_both.csv")),
    "review bytes": lambda folder: review.read_review(folder / "bytes.csv"),
    "groups_text.jsonl": lambda folder: read_groups(folder / "groups_text.jsonl"),
    "groups_list.jsonl": lambda folder: read_groups(folder / "groups_list.jsonl"),
    "groups_pos.jsonl": lambda folder: read_groups(folder / "groups_pos.jsonl"),
    "groups_none.jsonl": lambda folder: read_groups(folder / "groups_none.jsonl"),
    "scored nowhere": lambda folder: read_pairs(str(folder / "nowhere.csv"), "query,document"),
    "scored empty": lambda folder: read_pairs(str(folder / "empty.csv"), "query,document"),
    "scored columns": lambda folder: read_pairs(str(folder / "pairs_column.csv"), "query,document"),
    "scored label": lambda folder: read_pairs(str(folder / "pairs_label.csv"), "query,document", "label"),
    "scored ragged": lambda folder: read_pairs(str(folder / "pairs_ragged.csv"), "query,document"),
    "scored bytes": lambda folder: read_pairs(str(folder / "bytes.csv"), "query,document"),
    "run": lambda folder: manifest.artifact_path(folder / "run", "model"),
    "scorer": lambda folder: scoring.Scorer.load(folder / "run"),
    "no run": lambda folder: scoring.Scorer.load(folder / "nowhere"),
    "damaged": lambda folder: manifest.read_manifest(folder / "damaged"),
    "describe": lambda folder: describe(folder / "nowhere"),
    "demo": lambda folder: locate("demo://nowhere/at/all"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name):
    make_files(tmp_path)
    before = {file.name for file in tmp_path.iterdir()}
    refuse(lambda: FILES[name](tmp_path), name if "." in name else "")
    assert {file.name for file in tmp_path.iterdir()} == before


# --- models -------------------------------------------------------------------------------------------------------


def damage_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])


def pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def configure(**values):
    def change(folder):
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


MODELS = {
    "nowhere": shutil.rmtree,
    "no config": lambda folder: (folder / "config.json").unlink(),
    "no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "pickle": pickle,
    "cut weights": damage_weights,
    "code": configure(auto_map={"AutoModel": "code.Model"}),
    "other layers": configure(num_hidden_layers=1),
    "more layers": configure(num_hidden_layers=4),
    "other width": configure(hidden_size=64),
    "no tokenizer": lambda folder: [file.unlink() for file in folder.glob("*token*")] + [
        file.unlink() for file in folder.glob("vocab*")
    ],
    "no architecture": configure(model_type="nothing", architectures=["NothingModel"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("messages") / "bert")


@pytest.mark.parametrize("name", MODELS)
def test_models(bert, tmp_path, monkeypatch, name):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(bert, tmp_path / "bert")
    MODELS[name](folder)
    refuse(lambda: check_model(folder, "model", "encoder"), "model: ")


@pytest.mark.parametrize("role", ["reranker", "translator"])
def test_roles(bert, role):
    refuse(lambda: check_model(bert, role, role), "what is needed is")


# --- commands -----------------------------------------------------------------------------------------------------

COMMANDS = {
    "no profile": (pipeline.main, ["nowhere.yaml"]),
    "two without": (pipeline.main, ["nowhere.yaml", "nowhere_else.yaml"]),
    "no stage": (pipeline.main, ["params/demo.yaml", "--from", "9"]),
    "override": (pipeline.main, ["params/demo.yaml", "--set", "epochs=3"]),
    "twice": (pipeline.main, ["params/demo.yaml", "params/demo.yaml"]),
    "score": (score.main, ["--run", "nowhere", "nowhere.csv"]),
    "monitor": (monitor.main, ["--run", "nowhere", "--pairs", "nowhere.csv"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name, capsys):
    command, arguments = COMMANDS[name]
    assert command(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert_plain(error.removeprefix("error: "))


# --- notebooks that fail ------------------------------------------------------------------------------------------

CELLS_THAT_FAIL = {
    "killed": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "probably because memory ran out"),
    "full disk": ("with open('/dev/full', 'w') as file:\n    n = file.write('x')", "the disk is full"),
    "bad input": (
        "from bgetune.errors import InputError\nraise InputError('data/log.csv, line 3: no query; correct it')",
        "data/log.csv, line 3: no query; correct it",
    ),
    "schema": (
        "import pandas as pd\nfrom bgetune.data import tables\ntables.check('edges', pd.DataFrame({'a_id': ['one']}))",
        "edges",
    ),
    "ours": ("{}['<b>支付密码</b>']", "KeyError: '<b>支付密码</b>'. This is a bug of bgetune"),
    "many lines": ("raise RuntimeError('first\\nsecond\\n' + 5000 * 'x')", "RuntimeError: first. This is a bug"),
    "no message": ("assert False", "AssertionError. This is a bug of bgetune"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS_THAT_FAIL)
def test_notebooks_that_fail(one_stage, name, capsys):
    cell, says = CELLS_THAT_FAIL[name]
    make_notebook(one_stage, *CELLS[:2], cell)
    assert pipeline.main([str(one_stage / "one.yaml")]) == (2 if name == "bad input" else 1)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    first, place, *_standing = error.strip().splitlines()
    assert_plain(first.removeprefix("error: "), says)
    if name != "killed":
        assert f"in notebook {STAGE}, cell 4 (In [4])" in place
        assert (one_stage / "runs/one/notebooks" / f"{STAGE}.failed.ipynb").is_file()


# --- the sources --------------------------------------------------------------------------------------------------


def raised() -> list[tuple[str, ast.expr]]:
    """Place and message of every `raise InputError`."""
    found = []
    for file in sorted((ROOT / "src" / "bgetune").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            raises = isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
            if raises and ast.unparse(node.exc.func) == "InputError":
                found.append((f"{file.relative_to(ROOT)}:{node.lineno}", node.exc.args[0]))
    return found


def written(node: ast.expr) -> str:
    """What is written in a message, {} for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(written, node.values))
    if isinstance(node, ast.BinOp):
        return written(node.left) + written(node.right)
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name == "_" and isinstance(node.args[0], ast.Constant):
            return re.sub(r"{[^{}]*}", "{}", node.args[0].value)
        if name.endswith(".format"):
            return written(node.func.value)
        if name == "joined":
            return "; ".join(map(written, node.args))
    return "{}"


@pytest.mark.parametrize(("place", "message"), raised(), ids=[place for place, _ in raised()])
def test_every_message_says_the_remedy(place, message):
    """But those that add a place to another message."""
    text = written(message)
    if text.replace("{}", "").strip(" :\n") not in ("", "base", "table", "in"):
        assert re.search(r"[a-z]{2,}", text)
        assert re.search(REMEDY, text) or text.endswith("{}"), f"{place} does not say what to do: {text}"


SAYING = {"InputError", "InternalError", "NotebookError", "print", "warnings.warn", "found.error", "found.warn"}
"""Calls whose first argument a user reads."""
HELP = {"description", "epilog", "help"}
"""Arguments of `argparse` that a user reads."""


def said() -> list[tuple[str, ast.expr]]:
    """What the sources say to a user: place and expression."""
    found = []
    for file in sorted((ROOT / "src" / "bgetune").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name, place = ast.unparse(node.func), f"{file.relative_to(ROOT)}:{node.lineno}"
                if node.args and (name in SAYING or (name == "ValueError" and "config" in file.parts)):
                    found.append((place, node.args[0]))
                if name.endswith(("ArgumentParser", "add_argument")):
                    found += [(place, given.value) for given in node.keywords if given.arg in HELP]
    return found


def unmarked(node: ast.AST) -> str:
    """The sentences in an expression that no `_(...)` encloses."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "_":
        return ""
    if isinstance(node, ast.Name) and node.id == "__doc__":
        return node.id
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) and re.search(r"[a-z]{2}", node.value) else ""
    if isinstance(node, ast.Subscript) or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".format")):
        return unmarked(next(ast.iter_child_nodes(node)))  # what is filled in may be a user's
    return "".join(map(unmarked, ast.iter_child_nodes(node)))


@pytest.mark.parametrize(("place", "node"), said(), ids=[place for place, _ in said()])
def test_every_sentence_is_marked_for_translation(place, node):
    assert not unmarked(node), f"{place}: put the sentence into _(...), what is filled in into .format(...)"


def scopes(table: symtable.SymbolTable) -> list[symtable.SymbolTable]:
    return [table, *(inner for child in table.get_children() for inner in scopes(child))]


def test_nothing_hides_the_translation():
    """A function that binds `_` to something else (`for _ in ...`) cannot translate."""
    for file in sorted((ROOT / "src" / "bgetune").rglob("*.py")):
        for scope in scopes(symtable.symtable(file.read_text("utf-8"), file.name, "exec")):
            if scope.get_type() == "function" and "_" in scope.get_identifiers():
                symbol = scope.lookup("_")
                assert symbol.is_global() or not symbol.is_referenced(), f"{file.name}, line {scope.get_lineno()}"
