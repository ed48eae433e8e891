"""What two processes of `launcher` gain over one, each with one thread, and whether they give the same.

    taskset -c 0,1 python tests/benchmarks/bench_growth_processes.py [--quick]

Encoding, reranking and training by the demo's small models; searching by two threads of FAISS, which divide the queries
among the cores as processes would. A line a task: wall seconds of one and of two, their ratio (2 at best) and what is
compared. Of the search these are the neighbours: products of matrices differ in the last bits with the threads, and so
may a list at the edge of those that are read. There are as many texts and pairs as two processes are started for;
--quick takes a quarter of them, in smaller blocks. The last line is one JSON object. Exit status 1 where any differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LOSS = 1e-5
"""How much the first losses of the training may differ."""

NEIGHBOURS = 0.9999
"""Minimum share of the neighbours that two threads find as well."""

SAME = {"search": f"at least {NEIGHBOURS:.2%} of the neighbours are the same", "training": "the first loss is the same"}
"""What is compared; of the others every bit."""


def timed(task: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    found = task()
    return time.perf_counter() - begun, found


def compared(one: Callable[[], Any], two: Callable[[], Any], same: Callable[[Any, Any], bool]) -> dict[str, Any]:
    """Run both ways."""
    (alone, expected), (together, found) = timed(one), timed(two)
    return {"one": alone, "two": together, "ratio": alone / together, "same": bool(same(expected, found))}


def encoding(folder: Path, quick: bool) -> dict[str, Any]:
    from bgetune.models import encoder, spread

    if quick:
        encoder.SHARD //= 4
    texts = [f"怎么查询第{number}号订单" for number in range(2 * spread.BLOCKS * encoder.SHARD + 1)]
    ways = [encoder.Encoder("demo://small/encoder", cache_dir=folder / f"e{p}", processes=p) for p in (1, 2)]
    return compared(*(lambda way=way: way.encode(texts, progress=False) for way in ways), np.array_equal)


def reranking(folder: Path, quick: bool) -> dict[str, Any]:
    from bgetune.models import reranker, spread

    if quick:
        reranker.BLOCK //= 4
    count = 2 * spread.BLOCKS * reranker.BLOCK + 1
    pairs = [(f"怎么查询第{number}号订单", f"第{number + 1}号订单在哪里") for number in range(count)]
    ways = [reranker.Reranker("demo://small/reranker", cache_dir=folder / f"r{p}", processes=p) for p in (1, 2)]
    return compared(*(lambda way=way: way.score(pairs, progress=False) for way in ways), np.array_equal)


def searching(quick: bool) -> dict[str, Any]:
    import faiss

    from bgetune.models.index import Index, recall

    rows = np.random.default_rng(0).standard_normal((20_000 if quick else 100_000, 128), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = Index(rows, "IVF256,Flat", search_params={"nprobe": 32}, cache_dir=None)

    def search(threads: int) -> tuple[np.ndarray, np.ndarray]:
        faiss.omp_set_num_threads(threads)
        return index.search(rows[:20_000], 100)

    found = compared(
        *(lambda number=number: search(number) for number in (1, 2)), lambda a, b: recall(b[1], a[1]) >= NEIGHBOURS
    )
    faiss.omp_set_num_threads(1)
    return found


def training(folder: Path, quick: bool) -> dict[str, Any]:
    """Two processes with half a batch each; without dropout, which draws other numbers in every process."""
    from bgetune.config.stages import Train
    from bgetune.models import hub
    from bgetune.training import TrainingSettings, train
    from bgetune.training.groups import Group

    base = folder / "base"
    shutil.copytree(hub.fetch("demo://small/encoder"), base)
    for file in base.rglob("config.json"):
        config = json.loads(file.read_text("utf-8"))
        if "hidden_dropout_prob" in config:
            config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            file.write_text(json.dumps(config), "utf-8")
    numbers = range(1_600 if quick else 6_400)
    groups = [Group(f"怎么查询第{n}号订单", (f"第{n}号订单在哪里",), (f"取消第{n}号订单",)) for n in numbers]
    texts = [(text, n) for n, group in enumerate(groups) for text in (group.query, *group.positives)]
    cluster_of = {group.negatives[0]: len(groups) + n for n, group in enumerate(groups)} | dict(texts)

    def losses(processes: int) -> np.ndarray:
        options = {"epochs": 1, "batch_size": 64 // processes, "max_length": 32, "device": "cpu", "negatives": 1}
        parameters = Train(model=str(base), launcher={"processes": processes}, **options)
        settings = TrainingSettings.of(parameters, epochs=1)
        return train(base, groups, cluster_of, settings, folder / f"t{processes}" / "c").log["loss"].dropna().to_numpy()

    return compared(lambda: losses(1), lambda: losses(2), lambda one, two: abs(one[0] - two[0]) <= LOSS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = {
            "encoding": encoding(folder, quick),
            "reranking": reranking(folder, quick),
            "search": searching(quick),
            "training": training(folder, quick),
        }
    print(f"{'':<10} {'one, s':>8} {'two, s':>8} {'ratio':>6}")
    for name, found in results.items():
        words = SAME.get(name, "bit-equal")
        print(
            f"{name:<10} {found['one']:>8.1f} {found['two']:>8.1f} {found['ratio']:>6.2f}  "
            f"{words if found['same'] else 'DIFFERENT'}"
        )
    print(json.dumps(results))
    return 0 if all(found["same"] for found in results.values()) else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
