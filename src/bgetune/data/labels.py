"""Words and numbers that say whether two texts mean the same."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from bgetune.data.engine import literal
from bgetune.errors import InputError
from bgetune.locale import _

PAIRS = (
    *("yes/no", "y/n", "true/false", "t/f", "same/different", "s/d", "similar/dissimilar", "match/mismatch"),
    *("positive/negative", "duplicate/not duplicate", "paraphrase/not paraphrase", "relevant/irrelevant"),
    *("是/否", "是/不是", "是的/不是的", "对/错", "对/不对", "有/无", "有/没有", "正/负", "正例/负例", "正样本/负样本"),
    *("正确/错误", "相同/不同", "相同/不相同", "同/不同", "相似/不相似", "匹配/不匹配", "一致/不一致", "相关/不相关"),
    *(
        "相关/无关",
        "重复/不重复",
        "等价/不等价",
        "同义/不同义",
        "通过/不通过",
        "通过/未通过",
        "√/×",
        "✓/✗",
        "✔/✘",
        "✅/❌",
    ),
)
"""Words of people for yes and for no."""
YES = tuple(dict.fromkeys(pair.split("/")[0] for pair in PAIRS))
NO = tuple(dict.fromkeys(pair.split("/")[1] for pair in PAIRS))

CLICKED = (
    *("click", "clicked", "cart", "purchase", "buy", "fav"),
    *("点击", "已点击", "收藏", "加购", "购买"),
)
SHOWN = (
    *("impression", "imp", "view", "viewed", "pv", "show", "shown", "expose", "exposed", "exposure", "skip", "skipped"),
    *("曝光", "展示", "浏览", "未点击", "曝光未点击"),
)
"""Further words for whether a result was clicked: what was put into the cart or bought was."""

COLUMNS = (
    *("label", "labels", "score", "grade", "similarity", "similar", "same", "target", "y", "gold", "relevance"),
    *("is_duplicate", "is_same", "is_similar", "is_match", "is_paraphrase", "duplicate"),
    *("标签", "标注", "是否相似", "是否相同", "是否一致", "是否匹配", "相似", "相似度", "得分", "分数"),
    *("是否相关", "是否重复", "是否等价", "是否同义", "相关性", "等级"),
)
"""Names of columns that hold labels, as people give them."""
TOPICS = ("label", "labels", "target", "标签", "标注")
"""Those of them that hold topics as well."""
FEW = 5
"""Distinct values of a column of labels; with more it may as well hold topics."""
LONGEST = 20
"""Characters of a label."""

_FULL_WIDTH, _HALF_WIDTH = "０１２３４５６７８９．－＋，％", "0123456789.-+,%"
_UNIT = " *[%分]$"
_THOUSANDS = "[-+]?[1-9][0-9]{0,2}(,[0-9]{3})+"
"""3,500 may be three and a half, or thousands: it is no number here."""


def label_sql(value: str) -> str:
    """The number that a text of DuckDB says: 1 for yes, 0 for no; null for neither."""
    text = f"trim(translate({value}, {literal(_FULL_WIDTH)}, {literal(_HALF_WIDTH)}))"
    bare = f"regexp_replace({text}, {literal(_UNIT)}, '')"
    words = f"lower(trim({value}))"
    return (
        f"CASE WHEN list_contains({_list(YES)}, {words}) THEN 1.0 WHEN list_contains({_list(NO)}, {words}) THEN 0.0 "
        f"WHEN regexp_full_match({bare}, {literal(_THOUSANDS)}) THEN NULL "
        f"ELSE try_cast(replace({bare}, ',', '.') AS DOUBLE) / if(ends_with({text}, '%'), 100, 1) END::DOUBLE"
    )


def clicked_sql(value: str) -> str:
    """Whether a text of DuckDB says that a result was clicked: a missing one says no; null for neither yes nor no."""
    word = f"lower(trim({value}))"
    return (
        f"CASE WHEN {value} IS NULL OR list_contains({_list(SHOWN)}, {word}) THEN false "
        f"WHEN list_contains({_list(CLICKED)}, {word}) THEN true ELSE {label_sql(value)} > 0 END"
    )


def say_clicked(values: Iterable[str]) -> bool:
    """Whether all values say that a result was clicked, or that it was not; counts of clicks do."""
    rest = {value.strip().lower() for value in values} - {*CLICKED, *SHOWN, *YES, *NO}
    if not all(re.fullmatch(r"[0-9]+([.]0+)?", word) for word in rest):
        return False
    counts = {float(word) for word in rest}
    # 1 to 4 are codes of actions: a count is 0 somewhere
    return counts <= {0, 1} or 0 in counts


def number(text: str) -> float | None:
    """What `label_sql` makes of a text."""
    word = text.strip().lower()
    if word in YES:
        return 1.0
    if word in NO:
        return 0.0
    word = word.translate(str.maketrans(_FULL_WIDTH, _HALF_WIDTH))
    bare = re.sub(_UNIT, "", word)
    try:
        found = None if re.fullmatch(_THOUSANDS, bare) else float(bare.replace(",", "."))
    except ValueError:
        return None
    return found / 100 if found is not None and word.endswith("%") else found


def are_few(values: Collection[str]) -> bool:
    """Whether so few and short values look like labels, whatever they say."""
    return 2 <= len(values) <= FEW and all(len(value) <= LONGEST for value in values)


def accepted() -> str:
    """What a label may be, for messages."""
    return _("numbers, or the words {words}").format(words=", ".join(PAIRS))


def is_label_column(name: str, values: Iterable[str | None]) -> bool:
    """Whether a column's name is one of those that labels have and its values are labels of which one says no.

    Raises:
        InputError: if the name is, and some of its few values say no, but nobody knows what others say.
    """
    if name.strip().lower() not in COLUMNS:
        return False
    words = {value.strip(): number(value) for value in values if value and value.strip()}
    unknown = sorted(word for word, said in words.items() if said is None)
    telling = name.strip().lower() not in TOPICS or 0 in words.values() or _has_opposites(words)
    if unknown and are_few(words) and telling:
        raise InputError(
            _(
                "column {name} looks like labels, not all of which are known ({words}), and without label_column every "
                "row is a positive pair; set label_column: {name} and write {accepted}; where it holds something else, "
                "rename the column"
            ).format(name=name, words=", ".join(unknown), accepted=accepted())
        )
    # some remarks among the labels do not make them something else
    return 0 in words.values() and 2 * len(unknown) <= len(words)


def _has_opposites(words: Collection[str]) -> bool:
    """Whether one of the words is another one negated, as labels are and topics are not."""
    return any(negation + word in words for word in words for negation in ("不", "非", "未", "无", "没", "not ", "un"))


def _list(words: Iterable[str]) -> str:
    return "[" + ", ".join(map(literal, words)) + "]"
