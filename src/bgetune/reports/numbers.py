"""Numbers as the pages write them, in the language in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bgetune import locale
from bgetune.reports import tables


def number(value: Any, digits: int = 3) -> str:
    """A number or text as the pages show it: so many digits after the point, a dash for None."""
    return tables.shown(value, digits=digits)


def share(value: float | None, digits: int = 0) -> str:
    """A share as a percentage: 79 % in English, 79% in Chinese."""
    if value is None:
        return tables.MISSING
    return f"{value * 100:.{digits}f}" + ("%" if locale.language() == "zh" else "\u00a0%")


def count(value: float) -> str:
    """A whole number with separators between thousands."""
    return f"{round(value):,}"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign; a true minus, so that a line never breaks behind it."""
    if value is None:
        return tables.MISSING
    text = f"{value:+.{digits}f}"
    return text.replace("-", "\u2212")


def interval(bounds: Sequence[float | None] | None, signs: bool = False) -> str:
    """[low, high] in words."""
    if not bounds or None in bounds:
        return ""
    low, high = ((signed if signs else number)(bound) for bound in bounds)
    return locale._("{low} to {high}").format(low=low, high=high)


def rounded_up(value: float) -> int:
    """Two leading digits, upwards: what an estimate of a needed number is worth."""
    step = 10 ** max(len(str(int(value))) - 2, 0)
    return int(-(-value // step) * step)
