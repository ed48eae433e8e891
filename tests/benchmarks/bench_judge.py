"""What a second opinion is worth: a language model reads the pairs of the demo that a reranker confirms or doubts.

    python tests/benchmarks/bench_judge.py [--pairs 300] [--noise 0 0.1 0.2]

The language model, at a local server, knows the world but for noise: of its answers, the share of the noise is wrong
and a twentieth is unsure. Two orders are asked, so errors must agree to count. Pairs are the nearest neighbours of
the base model. Prints the share of pairs of one meaning among those the reranker confirms (score .9 or more in both
directions) before and after the second opinion, what it costs, and how often its opinion is the truth; one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import pandas as pd
from known_world import KnownWorld, serve

from bgetune import paths
from bgetune.augment.judge import opinions
from bgetune.config.augmentation import Judge
from bgetune.data.draw import draw
from bgetune.data.text import text_id
from bgetune.graph import recall
from bgetune.models import Encoder, Reranker
from bgetune_demo import WORLDS
from bgetune_demo.world import make

BANDS = {"confirmed": (0.9, 1.01), "doubtful": (0.3, 0.9)}
"""Kind of pair -> reranker scores, the lower of both directions."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300, help="of each kind, at most")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.1, 0.2])
    options = parser.parse_args()
    os.environ["KNOWN_WORLD_KEY"] = "none"
    read = reranked(options.pairs)
    rows = [row for noise in options.noise for row in measure(read, noise)]
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    print(json.dumps(rows))


def reranked(most: int) -> pd.DataFrame:
    """a, b (texts), score, kind, same (whether they truly mean the same)."""
    world, tables = KnownWorld(), make(WORLDS["standard"])
    texts = sorted({text for found in (tables.queries, tables.titles) for of in found.values() for text in of})
    texts = sorted(texts, key=lambda text: draw(42, text))[:1500]
    table = pd.DataFrame({"text_id": map(text_id, texts), "text": texts})
    encoder = Encoder(paths.locate("demo://standard/encoder"), max_length=32, cache_dir=None)
    found = recall.propose(
        table["text_id"], encoder.encode(texts, progress=False), neighbors=3, similarity=0.0, seed=42
    )
    reranker = Reranker(paths.locate("demo://standard/reranker"), max_length=32, cache_dir=None)
    found = recall.rerank(found.assign(source="recall", support=1), table, reranker)
    text = table.set_index("text_id")["text"]
    found = found.assign(a=found["a_id"].map(text), b=found["b_id"].map(text))
    parts = []
    for kind, (low, high) in BANDS.items():
        some = found[(found["score"] >= low) & (found["score"] < high)]
        parts.append(some.sample(min(most, len(some)), random_state=42).assign(kind=kind))
    pairs = pd.concat(parts, ignore_index=True)
    return pairs.assign(
        same=[world.meaning(a) == world.meaning(b) for a, b in zip(pairs["a"], pairs["b"], strict=True)]
    )


def measure(read: pd.DataFrame, noise: float) -> list[dict]:
    """A row for each kind of pair."""
    server = serve(noise=noise, faults=0.02)
    settings = Judge(
        base_url=f"{server.url}/v1", model="known", key_variable="KNOWN_WORLD_KEY", max_requests=10**6, timeout=0.8
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ask = {"cache": Path(folder) / "judged.sqlite", "progress": False, "pause": 0.05}
        for kind, some in read.groupby("kind"):
            before = len(server.requests)
            opinion = pd.Series(opinions(list(zip(some["a"], some["b"], strict=True)), settings, **ask), some.index)
            sure = opinion.isin(["same", "different"])
            kept = opinion.isin(["same", "no answer"])
            rows.append(
                {
                    **{"noise": noise, "pairs": kind, "number": len(some), "truly_same": some["same"].mean()},
                    "truly_same_of_kept": some.loc[kept, "same"].mean(),
                    "same_pairs_lost": 1 - kept[some["same"]].mean(),
                    "doubtful": (opinion == "doubtful").mean(),
                    "agreement_where_sure": ((opinion == "same") == some["same"])[sure].mean(),
                    "requests": len(server.requests) - before,
                }
            )
    server.shutdown()
    server.server_close()
    return rows


if __name__ == "__main__":
    main()
