"""How far documents alone get: the demo world cut to its documents, against the whole world with its logs.

    python tests/benchmarks/bench_cold_start.py [--seeds 42] [--arms parts denoised generated logs] [--world standard]
        [--without-reranker]

A quarter of the world's meanings is kept out of all data. What is left trains the demo's miniature four ways:

* parts: documents alone; their own parts are positives (no language model),
* denoised: the same after a warm-up by denoising on all documents (TSDAE),
* generated: documents alone; a language model at a local server, which knows the world but for noise, writes queries,
  near-misses and paraphrases, and queries are back-translated,
* logs: clicks, QA, synonyms, labelled pairs and documents, as in params/demo.yaml.

All are judged on the same pairs of the meanings kept out, by the truth: two wordings of one meaning, and for each
wording the texts of other meanings that the base model finds most similar. Prints AUC and average precision, the share
of the gain of the logs that each way reaches, and for what is judged by generated pairs, the true precision of the
threshold that promises 95 %. With --without-reranker no way has the demo's reranker, which knows its meanings nearly
perfectly. Every way trains for as many steps. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from known_world import KnownWorld, serve
from sklearn.metrics import average_precision_score, roc_auc_score

from bgetune import paths
from bgetune.data.draw import draw
from bgetune.metrics.statistics import bootstrap, interval
from bgetune.models import Encoder
from bgetune.paths import ROOT
from bgetune.runs import manifest
from bgetune_demo import WORLDS, World
from bgetune_demo.world import make

KEPT_OUT = 0.25
"""Share of the meanings that no training sees."""
VISITS = 5400
"""Groups that a training sees, epochs together: every way trains for as many steps as the logs in two epochs."""
PAIRS = 20
"""Positive pairs of a meaning, at most."""
ARMS = ["parts", "denoised", "generated", "logs"]
WARM_UP = 3
"""Passes over the documents in the warm-up of `denoised`."""
TEXT_COLUMNS = {
    "corpus": ["text"],
    "clicks": ["query", "title"],
    "qa": ["question", "answer"],
    "synonyms": ["words"],
    "pairs": ["text_a", "text_b"],
    "graded": ["query", "document"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--without-reranker", action="store_true")
    parser.add_argument("--noise", type=float, default=0.1, help="share of wrong texts of the language model")
    parser.add_argument("--world", choices=WORLDS, default="standard", help="small: a quick look")
    parser.add_argument("--keep", type=Path, help="folder for the runs; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).absolute()
        rows = [row for seed in options.seeds for row in measure(folder / str(seed), seed, options)]
    table = pd.DataFrame(rows)
    print(table.drop(columns=["auc_interval"]).round(3).to_string(index=False))
    print(json.dumps({"noise": options.noise, "rows": rows}))


def measure(folder: Path, seed: int, options: argparse.Namespace) -> list[dict]:
    """A row for each way."""
    world = KnownWorld(world=options.world)
    out = {name for name in world.meanings if draw(seed, "kept out", name) < KEPT_OUT}
    folder.mkdir(parents=True, exist_ok=True)
    files = cut(folder, world, out, options.world)
    base = Encoder(paths.locate(f"demo://{options.world}/encoder"), max_length=32, cache_dir=None)
    judged = pairs_of(out, base, seed, WORLDS[options.world])
    rows = [{"seed": seed, "way": "untuned", **separation(base, judged)}]
    for arm in options.arms:
        started = time.monotonic()
        run_dir, requests = tune(arm, folder, files, seed, options)
        encoder = Encoder(manifest.artifact_path(run_dir, "model"), max_length=32, cache_dir=None)
        row = {"seed": seed, "way": arm, **separation(encoder, judged)}
        row |= promised(run_dir, encoder, judged) | {"requests": requests, "seconds": round(time.monotonic() - started)}
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    gain = {row["way"]: row["auc"] - rows[0]["auc"] for row in rows}
    for row in rows:
        row["share_of_gain"] = gain[row["way"]] / gain["logs"] if "logs" in gain else None
    return rows


def cut(folder: Path, world: KnownWorld, out: set[str], name: str) -> dict[str, str]:
    """The demo's files without every row that holds a text of a meaning that is kept out."""
    files = {}
    for kind, columns in TEXT_COLUMNS.items():
        table = pd.read_csv(paths.locate(f"demo://{name}/{kind}.csv"), dtype=str, keep_default_na=False)
        cells = pd.unique(table[columns].to_numpy().ravel())
        gone = {cell for cell in cells if any(_id(world, text) in out for text in cell.split("|"))}
        file = folder / f"{kind}.csv"
        table[~table[columns].isin(gone).any(axis=1)].to_csv(file, index=False)
        files[kind] = str(file)
    return files


def _id(world: KnownWorld, text: str) -> str | None:
    meaning = world.meaning(text)
    return meaning.id if meaning else None


def tune(arm: str, folder: Path, files: dict[str, str], seed: int, options: argparse.Namespace) -> tuple[Path, int]:
    """Run the notebooks; the run's folder, and the number of requests to the language model."""
    text = (ROOT / "params/demo.yaml").read_text("utf-8").replace("demo://standard", f"demo://{options.world}")
    profile = yaml.safe_load(text)
    profile |= {"name": f"bench_cold_{arm}", "seed": seed}
    sources = profile["01_positives"]["sources"]
    for kind, file in files.items():
        sources[kind][0]["path"] = file
    if options.without_reranker:
        profile["reranker"] = None
    if arm == "denoised":
        profile["04_train"]["denoising_epochs"] = WARM_UP
    server = None
    environment = {**os.environ}
    if arm != "logs":
        profile["01_positives"]["sources"] = {"corpus": sources["corpus"]}
        del profile["truth"]
    if arm == "generated":
        server = serve(noise=options.noise, seed=seed, world=options.world)
        environment["KNOWN_WORLD_KEY"] = "none"
        generation = {"base_url": f"{server.url}/v1", "model": "known-world", "key_variable": "KNOWN_WORLD_KEY"}
        limits = {"max_requests": 20000, "concurrency": 8, "timeout": 0.8}
        profile["02_backtranslate"]["generation"] = {
            **generation,
            **limits,
            "queries": 3,
            "near_misses": 2,
            "paraphrases": 2,
        }
    file = folder / f"{arm}.yaml"
    file.write_text(yaml.safe_dump(profile, allow_unicode=True), "utf-8")
    run_dir = folder / arm
    try:
        for stage in ("01_positives", "02_backtranslate", "03_hard_negatives", "04_train", "05_calibrate"):
            notebook, target = ROOT / "notebooks" / f"{stage}.ipynb", folder / f"{arm}-{stage}.ipynb"
            if stage == "04_train":
                groups = sum(1 for _ in (run_dir / "03_hard_negatives/train.jsonl").open(encoding="utf-8"))
                profile["04_train"]["epochs"] = max(round(VISITS / groups), 1)
                file.write_text(yaml.safe_dump(profile, allow_unicode=True), "utf-8")
            run = f"import papermill; papermill.execute_notebook({str(notebook)!r}, {str(target)!r}, "
            run += f"parameters={{'profile': {str(file)!r}, 'run_dir': {str(run_dir)!r}}}, progress_bar=False)"
            subprocess.run([sys.executable, "-c", run], env=environment, check=True, stderr=subprocess.DEVNULL)
    finally:
        if server:
            server.shutdown()
            server.server_close()
    return run_dir, len(server.requests) if server else 0


def pairs_of(out: set[str], base: Encoder, seed: int, world: World) -> pd.DataFrame:
    """The pairs to judge on: a, b (texts), label, cluster (the meaning of a)."""
    tables = make(world)
    meanings = sorted(meaning for meaning in tables.queries if meaning.id in out)
    rows = []
    for meaning in meanings:
        queries, titles = tables.queries[meaning], tables.titles[meaning]
        found = [*combinations(queries, 2), *((query, title) for query in queries for title in titles)]
        found = sorted(found, key=lambda pair: draw(seed, *pair))[:PAIRS]
        rows += [(*pair, 1, meaning.id) for pair in found]
    texts = [(text, m.id) for m in meanings for text in (*tables.queries[m], *tables.titles[m])]
    vectors = base.encode([text for text, _ in texts], progress=False)
    place = {text: number for number, (text, _) in enumerate(texts)}
    home = np.array([meaning for _, meaning in texts])
    positives = pd.DataFrame(rows, columns=["a", "b", "label", "cluster"])
    asked = positives["a"].drop_duplicates()
    wanted = -(-len(positives) // len(asked))
    for text in asked:
        similar = vectors @ vectors[place[text]]
        similar[home == home[place[text]]] = -2
        nearest = np.argsort(-similar, kind="stable")[:wanted]
        rows += [(text, texts[number][0], 0, home[place[text]]) for number in nearest]
    return pd.DataFrame(rows, columns=["a", "b", "label", "cluster"])


def cosines(encoder: Encoder, judged: pd.DataFrame) -> np.ndarray:
    texts = pd.unique(judged[["a", "b"]].to_numpy().ravel())
    vectors = dict(zip(texts, encoder.encode(texts.tolist(), progress=False), strict=True))
    return np.array([vectors[a] @ vectors[b] for a, b in zip(judged["a"], judged["b"], strict=True)])


def separation(encoder: Encoder, judged: pd.DataFrame) -> dict:
    scores, labels = cosines(encoder, judged), judged["label"].to_numpy()

    def auc(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"auc": np.array([roc_auc_score(labels, scores, sample_weight=row) for row in weights])}

    return {
        "auc": float(roc_auc_score(labels, scores)),
        "auc_interval": interval(bootstrap(auc, judged["cluster"], 200)["auc"]),
        "average_precision": float(average_precision_score(labels, scores)),
        "pairs": len(judged),
    }


def promised(run_dir: Path, encoder: Encoder, judged: pd.DataFrame) -> dict:
    """What the run says of itself, and what its threshold for 95 % is truly worth on these pairs."""
    settings = json.loads(manifest.artifact_path(run_dir, "scoring.json").read_text("utf-8"))
    (row,) = [row for row in settings["thresholds"]["precision"] if row["precision"] == 0.95]
    found = {"judged_by": settings["data"]["pairs"], "own_auc": settings["test"]["auc"]}
    if row["threshold"] is None:
        return found | {"precision_at_95": None, "recall_at_95": None}
    above, labels = cosines(encoder, judged) >= row["threshold"], judged["label"].to_numpy()
    return found | {"precision_at_95": float(labels[above].mean()), "recall_at_95": float(above[labels == 1].mean())}


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
