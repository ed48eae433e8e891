"""Words and numbers that say whether two texts mean the same."""

from __future__ import annotations

from collections.abc import Iterable

from bgetune.data.engine import literal

YES = (
    *("true", "t", "yes", "y", "same", "s", "similar", "match", "positive", "duplicate", "paraphrase"),
    *("是", "对", "相同", "同", "相似", "匹配", "一致", "正确", "正例", "√"),
)
NO = (
    *("false", "f", "no", "n", "different", "d", "dissimilar", "mismatch", "negative", "not duplicate"),
    *("否", "不是", "错", "不同", "不相同", "不相似", "不匹配", "不一致", "错误", "负例", "×"),
)

CLICKED = ("click", "clicked", "点击")
SHOWN = ("impression", "view", "viewed", "show", "shown", "exposure", "skip", "skipped", "曝光", "展示", "未点击")
"""Further words for whether a result was clicked."""

COLUMNS = (
    *("label", "labels", "score", "grade", "similarity", "similar", "same", "target", "y", "gold", "relevance"),
    *("is_duplicate", "is_same", "is_similar", "is_match", "is_paraphrase", "duplicate"),
    *("标签", "标注", "是否相似", "是否相同", "是否一致", "是否匹配", "相似", "相似度", "得分", "分数"),
)
"""Names of columns that hold labels, as people give them."""

_FULL_WIDTH = "０１２３４５６７８９．－＋"


def label_sql(value: str) -> str:
    """The number that a text of DuckDB says: 1 for yes, 0 for no; null for neither."""
    text = f"translate({value}, {literal(_FULL_WIDTH)}, '0123456789.-+')"
    words = f"lower(trim({value}))"
    return (
        f"CASE WHEN list_contains({_list(YES)}, {words}) THEN 1.0 WHEN list_contains({_list(NO)}, {words}) THEN 0.0 "
        f"ELSE try_cast({text} AS DOUBLE) END::DOUBLE"
    )


def clicked_sql(value: str) -> str:
    """Whether a text of DuckDB says that a result was clicked: a missing one says no; null for neither yes nor no."""
    word = f"lower(trim({value}))"
    return (
        f"CASE WHEN {value} IS NULL OR list_contains({_list(SHOWN)}, {word}) THEN false "
        f"WHEN list_contains({_list(CLICKED)}, {word}) THEN true ELSE {label_sql(value)} > 0 END"
    )


def say_clicked(values: Iterable[str]) -> bool:
    """Whether all values say that a result was clicked, or that it was not."""
    words = {value.strip().lower() for value in values}
    return words <= {*CLICKED, *SHOWN, *YES, *NO, "0", "1", "0.0", "1.0"}


def number(text: str) -> float | None:
    """What `label_sql` makes of a text."""
    word = text.strip().lower()
    if word in YES:
        return 1.0
    if word in NO:
        return 0.0
    try:
        return float(word.translate(str.maketrans(_FULL_WIDTH, "0123456789.-+")))
    except ValueError:
        return None


def is_label_column(name: str, values: Iterable[str]) -> bool:
    """Whether a column's name is one of those that labels have and its values are labels of which one says no."""
    numbers = [number(value) for value in values if value]
    return name.strip().lower() in COLUMNS and bool(numbers) and None not in numbers and 0 in numbers


def _list(words: Iterable[str]) -> str:
    return "[" + ", ".join(map(literal, words)) + "]"
