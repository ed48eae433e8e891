"""How CPU time and memory grow with the data: each size in a process of its own.

    python tests/benchmarks/bench_growth.py texts [--sizes 50000,200000,500000,1000000] [--index auto] [--nprobe 32]
    python tests/benchmarks/bench_growth.py logs [OPTIONS]      # those of bench_growth_logs.py
    python tests/benchmarks/bench_growth.py processes [OPTIONS]     # those of bench_growth_processes.py

texts: vectors of 128 dimensions with clusters in them, through the cache of the encoder, recall, clusters, mining,
groups and the tables of the report; at the end, how many negatives are those of an exact search. A line a size and
step: CPU seconds, microseconds a text, peak of the resident memory and what of it no file backs. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np

# --- a step's costs -----------------------------------------------------------------------------------------------


STANDARD = ("cpu_s", "wall_s", "peak_mib", "anonymous_mib")


class Meter:
    """CPU seconds and peak memory of the steps of this process."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, float]]:
        """Measure the block; figures that it puts into the dictionary are shown beside."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        begun, wall = _cpu(), time.perf_counter()
        values: dict[str, float] = {}
        yield values
        peak, anonymous = _memory("VmHWM"), _memory("RssAnon")
        measured = {"cpu_s": _cpu() - begun, "wall_s": time.perf_counter() - wall}
        self.steps[name] = measured | {"peak_mib": peak, "anonymous_mib": anonymous} | values
        print(name, {key: round(value, 3) for key, value in self.steps[name].items()}, file=sys.stderr, flush=True)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory(kind: str) -> float:
    """Memory of this process in MiB, of a kind that proc(5) names."""
    found = re.search(rf"^{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


# --- texts --------------------------------------------------------------------------------------------------------

DIMENSION = 128
MEANING = 8  # texts of one meaning
KNOWN = 5  # of which the positive graph knows
TOPIC = 2000  # texts of one topic
SAMPLE = 1000  # queries whose negatives are compared with those of an exact search


def write_vectors(count: int, file: Path) -> None:
    """(count, DIMENSION) float32 unit rows: a direction that all share, topics in it, meanings in these."""
    rng = np.random.default_rng(count)
    rows = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(count, DIMENSION))
    common = rng.standard_normal(DIMENSION, dtype=np.float32)
    for start in range(0, count, TOPIC):
        size = min(TOPIC, count - start)
        topic = common + rng.standard_normal(DIMENSION, dtype=np.float32)
        meanings = rng.standard_normal((-(-size // MEANING), DIMENSION), dtype=np.float32)
        part = topic + np.repeat(meanings, MEANING, axis=0)[:size]
        part += 0.6 * rng.standard_normal((size, DIMENSION), dtype=np.float32)
        rows[start : start + size] = part / np.linalg.norm(part, axis=1, keepdims=True)


def texts_tables(count: int) -> SimpleNamespace:
    """The tables `texts` and `edges`: of every meaning the first texts are positives of the first one."""
    import pandas as pd

    from bgetune.data.text import text_id

    words = [f"text number {number}" for number in range(count)]
    ids = np.array([text_id(word) for word in words], dtype=object)
    kinds = np.where(np.arange(count) % MEANING == 1, "document", "query")
    texts = pd.DataFrame({"text_id": ids, "text": words, "kind": kinds, "count": 1})
    place = np.arange(count) % MEANING
    second = np.flatnonzero((place > 0) & (place < KNOWN))
    a, b = ids[second - place[second]], ids[second]
    swap = a > b
    edges = pd.DataFrame({"a_id": np.where(swap, b, a), "b_id": np.where(swap, a, b)})
    edges = edges.assign(source="given", support=1, weight=0.9)
    return SimpleNamespace(texts=texts.sort_values("text_id", ignore_index=True), edges=edges)


def make_encoder(vectors: Path, cache: Path):
    """The encoder with a table of vectors in place of a model: keys, cache and working files are its own."""
    from bgetune.models.encoder import Encoder
    from bgetune.models.prompts import NO_PROMPTS

    rows = np.load(vectors, mmap_mode="r")

    class Table(Encoder):
        fingerprint = str(len(rows))
        dimension = DIMENSION
        precision = "float32"

        def _forward(self, texts, bar):
            bar.update(len(texts))
            return rows[[int(text.rsplit(" ", 1)[1]) for text in texts]]

    return Table(vectors.parent, prompts=NO_PROMPTS, cache_dir=cache)


def texts_worker(count: int, work: Path, index: str, nprobe: int | None) -> None:
    """The steps of 01 and 03 that grow with the texts."""
    from bgetune.graph import clusters as graph, recall
    from bgetune.negatives import groups, measure, mining, promotion
    from bgetune.negatives.corpus import Corpus
    from bgetune.negatives.rules import Rules, Search

    meter = Meter()
    data = texts_tables(count)
    encoder = make_encoder(work / "vectors.npy", work / "cache")
    search = Search(index=index, search_params={} if nprobe is None else {"nprobe": nprobe})
    with meter.step("encode, cold cache"):
        vectors = encoder.encode(data.texts["text"].tolist(), progress=False)
    del vectors
    with meter.step("encode, warm cache"):
        vectors = encoder.encode(data.texts["text"].tolist(), progress=False)
    with meter.step("recall") as found:
        options = {"neighbors": 10, "similarity": 0.8, **asdict(search)}
        proposed = recall.propose(data.texts["text_id"], vectors, **options)
        found["pairs"] = len(proposed)
    del vectors, proposed
    with meter.step("clusters"):
        clusters = graph.cluster(data.texts["text_id"], graph.combine_sources(data.edges), max_cluster_size=60)
        clusters = graph.split(clusters, data.edges, dev_fraction=0.01, test_fraction=0.01, seed=42)
        graph.doubtful(data.edges, data.texts, 15)
    with meter.step("mining") as found:
        corpus = Corpus.of(data.texts, data.edges, clusters)
        mined = mining.mine(corpus, encoder, rules=Rules(), search=search)
        found |= {"queries": len(mined.queries), "negatives": len(mined.negatives), "depth": mined.risks.depth}
    with meter.step("groups"):
        rows = groups.training_groups(corpus, mined, max_positives=10)
        groups.write_jsonl(rows, work / "train.jsonl")
        groups.rejected_candidates(corpus, mined).to_parquet(work / "rejected.parquet")
    del rows
    with meter.step("report"):
        measure.rule_yields(mined)
        measure.coverage(mined)
        measure.advice(mined)
        measure.risk_table(corpus, mined)
        measure.similarities(mined)
        measure.examples(corpus, mined)
        promotion.missed_positives(corpus, mined)
        promotion.doubtful(corpus, mined, limit=200)
    with meter.step("ablation"):
        measure.ablation(corpus, encoder, rules=Rules(), search=search)
    del mined
    with meter.step("overlap with exact search") as found:
        some = [mining.mine(corpus, encoder, search=way, sample=SAMPLE) for way in (search, Search(index="Flat"))]
        keys = [set(zip(m.negatives["query"], m.negatives["candidate"], strict=True)) for m in some]
        found["overlap"] = len(keys[0] & keys[1]) / len(keys[1])
    print(json.dumps(meter.steps))


def main() -> None:
    if sys.argv[1:2] in (["logs"], ["processes"]):
        file = Path(__file__).with_name(f"bench_growth_{sys.argv[1]}.py")
        sys.exit(subprocess.run([sys.executable, file, *sys.argv[2:]]).returncode)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["texts"])
    parser.add_argument("--sizes", help="comma-separated numbers of texts")
    parser.add_argument("--index", default="auto")
    parser.add_argument("--nprobe", type=int, help="lists of an IVF index that a query reads")
    parser.add_argument("--work", type=Path, help="folder for the working files; default: a temporary one")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return texts_worker(options.worker, options.work, options.index, options.nprobe)
    results = {}
    for size in map(int, (options.sizes or "50000,200000,500000,1000000").split(",")):
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            write_vectors(size, Path(work) / "vectors.npy")
            for file in ("config.json", "model.safetensors"):  # of a model, which is never loaded
                (Path(work) / file).write_text("{}")
            command = [
                sys.executable,
                __file__,
                "texts",
                "--worker",
                str(size),
                "--work",
                work,
                "--index",
                options.index,
            ]
            command += [] if options.nprobe is None else ["--nprobe", str(options.nprobe)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[size] = json.loads(done.stdout.splitlines()[-1])
    print_table(results)
    print(json.dumps(results))


def print_table(results: dict[int, dict[str, dict[str, float]]]) -> None:
    """A line a size and step; `growth` is the cost of an item relative to the size before."""
    before: dict[str, float] = {}
    print(f"{'size':>12} {'step':<28} {'CPU s':>9} {'µs/item':>9} {'growth':>7} {'peak MiB':>9} {'no file':>8}  other")
    for size, steps in results.items():
        for name, step in steps.items():
            each = step["cpu_s"] / size * 1e6
            growth = f"{each / before[name]:.2f}" if before.get(name) else ""
            other = {key: round(value, 4) for key, value in step.items() if key not in STANDARD}
            print(
                f"{size:>12,} {name:<28} {step['cpu_s']:>9.1f} {each:>9.1f} {growth:>7} {step['peak_mib']:>9.0f} "
                f"{step['anonymous_mib']:>8.0f}  {', '.join(f'{key} {value:,}' for key, value in other.items())}"
            )
            before[name] = each


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
