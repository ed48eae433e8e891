"""Kills runs at random moments, resumes them, and compares every file with a run that nobody killed.

    python tests/faults/kill_runs.py [--kills 20] [--each 4] [--seed 0]

Each trial starts a run of the small demo world from nothing, with cold caches, ends it with SIGKILL at a random moment
(in turn the pipeline and its kernel, the pipeline alone, the kernel alone), gives the same command again, and so on;
after some kills it lets the run finish. A table shows when each kill came, and at the end of a trial which files differ
from those of an unbroken run. Exit status 1 if any does.
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

from bgetune.paths import ROOT, cache_root

NAME = "kill_runs"
MODES = ("pipeline and kernel", "pipeline", "kernel")
INDEX = "  index: IVF8,Flat\n  search_params: {nprobe: 4}\n"
UNEQUAL = {"started", "seconds", "mtime_ns", "pages", "milliseconds", "ms a pair", "ms a query"}
"""Keys of a manifest that no two runs have in common: when, how long, and hashes of pages that show it."""
DURATION = re.compile(
    rb"\b[\d.,]+ ?(?:ms|s|seconds|milliseconds)\b|\d{4}-\d\d-\d\d[T ][\d:+]+|(?<=\"seconds\">)[\d.,]+"
)


def write_profile(folder: Path) -> Path:
    """The demo's profile on the small world, searched by indexes on disk as a large corpus is."""
    text = (ROOT / "params/demo.yaml").read_text("utf-8").replace("demo://standard/", "demo://small/")
    text = text.replace("01_positives:", f"01_positives:\n{INDEX}") + f"03_hard_negatives:\n{INDEX}"
    file = folder / "profile.yaml"
    file.write_text(text.replace("name: demo", f"name: {NAME}").replace("max_texts: 200", "max_texts: 40"), "utf-8")
    return file


def start(profile: Path, cache: Path, *options: str) -> subprocess.Popen:
    """The pipeline as a process of its own; it writes to log.txt beside the profile."""
    environment = os.environ | {"BGETUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bgetune.pipeline", str(profile), *options]
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
    parser.add_argument("--each", type=int, default=4, help="kills of one run before it may finish")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder to copy the runs to; default: they are deleted")
    options = parser.parse_args()
    chosen = random.Random(options.seed)
    run_dir = ROOT / "runs" / NAME
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        profile, cold, cache = write_profile(folder), folder / "cold", folder / "cache"
        for demo in ("data/demo", "models/demo"):  # minutes, where they were made before
            if (cache_root() / demo).is_dir():
                shutil.copytree(cache_root() / demo, cold / demo)
        if start(profile, cold, "--check").wait() != 0:  # makes what is missing of the demo world
            raise SystemExit((folder / "log.txt").read_text("utf-8"))
        reference, whole, failed, kills = {}, 0.0, 0, 0
        print(f"{'kill':>4} {'after':>7}  {'whom':<20} {'while':<20} files that differ at the end", flush=True)
        for trial in range(2 + -(-options.kills // options.each)):
            for left in (run_dir, cache):
                shutil.rmtree(left, ignore_errors=True)
            shutil.copytree(cold, cache)
            # the first two runs are left alone: what differs between them is no kill's doing
            for _ in range(min(options.each, options.kills - kills) if trial > 1 else 0):
                (folder / "log.txt").unlink(missing_ok=True)
                after, mode = chosen.uniform(0, whole / 2), MODES[kills % len(MODES)]
                process = start(profile, cache)
                time.sleep(after)
                killed = kill(process, mode)
                process.wait()
                kills += 1
                log = (folder / "log.txt").read_text("utf-8").splitlines()
                doing = next((line.split()[1] for line in reversed(log) if "running" in line), "before a notebook")
                print(f"{kills:>4} {after:>6.1f}s  {mode:<20} {doing if killed else 'nothing there':<20}", flush=True)
            begun = time.monotonic()
            finish(profile, cache)
            whole = whole or time.monotonic() - begun
            now = contents(run_dir)
            reference = reference or now
            wrong = differences(reference, now)
            failed += bool(wrong)
            print(
                f"{'':>4} {'end':>7}  {'' if trial > 1 else 'nobody':<20} {'':<20} {', '.join(wrong) or '-'}",
                flush=True,
            )
            if options.keep:
                shutil.copytree(run_dir, options.keep / str(trial), dirs_exist_ok=True)
        shutil.rmtree(run_dir, ignore_errors=True)
    print(f"{kills} kills; {failed} runs differ from the first, unbroken one, which took {whole:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
