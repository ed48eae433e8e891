"""From a team's files to a first profile: `./run_all.sh new NAME FILE...`."""

import json
import random
import re
import sqlite3

import pandas as pd
import pytest

from bgetune import checks, locale, new, pipeline, runs
from bgetune.config.profile import load_profile, resolve
from bgetune.config.sources import PairSource, Sources
from bgetune.data import letters, recognise
from bgetune.data.sources import read_pairs
from bgetune.runs import manifest

MEANINGS = [
    ["怎么修改支付密码", "支付密码忘了怎么办", "如何重置支付密码"],
    ["余额提现多久到账", "提现什么时候到", "余额提现到账时间"],
    ["如何开发票", "怎么申请电子发票", "发票在哪里开"],
    ["退款要几天", "退款什么时候到账", "申请退款流程"],
    ["怎么注销账户", "如何销户", "账号注销方法"],
    ["花呗怎么还款", "花呗还款入口", "如何提前还花呗"],
]


def log(count=300):
    """A click log of Chinese columns."""
    draw, rows, time = random.Random(1), [], pd.Timestamp("2026-03-01 08:00:00")
    for number in range(count):
        meaning = draw.randrange(len(MEANINGS))
        time += pd.Timedelta(seconds=draw.randrange(30, 900))
        url = f"https://help.example.com/a/{meaning}"
        rows.append((str(time), f"u{number % 60:03}", draw.choice(MEANINGS[meaning]), url, draw.randrange(1, 6)))
    return pd.DataFrame(rows, columns=["搜索时间", "用户ID", "搜索词", "点击链接", "排名"])


def faq():
    return pd.DataFrame(
        [(text, f"请按以下步骤操作：{texts[0]}。") for texts in MEANINGS for text in texts], columns=["问题", "答案"]
    )


def guess(folder, name, content):
    """What a file with this content is taken for."""
    file = folder / name
    if isinstance(content, pd.DataFrame):
        content.to_excel(file, index=False) if name.endswith("xlsx") else content.to_csv(file, index=False)
    else:
        file.write_text(content, "utf-8")
    (place,) = recognise.places(name, folder)
    return recognise.recognise(place)


def text(rows, separator=","):
    return "\n".join(separator.join(map(str, row)) for row in rows) + "\n"


PAIRS = [(texts[0], texts[1]) for texts in MEANINGS]
SOGOU = [
    (f"00:00:{n:02}", f"29821990737{n:05}", f"[{MEANINGS[n % 6][0]}]", f"{n % 9 + 1} 1", f"www.example.com/{n}.html")
    for n in range(60)
]
DOCUMENTS = [
    json.dumps({"id": n, "content": f"{a}的办法是打开设置页，" * 4}, ensure_ascii=False)
    for n, (a, _) in enumerate(PAIRS)
]
CASES = {
    "log.csv": (log(), "clicks", {"query_column": "搜索词", "user_column": "用户ID", "url_column": "点击链接"}),
    "renamed.csv": (
        log().rename(columns={"搜索词": "w", "用户ID": "x", "点击链接": "y", "搜索时间": "z"}),
        "clicks",
        {"query_column": "w", "user_column": "x", "url_column": "y", "time_column": "z", "rank_column": "排名"},
    ),
    "sogou.log": (
        text(SOGOU, "\t"),
        "clicks",
        {"time_column": "0", "query_column": "2", "url_column": "4", "user_column": "1"},
    ),
    "faq.xlsx": (faq(), "qa", {"a_column": "问题", "b_column": "答案"}),
    "english.csv": (
        "Question,Answer\n" + text((f"How do I reset it {n}?", f"Open the settings page {n}.") for n in range(9)),
        "qa",
        {"a_column": "Question", "b_column": "Answer"},
    ),
    "labelled.csv": (
        "sentence1,sentence2,label\n" + text((a, b, n % 2) for n, (a, b) in enumerate(PAIRS)),
        "pairs",
        {"a_column": "sentence1", "b_column": "sentence2", "label_column": "label"},
    ),
    "all_the_same.csv": (
        "text_a,text_b,label\n" + text((a, b, 1) for a, b in PAIRS),
        "pairs",
        {"label_column": "label"},
    ),
    "words.csv": (
        "句子1,句子2,是否相似\n" + text((a, b, "是" if n % 2 else "否") for n, (a, b) in enumerate(PAIRS)),
        "pairs",
        {"a_column": "句子1", "b_column": "句子2", "label_column": "是否相似"},
    ),
    "graded.csv": (
        "query,title,relevance\n" + text((a, b, n % 5) for n, (a, b) in enumerate(PAIRS)),
        "graded",
        {"a_column": "query", "b_column": "title", "label_column": "relevance"},
    ),
    "bare_pairs.tsv": (
        text(((*PAIRS[n % 6], n % 2) for n in range(30)), "\t"),
        "pairs",
        {"a_column": "0", "b_column": "1", "label_column": "2"},
    ),
    "synonyms.txt": ("手机|电话|移动电话\n退款|退钱\n发票|票据|税票\n", "synonyms", {"separator": "|"}),
    "named_synonyms.csv": ("同义词\n手机、电话\n退款、退钱\n", "synonyms", {"separator": "、"}),
    "corpus.txt": (text([pair] for pair in [a for a, _ in PAIRS]), "corpus", {"text_column": "0", "kind": "query"}),
    "docs.jsonl": ("\n".join(DOCUMENTS), "corpus", {"text_column": "content", "kind": "document"}),
    "titled.csv": (
        "编号,标题,正文\n" + text((n, f"{a}说明", f"{a}的办法是打开设置页，{b}。") for n, (a, b) in enumerate(PAIRS)),
        "corpus",
        {"text_column": "正文", "title_column": "标题", "kind": "document"},
    ),
    "titled.jsonl": (
        "\n".join(json.dumps({"title": f"{a}说明", "body": f"{a}的办法：{b}"}, ensure_ascii=False) for a, b in PAIRS),
        "corpus",
        {"text_column": "body", "title_column": "title", "kind": "document"},
    ),
    "titled_faq.csv": (
        "title,question,answer\n" + text((f"{a}说明", a, f"请看{b}") for a, b in PAIRS),
        "qa",
        {"a_column": "question", "b_column": "answer"},
    ),
    "numbers.csv": ("foo,bar\n1,2.5\n2,3.5\n", None, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_file_seems_to_be(tmp_path, name):
    content, kind, values = CASES[name]
    content = "".join(content) if isinstance(content, list) else content
    found = guess(tmp_path, name, content)
    assert found.kind == kind
    assert values.items() <= found.parameters.items(), found
    # the profile takes what was recognised
    if kind is not None:
        Sources(**{kind: [{**found.place, **found.parameters}]})


def test_flagembedding_groups(tmp_path):
    lines = [json.dumps({"query": a, "pos": [b], "neg": ["别的"]}, ensure_ascii=False) for a, b in PAIRS]
    found = guess(tmp_path, "train.jsonl", "\n".join(lines))
    assert found.kind == "groups"
    assert found.parameters == {"query_column": "query", "positives_column": "pos", "negatives_column": "neg"}


def test_what_is_doubtful_has_its_choices(tmp_path):
    found = guess(tmp_path, "two.csv", "fragen,antworten,sonst\n" + text((a, b, a) for a, b in PAIRS))
    assert found.kind == "qa"
    assert found.choices["b_column"]
    written = new.profile("two", [found])
    assert "# ? " in next(line for line in written.splitlines() if "b_column" in line)


def test_places_of_folders_sheets_and_databases(tmp_path):
    (tmp_path / "in").mkdir()
    faq().to_csv(tmp_path / "in" / "a.csv.gz", index=False)
    (tmp_path / "in" / "readme.md").write_text("no table")
    with pd.ExcelWriter(tmp_path / "in" / "b.xlsx") as book:
        faq().to_excel(book, sheet_name="one", index=False)
        faq().to_excel(book, sheet_name="two", index=False)
        pd.DataFrame().to_excel(book, sheet_name="empty")
    found = recognise.places("in", tmp_path)
    assert [(place["path"].split("/")[-1], place.get("table")) for place in found] == [
        ("a.csv.gz", None),
        ("b.xlsx", "one"),
        ("b.xlsx", "two"),
    ]
    with sqlite3.connect(tmp_path / "d.sqlite") as connection:
        log().to_sql("searches", connection, index=False)
    connection.close()
    (place,) = recognise.places(f"sqlite:///{tmp_path}/d.sqlite", tmp_path)
    assert place["table"] == "searches"
    assert recognise.recognise(place).kind == "clicks"


def test_a_title_above_the_header_is_left_out(tmp_path):
    table = pd.DataFrame(
        [["客服问答 2026", ""], ["", ""], ["问题", "答案"], ["怎么还款", "打开首页"], ["怎么提现", "点余额"]]
    )
    table.to_excel(tmp_path / "title.xlsx", index=False, header=False)
    (place,) = recognise.places("title.xlsx", tmp_path)
    found = recognise.recognise(place)
    assert (found.kind, found.parameters) == ("qa", {"a_column": "问题", "b_column": "答案"})
    assert read_pairs(PairSource(**found.place, **found.parameters))[0]["a"].tolist() == ["怎么还款", "怎么提现"]


@pytest.mark.parametrize(
    ("texts", "language"),
    [(["怎么还款 app", "余额"], "zh"), (["how to pay", "refund"], "en"), (["как оплатить"], "other"), ([], "other")],
)
def test_language(texts, language):
    assert letters.language(texts)[0] == language


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files of a team: a CSV log and an Excel FAQ."""
    monkeypatch.setattr(new, "ROOT", tmp_path)
    log().to_csv(tmp_path / "log.csv", index=False)
    faq().to_excel(tmp_path / "faq.xlsx", index=False)
    return tmp_path


def command(folder, *arguments):
    return new.main(["shop", "--folder", str(folder), *arguments])


def test_comments_are_in_the_language_in_use(folder, capsys):
    with locale.using("zh"):
        assert command(folder, "log.csv", "faq.xlsx") == 0
    written = (folder / "params" / "shop.yaml").read_text("utf-8")
    comments = [line.split("# ")[1] for line in written.splitlines() if "# " in line]
    assert len(comments) > 5
    assert all(re.search(r"[\u4e00-\u9fff]", comment) for comment in comments), comments
    assert "params/template.zh-CN.yaml" in written
    assert "搜索词：query（按列名）；例如" in capsys.readouterr().out.replace(" (", "（").replace(")", "）")
    profile = load_profile(folder / "params" / "shop.yaml")
    assert resolve("01_positives", profile)[0].model == "BAAI/bge-small-zh-v1.5"


def test_a_profile_is_short_commented_valid_and_has_nothing_of_the_demo(folder, capsys):
    assert command(folder, "log.csv", "faq.xlsx") == 0
    written = (folder / "params" / "shop.yaml").read_text("utf-8")
    assert len(written.splitlines()) < 30
    assert "demo" not in written
    assert "model: BAAI/bge-small-zh-v1.5" in written
    assert "# by its name" in written
    assert "params/template.yaml" in written
    profile = load_profile(folder / "params" / "shop.yaml")
    positives, _ = resolve("01_positives", profile)
    assert [source.query_column for source in positives.sources.clicks] == ["搜索词"]
    assert [source.a_column for source in positives.sources.qa] == ["问题"]
    output = capsys.readouterr().out
    for part in ("log.csv: clicks", "搜索词: query (by its name); such as", "./run_all.sh shop --until 01"):
        assert part in output


def test_nothing_is_overwritten_and_bad_input_is_named(folder, capsys):
    assert command(folder, "log.csv") == 0
    before = (folder / "params" / "shop.yaml").read_bytes()
    assert command(folder, "faq.xlsx") == 2
    assert "is there already" in capsys.readouterr().err
    assert (folder / "params" / "shop.yaml").read_bytes() == before
    (folder / "empty").mkdir()
    (folder / "no.xlsx").write_text("no workbook")
    assert new.main(["other", "--folder", str(folder), "nowhere.csv", "empty", "no.xlsx", "x.bin"]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 4
    assert new.main(["../up", "--folder", str(folder), "log.csv"]) == 2
    assert not (folder / "params" / "other.yaml").exists()


def test_secrets_of_a_database_do_not_get_into_a_profile(folder, capsys):
    assert new.main(["other", "--folder", str(folder), "postgres://me:hunter2@h/db"]) == 2
    assert "hunter2" not in capsys.readouterr().err


def test_values_cannot_break_out_of_a_comment(folder):
    strange = "问题\n# x: [", "答\r案"
    pd.DataFrame([("怎么还款", "打开")], columns=strange).to_excel(folder / "odd.xlsx", index=False)
    assert command(folder, "odd.xlsx") == 0
    load_profile(folder / "params" / "shop.yaml")


@pytest.mark.slow
def test_two_files_give_a_first_report_without_editing(folder, monkeypatch):
    monkeypatch.setattr(runs, "run_folder", lambda profile, run_dir=None: folder / "run")
    assert command(folder, "log.csv", "faq.xlsx") == 0
    file = str(folder / "params" / "shop.yaml")
    assert pipeline.main([file, "--until", "01", "--set", "model=demo://small/encoder"]) == 0
    assert (folder / "run" / "01_positives.html").exists()
    assert (folder / "run" / "index.html").exists()
    metrics = manifest.read_manifest(folder / "run")["stages"]["01_positives"]["metrics"]
    assert metrics["edges"]["qa"] == 18
    assert metrics["clusters"] >= 6


def test_what_new_writes_passes_the_check(folder):
    assert command(folder, "log.csv", "faq.xlsx") == 0
    profile = load_profile(folder / "params" / "shop.yaml", ["model=demo://small/encoder"])
    assert checks.check([profile]) == []
