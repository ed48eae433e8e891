"""What code a notebook runs, as a hash: a stage runs again when it changes.

What cannot change a result does not count: comments, docstrings, Markdown, plots and reports. Parameters do not count
here, because the manifest compares their values.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from bgetune.paths import ROOT

PACKAGES = ("bgetune", "bgetune_demo")
LEFT_OUT = ("bgetune.reports", "bgetune.config", "bgetune.locale")
SOURCES = Path(__file__).parents[2]


@cache
def code_hash(stage: str) -> str:
    """SHA-256 of a notebook's code and of every module of ours that it imports, directly or not."""
    notebook = json.loads((ROOT / "notebooks" / f"{stage}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = "\n".join("".join(cell["source"]) for cell in cells if "parameters" not in cell["metadata"].get("tags", ()))
    digest = hashlib.sha256(_essence(code).encode())
    seen: set[Path] = set()
    todo = _imported(code)
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo |= _imported(file.read_text(encoding="utf-8"))
    for file in sorted(seen):
        digest.update(f"{file.relative_to(SOURCES)}\0{_essence(file.read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()


def _essence(code: str) -> str:
    """The syntax tree of Python code without docstrings and other statements that are only a text."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            vars(node)["body"] = [
                line
                for line in body
                if not (isinstance(line, ast.Expr) and isinstance(getattr(line.value, "value", None), str))
            ]
    return ast.dump(tree)


def _imported(code: str) -> set[Path]:
    """The files of our own packages that some code imports."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    bases = [
        SOURCES.joinpath(*name.split("."))
        for name in names
        if name.split(".")[0] in PACKAGES and not name.startswith(LEFT_OUT)
    ]
    files = [base.with_suffix(".py") for base in bases] + [base / "__init__.py" for base in bases]
    return {file for file in files if file.is_file()}
