"""Seconds a training step takes, ours beside the plain trainer of sentence-transformers, in one run.

    python tests/benchmarks/bench_training.py [--quick]

Same texts, same loss, same batches, float32 and bfloat16. The pairs are bank questions where ../shared is there, else
those of the demo world. What training is worth is measured by `bench_separation.py`. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench_separation import plain_sentence_transformers, shared_settings
from separation_worlds import BATCH_SIZE, SHARED, Task, task


def bench_speed(quick: bool) -> dict[str, float]:
    """Processor seconds a step, ours over the plain trainer's, float32 and bfloat16, in turns in one process.

    Both train on the same pairs with the same loss: one positive, no hard negative, scale 20, neither symmetric nor
    spread.
    """
    import torch

    from bgetune.training.groups import Group

    name = "bank" if SHARED.is_dir() else "demo"
    job = task(name, quick)
    count = (20 if quick else 60) * BATCH_SIZE
    rows = [pair for pair in job.train if pair[2]][:count]
    job = replace(job, train=rows)
    groups = [Group(a, (b,)) for a, b, _ in rows]
    cluster_of = {text: i for i, text in enumerate(dict.fromkeys(t for pair in rows for t in pair[:2]))}
    seconds: dict[str, list[float]] = {}
    for turn in range(2 if quick else 4):
        for bfloat16 in (False, True):
            for who in ("plain", "ours"):
                with tempfile.TemporaryDirectory() as folder:
                    run = _plain_steps if who == "plain" else _our_steps
                    spent = run(job, groups, cluster_of, Path(folder), bfloat16)
                if turn:  # the first turn warms up
                    seconds.setdefault(f"{who} {'bfloat16' if bfloat16 else 'float32'}", []).append(spent)
    median = {who: statistics.median(values) for who, values in seconds.items()}
    return {
        **{f"seconds a step, {who}": value for who, value in median.items()},
        "ours over plain, float32": median["ours float32"] / median["plain float32"],
        "ours in bfloat16 over plain in float32": median["ours bfloat16"] / median["plain float32"],
        "ours over plain, bfloat16": median["ours bfloat16"] / median["plain bfloat16"],
        "threads": torch.get_num_threads(),
    }


def _plain_steps(job: Task, groups, cluster_of, folder: Path, bfloat16: bool) -> float:
    started = time.perf_counter()
    rows = [pair[:2] for pair in job.train]
    steps = -(-len(rows) // BATCH_SIZE)
    plain_sentence_transformers(job, rows, False, 0, folder, steps, bfloat16=bfloat16)
    return (time.perf_counter() - started) / steps


def _our_steps(job: Task, groups, cluster_of, folder: Path, bfloat16: bool) -> float:
    from bgetune.training import train

    settings = shared_settings(
        job, 42, bfloat16=bfloat16, epochs=1, symmetric=False, orthogonality_weight=0, negatives=0, eval_steps=10**6
    )
    started = time.perf_counter()
    trained = train(job.model, groups, cluster_of, settings, folder / "checkpoints")
    return (time.perf_counter() - started) / int(trained.log["step"].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps and turns")
    results = bench_speed(parser.parse_args().quick)
    print("\n" + "\n".join(f"{name:45} {value:.4g}" for name, value in results.items()))
    print(json.dumps(results))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
