"""The house: which room may use which, read from the imports of every module, those inside functions too."""

import ast
from functools import cache

import pytest

from bgetune.paths import ROOT

SOURCES = ROOT / "src"
STAGES = {"positives", "augment", "negatives", "training", "scoring"}
FLOORS = [
    {"errors", "locale"},
    {"files", "paths", "hubs"},
    {"config", "data"},
    {"runs"},
    {"models", "metrics", "reports"},
    {"graph"},
    STAGES,
    {"checks", "new", "estimate", "opened", "serve", "compare_traffic", "mlflow"},
    {"pipeline"},
    {"lab"},
]
"""From the ground up: a room uses rooms of its own floor or below."""
MODULES = {
    ".".join(file.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((SOURCES / "bgetune").rglob("*.py"))
}


@cache
def imported(module):
    """The modules of bgetune that a module imports, and those that it names only for type checks left out."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys() or {node.module}
    return {name for name in found if name in MODULES and name != "bgetune"} - {module}


def room(module):
    return module.split(".")[1] if "." in module else module


def floor(module):
    (number,) = [number for number, rooms in enumerate(FLOORS) if room(module) in rooms]
    return number


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"bgetune"}))
def test_imports_point_down(module):
    for other in imported(module):
        assert floor(other) <= floor(module), f"{module} imports {other}, which lies above it"
        if room(module) in STAGES and room(other) in STAGES:
            assert room(module) == room(other), f"{module} imports {other}: a stage never imports another stage"


def test_no_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in sorted(imported(module)):
            visit(other)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


def test_no_file_is_longer_than_500_lines():
    lengths = {file: len(file.read_text("utf-8").splitlines()) for file in SOURCES.rglob("*.py")}
    assert not {file.name: length for file, length in lengths.items() if length > 500}


def test_the_package_works_without_the_demo_world():
    for module, file in MODULES.items():
        tree = ast.parse(file.read_text("utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if name.startswith("bgetune_demo")], module
