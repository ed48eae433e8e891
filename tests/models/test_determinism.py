"""Same inputs, same bytes: what is in the cache already changes no bit of what is computed beside it."""

import shutil

import numpy as np
import pytest
import tiny

from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker


def texts(count, seed):
    """Random texts of 0 to 70 characters; the models read 62 of them."""
    rng = np.random.default_rng(seed)
    letters = list(tiny.CHARACTERS)
    return list(dict.fromkeys("".join(rng.choice(letters, rng.integers(0, 70))) for _ in range(count)))


WANTED = texts(90, 0)
OTHERS = texts(100, 1)
WARM = {
    "cold": [],
    "one text": WANTED[:1],
    "a subset": WANTED[::3],
    "a superset": [*OTHERS, *WANTED],
    "another half": [*WANTED[45:], *OTHERS],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "bert.py": tiny.save_sentence_transformer(root / "cls"),
        "sentence-transformers": tiny.save_sentence_transformer(root / "mean", pooling="mean"),
        "xlm-roberta": tiny.save_xlm_roberta(root / "m3"),
        "reranker": tiny.save_xlm_roberta(root / "xlm-reranker", labels=1),
        "bert reranker": tiny.save_bert(root / "bert-reranker", labels=1),
    }


def vectors(cold, known, wanted, options):
    encoder = Encoder(cold, device="cpu", **options)
    if known:
        encoder.encode(known, progress=False)
    return Encoder(cold, device="cpu", **options).encode(wanted, progress=False)


def scores(cold, known, wanted, options):
    def pairs(some):
        return list(zip(some, some[::-1], strict=True))

    reranker = Reranker(cold, device="cpu", **options)
    if known:
        # pairs that are wanted, among others
        reranker.score([*pairs(wanted)[: len(known) // 2], *pairs(known)], progress=False)
    return Reranker(cold, device="cpu", **options).score(pairs(wanted), progress=False)


@pytest.fixture(autouse=True)
def _two_threads():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["bert.py", "sentence-transformers", "xlm-roberta", "reranker", "bert reranker"])
def test_a_warm_cache_changes_no_bit(models, tmp_path, name, precision):
    compute = scores if "reranker" in name else vectors
    found = {
        state: compute(models[name], known, WANTED, {"cache_dir": tmp_path / state, "precision": precision})
        for state, known in WARM.items()
    }
    for state, rows in found.items():
        assert rows.tobytes() == found["cold"].tobytes(), state
    alone = [
        compute(models[name], [], [text], {"cache_dir": tmp_path / "alone", "precision": precision})
        for text in WANTED[:20]
    ]
    if compute is vectors:
        assert np.concatenate(alone).tobytes() == found["cold"][:20].tobytes()


def test_int8_computes_every_text_alone(models, tmp_path):
    pytest.importorskip("onnxruntime")
    folder, options = models["bert.py"], {"precision": "int8"}
    cold = vectors(folder, [], WANTED[:40], options | {"cache_dir": tmp_path / "a"})
    shutil.copytree(tmp_path / "a" / "graphs", tmp_path / "b" / "graphs")
    warm = vectors(folder, [*WANTED[::3], *OTHERS[:40]], WANTED[:40], options | {"cache_dir": tmp_path / "b"})
    assert cold.tobytes() == warm.tobytes()


@pytest.mark.parametrize("name", ["bert.py", "sentence-transformers"])
def test_batches_of_fixed_shape_give_the_same_vectors(models, tmp_path, name):
    kept = Encoder(models[name], device="cpu", cache_dir=tmp_path).encode(WANTED, progress=False)
    passing = Encoder(models[name], device="cpu", cache_dir=None).encode(WANTED, progress=False)
    np.testing.assert_allclose(kept, passing, atol=2e-6)
