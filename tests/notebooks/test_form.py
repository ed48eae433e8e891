"""The notebooks are stories: stored clean, in one form, without definitions, in step with `params.py`."""

import ast

import nbformat
import pytest

from bgetune import locale, paths
from bgetune.config import generate
from bgetune.config.stages import STAGES

NOTEBOOKS = [paths.ROOT / "notebooks" / f"{stage}.ipynb" for stage in STAGES]


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.stem)
def notebook(request):
    content = nbformat.read(request.param, as_version=4)
    content.metadata["file"] = request.param
    return content


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_parameters(cell):
    return "parameters" in cell.metadata.get("tags", ())


def test_the_folder_holds_the_stages_and_nothing_else():
    assert sorted((paths.ROOT / "notebooks").glob("*.ipynb")) == NOTEBOOKS


def test_stored_without_outputs(notebook):
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "file"}
    assert notebook.metadata.kernelspec.name == "python3"


def test_valid_with_unique_ids(notebook):
    del notebook.metadata["file"]
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_parameters_cell_is_the_generated_one(notebook):
    (cell,) = [cell for cell in code_cells(notebook) if is_parameters(cell)]
    assert cell is code_cells(notebook)[0]
    with locale.using("en"):
        generated = generate.parameters_cell(notebook.metadata["file"].stem)
    assert cell.source == generated, "run python -m bgetune.config.generate"


def test_imports_come_next_and_results_last(notebook):
    stage = notebook.metadata["file"].stem
    cells = code_cells(notebook)
    assert any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(cells[1].source).body)
    started = "\n".join(cell.source for cell in cells[1:4])
    assert f'runs.start("{stage}", globals())' in started
    assert "stage.parameters()" in started
    assert "stage.finish(" in cells[-1].source


def test_no_definitions(notebook):
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef), cell.source


def test_size(notebook):
    cells = [cell for cell in code_cells(notebook) if not is_parameters(cell)]
    lines = [len(cell.source.splitlines()) for cell in cells]
    assert len(cells) + 1 <= 25
    assert sum(lines) <= 150
    assert max(lines) <= 30


def test_every_code_cell_is_introduced(notebook):
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown" or is_parameters(before), cell.source


KNOWN = ("print", "display", "ThresholdSlider", "stage.finish", "pages.links", "review.widget")
ESCAPES = ("Markdown(forgetting.advice(", "Markdown(usage.how_to_use(")
"""What makes Markdown in which no text of the data is markup; test_hostile.py reads what comes out."""


def shown_values(cell):
    """The expressions whose values a cell shows: its last one, and what it gives to `display`."""
    body = ast.parse(cell.source).body
    found = [body[-1].value] if isinstance(body[-1], ast.Expr) else []
    for node in ast.walk(ast.parse(cell.source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "display":
            found += node.args
    while any(isinstance(node, ast.IfExp) for node in found):
        found = [part for node in found for part in ([node.body, node.orelse] if hasattr(node, "orelse") else [node])]
    return found


def test_all_that_is_shown_goes_through_the_functions_that_escape(notebook):
    """A bare data frame or `.style` shows texts of logs as markup; `Markdown` is for constants and our own advice."""
    for cell in code_cells(notebook):
        assert ".style" not in cell.source, cell.source
        for node in shown_values(cell):
            text = ast.unparse(node)
            if isinstance(node, ast.Name):
                assert text == "figure", text
                continue
            assert isinstance(node, ast.Call), text
            name = ast.unparse(node.func)
            if name == "Markdown":
                said = node.args[0].args[0] if ast.unparse(node.args[0]).startswith("_(") else node.args[0]
                assert isinstance(said, ast.Constant) or text.startswith(ESCAPES), text
            else:
                assert name.startswith(("plots.", "sections.", "preview.", "reranking.")) or name in KNOWN, text
