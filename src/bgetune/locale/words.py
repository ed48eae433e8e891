"""Words that tables and figures hold, such as the reasons of dropped rows: stored in English, shown in any language."""

import re

from bgetune.locale import N_, _

_NUMBER = re.compile(r"(?<![A-Za-z])\d[\d,.]*")
_NUMBERS = {1: ("number",), 2: ("low", "high"), 3: ("low", "middle", "high")}

_NAMED = (
    N_("{name} read as missing (the row is used)"),
    N_("{name} not readable as a number (the row is used)"),
    N_(
        "{name} rounded by Excel, so that different ones are one: format the column as text before saving (the row is "
        "used)"
    ),
    N_("column {name}: a list or an object, not one value"),
    N_("not {encoding}"),
)
"""Words with a name of the user's in them."""


def _place(found: re.Match) -> str:
    """What a placeholder stands for: a column's name may hold anything."""
    return f"(?P<{found[1]}>.+)" if found[1] == "name" else rf"(?P<{found[1]}>\S+)"


def said(text: str) -> str:
    """A word of ours in the language in use.

    Where the catalogue does not hold the text itself, it is looked up with `{number}`, or `{low}` and `{high}`, for its
    numbers (three of them at most), then with a name in it, then by its parts on both sides of a colon.
    """
    if (whole := _(text)) != text:
        return whole
    numbers = _NUMBER.findall(text)
    names = _NUMBERS.get(len(numbers), ())
    places = iter(names)
    if names and (pattern := _(bare := _NUMBER.sub(lambda _found: f"{{{next(places)}}}", text))) != bare:
        return pattern.format(**dict(zip(names, numbers, strict=True)))
    for pattern in _NAMED:
        expression = re.sub(r"\\{(\w+)\\}", _place, re.escape(pattern))
        if (found := re.fullmatch(expression, text)) and _(pattern) != pattern:
            return _(pattern).format(**found.groupdict())
    name, _colon, value = text.partition(": ")
    known = _(name) != name or _(value) != value
    return _("{name}: {value}").format(name=_(name), value=_(value)) if known else text
