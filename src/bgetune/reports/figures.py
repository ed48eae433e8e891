"""How every figure is drawn and shown: fonts that know Chinese, colours, size, and its message in a sentence."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
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

DPI = 110
"""Pixels an inch on the screen; pictures have twice as many, for sharp screens and for those who zoom in."""

NARROW = 4.4
"""Width in inches of a figure as a phone shows it: its letters are then nearly as large as those of the text."""


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
            "figure.dpi": DPI,
            "savefig.dpi": 2 * DPI,
            "legend.frameon": False,
        }
    )
    _show_in_notebooks()


def subplots(
    rows: int = 1, columns: int = 1, width: float = 7.0, height: float = 3.2, **options: Any
) -> tuple[Figure, Any]:
    """A styled figure (inches per axis) that notebooks show once: it is not kept by pyplot."""
    from matplotlib.figure import Figure

    use_style()
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def says(figure: Figure, message: str) -> Figure:
    """The figure with its message in a sentence: what those read who do not see it."""
    figure.set_label(message)
    return figure


def picture(figure: Figure) -> bytes:
    """The figure as PNG, in 256 colours: a third of the bytes, and no difference that anybody sees."""
    import io

    from PIL import Image

    drawn, stream = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(stream, "png", optimize=True)
    return stream.getvalue()


def narrow(figure: Figure) -> bytes | None:
    """A wide figure as PNG for a phone: panels under one another, letters of the same size; None for a small one."""
    from matplotlib.gridspec import GridSpec

    width, height = figure.get_size_inches()
    if width <= NARROW + 1:
        return None
    axes = figure.axes
    places = [place for axis in axes if (place := axis.get_subplotspec()) is not None]  # all: subplots made them
    labelled = [axis.yaxis.get_tick_params()["labelleft"] for axis in axes]
    rows = places[0].get_gridspec().nrows
    try:
        grid = GridSpec(len(axes), 1, figure=figure)
        for number, axis in enumerate(axes):
            axis.set_subplotspec(grid[number])
            axis.tick_params(labelleft=True)  # those that share an axis have labels on the left panel alone
        figure.set_size_inches(NARROW, height / rows * len(axes))
        return picture(figure)
    finally:
        for axis, place, shown in zip(axes, places, labelled, strict=True):
            axis.set_subplotspec(place)
            axis.tick_params(labelleft=shown)
        figure.set_size_inches(width, height)


def live(draw: Callable[[pd.DataFrame], Figure]) -> Callable[[pd.DataFrame], None]:
    """A function that shows a figure of the data it is given, each time in place of the last."""
    from IPython.display import display

    handle = None

    def show(data: pd.DataFrame) -> None:
        nonlocal handle
        if handle is None:
            handle = display(draw(data), display_id=True)
        else:
            handle.update(draw(data))

    return show


def _show_in_notebooks() -> None:
    """Let Jupyter show a figure as a picture with its message; without pyplot, whose state is global."""
    from IPython import get_ipython
    from matplotlib.figure import Figure

    if shell := get_ipython():
        formatters = shell.display_formatter.formatters
        formatters["image/png"].for_type(Figure, _with_message)
        formatters["text/plain"].for_type(Figure, lambda figure, printer, _cycle: printer.text(figure.get_label()))


def _with_message(figure: Figure) -> tuple[bytes, dict[str, Any]]:
    width, height = (round(inches * DPI) for inches in figure.get_size_inches())
    metadata = {"width": width, "height": height, "alt": figure.get_label()}
    if (small := narrow(figure)) is not None:
        metadata["narrow"] = base64.b64encode(small).decode()  # for the report's page, on a phone
    return picture(figure), metadata


def _chinese_fonts() -> list[str]:
    """The family name of the wheel's font, made known to Matplotlib; the wheel's own code is not run."""
    from matplotlib import font_manager

    spec = find_spec("mpl_font")
    assert spec is not None, "requirements.lock has mpl-font"
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "fonts" / "noto"
    for weight in ("Regular", "Bold"):
        font_manager.fontManager.addfont(folder / f"NotoSansCJKsc-{weight}.otf")
    return ["Noto Sans CJK SC"]
