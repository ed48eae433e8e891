"""Run a real multilingual-e5-small through all notebooks, export, scorer and service; print what it took and gained.

    python tests/real_data/e5.py FOLDER [--pairs 600] [--heldout 800] [--backend flagembedding] [--work WORK]

FOLDER is what ../shared/models/build_e5.py makes (mean pooling, prompts on both sides, all cosines above .7). Trains on
some labelled bank questions, is judged on others. Needs ../shared (third-party data). Memory: of all processes of a
notebook together, the resident set at its largest, looked at five times a second.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml

from bgetune.config.stages import STAGES
from bgetune.paths import ROOT

SHARED = ROOT.parent / "shared" / "data"
CODE = "import sys; from bgetune import pipeline, runs; from pathlib import Path\n"
CODE += "runs.run_folder = lambda profile, run_dir=None: Path(sys.argv[1])\n"
CODE += "sys.exit(pipeline.main(sys.argv[2:]))"
MEASURES = ("auc", "average_precision", "labelled_auc", "overlap", "mean_squared_cosine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--pairs", type=int, default=600, help="labelled pairs to train on")
    parser.add_argument("--heldout", type=int, default=800, help="labelled pairs to calibrate and judge on")
    parser.add_argument("--backend", default="sentence_transformers")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder to keep everything in (default: a temporary one)")
    options = parser.parse_args()
    if not SHARED.is_dir():
        sys.exit("needs ../shared (third-party data), which is not part of the repository")
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        write_sources(work, options.pairs, options.heldout)
        (work / "profile.yaml").write_text(yaml.safe_dump(profile(options, work), sort_keys=False), "utf-8")
        run = work / "run"
        notebooks(work / "profile.yaml", run)
        report(run)
        in_use(run)


def write_sources(work: Path, pairs: int, heldout: int) -> None:
    """The first labelled pairs of both files, as many of each label."""
    for name, count, source in (("train", pairs, "bank_ccks_extra"), ("heldout", heldout, "bq_dev")):
        with gzip.open(SHARED / f"{source}.tsv.gz", "rt", encoding="utf-8") as file:
            table = pd.read_csv(file, sep="\t", dtype=str, quoting=3)
        table.groupby("label").head(count // 2).to_csv(work / f"{name}.csv", index=False)


def profile(options: argparse.Namespace, work: Path) -> dict:
    pairs = [{"path": str(work / f"{use}.csv"), "label_column": "label", "use": use} for use in ("train", "heldout")]
    train = {"backend": options.backend, "batch_size": 32, "epochs": options.epochs, "negatives": 1, "positives": 1}
    train |= {"precision": "float32", "learning_rate": 5e-5, "onnx": ["float32"], "device": "cpu", "eval_steps": 10}
    return {
        "name": "e5",
        "model": str(options.model.resolve()),
        "reranker": None,
        "query_instruction": "query: ",
        "document_instruction": "passage: ",
        "max_length": 32,
        "01_positives": {"sources": {"pairs": pairs}},
        "05_calibrate": {"resamples": 200, "search_queries": 50},
        "04_train": train | ({"graded_loss": "none"} if options.backend == "flagembedding" else {}),
    }


def notebooks(file: Path, run: Path) -> None:
    """All notebooks, with the time of each and the most memory that it took."""
    peaks = dict.fromkeys(STAGES, 0)
    command = [sys.executable, "-c", CODE, str(run), str(file)]
    with (file.parent / "output.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            running = next((stage for stage in STAGES if stage not in finished(run)), "05_calibrate")
            peaks[running] = max(peaks[running], resident(process.pid))
            time.sleep(0.2)
    if process.returncode:
        sys.exit((file.parent / "output.txt").read_text("utf-8")[-3000:])
    print(f"{'notebook':<20} {'seconds':>8} {'peak MB':>8}")
    for stage, entry in finished(run).items():
        print(f"{stage:<20} {entry['seconds']:>8.0f} {peaks[stage] / 1e6:>8.0f}")


def finished(run: Path) -> dict:
    """The stages that the manifest holds."""
    file = run / "manifest.json"
    return json.loads(file.read_text("utf-8"))["stages"] if file.is_file() else {}


def resident(process: int) -> int:
    """Bytes of a process and all that it started; what they share counts once for each."""
    total = 0
    try:
        whole = psutil.Process(process)
        for one in (whole, *whole.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        return total
    return total


def report(run: Path) -> None:
    metrics = finished(run)["05_calibrate"]["metrics"]
    print(f"\n{'':24} before   after")
    for name in MEASURES:
        if name in metrics["before"]:
            print(f"{name:24}{metrics['before'][name]:7.3f} {metrics['after'][name]:7.3f}")
    for row in metrics["thresholds"]:
        print({name: row[name] for name in ("precision", "cosine", "recall", "test_precision", "test_recall")})


def in_use(run: Path) -> None:
    """The export, the scorer and the service give the same scores."""
    from bgetune.runs.manifest import artifact_path
    from bgetune.scoring import Scorer

    held = pd.read_csv(run.parent / "heldout.csv").head(20)
    queries, documents = held["text_a"].tolist(), held["text_b"].tolist()
    scorer = Scorer.load(run, device="cpu")
    scores = scorer.score(queries, documents)
    print(f"scorer: {len(scores)} scores from {scores.min():.3f} to {scores.max():.3f}")
    sys.path.insert(0, str(ROOT / "tests/loaders"))
    import matrix

    model = artifact_path(run, "model")
    for loader in ("sentence-transformers", "ONNX Runtime"):
        print(f"{loader}: largest difference of a vector's number {matrix.difference(model, loader):.1e}")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bgetune.serve", str(run), "--device", "cpu", "--port", str(port)]
    service = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        while service.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            except OSError:
                time.sleep(0.2)
        body = json.dumps({"queries": queries, "documents": documents}).encode()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/score", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked) as answer:
            served = np.array(json.load(answer)["probabilities"])
        print(f"service: largest difference from the scorer {np.abs(served - scores).max():.1e}")
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    main()
