"""No load of a model may run code that came with it, or ask on the terminal whether to."""

import ast

import pytest

from bgetune.paths import ROOT

LOADERS = {"from_pretrained", "SentenceTransformer", "CrossEncoder", "FlagModel", "FlagReranker", "Transformer"}


def loads(tree):
    """Every call of a loader in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in LOADERS:
                yield node


def says_false(keywords, tree):
    """Whether trust_remote_code=False is among keywords, or in a dictionary they are taken from."""
    for keyword in keywords:
        if keyword.arg == "trust_remote_code":
            return isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg is None and isinstance(keyword.value, ast.Name):
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == keyword.value.id:
                    return "trust_remote_code': False" in (text := ast.unparse(node.value)) or "safe" in text
    return False


def modules():
    # the demo's package loads only what it has just written
    sources = sorted((ROOT / "src/bgetune").rglob("*.py"))
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text("utf-8")) for file in sources}


def test_every_load_refuses_a_models_own_code():
    found = [(name, call, tree) for name, tree in modules().items() for call in loads(tree)]
    assert len(found) > 8
    # a model that is put together out of modules in memory loads nothing
    built = [call for *_, call, _ in found if any(k.arg == "modules" for k in call.keywords)]
    careless = [
        f"{name}:{call.lineno}"
        for name, call, tree in found
        if call not in built and not says_false(call.keywords, tree)
    ]
    assert not careless


def test_nowhere_is_it_allowed():
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert ast.unparse(node.value) == "False", f"{name}:{node.value.lineno}"


@pytest.mark.parametrize(
    ("code", "careful"),
    [
        ("AutoModel.from_pretrained(x)", False),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", False),
        ("AutoModel.from_pretrained(x, trust_remote_code=False)", True),
        ("safe = {'trust_remote_code': False}\nSentenceTransformer(x, **safe)", True),
        ("safe = {'local_files_only': False}\nAutoTokenizer.from_pretrained(x, **{})", False),
    ],
)
def test_what_the_test_finds(code, careful):
    tree = ast.parse(code)
    (call,) = loads(tree)
    assert says_false(call.keywords, tree) == careful


def test_flagembeddings_trainer_is_told(tmp_path):
    from bgetune.config.stages import Train
    from bgetune.training.flagembedding import command
    from bgetune.training.settings import TrainingSettings

    settings = TrainingSettings.of(Train(model="demo://small/encoder"), epochs=1)
    line = command(tmp_path, tmp_path / "train.jsonl", tmp_path, settings, 1)
    assert line[line.index("--trust_remote_code") + 1] == "False"
