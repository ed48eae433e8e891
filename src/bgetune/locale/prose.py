"""The Markdown of the notebooks, in the language in use: a heading, a paragraph or an item of a list is a message."""

from __future__ import annotations

import re

from bgetune.locale import _

_GAP = re.compile(r"(\n\s*\n|\n(?=#+ |\d+\. |[-*] ))")
"""Between two pieces: a blank line, or the end of the line before a heading or an item of a list."""
_MARKER = re.compile(r"#+ |\d+\. |[-*] ")
"""What makes a piece a heading or an item. It is no part of the message."""


def pieces(markdown: str) -> list[str]:
    """The messages of a Markdown text; where its lines break does not matter."""
    return [_split(piece)[1] for piece in _GAP.split(markdown)[::2]]


def translated(markdown: str) -> str:
    """The text in the language in use; a piece without a translation stays as it is."""
    parts = _GAP.split(markdown)
    for place in range(0, len(parts), 2):
        marker, message = _split(parts[place])
        translation = _(message)
        if translation != message:
            parts[place] = marker + translation
    return "".join(parts)


def _split(piece: str) -> tuple[str, str]:
    """Marker and message of a piece."""
    marker = match.group() if (match := _MARKER.match(piece)) else ""
    return marker, " ".join(piece[len(marker) :].split())
