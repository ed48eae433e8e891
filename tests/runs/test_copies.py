"""The working copies of the notebooks: their code is the stored one, their prose is in the language in use."""

import ast
import re

import nbformat
import pytest

from bgetune import locale, paths, pipeline
from bgetune.config import generate
from bgetune.config.stages import STAGES
from bgetune.locale import prose
from bgetune.runs import copies, manifest

OTHERS = [language for language in locale.LANGUAGES if language != "en"]


@pytest.fixture(params=[(stage, language) for stage in STAGES for language in OTHERS], ids="-".join)
def translated(request):
    """A stored notebook, and its copy in another language."""
    stage, language = request.param
    with locale.using(language):
        copy = copies.copy_notebook(stage)
    return nbformat.read(paths.ROOT / "notebooks" / f"{stage}.ipynb", as_version=4), copy


def of_kind(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def without_words(code):
    """The syntax tree, but for what `raise SystemExit(...)` says."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "SystemExit":
            node.args = []
    return ast.dump(tree)


def test_a_copy_runs_the_same_code_in_every_language(translated):
    stored, copy = translated
    nbformat.validate(copy)
    for theirs, ours in zip(of_kind(stored, "code"), of_kind(copy, "code"), strict=True):
        if generate.is_parameters(theirs):
            assert ours.source != theirs.source, "comments, and what is said of a kernel without bgetune"
            assert without_words(ours.source) == without_words(theirs.source)
        else:
            assert ours.source == theirs.source
    assert generate.checksum(copy) == generate.checksum(stored), "as released"


def test_all_prose_is_translated_and_keeps_its_form(translated):
    stored, copy = translated
    for theirs, ours in zip(of_kind(stored, "markdown"), of_kind(copy, "markdown"), strict=True):
        heads = [re.findall(r"^(?:#+|\d+\.) ", text, re.MULTILINE) for text in (theirs.source, ours.source)]
        assert heads[0] == heads[1]
        pieces = zip(prose.pieces(theirs.source), prose.pieces(ours.source), strict=True)
        for english, other in pieces:
            assert re.search(r"[\u4e00-\u9fff]", other), english


def test_english_copies_are_the_stored_notebooks():
    for stage in STAGES:
        stored = nbformat.read(paths.ROOT / "notebooks" / f"{stage}.ipynb", as_version=4)
        with locale.using("en"):
            copy = copies.copy_notebook(stage)
        assert [cell.source for cell in copy.cells] == [cell.source for cell in stored.cells]


def test_another_language_alone_runs_nothing_again(one_stage, capsys, request):
    request.addfinalizer(lambda: locale.use(None))
    manifests = []
    for language in ("en", "zh"):
        (one_stage / "one.yaml").write_text(f"model: any\nlanguage: {language}\n")
        assert pipeline.main([str(one_stage / "one.yaml")]) == 0
        manifests.append(manifest.read_manifest(one_stage / "runs/one")["stages"])
    assert manifests[0] == manifests[1]
    assert "无需重跑" in capsys.readouterr().out
