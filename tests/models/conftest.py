"""Hubs on this machine, and a process that fetches from them."""

import os
import shutil
import subprocess
import sys

import pytest
import tiny
from models.local_hub import BGE, MARIAN, RERANKER, LocalHub
from transformers import MarianConfig, MarianMTModel

from bgetune.models import layout
from bgetune.paths import ROOT

FETCH = """
import sys
from bgetune.errors import InputError
from bgetune.models import hub
try:
    print(hub.fetch(sys.argv[1], sys.argv[2]))
except InputError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Tiny weights in the layout of the three models that a Chinese profile names."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "BAAI").mkdir()
    (folder / "Helsinki-NLP").mkdir()
    bge = tiny.save_sentence_transformer(folder / BGE)
    layout.make_classic(bge, max_length=512, lower_case=False)
    shutil.rmtree(folder / f"{BGE}-bert", ignore_errors=True)
    tiny.save_xlm_roberta(folder / RERANKER, labels=1)
    settings = MarianConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, pad_token_id=63,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, decoder_start_token_id=63,
    )  # fmt: skip
    # main has a pickle alone; the hub's converter offers safetensors in a pull request
    MarianMTModel(settings).save_pretrained(folder / f"{MARIAN}@pr")
    (folder / f"{MARIAN}@pr/source.spm").write_bytes(b"spm")
    shutil.copytree(folder / f"{MARIAN}@pr", folder / MARIAN, ignore=shutil.ignore_patterns("*.safetensors"))
    for place in (folder / BGE, folder / MARIAN):
        (place / "pytorch_model.bin").write_bytes(b"pickle")
    # the client writes blocks of 10 MiB: a file of several, to break off after the first
    (folder / RERANKER / "sentencepiece.bpe.model").write_bytes(os.urandom(1 << 20) * 24)
    (folder / RERANKER / "onnx").mkdir()
    (folder / RERANKER / "onnx/model.onnx").write_bytes(b"onnx")
    (folder / RERANKER / "onnx/config.json").write_text("{}", "utf-8")
    return folder


@pytest.fixture
def served(models):
    with LocalHub(models).running() as hub:
        yield hub


@pytest.fixture
def fetch(served, tmp_path):
    def run(name, parameter="model", **environment):
        source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        clean |= {"HF_ENDPOINT": served.address, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": source}
        clean |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
        clean |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return subprocess.run(
            [sys.executable, "-c", FETCH, name, parameter],
            env=clean | environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run
