"""Words and numbers of people for yes, no, grades and clicks: as files are read, and as Python reads them."""

import pytest

from bgetune.config.sources import ClickSource, PairSource, SynonymSource
from bgetune.data import labels
from bgetune.data.engine import connect, literal
from bgetune.data.sources import read_clicks, read_pairs, read_synonyms
from bgetune.errors import InputError

SAID = {
    **{"是的": 1, "不是的": 0, "不是": 0, "有": 1, "无": 0, "通过": 1, "不通过": 0, "✓": 1, "✗": 0, "√": 1, "×": 0},
    **{
        "相关": 1,
        "不相关": 0,
        "重复": 1,
        "不重复": 0,
        "等价": 1,
        "不等价": 0,
        "同义": 1,
        "不同义": 0,
        "正": 1,
        "负": 0,
    },
    **{
        "1分": 1,
        "0 分": 0,
        "95%": 0.95,
        "100 %": 1,
        "５０％": 0.5,
        "0,95": 0.95,
        "0,875": 0.875,
        "-4,5": -4.5,
        " Y ": 1,
    },
    **{"3,500": None, "1,2,3": None, "%": None, "分": None, "靠谱": None, "3/5": None},
}


@pytest.mark.parametrize("text", SAID)
def test_what_a_label_says(text):
    assert labels.number(text) == SAID[text]
    (found,) = connect().raw_sql(f"SELECT {labels.label_sql(literal(text))}").fetchone()
    assert found == SAID[text]


def test_no_word_says_yes_and_no():
    assert not set(labels.YES) & set(labels.NO)
    assert not {*labels.CLICKED, *labels.YES} & {*labels.SHOWN, *labels.NO}


def pairs(folder, words, name="label", **values):
    file = folder / "p.csv"
    rows = "".join(f'甲{n},乙{n},"{word}"\n' for n, word in enumerate(words))
    file.write_text(f"text_a,text_b,{name}\n{rows}", "utf-8")
    return read_pairs(PairSource(path=str(file), **values))[0]["label"].tolist()


def test_no_row_of_yes_is_lost_beside_those_of_no(tmp_path):
    assert pairs(tmp_path, ["是的", "不是"], label_column="label") == [1.0, 0.0]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        *(
            (words, name)
            for words in (["靠谱", "不靠谱"], ["是", "否", "待定"])
            for name in ("label", "标签", "is_same")
        ),
        *((words, name) for words in (["优", "良", "中", "差"], ["A", "1"]) for name in ("is_same", "是否重复")),
    ],
)
def test_labels_that_nobody_knows_are_no_positives(tmp_path, words, name):
    with pytest.raises(InputError, match=rf"column {name} .*set label_column: {name} and write numbers.*yes/no.*是/否"):
        pairs(tmp_path, words * 3, name)


@pytest.mark.parametrize("words", [["账户", "贷款"], ["优", "良", "中", "差"]])
def test_a_label_may_be_a_topic(tmp_path, words):
    assert pairs(tmp_path, words * 3) == [1.0] * (3 * len(words))


def test_remarks_among_labels_do_not_hide_them(tmp_path):
    with pytest.raises(InputError, match="set label_column: score"):
        pairs(tmp_path, ["0", "1", "2", "3", "4", "0.5", "?"], "score")


@pytest.mark.parametrize("values", [["95%", "0%"], ["1分", "0分"], ["有", "无"], ["✓", "✗"], ["正", "负"]])
def test_labels_without_label_column_are_refused_in_all_their_words(tmp_path, values):
    with pytest.raises(InputError, match="some of which say no"):
        pairs(tmp_path, values)


def test_the_error_names_the_accepted_words(tmp_path):
    with pytest.raises(
        InputError, match=r"label is no number: 2 rows.*labels are numbers, or the words yes/no.*重复/不"
    ):
        pairs(tmp_path, ["靠谱", "不靠谱"], label_column="label")


def test_the_error_of_too_few_words_names_the_separator(tmp_path):
    (tmp_path / "s.csv").write_text("words\n花呗、蚂蚁花呗\n退款、退钱\n", "utf-8")
    with pytest.raises(InputError, match=r"fewer than two words: 2 rows.*set separator to what stands between"):
        read_synonyms(SynonymSource(path=str(tmp_path / "s.csv")))


# --- clicks -------------------------------------------------------------------------------------------------------

CLICKS = {
    **dict.fromkeys(["已点击", "click", "点击", "cart", "Purchase", "收藏", "购买", "加购", "1", "2", "是"], True),
    **dict.fromkeys(["未点击", "曝光未点击", "expose", "exposed", "exposure", "imp", "pv", "view"], False),
    **dict.fromkeys(["曝光", "浏览", "0", "0.0", "否"], False),
    **{"下滑": None},
}


@pytest.mark.parametrize("text", CLICKS)
def test_what_a_click_flag_says(text):
    (found,) = connect().raw_sql(f"SELECT {labels.clicked_sql(literal(text))}").fetchone()
    assert found == CLICKS[text]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["已点击", "未点击"], True),
        (["click", "view", "cart", "purchase"], True),
        (["0", "1", "2", "17"], True),
        (["1.0", "0.0"], True),
        (["1", "2", "3", "4"], False),  # codes of actions
        (["0", "-1"], False),
        (["click", "下滑"], False),
    ],
)
def test_whether_all_values_say_it(values, said):
    assert labels.say_clicked(values) is said


def test_the_error_names_the_words_of_clicks(tmp_path):
    file = tmp_path / "c.csv"
    file.write_text("time,user_id,query,url,event\n2026-03-02 08:00:00,u,q,x,下滑\n", "utf-8")
    with pytest.raises(InputError, match=r"clicked_column holds 1 and 0, or words such as click.*曝光"):
        read_clicks(ClickSource(path=str(file), clicked_column="event"))
