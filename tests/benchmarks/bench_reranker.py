"""Is tuning the reranker worth it? Untuned and tuned reranker, tuned encoder, and encoder and reranker together.

    python tests/benchmarks/bench_reranker.py [--quick] [--worlds demo,bank,e5] [--seeds 42 43] [--pairs N]
        [--base FOLDER] [--tuned FOLDER] [--set 04_train.reranker_epochs=3 ...]

Worlds. demo: the whole pipeline with `tune_reranker`, from the demo's profile and its miniatures. bank: labelled
questions of a bank, trained on one set, judged on half of another; encoder zh-mini, reranker zh-mini with a new head,
which was never trained on pairs before, or with --base that of another encoder; --tuned takes a reranker that was tuned
on these pairs before. e5: the same with multilingual-e5-small (its folder in E5). Both models of the
last two train on the same pairs; they need ../shared, third-party data that is not part of the repository. Prints, for
each world, MRR@10 of the search results, AUC and average precision of the test pairs with the 95 % interval of the gain
over the tuned encoder, and milliseconds for a pair; the last line is one JSON object. MRR@10 counts what is in a known
pair with the query; for the demo, `true_mrr` counts every text of the query's meaning.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bench_separation import bgetune as tune_encoder, prepared
from separation_worlds import MAX_LENGTH, SHARED, Task, task

from bgetune.paths import ROOT

NAME = "bench_reranker"
QUERIES, TOP = 300, 10
COLUMNS = ["scored by", "mrr", "true_mrr", "auc", "average_precision", "average_precision_gain_low"]
COLUMNS += ["average_precision_gain_high", "ms a pair"]


def demo(quick: bool, seed: int, chosen: list[str]) -> list[dict[str, Any]]:
    """The demo's own run with `tune_reranker`: what 05_calibrate recorded of its scores."""
    from bgetune import pipeline
    from bgetune.runs import manifest

    text = (ROOT / "params/demo.yaml").read_text("utf-8").replace("name: demo", f"name: {NAME}")
    if quick:
        text = text.replace("demo://standard/", "demo://small/").replace("max_texts: 200", "max_texts: 40")
    run_dir = ROOT / "runs" / NAME
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.yaml"
        profile.write_text(text, "utf-8")
        changes = ["04_train.tune_reranker=true", f"seed={seed}", *chosen]
        if pipeline.main([str(profile), *(part for change in changes for part in ("--set", change))]):
            raise SystemExit("the demo failed")
    rows = manifest.read_manifest(run_dir)["stages"]["05_calibrate"]["metrics"]["reranking"]
    found = true_mrr(run_dir, "small" if quick else "standard", seed)
    shutil.rmtree(run_dir)
    return [row | {"true_mrr": found[row["scored by"]]} for row in rows]


def true_mrr(run_dir: Path, world: str, seed: int) -> dict[str, float]:
    """MRR@10 of each score on a run of the demo, where every text of the query's meaning is right.

    The run itself knows a part of them only: a text that is in no known pair with the query counts as wrong there.
    """
    from bgetune.data.text import Normalizer
    from bgetune.metrics.truth import read_truth
    from bgetune.models.reranker import Reranker
    from bgetune.paths import locate
    from bgetune.runs.manifest import artifact_path
    from bgetune.scoring import Scorer, pairs, search
    from bgetune.scoring.scorer import corpus
    from bgetune.scoring.worth import ORDERS

    texts, clusters, graded = (pd.read_parquet(artifact_path(run_dir, it)) for it in ("texts", "clusters", "graded"))
    scorer, searched = Scorer.load(run_dir, device="cpu"), corpus(texts)
    known = pairs.relevance(clusters, pd.Index(searched["text_id"]), clusters, graded)
    queries = search.sample_queries(texts, clusters, known, "test", limit=QUERIES, seed=seed)
    meaning = read_truth(
        locate(f"demo://{world}/truth.csv"), Normalizer.read(artifact_path(run_dir, "normalizer.json"))
    )
    alike = pd.DataFrame({"text_id": searched["text_id"], "meaning": searched["text_id"].map(meaning)})
    alike = alike[alike["meaning"].fillna("") != ""].groupby("meaning")["text_id"].agg(list)
    right = {
        query: {text: 1 for text in alike.get(meaning.get(query), []) if text != query} for query in queries["text_id"]
    }
    queries = queries[queries["text_id"].map(lambda query: bool(right[query]))]
    found = search.candidates(scorer.encoder, queries, searched, TOP)
    asked = found["query"].tolist(), found["text"].tolist()
    found["cosine"], found["reranker"] = found["similarity"], scorer.rerank(*asked)
    found["both"] = scorer.combine(found["similarity"].to_numpy(), found["reranker"].to_numpy())
    untuned = Reranker(f"demo://{world}/reranker", max_length=scorer.encoder.max_length, device="cpu")
    found["untuned reranker"] = untuned.score(list(zip(*asked, strict=True)))
    orders = {name: (found, score) for score, name in ORDERS.items()}
    ranking = search.evaluate_orders(orders, right, TOP, count=2, seed=seed)
    return {score: float(ranking.loc[name, "mrr"]) for score, name in ORDERS.items()}


def pairs(
    name: str,
    quick: bool,
    seed: int,
    most: int,
    chosen: list[str],
    base_model: str | None = None,
    already: Path | None = None,
) -> list[dict[str, Any]]:
    """A world of labelled pairs: both models tuned on the same groups, combined on dev, judged on test.

    Args:
        most: number of pairs that train, at most.
        base_model: an encoder whose weights the reranker starts from; None: the one that is tuned beside it.
        already: a reranker that was tuned on these pairs before; None: tune one.
    """
    from bgetune.config.stages import Train
    from bgetune.metrics.calibrators import Combination, Platt
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker
    from bgetune.scoring import deciding, search, worth
    from bgetune.training import RerankerSettings, reranking, save

    job = task(name, quick)
    job = replace(job, train=job.train[:most])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = _with_head(base_model or job.model, folder / "base", seed)
        groups, cluster_of, graded, _mined = prepared(job, True, None, {})
        values = dict(change.removeprefix("04_train.").split("=") for change in chosen)
        parameters = Train(
            **{"model": job.model, "reranker": str(base), "max_length": MAX_LENGTH, "seed": seed, "device": "cpu"},
            **{"reranker_learning_rate": 1e-4, "precision": "auto"} | {k: json.loads(v) for k, v in values.items()},
        )
        if already is None:
            started = time.perf_counter()
            dev = pd.DataFrame(job.dev[:1000], columns=["query", "text", "label"]).assign(kind="labelled")
            settings, checkpoints = RerankerSettings.of(parameters), folder / "checkpoints"
            made = reranking.train(base, groups, cluster_of, settings, checkpoints, pairs=dev, graded=graded)
            made.write(folder / "tuned", parameters.model_dump(), counts={}, run_name=NAME)
            print(f"{name}: reranker tuned in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        model = tune_encoder(job, True, seed, folder / "encoder", steps=100)[0]
        save.save(model, folder / "model")

        encoder = Encoder(folder / "model", max_length=MAX_LENGTH, device="cpu", cache_dir=None)
        rerankers = {
            "untuned reranker": Reranker(base, max_length=MAX_LENGTH, device="cpu", cache_dir=None),
            "reranker": Reranker(already or folder / "tuned", max_length=MAX_LENGTH, device="cpu", cache_dir=None),
        }
        test = replace(job, test=job.test[: 500 if quick else 3000])
        scores: dict[str, dict[str, np.ndarray]] = {}
        for part, some in (("dev", job.dev[:1000]), ("test", test.test)):
            left, right = (encoder.encode([pair[side] for pair in some]) for side in (0, 1))
            scores[part] = {"cosine": np.einsum("pd,pd->p", left, right, dtype=np.float64)}
            texts = [pair[:2] for pair in some]
            scores[part] |= {who: one.score(texts).astype(np.float64) for who, one in rerankers.items()}
        labels = {"dev": np.array([p[2] for p in job.dev[:1000]]), "test": np.array([p[2] for p in test.test])}
        platt = Platt().fit(scores["dev"]["cosine"], labels["dev"])
        odds = platt.predict(scores["dev"]["cosine"])
        combination = Combination.fit(odds, scores["dev"]["reranker"], labels["dev"])
        both = combination.predict(platt.predict(scores["test"]["cosine"]), scores["test"]["reranker"])
        queries, searched, relevance = _searching(test)
        found = search.candidates(encoder, queries, searched, TOP)
        orders = {"after": (found, "similarity")}
        for who, one in rerankers.items():
            found[who] = one.score(list(zip(found["query"], found["text"], strict=True)))
            orders[f"after, {who}"] = (found, who)
        found["both"] = combination.predict(platt.predict(found["similarity"].to_numpy()), found["reranker"].to_numpy())
        ranking = search.evaluate_orders(orders | {"after, both": (found, "both")}, relevance, TOP, seed=seed)
        times = deciding.milliseconds(encoder, rerankers, [pair[:2] for pair in test.test[:20]], {})
        clusters = [pair[0] for pair in test.test]
        table = worth.compare(scores["test"] | {"both": both}, labels["test"], clusters, ranking, times, seed=seed)
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _with_head(encoder: str, folder: Path, seed: int) -> Path:
    """A cross-encoder of an encoder's weights and a new head."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder


def _searching(job: Task) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, dict[str, int]]]:
    """Test queries with a known positive, the test texts that they search, and what is relevant to them."""
    texts = sorted({text for pair in job.test for text in pair[:2]})
    searched = pd.DataFrame({"text_id": texts, "text": texts, "kind": "query"})
    relevance: dict[str, dict[str, int]] = {}
    for a, b, label in job.test:
        if label and a != b:
            relevance.setdefault(a, {})[b] = 1
    asked = sorted(relevance)[:QUERIES]
    return pd.DataFrame({"text_id": asked, "text": asked, "cluster_id": asked}), searched, relevance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small demo world, and parts of the others")
    parser.add_argument("--worlds", help="default: demo and those whose data are there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--pairs", type=int, help="most pairs of bank and e5 that train; default: 4000, of e5 600")
    parser.add_argument("--base", help="encoder whose weights the reranker of bank and e5 starts from")
    parser.add_argument("--tuned", type=Path, help="reranker that was tuned on these pairs before")
    parser.add_argument("--set", action="append", default=[], metavar="04_train.NAME=VALUE", dest="chosen")
    options = parser.parse_args()
    given = ["demo"]
    if SHARED.is_dir():
        given += ["bank", *(["e5"] * ("E5" in os.environ))]
    results = {}
    for name in options.worlds.split(",") if options.worlds else given:
        for seed in options.seeds:
            if name == "demo":
                rows = demo(options.quick, seed, options.chosen)
            else:
                most = options.pairs or (200 if options.quick else 600 if name == "e5" else 4000)
                rows = pairs(name, options.quick, seed, most, options.chosen, options.base, options.tuned)
            results[f"{name}, seed {seed}"] = rows
            print(
                f"\n{name}, seed {seed}\n{pd.DataFrame(rows).reindex(columns=COLUMNS).round(4).to_string(index=False)}",
                flush=True,
            )
    print(json.dumps(results))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
