"""Names of rows and columns in the language in use; what the data say stays as it is."""

import pandas as pd
import pytest

from bgetune import locale
from bgetune.locale.words import said
from bgetune.reports import tables


@pytest.fixture(autouse=True)
def chinese():
    with locale.using("zh"):
        yield


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raw log", "原始日志"),
        ("an answer to more than 100 questions", "超过 100 个问题共用的答案"),
        ("f1_at_0.8", "0.8 处的 F1"),
        ("0.938 to 0.973 (574 pairs)", "0.938 至 0.973（574 对）"),
        ("grade outside 0 to 4", "等级不在 0 到 4 之间"),
        ("junk query: numbers only", "无效查询：只有数字"),
        ("url read as missing (the row is used)", "url 视为缺失（该行仍使用）"),
        ("column 问 {x}: a list or an object, not one value", "列 问 {x}：是列表或对象，不是单个值"),
        ("not gb18030", "不是 gb18030"),
        ("not 3 fields in the line", "这一行不是 3 个字段"),
        ("relevance between 0 and 1.5", "相关性在 0 和 1.5 之间"),
        ("no such word of 3", "no such word of 3"),
        ("7", "7"),
        ("{} and {x}: 5", "{} and {x}: 5"),
    ],
)
def test_words_are_looked_up_whole_then_without_numbers_then_in_parts(text, expected):
    assert said(text) == expected


def test_english_stays_as_it_is():
    with locale.using("en"):
        assert said("junk query: numbers only") == "junk query: numbers only"


def test_a_source_is_called_as_in_the_artifacts():
    rows = pd.DataFrame({"pairs": [1]}, index=pd.Index(["recall"], name="source"))
    assert "recall" in tables.table(rows).text


def test_tables_translate_what_is_ours_and_no_text_of_the_data():
    rows = pd.DataFrame({"reason": ["no text", "odd"], "query": ["no text", "raw log"], "example": ["missed", ""]})
    shown = tables.table(rows.set_index(pd.Index(["raw log", "mine"]))).text.splitlines()
    assert [line.split() for line in shown[1:]] == [
        ["原始日志", "没有文本", "no", "text", "missed"],
        ["mine", "odd", "raw", "log"],
    ]
