"""Fine-tuning: ours beside the documented recipes of sentence-transformers and FlagEmbedding, in one run.

    python tests/benchmarks/bench_training.py [--quick] [--sets bank,afqmc,demo,sparse] [--data positives,labelled]
        [--seeds 3] [--only quality,speed] [--results FILE]

quality: every contender trains on the same pairs with the same epochs, batch size and learning rate, once on the
positives alone and once on the labelled negatives too, and is judged by labelled pairs that it never saw: a threshold
is chosen on one half of them, everything is measured on the other. Ours has one profile for all sets, the defaults of
`bgetune.params`. bank and afqmc need ../shared (third-party data and a model that are not part of the repository);
demo is the demo world with its miniature encoder; sparse is the same with four of five positives unknown, so that many
mined negatives are false. Every training is a process of its own; `--results FILE` keeps what is done, and a run that
was stopped continues. speed: seconds a step, ours beside the plain trainer of sentence-transformers with the same
texts, loss and batches. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
EPOCHS, BATCH_SIZE, MAX_LENGTH = 3, 64, 64
NEGATIVES = 7  # of FlagEmbedding's documentation

MEASURES = ("auc", "average_precision", "overlap", "share_0.6_0.9", "mean_squared_cosine_random", "f1_at_0.8", "f1_dev")
CONTENDERS = {
    "st_margin": "sentence-transformers, mined with margin",
    "st_in_batch": "sentence-transformers, in-batch",
    "flagembedding": "FlagEmbedding, hn_mine 10-210",
    "bgetune": "bgetune",
    "with_margin": "bgetune, margin: 0.05",
    "warmed_up": "bgetune, denoising_epochs: 3",
    "two_rounds": "bgetune, rounds: 2, promote_neighbors",
}

Pair = tuple[str, str, int]


# --- data ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What all contenders get.

    Attributes:
        model: folder of the base model.
        learning_rate: of all contenders; the miniature of the demo learns faster.
        train, dev, test: pairs with label 1 (same meaning) or 0.
        texts: of the domain, those of `train` among them: what there is to warm up on.
    """

    model: str
    learning_rate: float
    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    texts: list[str]


def task(name: str, quick: bool, seed: int = 0) -> Task:
    """bank: trained on one set of bank questions, judged on another. afqmc: one set, split. demo: known meanings.
    sparse: the demo with a fifth of the positives.

    In the demo every seed holds out other meanings: the near-misses of two of them decide much of a single split.
    """
    import numpy as np

    if name in ("demo", "sparse"):
        train, judged = _demo("small" if quick else "standard", seed)
        texts = _texts(train)
        if name == "sparse":
            positives = [pair for pair in train if pair[2]]
            hidden = set(positives[len(positives) // 5 :])
            train = [pair for pair in train if pair not in hidden]
        from bgetune.paths import locate

        model, rate = str(locate(f"demo://{'small' if quick else 'standard'}/encoder")), 1e-3
    else:
        model, rate = str(SHARED / "models" / "zh-mini"), 1e-4
        if name == "bank":
            train, judged = _labelled("bank_ccks_extra"), _labelled("bq_dev")
        else:
            rows = _labelled("afqmc_train")
            order = np.random.default_rng(0).permutation(len(rows))
            rows = [rows[i] for i in order]
            # as many positives as in the bank set
            train, judged = rows[:15_000], rows[15_000:25_000]
        texts = _texts(train)
    if quick:
        train, judged = train[:2000], judged[:2000]
    return Task(model, rate, train, judged[0::2], judged[1::2], texts)


def _texts(pairs: list[Pair]) -> list[str]:
    return sorted({text for pair in pairs for text in pair[:2]})


def _labelled(name: str) -> list[Pair]:
    lines = gzip.decompress((SHARED / "data" / f"{name}.tsv.gz").read_bytes()).decode().splitlines()[1:]
    return [(a.strip(), b.strip(), int(label)) for a, b, label in (line.split("\t") for line in lines)]


def _demo(world: str, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs of one meaning and of two that are easily mistaken, of meanings to train on and of others to judge by."""
    import numpy as np
    import pandas as pd

    from bgetune.paths import locate

    known = pd.read_csv(locate(f"demo://{world}/truth.csv"), dtype=str, keep_default_na=False)
    ways = {meaning: rows["text"].tolist() for meaning, rows in known[known["meaning"] != ""].groupby("meaning")}
    misses = pd.read_csv(locate(f"demo://{world}/near_misses.csv"))
    lots = np.random.default_rng(seed)
    train = set(lots.permutation(sorted(ways))[: int(0.7 * len(ways))])
    near = list(misses[["meaning_a", "meaning_b"]].itertuples(index=False, name=None))
    parts = []
    for inside, count in ((True, 8000), (False, 6000)):
        same = [m for m in sorted(ways) if (m in train) == inside and len(ways[m]) > 1]
        other = [(a, b) for a, b in near if (a in train) == inside == (b in train) and a in ways and b in ways]
        pairs: dict[tuple[str, str], int] = {}
        while len(pairs) < count:
            label = len(pairs) // 2 % 2  # twos, since every other pair is for dev
            meanings = (same[lots.integers(len(same))],) * 2 if label else other[lots.integers(len(other))]
            a, b = (str(lots.choice(ways[meaning])) for meaning in meanings)
            if a != b:
                pairs.setdefault((a, b), label)
        parts.append([(a, b, label) for (a, b), label in pairs.items()])
    return parts[0], parts[1]


# --- contenders ---------------------------------------------------------------------------------------------------


def st_margin(job: Task, labelled: bool, seed: int, folder: Path, bfloat16: bool):
    """`mine_hard_negatives(relative_margin=0.05, num_negatives=5)`, then MultipleNegativesRankingLoss."""
    from bench_mining import mine_sentence_transformers

    rows = [(a, b) for a, b, label in job.train if label]
    mined = mine_sentence_transformers(rows, _texts(job.train), job.model)
    triplets = [(row["query"], row["pos"][0], row["neg"][0]) for row in mined]
    return _sentence_transformers(job, triplets, labelled, seed, folder, bfloat16)


def st_in_batch(job: Task, labelled: bool, seed: int, folder: Path, bfloat16: bool):
    """MultipleNegativesRankingLoss on the positives: the other rows of a batch are the negatives."""
    rows = [(a, b) for a, b, label in job.train if label]
    return _sentence_transformers(job, rows, labelled, seed, folder, bfloat16)


def _sentence_transformers(job: Task, rows: list[tuple], labelled: bool, seed: int, folder: Path, bfloat16: bool):
    """The trainer as its documentation shows it; labelled pairs train along with CoSENTLoss."""
    from datasets import Dataset, DatasetDict
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )

    model = SentenceTransformer(job.model, device="cpu")
    model.max_seq_length = MAX_LENGTH
    names = ("anchor", "positive", "negative")
    data = {"ranking": Dataset.from_dict(dict(zip(names, map(list, zip(*rows, strict=True)), strict=False)))}
    loss = {"ranking": losses.MultipleNegativesRankingLoss(model)}
    if labelled:
        a, b, label = zip(*job.train, strict=True)
        data["labelled"] = Dataset.from_dict({"text_a": a, "text_b": b, "label": [float(value) for value in label]})
        loss["labelled"] = losses.CoSENTLoss(model)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=job.learning_rate,
        warmup_steps=0.1,
        batch_sampler="no_duplicates",
        seed=seed,
        bf16=bfloat16,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=DatasetDict(data), loss=loss)
    trainer.train()
    return model, trainer.state.global_step, len(rows)


def flagembedding(job: Task, labelled: bool, seed: int, folder: Path, bfloat16: bool):
    """hn_mine with ranks 10 to 210 and 7 negatives, then the official trainer at temperature 0.02.

    It knows no loss for labelled pairs: labelled negatives come first among a query's negatives.
    """
    from bench_mining import mine_flagembedding

    from bgetune.models.encoder import Encoder
    from bgetune.training import flagembedding as official

    rows = [(a, b) for a, b, label in job.train if label]
    mined = mine_flagembedding(rows, _texts(job.train), job.model)
    if labelled:
        different: dict[str, list[str]] = {}
        for a, b, label in job.train:
            if not label:
                different.setdefault(a, []).append(b)
                different.setdefault(b, []).append(a)
        for row in mined:
            row["neg"] = list(dict.fromkeys([*different.get(row["query"], ()), *row["neg"]]))[:NEGATIVES]
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in mined), encoding="utf-8")
    options = _options(job, seed, bfloat16, scale=50, negatives=NEGATIVES)
    steps = -(-len(mined) // BATCH_SIZE) * EPOCHS
    command = official.command(Path(job.model), file, folder, options, steps)
    subprocess.run(command, check=True, capture_output=True)
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return Encoder(last, max_length=MAX_LENGTH, cache_dir=None).model, steps, len(mined)


def _options(job: Task, seed: int, bfloat16: bool, **others):
    """What all contenders share, as our parameters; the rest at its default unless given."""
    from bgetune.config.stages import Train

    return Train(
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=job.learning_rate,
        max_length=MAX_LENGTH,
        seed=seed,
        precision="bfloat16" if bfloat16 else "float32",
        device="cpu",
        **others,
    )


def bgetune(
    job: Task,
    labelled: bool,
    seed: int,
    folder: Path,
    bfloat16: bool,
    tuned: Path | None = None,
    margin: float | None = None,
    base: Path | None = None,
):
    """Graph, miner and training with their defaults, without a reranker as the peers have none.

    Args:
        tuned: mines instead of the base model.
        base: is trained instead of the base model.
    """
    from bgetune.training import train

    options = _options(job, seed, bfloat16)
    groups, cluster_of, graded = prepared(job, labelled, tuned, margin)
    trained = train(base or job.model, groups, cluster_of, options, folder / "checkpoints", graded=graded)
    return trained.model, int(trained.log["step"].max()), len(groups)


def with_margin(job: Task, labelled: bool, seed: int, folder: Path, bfloat16: bool):
    """As ours, but for negatives that stay a margin below the positives: easier ones, of which fewer are false."""
    return bgetune(job, labelled, seed, folder, bfloat16, margin=0.05)


def warmed_up(job: Task, labelled: bool, seed: int, folder: Path, bfloat16: bool):
    """As ours, but for a model that was warmed up on the texts of the domain."""
    from bgetune.training import denoising

    warmed = denoising.warm_up(job.model, job.texts, _options(job, seed, bfloat16, denoising_epochs=3), folder / "warm")
    return bgetune(job, labelled, seed, folder, bfloat16, base=warmed.folder)


def two_rounds(job: Task, labelled: bool, seed: int, folder: Path, bfloat16: bool):
    """As `rounds: 2` with `promote_neighbors`: the model tuned first finds further positives and mines; training starts
    over."""
    from bgetune.training import save

    first, steps, _ = bgetune(job, labelled, seed, folder / "first", bfloat16)
    save.save(first, folder / "tuned")
    trained, again, rows = bgetune(job, labelled, seed, folder / "second", bfloat16, tuned=folder / "tuned")
    return trained, steps + again, rows


def prepared(job: Task, labelled: bool, tuned: Path | None = None, margin: float | None = None):
    """Groups by the graph and the miner, the cluster of every text, and the graded pairs (None without labels).

    Args:
        tuned: in a second round, the folder of the model of the first.
    """
    import pandas as pd

    from bgetune.config.stages import HardNegatives, Positives
    from bgetune.data.text import text_id
    from bgetune.graph import clusters as graph
    from bgetune.models.encoder import Encoder
    from bgetune.negatives import groups, mining, promotion
    from bgetune.negatives.world import World
    from bgetune.training.evaluation import graded_pairs
    from bgetune.training.groups import cluster_numbers, read_groups

    names = {text: text_id(text) for pair in job.train for text in pair[:2]}
    texts = pd.DataFrame(sorted((name, text) for text, name in names.items()), columns=["text_id", "text"])
    texts = texts.assign(kind="query", count=1)
    rows = [(*sorted((names[a], names[b])), label) for a, b, label in job.train if names[a] != names[b]]
    pairs = pd.DataFrame(rows, columns=["a_id", "b_id", "grade"]).drop_duplicates(["a_id", "b_id"])
    edges = pairs[pairs["grade"] == 1].drop(columns="grade").assign(source="given", support=1, weight=1.0)
    different = pairs.loc[pairs["grade"] == 0, ["a_id", "b_id"]] if labelled else pairs.iloc[:0, :2]
    clusters = graph.cluster(
        texts["text_id"],
        graph.combine(edges),
        max_cluster_size=Positives().max_cluster_size,
        different=different.itertuples(index=False, name=None),
    ).assign(split="train")
    graded = pairs.assign(label=pairs["grade"], split="train").astype({"grade": float}) if labelled else None
    world = World.of(texts, edges, clusters, graded)
    encoder = Encoder(tuned or job.model, max_length=MAX_LENGTH, cache_dir=None)
    if tuned is not None:
        neighbors = promotion.mutual_neighbors(world, encoder)
        edges, clusters, _ = promotion.promote(edges, clusters, neighbors, {}, graded)
        world = World.of(texts, edges, clusters, graded)
    rules = HardNegatives(max_length=MAX_LENGTH, margin=margin)
    mined = mining.mine(world, encoder, rules)
    with tempfile.TemporaryDirectory() as folder:
        groups.write_jsonl(groups.groups(world, mined, rules), Path(folder) / "train.jsonl")
        found = read_groups(Path(folder) / "train.jsonl")
    return found, cluster_numbers(found, texts, clusters), None if graded is None else graded_pairs(graded, texts)


# --- judging ------------------------------------------------------------------------------------------------------


def judge(model, job: Task) -> dict[str, float]:
    """The `MEASURES` on the test pairs; `f1_dev` is F1 at the threshold that is best on dev."""
    import numpy as np

    from bgetune.metrics import separation

    def similarities(pairs):
        texts = list(dict.fromkeys(text for pair in pairs for text in pair[:2]))
        rows = model.encode(texts, batch_size=256, normalize_embeddings=True, show_progress_bar=False)
        place = {text: i for i, text in enumerate(texts)}
        left, right = (rows[[place[pair[side]] for pair in pairs]] for side in (0, 1))
        lots = np.random.default_rng(0).integers(len(rows), size=(20_000, 2))
        lots = lots[lots[:, 0] != lots[:, 1]]
        random = np.einsum("pd,pd->p", rows[lots[:, 0]], rows[lots[:, 1]])
        return np.einsum("pd,pd->p", left, right), np.array([pair[2] for pair in pairs]), random

    scores, labels, _ = similarities(job.dev)
    threshold = float(separation.separation(scores, labels)["best_threshold"][0])
    scores, labels, random = similarities(job.test)
    found = separation.separation(scores, labels, thresholds={"f1_dev": threshold})
    found["mean_squared_cosine_random"] = np.array([separation.mean_squared_cosine(random)])
    return {name: float(found[name][0]) for name in MEASURES}


# --- runs ---------------------------------------------------------------------------------------------------------


def worker(who: str, name: str, labelled: bool, seed: int, quick: bool, bfloat16: bool) -> None:
    """One training and its judgement, as one line of JSON."""
    job = task(name, quick, seed)
    if who == "untuned":
        from bgetune.models.encoder import Encoder

        model, steps, rows, seconds = Encoder(job.model, max_length=MAX_LENGTH, cache_dir=None).model, 0, 0, 0.0
    else:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            model, steps, rows = globals()[who](job, labelled, seed, Path(folder), bfloat16)
        seconds = time.perf_counter() - started
    print(json.dumps(judge(model, job) | {"steps": steps, "rows": rows, "seconds": round(seconds, 1)}))


def bench_quality(
    sets: list[str], kinds: list[str], seeds: int, quick: bool, file: Path | None, bfloat16: bool
) -> dict:
    """All trainings; set -> data -> contender -> measure -> one value a seed."""
    done = json.loads(file.read_text()) if file and file.exists() else {}
    for name in sets:
        for data in kinds:
            plan = [(who, seed) for seed in range(seeds) for who in ("untuned", *CONTENDERS)]
            for who, seed in plan:
                key = f"{name}/{data}/{who}/{seed}"
                if key not in done:
                    command = [sys.executable, __file__, "--worker", who, "--set", name, "--seed", str(seed)]
                    command += ["--labelled"] * (data == "labelled") + ["--quick"] * quick
                    command += ["--bfloat16"] * bfloat16
                    out = subprocess.run(command, capture_output=True, text=True)
                    if out.returncode:
                        raise SystemExit(f"{key} failed:\n{out.stderr[-2000:]}")
                    done[key] = json.loads(out.stdout.strip().splitlines()[-1])
                    print(
                        f"{key:40s} auc {done[key]['auc']:.4f}  {done[key]['seconds']} s", file=sys.stderr, flush=True
                    )
                    if file:
                        file.write_text(json.dumps(done, indent=1))
    results: dict = {}
    for key, found in done.items():
        name, data, who, _ = key.split("/")
        if name in sets and data in kinds:
            row = results.setdefault(name, {}).setdefault(data, {}).setdefault(who, {})
            for measure, value in found.items():
                row.setdefault(measure, []).append(value)
    return results


def show(results: dict) -> None:
    """Mean and spread (highest less lowest) over the seeds."""
    for name, by_data in results.items():
        for data, rows in by_data.items():
            print(f"\n{name}, {'positives only' if data == 'positives' else 'with labelled negatives'}")
            print(f"{'':42}" + "".join(f"{measure[:18]:>20}" for measure in (*MEASURES, "steps")))
            for who, measured in rows.items():
                cells = [
                    f"{statistics.mean(values):.3f} ±{(max(values) - min(values)) / 2:.3f}"
                    for values in (measured[measure] for measure in MEASURES)
                ]
                cells.append(f"{statistics.mean(measured['steps']):.0f}")
                print(f"{CONTENDERS.get(who, who):42}" + "".join(f"{cell:>20}" for cell in cells))


# --- speed --------------------------------------------------------------------------------------------------------


def bench_speed(quick: bool) -> dict[str, float]:
    """Processor seconds a step, ours over the plain trainer's, float32 and bfloat16, in turns in one process.

    Both train on the same pairs with the same loss: one positive, no hard negative, scale 20, neither symmetric nor
    spread.
    """
    import torch

    from bgetune.training.groups import Group

    name = "bank" if SHARED.is_dir() else "demo"
    job = task(name, quick)
    count = (20 if quick else 60) * BATCH_SIZE
    rows = [pair for pair in job.train if pair[2]][:count]
    job = replace(job, train=rows)
    groups = [Group(a, (b,)) for a, b, _ in rows]
    cluster_of = {text: i for i, text in enumerate(dict.fromkeys(t for pair in rows for t in pair[:2]))}
    seconds: dict[str, list[float]] = {}
    for turn in range(2 if quick else 4):
        for bfloat16 in (False, True):
            for who in ("plain", "ours"):
                with tempfile.TemporaryDirectory() as folder:
                    run = _plain_steps if who == "plain" else _our_steps
                    spent = run(job, groups, cluster_of, Path(folder), bfloat16)
                if turn:  # the first turn warms up
                    seconds.setdefault(f"{who} {'bfloat16' if bfloat16 else 'float32'}", []).append(spent)
    median = {who: statistics.median(values) for who, values in seconds.items()}
    return {
        **{f"seconds a step, {who}": value for who, value in median.items()},
        "ours over plain, float32": median["ours float32"] / median["plain float32"],
        "ours in bfloat16 over plain in float32": median["ours bfloat16"] / median["plain float32"],
        "ours over plain, bfloat16": median["ours bfloat16"] / median["plain bfloat16"],
        "threads": torch.get_num_threads(),
    }


def _plain_steps(job: Task, groups, cluster_of, folder: Path, bfloat16: bool) -> float:
    started = time.perf_counter()
    _, steps, _ = _sentence_transformers(job, [pair[:2] for pair in job.train], False, 0, folder, bfloat16)
    return (time.perf_counter() - started) / steps


def _our_steps(job: Task, groups, cluster_of, folder: Path, bfloat16: bool) -> float:
    from bgetune.training import train

    options = _options(job, 42, bfloat16, symmetric=False, orthogonality_weight=0, negatives=0, eval_steps=10**6)
    started = time.perf_counter()
    trained = train(job.model, groups, cluster_of, options, folder / "checkpoints")
    return (time.perf_counter() - started) / int(trained.log["step"].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small demo world, one seed: a few minutes")
    parser.add_argument("--sets", help="default: bank,afqmc,demo,sparse; without ../shared the last two")
    parser.add_argument("--data", default="positives,labelled")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="quality,speed")
    parser.add_argument("--results", type=Path, help="JSON file of finished trainings, to continue from")
    parser.add_argument("--float32", action="store_true", help="all contenders in float32 even if bfloat16 is faster")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--set", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--labelled", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bfloat16", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker, options.set, options.labelled, options.seed, options.quick, options.bfloat16)
    from bgetune.models import hub

    given = "bank,afqmc,demo,sparse" if SHARED.is_dir() else "demo,sparse"
    sets = (options.sets or ("demo" if options.quick else given)).split(",")
    bfloat16 = not options.float32 and hub.precision("auto", "cpu") == "bfloat16"
    results: dict = {"precision": "bfloat16" if bfloat16 else "float32"}
    if "quality" in options.only:
        seeds = 1 if options.quick else options.seeds
        results["quality"] = bench_quality(
            sets, options.data.split(","), seeds, options.quick, options.results, bfloat16
        )
        show(results["quality"])
    if "speed" in options.only:
        results["speed"] = bench_speed(options.quick)
        print("\n" + "\n".join(f"{name:45} {value:.4g}" for name, value in results["speed"].items()))
    print(json.dumps(results))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
