"""Which loaders give a tuned model's vectors: loader x version x kind of model, with the largest difference.

    python tests/loaders/matrix.py                models of the tests: CLS and mean pooling, with and without prompts
    python tests/loaders/matrix.py FOLDER...      models on disk as well, saved again as 04_train saves them

Infinity, and versions of sentence-transformers other than the installed one, are put beside it with pip, each with a
transformers of its time, into data/cache/loaders (60 MB each); torch is shared. `test_loaders.py` holds in the suite
what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from bgetune.models.encoder import Encoder
from bgetune.models.prompts import Prompts
from bgetune.paths import cache_root

READ = Path(__file__).with_name("read.py")

ENOUGH = 1e-5
"""Largest difference of a number of a vector that is called the same."""

BESIDE = ["huggingface-hub==0.36.0", "datasets==3.6.0"]

VERSIONS = {
    "3.4.1": ["sentence-transformers==3.4.1", "transformers==4.49.0", "tokenizers==0.21.4", *BESIDE],
    "5.3.0": ["sentence-transformers==5.3.0", "transformers==4.57.6", "tokenizers==0.22.1", *BESIDE],
}
"""Version of sentence-transformers -> what stands in for the installed packages."""

INFINITY = "infinity-0.0.78"
PACKAGES = VERSIONS | {INFINITY: ["infinity-emb==0.0.78", "orjson", "hf_transfer", *VERSIONS["3.4.1"]]}
"""The same for every loader that is put beside the installed packages; Infinity wants an old sentence-transformers."""

TEXTS = [
    "怎么查询密码",
    "How do I reset my password?",
    "支付密码忘记了，怎么办：" * 40,  # longer than the models read
    "a",
    "订单12345的退款到哪里了？",
    "𠮷野家 ☕ naïve",
]

KINDS = {
    "cls": ("cls", Prompts()),
    "cls, query prompt": ("cls", Prompts("查询：")),
    "mean, both prompts": ("mean", Prompts("query: ", "passage: ", "query: ")),
}
"""Kinds of model that the tests make: pooling and prompts."""


def packages(version: str) -> Path:
    """Where the packages of one of `PACKAGES` lie, once `install` has put it there."""
    return cache_root() / "data" / "cache" / "loaders" / version


def install(version: str) -> None:
    """Put the packages of one of `PACKAGES` beside the installed ones."""
    if not packages(version).is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
        with tempfile.TemporaryDirectory(dir=cache_root()) as folder:
            subprocess.run([*command, f"{folder}/packages", *PACKAGES[version]], check=True)
            packages(version).parent.mkdir(parents=True, exist_ok=True)
            Path(f"{folder}/packages").rename(packages(version))


def make(source: str | Path, folder: Path, prompts: Prompts, max_length: int = 32) -> Path:
    """A model saved as 04_train saves it, in folder/model, and its graph for ONNX Runtime in folder/onnx."""
    from bgetune.models import export
    from bgetune.training.save import save

    model = Encoder(source, device="cpu", cache_dir=None).model
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    save(model, folder / "model", prompts)
    export.write(Encoder(folder / "model", device="cpu", cache_dir=None).model, folder / "onnx", ["float32"])
    return folder / "model"


def difference(folder: Path, loader: str, version: str | None = None) -> float:
    """The largest difference of a loader's vectors from `Encoder`'s, over all tasks that the loader has.

    Args:
        folder: of the model.
        loader: a key of `LOADERS` in read.py.
        version: a key of `PACKAGES`; None: what is installed.

    Raises:
        RuntimeError: if the loader fails, with the end of what it said.
    """
    encoder = Encoder(folder, max_length=512, device="cpu", cache_dir=None)
    environment = dict(os.environ)
    if version is not None:
        environment["PYTHONPATH"] = str(packages(version))
    with tempfile.TemporaryDirectory() as work:
        texts, target = Path(work) / "texts.json", Path(work) / "vectors.npz"
        texts.write_text(json.dumps(TEXTS), "utf-8")
        command = [sys.executable, str(READ), loader, str(folder), str(texts), str(target)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError("; ".join(done.stderr.strip().splitlines()[-1:]))
        with np.load(target) as found:
            return max(
                float(
                    np.abs(
                        found[task] - encoder.encode(TEXTS, prompt=getattr(encoder.prompts, task), progress=False)
                    ).max()
                )
                for task in found.files
            )


def rows(version_of: dict[str, str]) -> list[tuple[str, str, str | None]]:
    """Loader, version shown, and the key of `PACKAGES` asked for (None: what is installed)."""
    installed = metadata.version("sentence-transformers")
    return [
        *(("sentence-transformers", version, version) for version in VERSIONS),
        ("sentence-transformers", installed, None),
        *(("transformers", f"{version_of[version]}", version) for version in VERSIONS),
        ("transformers", metadata.version("transformers"), None),
        ("FlagModel", metadata.version("FlagEmbedding"), None),
        ("ONNX Runtime", metadata.version("onnxruntime"), None),
        ("Infinity", INFINITY.partition("-")[2], INFINITY),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="models to save and read as well")
    given = parser.parse_args().folders
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import tiny

    for version in PACKAGES:
        install(version)
    transformers = {version: packed[1].partition("==")[2] for version, packed in VERSIONS.items()}
    with tempfile.TemporaryDirectory() as work:
        models = {}
        for kind, (pooling, prompts) in KINDS.items():
            base = tiny.save_sentence_transformer(Path(work) / f"base {kind}", pooling=pooling)
            models[kind] = make(base, Path(work) / kind, prompts)
        for folder in given:
            models[folder.name] = make(folder, Path(work) / f"given {folder.name}", Prompts.of(folder), 128)
        table = pd.DataFrame(
            index=[f"{loader} {shown}" for loader, shown, _ in rows(transformers)], columns=list(models)
        )
        for kind, folder in models.items():
            for loader, shown, version in rows(transformers):
                try:
                    found = f"{difference(folder, loader, version):.1e}"
                except RuntimeError as error:
                    found = f"fails: {error}"[:80]
                table.loc[f"{loader} {shown}", kind] = found
    print(table.to_string())
    return int(
        not all(float(cell) <= ENOUGH if "e-" in cell else cell == "0.0e+00" for cell in table.to_numpy().ravel())
    )


if __name__ == "__main__":
    sys.exit(main())
