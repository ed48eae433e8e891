"""The demo run as a newcomer meets it: first run with nothing cached, second run with nothing changed.

    python tests/benchmarks/bench_demo.py [--quick]

Prints wall time, processor time and peak memory (all processes of the run together) of both, then the headline
numbers before and after fine-tuning; the last line is one JSON object. `--quick` times only a second run of the
run that is already there.
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

import psutil

from bgetune import paths
from bgetune.paths import ROOT
from bgetune.reports import verdict
from bgetune.runs import manifest

NAME = "bench_demo"
PROFILE = ROOT / "params/demo.yaml"


def timed(cache: str) -> dict[str, float]:
    """Run the demo once; seconds of wall and processor time, and the peak of the memory in use in MiB."""
    command = [sys.executable, "-m", "bgetune.pipeline", str(PROFILE), "--set", f"name={NAME}"]
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
    options = parser.parse_args()
    run_dir = ROOT / "runs" / NAME
    result = {}
    if options.quick and run_dir.exists():
        result["second"] = timed(str(paths.cache_root()))
    else:
        shutil.rmtree(run_dir, ignore_errors=True)
        with tempfile.TemporaryDirectory() as cache:
            result["first"] = timed(cache)
            result["second"] = timed(cache)
    for name, figures in result.items():
        print(
            f"{name:>7} run: {figures['wall_s']:7.1f} s wall {figures['cpu_s']:7.1f} s cpu {figures['peak_mib']:6} MiB"
        )
    metrics = manifest.read_manifest(run_dir)["stages"]["05_calibrate"]["metrics"]
    print(f"\n{'':28}before   after")
    for key in verdict.MEASURES:
        print(f"{key:28}{metrics['before'][key]:6.3f}  {metrics['after'][key]:6.3f}")
    result |= {"before": metrics["before"], "after": metrics["after"]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
