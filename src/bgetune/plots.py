"""Every figure: functions that take data and return a Matplotlib figure, Chinese text readable in all of them.

A figure is drawn on an axis or figure of its own; notebooks show what is returned.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {
    "positive": "#2a9d5c",
    "hard_negative": "#d1495b",
    "random": "#8d99ae",
    "base": "#e09f3e",
    "tuned": "#2f6db5",
    "neutral": "#5c677d",
}
"""One colour for one meaning in all figures (told apart in the common colour blindnesses too)."""

KIND_LABELS = {"positive": "positives", "hard_negative": "hard negatives", "random": "random pairs"}


@cache
def use_style() -> None:
    """Set fonts (Noto Sans CJK SC from the mpl-font wheel), size and grid for all figures."""
    import matplotlib

    matplotlib.rcParams.update(
        {
            "font.family": ["DejaVu Sans", *_chinese_fonts()],
            "axes.unicode_minus": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.axisbelow": True,
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "legend.frameon": False,
            "svg.hashsalt": "bgetune",
        }
    )


def subplots(
    rows: int = 1, columns: int = 1, width: float = 7.0, height: float = 3.2, **options
) -> tuple[Figure, object]:
    """A styled figure (inches per axis) that notebooks show once: it is not kept by pyplot."""
    from matplotlib.figure import Figure

    use_style()
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def _chinese_fonts() -> list[str]:
    """The family name of the wheel's font, made known to Matplotlib; the wheel's own code is not run."""
    from matplotlib import font_manager

    folder = Path(find_spec("mpl_font").origin).parent / "fonts" / "noto"
    for weight in ("Regular", "Bold"):
        font_manager.fontManager.addfont(folder / f"NotoSansCJKsc-{weight}.otf")
    return ["Noto Sans CJK SC"]
