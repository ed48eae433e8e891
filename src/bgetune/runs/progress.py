"""What a notebook is doing and how long it still takes: one line on a terminal, in a log a line every half minute."""

from __future__ import annotations

import re
import shutil
import sys
import threading
import time
import unicodedata
from collections.abc import Sequence
from typing import IO, Any

from bgetune.locale import _

BAR = re.compile(r"^(?P<label>[^\r]*?):? +\d+%\|.*\| (?P<done>\d+)/(?P<total>\d+) \[[\d:]+<(?P<left>[\d:?]+)")
"""A bar as tqdm writes it."""
HEADING = re.compile(r"^#{1,3} +(.+)$", re.MULTILINE)
EVERY = 30.0
"""Seconds between two lines of a log."""
REDRAW = 0.5
"""Seconds between two states of the line on a terminal."""


def duration(seconds: float) -> str:
    """Seconds in the unit that people would choose: 40 s, 3 min, 2.5 h."""
    if seconds < 99.5:
        return _("{count} s").format(count=max(round(seconds), 1))
    if seconds < 99.5 * 60:
        return _("{count} min").format(count=round(seconds / 60))
    return _("{count} h").format(count=f"{seconds / 3600:.1f}")


class Progress:
    """The state of a running notebook, shown until the block ends.

    Takes the kernel's stderr (`write`): bars of tqdm become part of the line, other text is shown on a terminal only.

    Args:
        label: what the line begins with.
        expected: seconds that the notebook is estimated to take; None: not known.
        cells: of the notebook; the heading above the running cell is the step.
        stream: where the line is shown; default: stderr.
    """

    def __init__(
        self, label: str, expected: float | None = None, cells: Sequence[Any] = (), stream: IO[str] | None = None
    ):
        self.label = label
        self.expected = expected
        self.stream = sys.stderr if stream is None else stream
        self.watched = self.stream.isatty()
        self.started = time.monotonic()
        self._steps = _headings(cells)
        self._step, self._shown = "", ""
        self._bar: re.Match[str] | None = None
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._show_on_and_on, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._erase()

    def cell(self, index: int) -> None:
        """A cell begins."""
        with self._lock:
            self._step, self._bar = self._steps[index] if index < len(self._steps) else self._step, None

    def write(self, text: str) -> None:
        """What the kernel wrote to stderr."""
        with self._lock:
            for line in re.split(r"[\r\n]", text):
                if bar := BAR.match(line.strip()):
                    self._bar = None if bar["done"] == bar["total"] else bar
                elif self.watched and line.strip():
                    self._erase()
                    self.stream.write(f"{line}\n")

    def flush(self) -> None:
        """Nothing is kept back."""

    def line(self) -> str:
        """Step, how far its bar is, and the time left: that of the estimate, or what the bar says if that is more."""
        gone = time.monotonic() - self.started
        parts, left = [self._step] if self._step else [], 0.0
        if self.expected is not None:
            left = self.expected - gone
        if (bar := self._bar) is not None:
            done, total = int(bar["done"]), int(bar["total"])
            parts.append(f"{bar['label'].strip()} {done:,}/{total:,}")
            left = max(left, _seconds(bar["left"]))
        if left > 0:
            parts.append(_("about {time} left").format(time=duration(left)))
        else:
            parts.append(_("{time} so far").format(time=duration(gone)))
        return f"{self.label} {', '.join(parts)}"

    def _show_on_and_on(self) -> None:
        while not self._ended.wait(REDRAW if self.watched else EVERY):
            with self._lock:
                line = self.line()
                if not self.watched:
                    self.stream.write(f"{line}\n")
                elif line != self._shown:
                    self._erase()
                    self._shown = _cut(line, shutil.get_terminal_size().columns - 1)
                    self.stream.write(self._shown)
                self.stream.flush()

    def _erase(self) -> None:
        if self._shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self._shown = ""


def _headings(cells: Sequence[Any]) -> list[str]:
    """Of each cell, the heading that it stands under."""
    found, headings = "", []
    for cell in cells:
        if cell["cell_type"] == "markdown" and (named := HEADING.findall(cell["source"])):
            found = named[-1].strip()
        headings.append(found)
    return headings


def _seconds(clock: str) -> float:
    """Seconds of 01:02:03 or 02:03; 0 of what is not known yet."""
    if "?" in clock:
        return 0.0
    return float(sum(int(part) * 60**power for power, part in enumerate(reversed(clock.split(":")))))


def _cut(line: str, columns: int) -> str:
    """As much of a line as fits; Chinese characters take two columns."""
    width = 0
    for place, character in enumerate(line):
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > columns:
            return line[:place]
    return line
