"""Kills runs at random moments, resumes them, and compares every file with a run that nobody killed.

    python tests/faults/kill_runs.py [--kills 20] [--seed 0]

Each trial starts a run of the small demo world from nothing, with cold caches; ends it with SIGKILL at a random moment
(in turn the pipeline and its kernel, the pipeline alone, the kernel alone) and gives the same command again. A table
shows when each was killed and which files differ from the unbroken run's. Exit status 1 if any does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bgetune.paths import ROOT

NAME = "kill_runs"
MODES = ("pipeline and kernel", "pipeline", "kernel")
UNEQUAL = {"started", "seconds", "mtime_ns", "pages", "milliseconds"}
"""Keys of a manifest that no two runs have in common: when, how long, and hashes of pages that show it."""
DURATION = re.compile(rb"\b[\d.,]+ ?(?:ms|s|seconds|milliseconds)\b|\d{4}-\d\d-\d\dT[\d:+]+")


def write_profile(folder: Path) -> Path:
    """The demo's profile on the small world."""
    text = (ROOT / "params/demo.yaml").read_text("utf-8").replace("demo://standard/", "demo://small/")
    file = folder / "profile.yaml"
    file.write_text(text.replace("name: demo", f"name: {NAME}").replace("max_texts: 200", "max_texts: 40"), "utf-8")
    return file


def start(profile: Path, cache: Path) -> subprocess.Popen:
    """The pipeline as its own process."""
    environment = os.environ | {"BGETUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bgetune.pipeline", str(profile)]
    log = (profile.parent / "log.txt").open("ab")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def kill(process: subprocess.Popen, mode: str) -> int:
    """Kill a pipeline, its kernel, or both; returns how many processes that were."""
    try:
        kernels = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return 0
    victims = {"pipeline": [], "kernel": kernels, "pipeline and kernel": kernels}[mode]
    if mode != "kernel":
        victims = [psutil.Process(process.pid), *victims]
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    return len(victims)


def finish(profile: Path, cache: Path) -> None:
    """Run to the end; the first failure may be that of a killed kernel."""
    process = start(profile, cache)
    if process.wait() != 0:
        raise SystemExit(f"the resumed run failed:\n{(profile.parent / 'log.txt').read_text('utf-8')}")


def contents(run_dir: Path) -> dict[str, str]:
    """Path -> hash of every file of a run, without what tells the time of day or how long something took."""
    found = {}
    for file in sorted(path for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock"):
        name, content = str(file.relative_to(run_dir)), file.read_bytes()
        if file.name == "manifest.json":
            content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
        elif file.suffix == ".ipynb":
            content = json.dumps(_outputs(json.loads(content)), sort_keys=True).encode()
        if file.suffix in (".html", ".ipynb"):
            content = DURATION.sub(b"TIME", content)
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in UNEQUAL}
    return value


def _outputs(notebook: dict) -> list:
    """What the cells of an executed notebook show; progress bars and logs (stderr) and widgets' numbers left out."""
    shown = []
    for cell in notebook["cells"]:
        outputs = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
        for output in outputs:
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        shown.append([cell["source"], outputs])
    return shown


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder to move the runs to; default: they are deleted")
    options = parser.parse_args()
    chosen = random.Random(options.seed)
    run_dir = ROOT / "runs" / NAME
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        profile = write_profile(folder)
        cold = folder / "cold"
        process = subprocess.Popen(
            [sys.executable, "-m", "bgetune.pipeline", str(profile), "--check"],
            env=os.environ | {"BGETUNE_CACHE": str(cold)},
        )
        process.wait()  # makes the demo world
        reference, whole = {}, 0.0
        failed = 0
        print(f"{'kill':>4} {'after':>6}  {'whom':<20} {'while':<26} files that differ", flush=True)
        for number in range(options.kills + 2):  # the first two are left alone: what differs there is no kill's doing
            shutil.rmtree(run_dir, ignore_errors=True)
            cache = folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            shutil.copytree(cold, cache)
            after, mode, doing = 0.0, "nobody", ""
            if number > 1:
                after, mode = chosen.uniform(0, whole), MODES[number % len(MODES)]
                process = start(profile, cache)
                time.sleep(after)
                if kill(process, mode) == 0:
                    mode = f"{mode}: not there"
                process.wait()
                log = (folder / "log.txt").read_text("utf-8").rstrip().splitlines() or [""]
                doing = next((line.split()[1] for line in reversed(log) if "running" in line), "before 01")
            (folder / "log.txt").unlink(missing_ok=True)
            begun = time.monotonic()
            finish(profile, cache)
            whole = whole or time.monotonic() - begun
            now = contents(run_dir)
            reference = reference or now
            wrong = differences(reference, now)
            failed += bool(wrong)
            print(f"{number - 1:>4} {after:>5.1f}s  {mode:<20} {doing:<26} {', '.join(wrong) or '-'}", flush=True)
            if options.keep:
                shutil.copytree(run_dir, options.keep / str(number), dirs_exist_ok=True)
            if left := sorted(str(path.relative_to(run_dir)) for path in run_dir.rglob(".*.part")):
                print(f"     left behind: {', '.join(left)}", flush=True)
        shutil.rmtree(run_dir, ignore_errors=True)
    print(f"{failed} of {options.kills} killed runs differ from the unbroken one; unbroken: {whole:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
