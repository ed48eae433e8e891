import contextlib
import io
import json
import re
import shlex

import numpy as np
import pandas as pd
import pytest

from bgetune.scoring import Scorer, monitor, usage
from bgetune.scoring.__main__ import main


def blocks(markdown):
    return dict(re.findall(r"^(?:`{3,})(python|bash)\n(.*?)\n`{3,}$", markdown, re.DOTALL | re.MULTILINE))


def run(code):
    """What the code prints, a line each."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue().splitlines()


@pytest.fixture
def pairs(world):
    ids = world.texts["text_id"].to_numpy()
    return pd.DataFrame({"query_id": ids[world.left], "text_id": ids[world.right], "label": world.labels})


@pytest.mark.parametrize("kind", ["guaranteed", "none guaranteed", "no reranker"])
def test_the_code_runs_as_it_is_printed(world, scorer, pairs, tmp_path, kind):
    settings = json.loads(json.dumps(scorer.settings))
    if kind == "none guaranteed":
        for row in settings["thresholds"]["precision"]:
            row["threshold"] = None
    if kind == "no reranker":
        settings["reranker"] = None
    shown = Scorer(settings, scorer.encoder, scorer.run_dir)
    query, texts = usage.example(pairs, world.texts)
    code = blocks(usage.how_to_use(shown, query, texts))["python"]
    assert str(world.run) in code  # outside of the repository: the whole path
    printed = run(code)
    expected = [line.partition("# ")[2] for line in code.splitlines() if line.startswith("print(")]
    assert expected[0] == printed[0]
    assert expected[1].startswith(printed[1])
    assert ("rerank=True" in code) == (kind != "no reranker")
    assert ("precision=None" in code) == (kind == "none guaranteed")
    assert ("no precision is guaranteed" in code) == (kind == "none guaranteed")
    assert len(printed) == len(expected)
    assert eval(printed[2])[0] in set(world.texts["text"])
    assert eval(printed[0]) == np.round(scorer.score(query, texts), 2).tolist()


def test_commands_run_as_they_are_printed(world, scorer, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    by_id = world.texts.set_index("text_id")["text"]
    table = pd.DataFrame({"query": pairs["query_id"].map(by_id), "document": pairs["text_id"].map(by_id)})
    for name in ("pairs.csv", "new.csv"):
        table.to_csv(name, index=False)
    commands = blocks(usage.how_to_use(scorer, *usage.example(pairs, world.texts)))["bash"].splitlines()
    for command, program in zip(commands, (main, monitor.main), strict=True):
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"]
        assert program(words[3:]) == 0, capsys.readouterr().err
    assert "--precision 0.8" in commands[0]


def test_nothing_in_a_text_or_a_path_ends_the_block(world, scorer, tmp_path):
    run_dir = tmp_path / "a `b` $(rm x)"
    run_dir.symlink_to(world.run)
    hostile = 'x"; import os; """\n```\n<script>alert(1)</script>\u202e$x$\\'
    markdown = usage.how_to_use(Scorer(scorer.settings, scorer.encoder, run_dir), hostile, [hostile])
    assert not [sign for sign in ("<", ">", "\u202e") if sign in markdown]
    shown = blocks(markdown)
    assert run(shown["python"])[0] == str([round(float(scorer.score(hostile, hostile)[0]), 2)])
    assert shlex.split(shown["bash"].splitlines()[0])[4] == str(run_dir)


def test_the_example_has_a_text_of_either_label(world, pairs):
    query, texts = usage.example(pairs, world.texts)
    ids = world.texts.set_index("text")["text_id"]
    labels = pairs[pairs["query_id"] == ids[query]].set_index("text_id")["label"]
    assert labels[ids[texts[0]]] == 1
    assert {int(labels[ids[text]]) for text in texts} == {0, 1}
    alone = pairs[pairs["label"] == 0].head(1)
    query, texts = usage.example(alone, world.texts)
    assert len(texts) == 1


def test_runs_of_the_repository_are_named_as_load_takes_them():
    assert usage.run_path(usage.ROOT / "runs" / "shop") == "runs/shop"


def test_the_example_has_no_masked_text_where_there_are_others():
    texts = pd.DataFrame({"text_id": ["0", "1", "2", "3"], "text": ["a <电话>", "b", "c", "d <邮箱>"]})
    rows = [("0", "1", 1), ("0", "2", 0), ("1", "2", 1), ("1", "3", 0)]
    pairs = pd.DataFrame(rows, columns=["query_id", "text_id", "label"])
    assert usage.example(pairs, texts) == ("b", ["c"])
    assert usage.example(pairs.head(1), texts) == ("a <电话>", ["b"])
