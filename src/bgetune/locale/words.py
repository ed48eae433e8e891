"""Words that tables and figures hold, such as the reasons of dropped rows: stored in English, shown in any language."""

import re

from bgetune.locale import _

_NUMBER = re.compile(r"(?<![A-Za-z])\d[\d,.]*")
_NUMBERS = {1: ("number",), 2: ("low", "high"), 3: ("low", "middle", "high")}


def said(text: str) -> str:
    """A word of ours in the language in use.

    Where the catalogue does not hold the text itself, it is looked up with `{number}`, or `{low}` and `{high}`, for its
    numbers (three of them at most), then by its parts on both sides of a colon.
    """
    if (whole := _(text)) != text:
        return whole
    numbers = _NUMBER.findall(text)
    names = _NUMBERS.get(len(numbers), ())
    places = iter(names)
    if names and (pattern := _(bare := _NUMBER.sub(lambda _found: f"{{{next(places)}}}", text))) != bare:
        return pattern.format(**dict(zip(names, numbers, strict=True)))
    name, _colon, value = text.partition(": ")
    known = _(name) != name or _(value) != value
    return _("{name}: {value}").format(name=_(name), value=_(value)) if known else text
