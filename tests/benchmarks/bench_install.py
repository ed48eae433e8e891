"""Follows the Dockerfile's steps in an empty folder and a fresh environment, without Docker; prints what they take.

    python tests/benchmarks/bench_install.py [--run runs/demo] [--own-index] [--python python3.12]

Copies what its COPY lines name, runs its `pip install` lines, starts the service as ENTRYPOINT and CMD say (on a free
port) until its HEALTHCHECK passes, and asks for a score. What needs Docker itself (base image, user) is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bgetune.paths import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo")
    parser.add_argument("--python", default=sys.executable, help="Python of the environment")
    parser.add_argument("--own-index", action="store_true", help="torch from pip's own index, too")
    options = parser.parse_args()
    steps = re.sub(r"\\\n", "", (ROOT / "Dockerfile").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        work, place = Path(folder) / "srv", Path(folder) / "venv"
        work.mkdir()
        subprocess.run([options.python, "-m", "venv", place], check=True)
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment |= {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "BGETUNE_CACHE": f"{folder}/cache"}
        begun = time.perf_counter()
        for word, rest in re.findall(r"^(COPY|RUN) (.*)$", steps, re.MULTILINE):
            if word == "COPY":
                *sources, target = rest.split()
                for name in sources:
                    copy(ROOT / name, work / target)
            elif rest.startswith("pip install"):
                command = re.sub(r"--index-url \S+ ", "", rest) if options.own_index else rest
                subprocess.run([*shlex.split(command), "--quiet"], cwd=work, env=environment, check=True)
        print(f"installed in {time.perf_counter() - begun:.0f} s")
        listed = subprocess.run(["pip", "list", "--format=json"], env=environment, capture_output=True, check=True)
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file() and not file.is_symlink())
        print(f"{len(json.loads(listed.stdout))} packages, {size / 2**20:,.0f} MiB")
        serve(steps, options.run, work, environment)


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy2(source, target)


def serve(steps: str, run: Path, work: Path, environment: dict[str, str]) -> None:
    """Start the service as the image does, wait for its health check, and ask for a score."""
    entry, arguments, health = (
        json.loads(re.search(rf"^{word} (?:.*CMD )?(\[.*\])$", steps, re.MULTILINE).group(1))
        for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK")
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [str(run.resolve()) if part == "/srv/run" else part for part in arguments]
    health = [part.replace(":8000/", f":{port}/") for part in health]
    begun = time.perf_counter()
    service = subprocess.Popen([*entry, *arguments, "--port", port], cwd=work, env=environment)
    try:
        while subprocess.run(health, env=environment, capture_output=True).returncode:
            if service.poll() is not None:
                sys.exit(f"the service ended with status {service.returncode}")
            time.sleep(0.2)
        print(f"healthy after {time.perf_counter() - begun:.1f} s")
        body = json.dumps({"queries": ["忘记密码"], "documents": ["怎么改密码"]}).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/score", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            print(f"first score {json.load(answer)['probabilities']} after {time.perf_counter() - begun:.1f} s")
    finally:
        service.terminate()
        print(f"ended with status {service.wait(60)}")


if __name__ == "__main__":
    main()
