"""The demo run as a newcomer meets it: first run with nothing cached, second run with nothing changed.

    python tests/benchmarks/bench_demo.py [--quick] [--seeds 42 43 44]

Prints wall time, processor time and peak memory (all processes of the run together) of both, then the headline
numbers before and after fine-tuning; the last line is one JSON object. `--quick` times only a second run of the
run that is already there. `--seeds` runs the demo once a seed instead, with the caches that are there, and prints the
range of each number: what README says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import psutil

from bgetune import paths
from bgetune.paths import ROOT
from bgetune.reports import verdict
from bgetune.runs import manifest

NAME = "bench_demo"
PROFILE = ROOT / "params/demo.yaml"


def timed(cache: str, *more: str) -> dict[str, float]:
    """Run the demo once; seconds of wall and processor time, and the peak of the memory in use in MiB."""
    command = [sys.executable, "-m", "bgetune.pipeline", str(PROFILE), "--set", f"name={NAME}", *more]
    started = time.monotonic()
    process = psutil.Popen(command, env={**os.environ, "BGETUNE_CACHE": cache}, stdout=subprocess.DEVNULL)
    peak, cpu = 0, {}
    while process.poll() is None:
        memory = 0
        for member in [process, *process.children(recursive=True)]:
            try:
                memory += member.memory_full_info().pss
                times = member.cpu_times()
                cpu[member.pid] = times.user + times.system
            except psutil.Error:  # it ended while we looked
                continue
        peak = max(peak, memory)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"the demo failed with status {process.returncode}")
    return {
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(sum(cpu.values()), 1),
        "peak_mib": round(peak / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only a second run, of runs/bench_demo as it is")
    parser.add_argument("--seeds", type=int, nargs="+", help="a run a seed, and the range of each number")
    options = parser.parse_args()
    run_dir = ROOT / "runs" / NAME
    result: dict[str, Any] = {}
    if options.seeds:
        shutil.rmtree(run_dir, ignore_errors=True)
        result["seeds"] = timed(str(paths.cache_root()), "--set", f"seed={options.seeds}")
        folders = [run_dir / f"seed={seed}" for seed in options.seeds] if len(options.seeds) > 1 else [run_dir]
    elif options.quick and run_dir.exists():
        result["second"], folders = timed(str(paths.cache_root())), [run_dir]
    else:
        shutil.rmtree(run_dir, ignore_errors=True)
        with tempfile.TemporaryDirectory() as cache:
            result["first"] = timed(cache)
            result["second"], folders = timed(cache), [run_dir]
    for name, figures in result.items():
        print(
            f"{name:>7} run: {figures['wall_s']:7.1f} s wall {figures['cpu_s']:7.1f} s cpu {figures['peak_mib']:6} MiB"
        )
    found = [manifest.read_manifest(folder)["stages"]["05_calibrate"]["metrics"] for folder in folders]
    print(f"\n{'':28}{'before':>15}{'after':>15}")
    for key in verdict.MEASURES | verdict.CONTEXT:
        values = [ranged([metrics[model][key] for metrics in found]) for model in ("before", "after")]
        print(f"{key:28}{values[0]:>15}{values[1]:>15}")
    result |= {model: [metrics[model] for metrics in found] for model in ("before", "after")}
    print(json.dumps(result))


def ranged(values: list[float]) -> str:
    """One number, or from the smallest to the largest."""
    low, high = (f"{bound:.3f}" for bound in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    main()
