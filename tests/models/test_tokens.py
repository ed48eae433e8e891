"""Long texts: what is cut off before tokenising changes no token that is read, and saves gigabytes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tiny
from augment.conftest import make_m2m100, make_marian

from bgetune.models.tokens import shorten, tokenize

LONG = [
    "支付密码忘记了怎么办，" * 500,
    "支付" * 20 + " " * 30_000 + "转账" * 400,  # blanks are no tokens
    "\u4e02" * 9000 + "支付" * 300,  # unknown: one token or many
    "x" * 20_000 + " 支付" * 900,  # a word too long for WordPiece
    "abc" * 4000,
    "a b c " * 3000,
    "ａｂｃ①㍿" * 2000,  # grow or shrink by normalisation
    "e\u0301" * 5000,
    "转账",
    "",
]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    from transformers import AutoTokenizer

    root = tmp_path_factory.mktemp("models")
    folders = {
        "wordpiece": tiny.save_bert(root / "bert"),
        "unigram": tiny.save_xlm_roberta(root / "m3"),
        "marian": make_marian(root / "marian"),
        "m2m100": make_m2m100(root / "m2m100"),
    }
    return {name: AutoTokenizer.from_pretrained(folder, trust_remote_code=False) for name, folder in folders.items()}


@pytest.mark.parametrize("length", [8, 33, 64])
@pytest.mark.parametrize("name", ["wordpiece", "unigram", "marian", "m2m100"])
def test_tokens_are_those_of_the_whole_texts(tokenizers, name, length):
    tokenizer = tokenizers[name]
    found = tokenize(tokenizer, LONG, max_length=length)
    assert found.columns["input_ids"] == [
        tokenizer(text, truncation=True, max_length=length).input_ids for text in LONG
    ]
    assert max(found.lengths) == length


@pytest.mark.parametrize("length", [31, 32])
@pytest.mark.parametrize("name", ["wordpiece", "unigram"])
def test_pairs_are_cut_as_before(tokenizers, name, length):
    tokenizer = tokenizers[name]
    short = [text[:700] for text in LONG]  # whole pairs of long texts are what takes gigabytes
    pairs = [(a, b) for a in short for b in short]
    first, second = map(list, zip(*pairs, strict=True))
    found = tokenize(tokenizer, first, second, max_length=length)
    expected = [tokenizer([a], [b], truncation=True, max_length=length) for a, b in pairs]
    for column, values in found.columns.items():
        assert values == [encoded[column][0] for encoded in expected]


def test_a_real_tokenizer_reads_the_same_of_real_text(shared):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "zh-mini", trust_remote_code=False)
    rng = np.random.default_rng(0)
    words = [word for word in tokenizer.get_vocab() if not word.startswith("[")]
    texts = ["".join(rng.choice(words, 3000)).replace("##", "") for _ in range(20)]
    found = tokenize(tokenizer, texts, max_length=128).columns["input_ids"]
    assert found == [tokenizer(text, truncation=True, max_length=128).input_ids for text in texts]


def test_the_tokenizers_own_settings_stay(tokenizers):
    inner = tokenizers["wordpiece"].backend_tokenizer
    inner.enable_truncation(7)
    inner.enable_padding(pad_id=0)
    before = inner.truncation, inner.padding
    cut = shorten(inner, LONG, 16)
    assert (inner.truncation, inner.padding) == before
    assert max(map(len, cut[:1])) < 500
    assert cut[-2:] == LONG[-2:]


def test_no_texts(tokenizers):
    assert tokenize(tokenizers["wordpiece"], [], max_length=8).lengths.shape == (0,)


SCRIPT = """
import resource, sys
import torch
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.training.trainer import encoder_of

what, folder = sys.argv[1:]
options = {"max_length": 64, "device": "cpu", "cache_dir": None}
text = "支付密码忘记了怎么办，登录不了账户里的余额" * 300
pairs = [(text[i % 20 : i % 20 + 5000], text[i % 19 : i % 19 + 5000 - i // 100]) for i in range(2000)]
texts = [text for pair in pairs for text in pair]
if what == "reranker":
    run = lambda n: Reranker(folder, **options).score(pairs[:n], progress=False)
elif what == "training":
    model = Encoder(folder, **options).model
    run = lambda n: encoder_of(model, 64)(texts[:2 * n])
else:
    run = lambda n: Encoder(folder, **options).encode(texts[:2 * n], progress=False)
run(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(2000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("what", ["reranker", "bert.py", "sentence-transformers", "training"])
def test_long_texts_take_little_memory(tmp_path, what):
    """2,000 pairs of 5,000 characters within 300 MiB above what two take."""
    if what == "reranker":
        folder = tiny.save_xlm_roberta(tmp_path / "model", labels=1)
    else:
        folder = tiny.save_sentence_transformer(tmp_path / "model", "cls" if what == "bert.py" else "mean")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, what, str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert run.returncode == 0, run.stderr
    print(what, run.stdout)
    assert int(run.stdout) < 300
