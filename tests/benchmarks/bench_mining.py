"""Hard-negative mining: ours beside FlagEmbedding's and sentence-transformers', in one run.

    python tests/benchmarks/bench_mining.py [--quick] [--only truth,order,speed,index]

truth: false negatives by the demo world's known meanings, over the positives that notebook 01 mines from its log. The
peers get them as their documentation says: a row a pair, so that a query stands on many rows. order: the same bytes
from shuffled files. speed: load, encode, search, filter and write of the real sets in ../shared/data, each
in a process of its own, its imports included. index: a million synthetic vectors. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
MODEL = SHARED / "models" / "zh-mini"
RANGE, NEGATIVES = (10, 210), 7  # of FlagEmbedding's documentation


# --- the peers ----------------------------------------------------------------------------------------------------


def mine_flagembedding(rows: list[tuple[str, str]], corpus: list[str], model: str) -> list[dict]:
    """The algorithm of FlagEmbedding's scripts/hn_mine.py (the wheel does not carry it) around its own FlagModel."""
    import faiss
    import numpy as np
    from FlagEmbedding import FlagModel

    lengths = {"query_max_length": 128, "passage_max_length": 128}  # a longer text than a model takes ends in an error
    encoder = FlagModel(model, pooling_method="cls", use_fp16=False, devices="cpu", **lengths)
    corpus = list(set(corpus))
    passages = np.asarray(encoder.encode(corpus), dtype=np.float32)
    queries = np.asarray(encoder.encode_queries([query for query, _ in rows]), dtype=np.float32)
    index = faiss.IndexFlatIP(passages.shape[1])
    index.add(passages)
    _, nearest = index.search(queries, min(RANGE[1], len(corpus)))
    rng = random.Random(42)
    mined = []
    for (query, positive), row in zip(rows, nearest, strict=True):
        found = [corpus[i] for i in row[RANGE[0] : RANGE[1]] if corpus[i] not in (query, positive)]
        negatives = rng.sample(found, NEGATIVES) if len(found) > NEGATIVES else found
        if len(negatives) < NEGATIVES:
            negatives += [text for text in rng.sample(corpus, NEGATIVES + 1) if text != positive]
        mined.append({"query": query, "pos": [positive], "neg": negatives[:NEGATIVES]})
    return mined


def mine_sentence_transformers(rows: list[tuple[str, str]], corpus: list[str], model: str) -> list[dict]:
    """`mine_hard_negatives` with its documented margin."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    data = Dataset.from_dict({"anchor": [a for a, _ in rows], "positive": [b for _, b in rows]})
    encoder = SentenceTransformer(model, device="cpu")
    options = {"relative_margin": 0.05, "num_negatives": 5, "range_max": 100, "output_format": "triplet"}
    mined = mine_hard_negatives(data, encoder, corpus=corpus, verbose=False, **options)
    return [{"query": r["anchor"], "pos": [r["positive"]], "neg": [r["negative"]]} for r in mined]


def mine_ours(
    rows: list[tuple[str, str]], corpus: list[str], model: str, precision: str, cache: str | None
) -> list[dict]:
    """The miner of notebook 03, without a reranker as the peers have none."""
    import pandas as pd

    from bgetune.data.text import text_id
    from bgetune.models.encoder import Encoder
    from bgetune.negatives import groups, mining
    from bgetune.negatives.corpus import Corpus

    texts = sorted({*corpus, *(text for row in rows for text in row)})
    ids = {text: text_id(text) for text in texts}
    table = pd.DataFrame({"text_id": ids.values(), "text": texts, "kind": "query", "count": 1})
    pairs = {tuple(sorted((ids[a], ids[b]))) for a, b in rows if a != b}
    edges = pd.DataFrame(sorted(pairs), columns=["a_id", "b_id"]).assign(source="given", support=1, weight=1.0)
    clusters = pd.DataFrame({"text_id": sorted({name for pair in pairs for name in pair})})
    clusters = clusters.assign(cluster_id=_components(clusters["text_id"], pairs), split="train")
    data = Corpus.of(table, edges, clusters)
    mined = mining.mine(data, Encoder(model, precision=precision, cache_dir=cache))
    return groups.training_groups(data, mined, max_positives=10).to_dict("records")


def _components(names, pairs) -> list[str]:
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for a, b in sorted(pairs):
        parent[root(b)] = root(a)
    return [root(name) for name in names]


# --- truth --------------------------------------------------------------------------------------------------------


def bench_truth(work: Path, quick: bool, run_dir: Path | None, profile: Path | None) -> dict:
    """False negatives among the negatives, by known meanings, and how hard they are."""
    import pandas as pd

    from bgetune.config.profile import load_profile, resolve
    from bgetune.data.text import STANDARD
    from bgetune.metrics.truth import read_truth
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker
    from bgetune.negatives import groups, mining
    from bgetune.negatives.corpus import Corpus
    from bgetune.paths import locate
    from bgetune.runs.manifest import artifact_path

    if profile is None:
        profile = _demo_profile(work, "small" if quick else "standard")
    if run_dir is None:
        run_dir = _positives(profile)
    tables = {name: pd.read_parquet(artifact_path(run_dir, name)) for name in TABLES}
    params, _ = resolve("03_hard_negatives", load_profile(profile))
    meanings = read_truth(locate(params.truth), STANDARD)
    data = Corpus.of(**tables)
    encoder, model = Encoder(params.model, max_length=params.max_length), str(locate(params.model))
    reranker = Reranker(params.reranker, max_length=params.max_length)
    rules = _rules(params)

    inside = data.split == "train"
    pairs = data.positives
    pairs = pairs[inside[pairs["anchor"]] & inside[pairs["positive"]]]
    rows = list(zip(data.text[pairs["anchor"]], data.text[pairs["positive"]], strict=True))
    corpus = data.text[inside].tolist()
    peers = {
        "FlagEmbedding hn_mine": mine_flagembedding(rows, corpus, model),
        "sentence-transformers margin": mine_sentence_transformers(rows, corpus, model),
    }
    alone = mining.mine(data, encoder, rules=rules)
    ours = {
        "bgetune": _mined_groups(tables, encoder, reranker, rules).to_dict("records"),
        "bgetune without reranker": groups.training_groups(data, alone, max_positives=10).to_dict("records"),
    }
    asked = set(data.text[pairs["anchor"]])
    return {name: _quality(mined, meanings, encoder, asked) for name, mined in (peers | ours).items()}


TABLES = ("texts", "edges", "clusters", "graded")


def _rules(params):
    """The mining rules among the parameters of notebook 03."""
    from bgetune.negatives.rules import Rules

    return Rules(**{field.name: getattr(params, field.name) for field in fields(Rules)})


def _demo_profile(work: Path, world: str, name: str = "demo") -> Path:
    """The demo's profile for another world, in a folder of its own."""
    folder = work / f"{name}-{world}"
    folder.mkdir(exist_ok=True)
    text = (ROOT / "params" / "demo.yaml").read_text("utf-8")
    (folder / "bench.yaml").write_text(text.replace("demo://standard", f"demo://{world}"), "utf-8")
    return folder / "bench.yaml"


def _positives(profile: Path) -> Path:
    """The folder of a run of notebook 01, beside the profile; made once."""
    import papermill

    run_dir = profile.with_name("run")
    if not run_dir.exists():
        notebook = ROOT / "notebooks" / "01_positives.ipynb"
        options = {"profile": str(profile), "run_dir": str(run_dir)}
        papermill.execute_notebook(notebook, profile.with_name("out.ipynb"), options, progress_bar=False)
    return run_dir


def _mined_groups(tables: dict, encoder, reranker, rules):
    """What notebook 03 does with the tables of notebook 01: the table `groups`."""
    from bgetune.graph.promote import promote
    from bgetune.negatives import groups, mining, promotion
    from bgetune.negatives.corpus import Corpus

    corpus = Corpus.of(**tables)
    missed = promotion.missed_positives(corpus, mining.mine(corpus, encoder, reranker, rules))
    edges, clusters, _ = promote(tables["edges"], tables["clusters"], missed, {}, tables["graded"])
    corpus = Corpus.of(tables["texts"], edges, clusters, tables["graded"])
    mined = mining.mine(corpus, encoder, reranker, rules)
    return groups.training_groups(corpus, mined, reranker, max_positives=10)


def _quality(rows: list[dict], meanings, encoder, asked: set[str]) -> dict:
    import numpy as np
    import pandas as pd

    from bgetune.data.text import text_id
    from bgetune.metrics.truth import same_meaning

    pairs = [(row["query"], text) for row in rows for text in row["neg"]]
    ids = pd.DataFrame(pairs, columns=["a", "b"]).map(text_id)
    left, right = (encoder.encode([pair[side] for pair in pairs], progress=False) for side in (0, 1))
    served = {row["query"] for row in rows if row["neg"]}
    return {
        "false_negatives": float(same_meaning(ids["a"], ids["b"], meanings).mean()),
        "similarity": float(np.einsum("pd,pd->p", left, right).mean()),
        "negatives": len(pairs),
        "queries_served": len(served & asked) / len(asked),
    }


# --- order --------------------------------------------------------------------------------------------------------


def bench_order(work: Path) -> dict:
    """train.jsonl of the small world from its files, and from copies of them with their lines shuffled."""
    import pandas as pd

    from bgetune.config.profile import load_profile, resolve
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker
    from bgetune.negatives import groups
    from bgetune.runs.manifest import artifact_path

    written = []
    for name in ("demo", "shuffled"):
        profile = _demo_profile(work, "small", name)
        if name == "shuffled":
            _shuffle_sources(profile)
        run_dir = _positives(profile)
        tables = {table: pd.read_parquet(artifact_path(run_dir, table)) for table in TABLES}
        params, _ = resolve("03_hard_negatives", load_profile(profile))
        options = {"max_length": params.max_length, "cache_dir": None}
        encoder, reranker = Encoder(params.model, **options), Reranker(params.reranker, **options)
        rules = _rules(params)
        groups.write_jsonl(_mined_groups(tables, encoder, reranker, rules), profile.with_name("train.jsonl"))
        written.append(profile.with_name("train.jsonl").read_bytes())
    return {"groups": written[0].count(b"\n"), "same bytes from shuffled files": written[0] == written[1]}


def _shuffle_sources(profile: Path) -> None:
    """Let a profile of the demo read copies of its files with their lines in another order."""
    from bgetune.paths import locate

    text = profile.read_text("utf-8")
    for source in sorted(set(re.findall(r"path: (demo://\S+)", text))):
        head, *lines = locate(source).read_text("utf-8").splitlines(keepends=True)
        random.Random(42).shuffle(lines)
        copy = profile.with_name(source.rsplit("/", 1)[-1])
        copy.write_text("".join([head, *lines]), "utf-8")
        text = text.replace(f"path: {source}", f"path: {copy}")
    profile.write_text(text, "utf-8")


# --- speed --------------------------------------------------------------------------------------------------------


SETS = ["bank", "sogou"]


def real_set(name: str, quick: bool) -> tuple[list[tuple[str, str]], list[str]]:
    """(rows of a query and a positive, corpus) of the bank questions or of the search engine's titles."""
    data = SHARED / "data"
    if name == "bank":
        files = ("bank_ccks_extra", "bq_dev")
        read = {file: [line.split("\t") for line in _lines(data / f"{file}.tsv.gz")[1:]] for file in files}
        rows = [(a, b) for a, b, label in read["bank_ccks_extra"] if label.strip() == "1"]
        corpus = sorted({text for lines in read.values() for line in lines for text in line[:2]})
    else:
        titles, queries = (
            {row["_id"]: row["text"] for row in map(json.loads, _lines(data / f"sogou_qt_{part}.jsonl.gz"))}
            for part in ("corpus", "queries")
        )
        qrels = [line.split() for line in _lines(data / "sogou_qt_qrels.tsv.gz")[1:]]
        rows = [(queries[q], titles[d]) for q, d, score in qrels if int(score) >= 2]
        corpus = sorted(set(titles.values()))
    return (rows[:500], corpus[:3000]) if quick else (rows, corpus)


def _lines(file: Path) -> list[str]:
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def worker(who: str, name: str, quick: bool, cache: str | None) -> None:
    """One mining, from the first import to the written file; prints wall and CPU seconds, the latter of all cores."""
    start = time.perf_counter()
    rows, corpus = real_set(name, quick)
    if who.startswith("bgetune"):
        mined = mine_ours(rows, corpus, str(MODEL), "auto" if "auto" in who else "float32", cache)
    else:
        miner = mine_flagembedding if who == "FlagEmbedding" else mine_sentence_transformers
        mined = miner(rows, corpus, str(MODEL))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in mined)
    seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time()}
    print(json.dumps(seconds | {"groups": len(mined), "peak_mib": _memory_mib("self", "VmHWM")}))


def bench_speed(names: list[str], quick: bool) -> dict:
    results = {}
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            for who in ("FlagEmbedding", "sentence-transformers", "bgetune", "bgetune auto", "bgetune warm"):
                # the warm run finds what the float32 run left
                folder = cache if who in ("bgetune", "bgetune warm") else f"{cache}-{who.split()[-1]}"
                command = [sys.executable, __file__, "--worker", who, "--set", name, "--cache", folder]
                done = subprocess.run(command + ["--quick"] * quick, capture_output=True, text=True, check=True)
                results[f"{name}: {who}"] = json.loads(done.stdout.strip().splitlines()[-1])
        results[f"{name}: top-20 overlap of auto with exact float32"] = _overlap(name, quick)
    return results


def _overlap(name: str, quick: bool) -> float:
    from bgetune.models.encoder import Encoder
    from bgetune.models.index import recall, search

    corpus = real_set(name, quick)[1]
    exact, fast = (Encoder(MODEL, precision=p, cache_dir=None).encode(corpus) for p in ("float32", "auto"))
    sample = slice(0, 2000)
    return recall(search(fast[sample], fast, 20)[1], search(exact[sample], exact, 20)[1])


# --- index --------------------------------------------------------------------------------------------------------


INDEXES = {"Flat": {}, "IVF1024,Flat": {"nprobe": 32}, "HNSW16": {"efSearch": 128}}
"""factory -> search parameters."""

DIMENSION, QUERIES, MEMORY = 64, 1000, 128


def bench_index(quick: bool) -> dict:
    """Clustered synthetic vectors: seconds to build, milliseconds a query, recall@20, memory; a process an index.

    peak_mib is memory of the process's own, without the pages of the mapped corpus, which the system takes back when it
    needs them; of which memory_mb bounds what is not the libraries' and the index's.
    """
    import numpy as np

    count = 40_000 if quick else 1_000_000
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        _write_vectors(Path(folder) / "corpus.npy", count)
        for factory in INDEXES:
            command = [sys.executable, __file__, "--index", factory, "--folder", folder]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            peak = 0
            while process.poll() is None:
                peak = max(peak, _memory_mib(process.pid, "RssAnon"))
                time.sleep(0.02)
            if process.returncode:
                raise SystemExit(f"{factory}: the process ended with {process.returncode}")
            results[factory] = json.loads(process.stdout.read().splitlines()[-1]) | {"peak_mib": peak}
    results["corpus_mib"] = count * DIMENSION * np.dtype(np.float32).itemsize // 2**20
    return results


def _write_vectors(file: Path, count: int) -> None:
    import numpy as np

    rng = np.random.default_rng(42)
    centres = rng.normal(size=(2000, DIMENSION)).astype(np.float32)
    corpus = np.lib.format.open_memmap(file, "w+", np.float32, (count, DIMENSION))
    step = 20_000
    for start in range(0, count, step):
        part = centres[rng.integers(2000, size=step)]
        part = part + 0.6 * rng.standard_normal((step, DIMENSION), dtype=np.float32)
        corpus[start : start + step] = part / np.linalg.norm(part, axis=1, keepdims=True)


def _memory_mib(process: int | str, kind: str) -> int:
    """Resident memory of a process, of a kind that proc(5) names, in MiB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) // 1024


def index_worker(factory: str, folder: Path) -> None:
    """Build and search one index; the exact one leaves its neighbours for the others' recall."""
    import numpy as np

    from bgetune.models import index

    corpus = np.load(folder / "corpus.npy", mmap_mode="r")
    queries = np.array(corpus[np.random.default_rng(7).choice(len(corpus), QUERIES, replace=False)])
    start = time.perf_counter()
    made = index.Index(corpus, factory, search_params=INDEXES[factory], memory_mb=MEMORY, cache_dir=None)
    built = time.perf_counter()
    positions = made.search(queries, 20)[1]
    seconds = time.perf_counter() - built
    if factory == "Flat":
        np.save(folder / "exact.npy", positions)
    recall = index.recall(positions, np.load(folder / "exact.npy"))
    values = {"build_seconds": built - start, "ms_per_query": seconds * 1000 / QUERIES, "recall@20": recall}
    print(json.dumps(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, under a minute once the demo is made")
    parser.add_argument("--only", default="truth,order,speed,index")
    parser.add_argument("--profile", type=Path, help="of the run that truth measures; default: the demo's")
    parser.add_argument("--run", type=Path, help="a run whose 01_positives is there already")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--set", choices=SETS, help="one of the real sets of speed; default: both, quick: bank")
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    parser.add_argument("--index", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.index:
        return index_worker(options.index, options.folder)
    if options.worker:
        return worker(options.worker, options.set, options.quick, options.cache)
    wanted, results = options.only.split(","), {}
    with tempfile.TemporaryDirectory() as work:
        if "truth" in wanted:
            results["truth"] = bench_truth(Path(work), options.quick, options.run, options.profile)
        if "order" in wanted:
            results["order"] = bench_order(Path(work))
    if "speed" in wanted and SHARED.is_dir():
        sets = SETS[:1] if options.quick else SETS
        results["speed"] = bench_speed([options.set] if options.set else sets, options.quick)
    if "index" in wanted:
        results["index"] = bench_index(options.quick)
    for part, rows in results.items():
        print(f"\n{part}")
        for name, row in rows.items():
            values = row if isinstance(row, dict) else {"": row}
            print(f"  {name:45s}", "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
    print(json.dumps(results))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
