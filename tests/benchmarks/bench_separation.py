"""Does fine-tuning separate better, and without drift? Ours beside the documented recipes, at equal cost.

    python tests/benchmarks/bench_separation.py [--quick] [--worlds clinc,known,bank,...] [--data positives,labelled]
        [--seeds 3] [--who ...] [--results FOLDER]

All contenders get the same pairs, corpus, number of steps, batch size and learning rate. Ours has the defaults of every
parameter in every world, and no reranker, as the peers have none (two variants have that of RERANKER, a folder, hub
name or demo://). What a contender's steps cost is
printed: seconds and texts read (a hard negative is a text). Every training is a process of its own; `--results` keeps
what is done, and a run that was stopped continues. The last line is one JSON object.

Worlds. known: the demo world with 30 texts a meaning, half of them with three known pairs each, the other half in the
corpus alone, judged on other meanings. demo, sparse: pairs of the demo world, all of them or a fifth. clinc: CLINC150
with all-MiniLM-L6-v2 (its folder in MINILM), half of the texts with three known pairs, the rest corpus, judged on
other texts. bank, afqmc: labelled pairs with zh-mini. e5: bank with multilingual-e5-small (its folder in E5). All but
the first three need ../shared, third-party data that is not part of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from separation_judging import bootstrap, judge
from separation_worlds import BATCH_SIZE, MAX_LENGTH, SHARED, Task, task

EPOCHS, STEPS = 3, 100
CONTENDERS = {
    "untuned": "untuned",
    "in_batch": "in-batch",
    "st_margin": "sentence-transformers, margin",
    "flagembedding": "FlagEmbedding, hn_mine 10-210",
    "gist": "GISTEmbed",
    "bgetune": "bgetune",
}
VARIANTS = {
    "with_margin": "bgetune, margin: 0.05",
    "without_hard": "bgetune, negatives: 0",
    "warmed_up": "bgetune, denoising_epochs: 3",
    "two_rounds": "bgetune, rounds: 2, promote_neighbors",
    "with_reranker": "bgetune, reranker (RERANKER)",
    "tuned_pair": "bgetune, rounds: 2, reranker",
}
COLUMNS = (
    "steps", "texts", "seconds", "auc", "average_precision", "map@r", "mrr@10", "recall@p.9", "overlap",
    "squared_cosine", "relative_band", "ece", "false_negatives", "expected", "similarity", "served",
)  # fmt: skip


def steps_of(job: Task, labelled: bool, steps: int) -> tuple[int, int]:
    """Epochs of ours that come nearest to a number of steps (three at most), and their steps: what everybody gets."""
    queries = len({text for pair in job.positives() for text in pair})
    an_epoch = -(-queries // BATCH_SIZE)
    if labelled:
        an_epoch += -(-len({(a, b) for a, b, _ in job.train if a != b}) // BATCH_SIZE)
    epochs = min(max(1, round(steps / an_epoch)), EPOCHS)
    return epochs, epochs * an_epoch


# --- contenders: (model, steps, texts read, rows of negatives, expected false negatives) ---------------------------


def in_batch(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """MultipleNegativesRankingLoss on the positives; labelled pairs train along with CoSENTLoss."""
    return plain_sentence_transformers(job, job.positives(), labelled, seed, folder, steps)


def gist(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """As in-batch, with GISTEmbedLoss: the base model masks what it finds nearer than the positive."""
    return plain_sentence_transformers(job, job.positives(), labelled, seed, folder, steps, guided=True)


def st_margin(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """`mine_hard_negatives(relative_margin=0.05, num_negatives=5)`, then MultipleNegativesRankingLoss."""
    from bench_mining import mine_sentence_transformers

    mined = mine_sentence_transformers(job.positives(), job.corpus, job.model)
    triplets = [(row["query"], row["pos"][0], row["neg"][0]) for row in mined]
    found = plain_sentence_transformers(job, triplets, labelled, seed, folder, steps)
    return (*found[:3], [(row["query"], row["neg"]) for row in mined], None)


def plain_sentence_transformers(
    job: Task,
    rows: list[tuple],
    labelled: bool,
    seed: int,
    folder: Path,
    steps: int,
    *,
    guided: bool = False,
    bfloat16: bool | None = None,
):
    """The trainer as its documentation shows it."""
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
    ranking = losses.MultipleNegativesRankingLoss(model)
    if guided:
        ranking = losses.GISTEmbedLoss(model, guide=SentenceTransformer(job.model, device="cpu"), temperature=0.05)
    loss = {"ranking": ranking}
    if labelled:
        a, b, label = zip(*job.train, strict=True)
        data["labelled"] = Dataset.from_dict({"text_a": a, "text_b": b, "label": [float(value) for value in label]})
        loss["labelled"] = losses.CoSENTLoss(model)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=job.learning_rate,
        warmup_steps=0.1,
        batch_sampler="no_duplicates",
        seed=seed,
        bf16=_bfloat16() if bfloat16 is None else bfloat16,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=DatasetDict(data), loss=loss)
    trainer.train()
    share = len(data["ranking"]) / sum(map(len, data.values()))
    texts = round(trainer.state.global_step * BATCH_SIZE * (share * len(rows[0]) + (1 - share) * 2))
    return model, trainer.state.global_step, texts, [], None


def flagembedding(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """hn_mine with ranks 10 to 210 and 7 negatives, then the official trainer at temperature 0.02.

    It knows no loss for labelled pairs: labelled negatives come first among a query's negatives.
    """
    from bench_mining import NEGATIVES, mine_flagembedding

    from bgetune.models.encoder import Encoder
    from bgetune.training import flagembedding as official

    mined = mine_flagembedding(job.positives(), job.corpus, job.model)
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
    settings = shared_settings(job, seed, scale=50, negatives=NEGATIVES)
    command = [*official.command(Path(job.model), file, folder, settings, steps), "--max_steps", str(steps)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    taken = int(last.name.split("-")[1])
    negatives = [(row["query"], row["neg"]) for row in mined]
    model = Encoder(last, max_length=MAX_LENGTH, cache_dir=None).model
    return model, taken, taken * BATCH_SIZE * (2 + NEGATIVES), negatives, None


def bgetune(
    job: Task,
    labelled: bool,
    seed: int,
    folder: Path,
    steps: int,
    *,
    rules: dict | None = None,
    training: dict | None = None,
    base: Path | None = None,
    tuned: Path | None = None,
    reranker: str | None = None,
):
    """Graph, miner and training with their defaults.

    Args:
        rules, training: parameters of 03 and 04 that are not at their defaults.
        base: is trained instead of the base model.
        tuned: mines instead of the base model.
        reranker: confirms missed positives and vetoes negatives.
    """
    import numpy as np

    from bgetune.training import collator, train
    from bgetune.training.sentence_transformers import batch_sampler

    epochs = steps_of(job, labelled, steps)[0]
    groups, cluster_of, graded, mined = prepared(job, labelled, tuned, rules or {}, reranker)
    settings = shared_settings(job, seed, epochs=epochs, **training or {})
    pairs = dev_pairs(job)
    trained = train(base or job.model, groups, cluster_of, settings, folder / "checkpoints", pairs=pairs, graded=graded)
    made = collator.GroupCollator(None, groups, cluster_of, epochs, seed, settings.positives, settings.negatives)
    sampler = batch_sampler(groups, cluster_of, 0, settings)
    read = np.mean([BATCH_SIZE + len(made.batch(list(batch)).documents) for batch in list(sampler)[:20]])
    taken = int(trained.log["step"].max())
    negatives = [(group.query, list(group.negatives)) for group in groups]
    expected = None if mined.expected is None else mined.expected[0]
    return trained.model, taken, round(taken * read), negatives, expected


def with_margin(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """As ours, but a margin below the positives chooses the negatives."""
    rules = {"max_false_negatives": None, "margin": 0.05}
    return bgetune(job, labelled, seed, folder, steps, rules=rules)


def without_hard(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """As ours, without hard negatives."""
    return bgetune(job, labelled, seed, folder, steps, training={"negatives": 0})


def warmed_up(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """As ours, but for a model that was warmed up on the texts of the domain."""
    from bgetune.training import denoising

    settings = shared_settings(job, seed)
    warmed_up = denoising.warm_up(job.model, job.corpus, settings, folder / "warm", epochs=3)
    return bgetune(job, labelled, seed, folder, steps, base=warmed_up.folder)


def two_rounds(job: Task, labelled: bool, seed: int, folder: Path, steps: int, *, reranker: str | None = None):
    """As `rounds: 2`: the model tuned first mines; it starts over. It finds positives, too (`promote_neighbors`), or a
    reranker confirms them."""
    from bgetune.training import save

    first, taken, texts, _, _ = bgetune(job, labelled, seed, folder / "first", steps)
    save.save(first, folder / "tuned")
    found = bgetune(job, labelled, seed, folder / "second", steps, tuned=folder / "tuned", reranker=reranker)
    return found[0], taken + found[1], texts + found[2], *found[3:]


def with_reranker(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """As ours, and a reranker confirms missed positives and vetoes negatives, as in 03."""
    return bgetune(job, labelled, seed, folder, steps, reranker=os.environ["RERANKER"])


def tuned_pair(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """As `with_reranker`, but the tuned model of a first round without it searches the candidates."""
    return two_rounds(job, labelled, seed, folder, steps, reranker=os.environ["RERANKER"])


def dev_pairs(job: Task):
    """Dev pairs as notebook 04 has them: labelled ones, and random ones that show drift."""
    import numpy as np
    import pandas as pd

    lots = np.random.default_rng(0)
    pairs = pd.DataFrame(job.dev[:1500], columns=["query", "text", "label"]).assign(kind="labelled")
    random = pd.DataFrame({"query": lots.permutation(pairs["query"]), "text": lots.permutation(pairs["text"])})
    return pd.concat([pairs, random.assign(label=0, kind="random")], ignore_index=True)


def prepared(job: Task, labelled: bool, tuned: Path | None, changed: dict, reranker: str | None = None):
    """Groups by the graph and the miner, the cluster of every text, the graded pairs (None without labels), mined.

    Args:
        tuned: in a second round, the folder of the model of the first.
        changed: mining rules that are not at their defaults.
        reranker: confirms missed positives, which join the graph, and vetoes negatives.
    """
    import pandas as pd

    from bgetune.config.stages import Positives, Train
    from bgetune.data.text import text_id
    from bgetune.graph import clusters as graph, implied
    from bgetune.graph.promote import promote
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker
    from bgetune.negatives import groups, mining, promotion
    from bgetune.negatives.corpus import Corpus
    from bgetune.training.evaluation import graded_pairs
    from bgetune.training.groups import cluster_numbers, read_groups, with_implied

    names = {text: text_id(text) for text in {*job.corpus, *(text for pair in job.train for text in pair[:2])}}
    texts = pd.DataFrame(sorted((name, text) for text, name in names.items()), columns=["text_id", "text"])
    texts = texts.assign(kind="query", count=1)
    rows = [(*sorted((names[a], names[b])), label) for a, b, label in job.train if names[a] != names[b]]
    pairs = pd.DataFrame(rows, columns=["a_id", "b_id", "grade"]).drop_duplicates(["a_id", "b_id"])
    edges = pairs[pairs["grade"] == 1].drop(columns="grade").assign(source="given", support=1, weight=1.0)
    different = pairs.loc[pairs["grade"] == 0, ["a_id", "b_id"]] if labelled else pairs.iloc[:0, :2]
    clusters = graph.cluster(
        texts["text_id"],
        graph.combine_sources(edges),
        max_cluster_size=Positives().max_cluster_size,
        different=different.itertuples(index=False, name=None),
    ).assign(split="train")
    graded = pairs.assign(split="train").astype({"grade": float}) if labelled else None
    corpus = Corpus.of(texts, edges, clusters, graded)
    encoder = Encoder(tuned or job.model, max_length=MAX_LENGTH)
    reads = None if reranker is None else Reranker(reranker, max_length=MAX_LENGTH, device="cpu")
    missed = None
    if reads is not None:
        missed = promotion.missed_positives(corpus, mining.mine(corpus, encoder, reads, **changed))
        print(f"{len(missed):,} pairs confirmed by the reranker", file=sys.stderr, flush=True)
    elif tuned is not None:
        missed = promotion.mutual_neighbors(corpus, encoder)
    if missed is not None:
        edges, clusters, _ = promote(edges, clusters, missed, {}, graded)
        corpus = Corpus.of(texts, edges, clusters, graded)
    mined = mining.mine(corpus, encoder, reads, **changed)
    with tempfile.TemporaryDirectory() as folder:
        rows = groups.training_groups(corpus, mined, max_positives=10)
        groups.write_jsonl(rows, Path(folder) / "train.jsonl")
        found = read_groups(Path(folder) / "train.jsonl")
    cores = implied.cores(edges, clusters, min_weight=Train.model_fields["implied_weight"].default)
    same = implied.same_as(cores)
    found = with_implied(found, same, texts)
    return found, cluster_numbers(found, texts, clusters), graded_pairs(graded, texts) if labelled else None, mined


def shared_settings(job: Task, seed: int, bfloat16: bool | None = None, **others):
    """The settings that all contenders share; the rest at its default unless given."""
    from bgetune.config.stages import Train
    from bgetune.training import TrainingSettings

    others = {"epochs": EPOCHS} | others
    parameters = Train(
        batch_size=BATCH_SIZE,
        learning_rate=job.learning_rate,
        max_length=MAX_LENGTH,
        seed=seed,
        precision="bfloat16" if (_bfloat16() if bfloat16 is None else bfloat16) else "float32",
        device="cpu",
        **others,
    )
    return TrainingSettings.of(parameters, epochs=others["epochs"])


def _bfloat16() -> bool:
    from bgetune.models import hub

    return hub.precision("auto", "cpu") == "bfloat16"


# --- runs ---------------------------------------------------------------------------------------------------------


def worker(who: str, name: str, labelled: bool, seed: int, quick: bool, wanted: int) -> None:
    """One training and its judgement, as one line of JSON."""
    job = task(name, quick)
    steps = steps_of(job, labelled, wanted)[1]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if who == "untuned":
            from bgetune.models.encoder import Encoder

            result = Encoder(job.model, max_length=MAX_LENGTH, cache_dir=None).model, 0, 0, [], None
        else:
            result = globals()[who](job, labelled, seed, Path(folder), steps)
        model, taken, texts, negatives, expected = result
        seconds = time.perf_counter() - started
        measures, kept = judge(model, job, negatives)
    measures |= {"steps": taken, "texts": texts, "seconds": round(seconds)}
    measures |= {} if expected is None else {"expected": expected}
    print(json.dumps({"measures": measures, **kept}))


def run(key: str, folder: Path, quick: bool, steps: int) -> dict:
    """The result of one training, from the folder if it is there."""
    file = folder / (key.replace("/", "-") + ".json")
    if not file.exists():
        name, data, who, seed = key.split("/")
        command = [sys.executable, __file__, "--worker", who, "--worlds", name, "--seeds", seed, "--steps", str(steps)]
        command += ["--data", data] + ["--quick"] * quick
        out = subprocess.run(command, capture_output=True, text=True)
        if out.returncode:
            raise SystemExit(f"{key} failed:\n{out.stderr[-3000:]}")
        file.write_text(out.stdout.strip().splitlines()[-1])
    found = json.loads(file.read_text())
    print(
        f"{key:36s} auc {found['measures']['auc']:.4f}  {found['measures']['seconds']} s", file=sys.stderr, flush=True
    )
    return found


def show(results: dict[str, dict]) -> list[dict]:
    """One table a world and kind of data, mean over the seeds; then ours against the peer that is best in AUC."""
    tables: dict[str, dict[str, list[dict]]] = {}
    for key, found in results.items():
        name, data, who, _ = key.split("/")
        tables.setdefault(f"{name}, {data}", {}).setdefault(who, []).append(found)
    rows = []
    for title, table in tables.items():
        print(f"\n{title}\n{'':32}" + "".join(f"{column[:10]:>11}" for column in COLUMNS))
        for who, found in table.items():
            means = {
                column: statistics.mean(values)
                for column in COLUMNS
                if (values := [f["measures"][column] for f in found if column in f["measures"]])
            }
            cells = [
                "-" if column not in means else f"{means[column]:.0f}" if means[column] > 5 else f"{means[column]:.3f}"
                for column in COLUMNS
            ]
            print(f"{(CONTENDERS | VARIANTS)[who]:32}" + "".join(f"{cell:>11}" for cell in cells))
            rows.append({"world": title, "who": who, "seeds": len(found), **means})
        peers = [who for who in table if who in CONTENDERS and who not in ("untuned", "bgetune")]
        if "bgetune" in table and peers:
            best = max(peers, key=lambda who: statistics.mean(f["measures"]["auc"] for f in table[who]))
            low, high = bootstrap(table["bgetune"][0], table[best][0])
            print(f"AUC, bgetune less {CONTENDERS[best]}: {low:+.4f} to {high:+.4f} (90 %, paired, first seed)")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small worlds, about 30 steps, one seed")
    parser.add_argument("--worlds", help="default: known, demo, sparse and those whose data are there")
    parser.add_argument("--data", default="positives,labelled")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--who", default=",".join(CONTENDERS), help=f"also: {', '.join(VARIANTS)}")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of every contender, about")
    parser.add_argument("--results", type=Path, help="folder of finished trainings, to continue from")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    steps = 30 if options.quick and options.steps == STEPS else options.steps
    if options.worker:
        return worker(options.worker, options.worlds, options.data == "labelled", options.seeds, options.quick, steps)
    given = ["known", "demo", "sparse"]
    if SHARED.is_dir() and not options.quick:
        given += ["bank", "afqmc", *(["clinc"] * ("MINILM" in os.environ)), *(["e5"] * ("E5" in os.environ))]
    worlds = options.worlds.split(",") if options.worlds else given[:1] if options.quick else given
    plan = [
        f"{name}/{data}/{who}/{seed}"
        for seed in range(1 if options.quick else options.seeds)
        for name in worlds
        for data in options.data.split(",")
        if data == "positives" or name not in ("known", "clinc")  # these have no labelled negatives
        for who in options.who.split(",")
    ]
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.results or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for key in plan:
            results[key] = run(key, folder, options.quick, steps)
    print(json.dumps(show(results)))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
