"""Words of labels and of clicks, and forms of synonym files, in what `new` writes."""

import pytest

from bgetune import new
from bgetune.config.sources import PairSource, SynonymSource
from bgetune.data import recognise
from bgetune.data.sources import read_pairs, read_synonyms

PAIRS = [(f"怎么修改支付密码{n}", f"如何重置支付密码{n}") for n in range(30)]


def guess(folder, name, content):
    (folder / name).write_text(content, "utf-8")
    (place,) = recognise.places(name, folder)
    return recognise.recognise(place)


def doubtful(found):
    """The parameters that `new` marks with `# ?`."""
    lines = new.profile("x", [found]).split("sources:\n")[1].splitlines()
    return [line.split(":")[0].strip(" -") for line in lines if "# ?" in line]


def labelled(folder, words, name="label", header="文本1,文本2"):
    rows = "".join(f'{a},{b},"{words[n % len(words)]}"\n' for n, (a, b) in enumerate(PAIRS))
    return guess(folder, "p.csv", f"{header},{name}\n{rows}")


@pytest.mark.parametrize(
    ("words", "kind", "labels"),
    [
        (["相关", "不相关"], "pairs", [1, 0]),
        (["是的", "不是"], "pairs", [1, 0]),
        (["y", "n"], "pairs", [1, 0]),
        (["匹配", "不匹配"], "pairs", [1, 0]),
        (["✓", "✗"], "pairs", [1, 0]),
        (["有", "无"], "pairs", [1, 0]),
        (["1分", "0分"], "pairs", [1, 0]),
        (["95%", "0%"], "graded", [0.95, 0]),
        (["0,95", "0,1"], "graded", [0.95, 0.1]),
    ],
)
def test_labels_in_words_of_people(tmp_path, words, kind, labels):
    found = labelled(tmp_path, words)
    assert (found.kind, found.parameters["label_column"], doubtful(found)) == (kind, "label", [])
    table, dropped = read_pairs(PairSource(**found.place, **found.parameters))
    assert table["label"].tolist() == labels * 15
    assert dropped.empty


@pytest.mark.parametrize("words", [["靠谱", "不靠谱"], ["是", "否", "待定"], ["优", "良", "中", "差"], ["3,500", "1"]])
@pytest.mark.parametrize("header", ["文本1,文本2", "question,answer"])
def test_labels_that_nobody_knows_are_doubtful(tmp_path, words, header):
    found = labelled(tmp_path, words, "标签", header)
    assert (found.kind, found.parameters["label_column"]) == ("pairs", "标签")
    assert doubtful(found) == ["label_column"]
    assert "not known: " in found.why["label_column"]


def test_many_words_in_a_column_named_label_are_doubtful(tmp_path):
    found = labelled(tmp_path, ["账户", "贷款", "理财", "保险", "基金", "其他"], header="question,answer")
    assert (found.kind, found.parameters["label_column"]) == ("qa", None)
    assert doubtful(found) == ["label_column"]


def test_words_of_yes_and_no_are_labels_under_any_name(tmp_path):
    found = labelled(tmp_path, ["重复", "不重复"], "人工结论")
    assert (found.kind, found.parameters["label_column"], doubtful(found)) == ("pairs", "人工结论", ["label_column"])
    # an answer may be yes or no
    rows = "".join(f"{a},{b},{'是' if n % 2 else '否'}\n" for n, (a, b) in enumerate(PAIRS))
    assert guess(tmp_path, "b.csv", f"question,passage,answer\n{rows}").kind == "qa"


# --- clicks -------------------------------------------------------------------------------------------------------


def log(folder, name, words):
    rows = "".join(
        f"2026-03-02 08:00:{n:02},user{n % 7},怎么退款{n % 5},https://a.example/{n % 9},{words[n % len(words)]}\n"
        for n in range(60)
    )
    return guess(folder, "log.csv", f"time,user_id,query,url,{name}\n{rows}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("是否点击", ["已点击", "未点击"]),
        ("event_type", ["click", "expose"]),
        ("action", ["click", "view", "cart", "purchase"]),
        ("行为类型", ["点击", "曝光", "收藏", "购买"]),
        ("click", ["0", "1", "2"]),
    ],
)
def test_a_click_flag_in_words_of_people(tmp_path, name, words):
    found = log(tmp_path, name, words)
    assert (found.kind, found.parameters["clicked_column"], doubtful(found)) == ("clicks", name, [])


@pytest.mark.parametrize("words", [["下滑", "点一下"], ["click", "下滑"], ["1", "2", "3", "4"]])
def test_a_click_flag_that_nobody_knows_is_doubtful(tmp_path, words):
    found = log(tmp_path, "action", words)
    assert (found.kind, found.parameters["clicked_column"]) == ("clicks", None)
    assert doubtful(found) == ["clicked_column"]
    assert words[-1] in found.why["clicked_column"]


# --- synonyms -----------------------------------------------------------------------------------------------------


def cilin(marks):
    return "".join(f"Aa01A{n:02}{marks[n % len(marks)]} 人{n} 士{n} 人物{n}\n" for n in range(40))


@pytest.mark.parametrize(("marks", "used"), [("=", 40), ("==#=@", 24)])
def test_cilin_is_read_without_its_codes(tmp_path, marks, used):
    found = guess(tmp_path, "cilin.txt", cilin(marks))
    assert (found.kind, doubtful(found)) == ("synonyms", [])
    table, dropped = read_synonyms(SynonymSource(**found.place, **found.parameters))
    assert table["words"].iloc[0] == ["人0", "士0", "人物0"]
    assert (len(table), dropped["rows"].sum()) == (used, 40 - used)


def test_cilin_of_mostly_related_words_is_doubtful(tmp_path):
    found = guess(tmp_path, "cilin.txt", cilin("#=@"))
    assert (found.kind, doubtful(found)) == ("synonyms", ["separator"])
    assert len(read_synonyms(SynonymSource(**found.place, **found.parameters))[0]) == 40


SOLR = "".join(f"花呗{n}, 蚂蚁花呗{n} => huabei{n}\n" for n in range(40))


@pytest.mark.parametrize(
    ("name", "content", "separator", "doubts"),
    [
        ("solr.txt", SOLR, ",", ["separator"]),
        ("some.txt", "# ours\n花呗, 蚂蚁花呗\n" + SOLR, ",", ["separator"]),
        ("named.csv", "同义词\n" + SOLR, ",", ["separator"]),
        ("list.txt", "花呗、蚂蚁花呗 => huabei\n退款、退钱\n", "、", ["separator"]),
        ("arrow.txt", "花呗 => huabei\n退款 => 退钱\n", "=>", []),
        ("two.txt", "花呗、蚂蚁花呗\n退款、退钱\n", "、", []),
        ("comma.txt", "花呗, 蚂蚁花呗, huabei\n退款, 退钱\n", ",", []),
        ("equals.txt", "花呗=蚂蚁花呗\n退款=退钱\n", "=", []),
    ],
)
def test_separators_of_synonyms(tmp_path, name, content, separator, doubts):
    found = guess(tmp_path, name, content)
    assert (found.kind, found.parameters["separator"], doubtful(found)) == ("synonyms", separator, doubts)
    assert not read_synonyms(SynonymSource(**found.place, **found.parameters))[0].empty
