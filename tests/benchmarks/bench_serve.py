"""Measures the service under load on the loopback, beside sentence-transformers in a plain FastAPI loop.

    python tests/benchmarks/bench_serve.py [--run runs/demo] [--clients 32] [--seconds 10]

Both serve the same tuned model, one text a request, to the same clients: alternately, three times each. Prints requests
a second and the median and 99th percentile of a request's time; the last line says what a shutdown under load lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import pandas as pd

from bgetune.paths import ROOT
from bgetune.runs.manifest import artifact_path

PLAIN = """
import sys
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu")
app = FastAPI()

class Body(BaseModel):
    texts: list[str]

@app.get("/health")
def health():
    return {}

@app.post("/embed")
def embed(body: Body):
    return {"vectors": model.encode(body.texts, normalize_embeddings=True, show_progress_bar=False).tolist()}

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


async def load(url: str, texts: list[str], clients: int, seconds: float) -> tuple[list[float], int]:
    """Seconds of each answered request, and how many were lost; a service that no longer listens ends a client."""
    times: list[float] = []
    lost = 0
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        nonlocal lost
        async with httpx.AsyncClient(timeout=60) as session:
            step = number
            while time.monotonic() < end:
                begun = time.perf_counter()
                try:
                    answer = await session.post(url, json={"texts": [texts[step % len(texts)]]})
                    answer.raise_for_status()
                    if answer.headers.get("connection") == "close":  # it ends: as a load balancer, ask elsewhere
                        return
                except httpx.ConnectError:
                    return
                except httpx.HTTPError:
                    lost += 1
                    return
                times.append(time.perf_counter() - begun)
                step += clients

    await asyncio.gather(*map(client, range(clients)))
    return times, lost


def start(command: list[str], port: int) -> subprocess.Popen:
    process = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    while process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health")
            return process
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"{command[2]} did not start")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    texts = pd.read_parquet(artifact_path(options.run, "texts"))["text"].tolist()
    model = artifact_path(options.run, "model")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.py"
        plain.write_text(PLAIN, "utf-8")
        ports = {"plain FastAPI loop": free_port(), "bgetune.serve": free_port()}
        services = {
            "plain FastAPI loop": [sys.executable, str(plain), str(model), str(ports["plain FastAPI loop"])],
            "bgetune.serve": [
                *(sys.executable, "-m", "bgetune.serve", str(options.run)),
                *("--device", "cpu", "--port", str(ports["bgetune.serve"])),
            ],
        }
        running = {name: start(command, ports[name]) for name, command in services.items()}
        print(f"{len(texts):,} texts, {options.clients} clients, {options.seconds:g} s each, one text a request")
        print(f"{'service':<20} {'requests/s':>10} {'p50 ms':>8} {'p99 ms':>8}")
        rates: dict[str, list[float]] = {name: [] for name in services}
        for _ in range(3):
            for name, port in ports.items():
                url = f"http://127.0.0.1:{port}/embed"
                times, _ = asyncio.run(load(url, texts, options.clients, options.seconds))
                rates[name].append(len(times) / options.seconds)
                p50, p99 = np.quantile(times, [0.5, 0.99]) * 1000
                print(f"{name:<20} {rates[name][-1]:>10.0f} {p50:>8.1f} {p99:>8.1f}", flush=True)
        means = {name: np.mean(rate) for name, rate in rates.items()}
        print(f"ratio {means['bgetune.serve'] / means['plain FastAPI loop']:.2f}")

        async def shutdown() -> tuple[list[float], int]:
            ends = asyncio.create_task(
                load(f"http://127.0.0.1:{ports['bgetune.serve']}/embed", texts, options.clients, 30)
            )
            await asyncio.sleep(2)
            running["bgetune.serve"].send_signal(signal.SIGTERM)
            return await ends

        times, lost = asyncio.run(shutdown())
        print(f"shutdown under load: {len(times)} answered, {lost} lost")
        for process in running.values():
            process.kill()


if __name__ == "__main__":
    main()
