"""Values that are none, as programs and people spell them."""

from __future__ import annotations

from bgetune.data.engine import literal

NARROW = ("\\N", "NULL", "NaN", "nan", "<NA>", "#N/A")
"""What stands for a missing text: spellings that only programs write. Nobody searches for them."""
WIDE = (
    *("\\n", "null", "nan", "none", "nil", "na", "n/a", "#n/a", "<na>", "nat", "<nil>", "(null)", "[null]"),
    *("undefined", "-", "--", "—", "#value!", "#ref!", "#name?", "无", "空", "-nan", "\\\\n"),
)
"""What stands for a missing id, address, time or title; compared without case."""


def text_sql(value: str) -> str:
    """A trimmed text; null where it is missing."""
    return f"CASE WHEN NOT {_is_one_of(value, NARROW)} THEN {value} END"


def id_sql(value: str) -> str:
    """A trimmed id, address, time or title; null where it is missing."""
    return f"CASE WHEN NOT {_is_one_of(value, WIDE)} THEN {value} END"


def _is_one_of(value: str, words: tuple[str, ...]) -> str:
    """Whether a value is empty or one of the words.

    IN with so many would be a join, which takes seven times as long; the comparisons before it pass most values by.
    """
    longest = max(len(word.encode()) for word in words)
    folded = f"lower({value})" if words is WIDE else value
    between = "\x1f"
    known = literal(between + between.join(words) + between)
    others = (("0", ":"), ("o", "un"), ("a", "n"), ("v", "{"), ("A", "N"), ("O", "U"), ("V", "["))
    passed = " ".join(f"WHEN {value} >= '{low}' AND {value} < '{high}' THEN false" for low, high in others)
    return (
        f"(CASE WHEN strlen({value}) > {longest} THEN false {passed} WHEN {value} = '' THEN true "
        f"ELSE contains({known}, '{between}' || {folded} || '{between}') END)"
    )
