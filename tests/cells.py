"""Run a notebook's code cells in this process: fast, and with what a test puts in the place of a model."""

from __future__ import annotations

import ast
import io
from pathlib import Path
from typing import Any

import nbformat

from bgetune import paths


def run(stage: str, profile: Path, run_dir: Path, **arguments: Any) -> dict[str, Any]:
    """The variables after the last cell of a notebook; every value that a cell shows is rendered, as Jupyter would.

    Args:
        stage: the notebook's name, for example "01_positives".
        profile: a profile's file.
        run_dir: the run's folder.
        arguments: further variables of the parameters cell.
    """
    notebook = nbformat.read(paths.ROOT / "notebooks" / f"{stage}.ipynb", as_version=4)
    names: dict[str, Any] = {"__name__": "__main__", "display": _display}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        *lines, last = ast.parse(cell.source).body
        shown = last if isinstance(last, ast.Expr) else None
        body = ast.Module(lines if shown else [*lines, last], [])
        place = f"{stage}.ipynb, cell {number}"
        exec(compile(body, place, "exec"), names)
        if "parameters" in cell.metadata.get("tags", ()):
            names |= {"profile": str(profile), "run_dir": str(run_dir), **arguments}
        if shown:
            _display(eval(compile(ast.Expression(shown.value), place, "eval"), names))
    return names


def _display(*values: Any) -> None:
    for value in values:
        if hasattr(value, "_repr_html_"):
            value._repr_html_()
        elif hasattr(value, "savefig"):
            value.savefig(io.BytesIO(), format="png")
        else:
            repr(value)
