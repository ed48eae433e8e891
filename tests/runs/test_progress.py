import io
import re
import time

import pytest

from bgetune import locale
from bgetune.runs import progress
from bgetune.runs.progress import Progress, duration

CELLS = [
    {"cell_type": "markdown", "source": "# 03 Hard negatives\n\nText."},
    {"cell_type": "code", "source": "x = 1"},
    {"cell_type": "markdown", "source": "## Missed positives"},
    {"cell_type": "code", "source": "x = 2"},
]
BAR = "\rreranking:  34%|███▍      | 1200/3500 [00:10<00:20, 115.00pair/s]"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("seconds", "says"), [(0.2, "1 s"), (40, "40 s"), (180, "3 min"), (9000, "2.5 h")])
def test_durations(seconds, says):
    assert duration(seconds) == says


def test_the_line_names_step_bar_and_time_left():
    shown = Progress("[3/5] 03", 100, CELLS)
    shown.cell(1)
    assert re.fullmatch(r"\[3/5\] 03 03 Hard negatives, about 2 min left", shown.line())
    shown.cell(3)
    shown.write(BAR)
    assert shown.line() == "[3/5] 03 Missed positives, reranking 1,200/3,500, about 2 min left"
    shown.expected = 5
    assert shown.line().endswith("reranking 1,200/3,500, about 20 s left"), "the bar knows better"
    shown.write("\rreranking: 100%|██████████| 3500/3500 [00:30<00:00, 115.00pair/s]\n")
    assert "reranking" not in shown.line(), "a bar ends when it is done"
    shown.expected = None
    assert shown.line().endswith("1 s so far")


def test_a_terminal_gets_one_line_which_is_gone_at_the_end(monkeypatch):
    monkeypatch.setattr(progress, "REDRAW", 0.01)
    terminal = Terminal()
    with Progress("03", None, CELLS, terminal) as shown:
        shown.cell(3)
        shown.write(BAR + "\r")
        shown.write("a warning\n")
        deadline = time.monotonic() + 10
        while "1,200/3,500" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    text = terminal.getvalue()
    assert "a warning\n" in text
    assert "%|" not in text
    assert text.endswith("\r\x1b[K")


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    log = io.StringIO()
    with Progress("03", 60, CELLS, log) as shown:
        shown.cell(1)
        for _ in range(100):
            shown.write(BAR)
        shown.write("a warning\n")
        deadline = time.monotonic() + 10
        while "\n" not in log.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = log.getvalue().splitlines()
    assert set(lines) <= {f"03 03 Hard negatives, reranking 1,200/3,500, about {left} s left" for left in range(50, 61)}
    assert "\r" not in log.getvalue()


def test_a_line_is_cut_to_the_terminal():
    assert progress._cut("难负例 abc", 7) == "难负例 "
    assert progress._cut("abc", 7) == "abc"


def test_in_chinese():
    locale.use("zh")
    try:
        assert duration(180) == "3 分钟"
    finally:
        locale.use(None)
