"""Copies of the notebooks: what a run executes, and what JupyterLab opens. The stored notebooks are only read."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

from bgetune.config.generate import CHECKSUMS, checksum, is_parameters, parameters_cell
from bgetune.errors import InputError
from bgetune.locale import _, prose
from bgetune.paths import ROOT

if TYPE_CHECKING:
    from nbformat import NotebookNode


def copy_notebook(notebook: str, **values: Any) -> NotebookNode:
    """A copy of a stored notebook as it was released: no outputs, and the generated parameters cell.

    Code cells are those of the stored file, and where somebody edited them, the copy says so on top. Markdown and the
    parameters' help are in the language in use.

    Args:
        notebook: its name, for example "01_positives".
        values: of the copy's parameters cell: profile, run_dir, round_number; see `parameters_cell`.

    Raises:
        InputError: if the stored file is no notebook, or has not just one parameters cell.
    """
    import nbformat

    copy = nbformat.from_dict(_stored(notebook))
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        elif cell.cell_type == "markdown":
            cell.source = prose.translated(cell.source)
    next(filter(is_parameters, copy.cells)).source = parameters_cell(notebook, **values)
    if _is_edited(notebook):
        copy.cells.insert(0, nbformat.v4.new_markdown_cell(f"**{_edited(notebook)}.**", id="edited"))
    return copy


def edits(notebook: str) -> list[str]:
    """What in a stored notebook is not as released: a sentence for its code, and one for its parameters cell."""
    found = [_edited(notebook)] if _is_edited(notebook) else []
    cell = next(filter(is_parameters, _stored(notebook)["cells"]))
    generated = _assignments(parameters_cell(notebook))
    given = _assignments(cell["source"])
    changed = [name for name, value in given.items() if value != generated.get(name)]
    if changed:
        unused = _("{file}: {names} in the parameters cell is not used; set it in the profile")
        found.append(unused.format(file=f"notebooks/{notebook}.ipynb", names=", ".join(changed)))
    return found


def _edited(notebook: str) -> str:
    changed = _("{file} differs from the released notebook: its code was edited")
    return changed.format(file=f"notebooks/{notebook}.ipynb")


def _is_edited(notebook: str) -> bool:
    """Whether the code is another than released; False where no checksum is known."""
    file = ROOT / CHECKSUMS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    known = {line.split()[0] for line in lines if line.endswith(f"  {notebook}")}
    return bool(known) and checksum(_stored(notebook)) not in known


def _stored(notebook: str) -> dict:
    """The content of the stored file, each source as one text."""
    file = ROOT / "notebooks" / f"{notebook}.ipynb"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            cell["source"] = "".join(cell["source"])
        complete = sum(map(is_parameters, content["cells"])) == 1
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete:
        raise InputError(
            _("{file} is no notebook with one parameters cell; `git checkout {file}` restores it").format(file=file)
        )
    return content


def _assignments(code: str) -> dict[str, str]:
    """Name -> value, as code, of the assignments in a parameters cell."""
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return {"code that is no Python": ""}
    found = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            found[ast.unparse(node.target)] = ast.unparse(node.value)
        elif isinstance(node, ast.Assign):
            found |= {ast.unparse(target): ast.unparse(node.value) for target in node.targets}
    return found
