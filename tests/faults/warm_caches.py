"""Runs a profile of two rounds with cold caches and with caches that another run filled, and compares every file.

    python tests/faults/warm_caches.py [--keep FOLDER]

The other run has another seed and half of the sources' rows, so that the same texts lie in other batches. A table shows
which files differ. Exit status 1 if any does.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from kill_runs import NAME, contents, differences, start, write_profile

from bgetune.paths import ROOT, cache_root

OTHER = ("--set", "01_positives.sample_fraction=0.5", "--set", "seed=7")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="folder to copy the runs to; default: they are deleted")
    options = parser.parse_args()
    run_dir = ROOT / "runs" / NAME
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        profile, cold, warm = write_profile(folder), folder / "cold", folder / "warm"
        for demo in ("data/demo", "models/demo"):  # minutes, where they were made before
            if (cache_root() / demo).is_dir():
                shutil.copytree(cache_root() / demo, cold / demo)

        def run(cache: Path, *options: str) -> dict[str, str]:
            shutil.rmtree(run_dir, ignore_errors=True)
            if start(profile, cache, *options).wait() != 0:
                raise SystemExit((folder / "log.txt").read_text("utf-8"))
            return contents(run_dir)

        run(cold, "--check")  # makes what is missing of the demo world
        shutil.copytree(cold, warm)
        found = {}
        for name, cache in {"cold": cold, "warm": warm}.items():
            if name == "warm":
                run(warm, *OTHER)
                print("filled the caches by another run", flush=True)
            found[name] = run(cache, "--set", "rounds=2")
            print(f"{name}: {len(found[name])} files", flush=True)
            if options.keep:
                shutil.copytree(run_dir, options.keep / name, dirs_exist_ok=True)
        shutil.rmtree(run_dir, ignore_errors=True)
    wrong = differences(*found.values())
    print(f"{len(wrong)} files differ: {', '.join(wrong) or '-'}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
