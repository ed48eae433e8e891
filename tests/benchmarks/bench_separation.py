"""Does fine-tuning separate better, and without drift? Ours beside the documented recipes, at equal cost.

    python tests/benchmarks/bench_separation.py [--quick] [--worlds clinc,known,bank,...] [--data positives,labelled]
        [--seeds 3] [--who ...] [--results FOLDER]

All contenders get the same pairs, the same corpus, the same number of steps, batch size and learning rate; ours has the
defaults of every parameter in every world, and no reranker, as the peers have none. What a contender's steps cost is
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
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
BATCH_SIZE, MAX_LENGTH, EPOCHS, STEPS = 64, 64, 3, 100
CONTENDERS = {
    "untuned": "untuned",
    "in_batch": "in-batch",
    "st_margin": "sentence-transformers, margin",
    "flagembedding": "FlagEmbedding, hn_mine 10-210",
    "gist": "GISTEmbed",
    "bgetune": "bgetune",
}
COLUMNS = (
    "steps", "texts", "seconds", "auc", "average_precision", "map@r", "mrr@10", "recall@p.9", "overlap",
    "squared_cosine", "relative_band", "ece", "false_negatives", "expected", "similarity", "served",
)  # fmt: skip

Pair = tuple[str, str, int]


@dataclass(frozen=True)
class Task:
    """What all contenders get.

    Attributes:
        model: folder of the base model.
        learning_rate: of all contenders.
        train: pairs with label 1 (same meaning) or 0.
        corpus: all texts, those without a known pair among them.
        dev, test: pairs to choose and to judge by.
        meaning: known meanings of texts; empty where only pairs are known.
    """

    model: str
    learning_rate: float
    train: list[Pair]
    corpus: list[str]
    dev: list[Pair]
    test: list[Pair]
    meaning: dict[str, str] = field(default_factory=dict)

    def positives(self) -> list[tuple[str, str]]:
        return [(a, b) for a, b, label in self.train if label and a != b]


# --- worlds -------------------------------------------------------------------------------------------------------


def task(name: str, quick: bool) -> Task:
    if name == "clinc":
        return _clinc(20 if quick else 60)
    if name == "known":
        return _known("small" if quick else "standard")
    from bench_training import task as pairs

    old = pairs({"e5": "bank"}.get(name, name), quick)
    found = Task(old.model, old.learning_rate, old.train, old.texts, old.dev, old.test)
    if name == "e5":
        found = replace(found, model=os.environ["E5"], learning_rate=5e-5, train=found.train[:3000])
    return found


def _clinc(intents: int) -> Task:
    """Half of an intent's training texts with three known pairs each, the other half in the corpus alone."""
    import numpy as np

    lines = gzip.decompress((SHARED / "data" / "clinc150.tsv.gz").read_bytes()).decode().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    lots = np.random.default_rng(0)
    chosen = set(lots.permutation(sorted({row[1] for row in rows}))[:intents])
    ways: dict[str, dict[str, list[str]]] = {}
    for text, intent, split in rows:
        if intent in chosen:
            ways.setdefault(split, {}).setdefault(intent, []).append(text)
    train = _half_known(ways["train"], lots)
    dev, test = (_judging(ways[split], lots) for split in ("val", "test"))
    meaning = {text: intent for split in ways.values() for intent, texts in split.items() for text in texts}
    corpus = sorted({text for texts in ways["train"].values() for text in texts})
    return Task(os.environ["MINILM"], 5e-5, train, corpus, dev, test, meaning)


def _known(world: str) -> Task:
    """The demo world with 30 texts a meaning; seven of ten meanings train, the others judge."""
    import numpy as np

    from bgetune.paths import locate
    from bgetune_demo import world as demo

    tables = demo.make(replace(getattr(demo, world.upper()), queries=30))
    lots = np.random.default_rng(0)
    ways = {meaning.id: texts for meaning, texts in tables.queries.items() if len(texts) > 3}
    names = lots.permutation(sorted(ways))
    inside = {name: ways[name] for name in names[: int(0.7 * len(names))]}
    outside = {name: ways[name] for name in names[int(0.7 * len(names)) :]}
    judged = _judging(outside, lots)
    meaning = {text: name for name, texts in ways.items() for text in texts}
    corpus = sorted({text for texts in inside.values() for text in texts})
    model = str(locate(f"demo://{world}/encoder"))
    return Task(model, 1e-3, _half_known(inside, lots), corpus, judged[0::2], judged[1::2], meaning)


def _half_known(ways: dict[str, list[str]], lots) -> list[Pair]:
    pairs = set()
    for name in sorted(ways):
        texts = [str(text) for text in lots.permutation(sorted(set(ways[name])))]
        known = texts[: len(texts) // 2]
        for a in known:
            others = [text for text in known if text != a]
            for b in lots.permutation(others)[:3]:
                pairs.add((*sorted((a, str(b))), 1))
    return sorted(pairs)


def _judging(ways: dict[str, list[str]], lots, most: int = 6000) -> list[Pair]:
    """Pairs of one meaning, and as many of texts of two that share the most characters."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = sorted({(text, name) for name, found in ways.items() for text in found})
    names = np.array([name for _, name in texts])
    rows = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True).fit_transform(
        [t for t, _ in texts]
    )
    shared = (rows @ rows.T).toarray()
    shared[names[:, None] == names[None]] = -1
    near = np.argsort(-shared, axis=1)[:, :3]
    unlike = sorted({tuple(sorted((a, int(b)))) for a, row in enumerate(near) for b in row})
    like = sorted(
        {
            tuple(sorted((int(a), int(b))))
            for name in sorted(ways)
            for a in np.flatnonzero(names == name)
            for b in lots.permutation(np.flatnonzero(names == name))[:4]
            if a != b
        }
    )
    count = min(len(like), len(unlike), most // 2)
    chosen = [(lots.permutation(np.array(pairs))[:count], label) for pairs, label in ((like, 1), (unlike, 0))]
    pairs = [(texts[a][0], texts[b][0], label) for found, label in chosen for a, b in found]
    return [pairs[i] for i in lots.permutation(len(pairs))]


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
    return _sentence_transformers(job, job.positives(), labelled, seed, folder, steps)


def gist(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """As in-batch, with GISTEmbedLoss: the base model masks what it finds nearer than the positive."""
    return _sentence_transformers(job, job.positives(), labelled, seed, folder, steps, guided=True)


def st_margin(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """`mine_hard_negatives(relative_margin=0.05, num_negatives=5)`, then MultipleNegativesRankingLoss."""
    from bench_mining import mine_sentence_transformers

    mined = mine_sentence_transformers(job.positives(), job.corpus, job.model)
    triplets = [(row["query"], row["pos"][0], row["neg"][0]) for row in mined]
    found = _sentence_transformers(job, triplets, labelled, seed, folder, steps)
    return (*found[:3], [(row["query"], row["neg"]) for row in mined], None)


def _sentence_transformers(
    job: Task, rows: list[tuple], labelled: bool, seed: int, folder: Path, steps: int, guided: bool = False
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
        bf16=_bfloat16(),
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
    options = _options(job, seed, scale=50, negatives=NEGATIVES)
    command = [*official.command(Path(job.model), file, folder, options, steps), "--max_steps", str(steps)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    taken = int(last.name.split("-")[1])
    negatives = [(row["query"], row["neg"]) for row in mined]
    model = Encoder(last, max_length=MAX_LENGTH, cache_dir=None).model
    return model, taken, taken * BATCH_SIZE * (2 + NEGATIVES), negatives, None


def bgetune(job: Task, labelled: bool, seed: int, folder: Path, steps: int):
    """Graph, miner and training with their defaults."""
    import numpy as np

    from bgetune.training import collator, train
    from bgetune.training.sentence_transformers import batch_sampler

    epochs = steps_of(job, labelled, steps)[0]
    groups, cluster_of, graded, mined = prepared(job, labelled)
    options = _options(job, seed, epochs=epochs)
    pairs = _dev_pairs(job)
    trained = train(job.model, groups, cluster_of, options, folder / "checkpoints", pairs=pairs, graded=graded)
    made = collator.GroupCollator(None, groups, cluster_of, epochs, seed, options.positives, options.negatives)
    sampler = batch_sampler(groups, cluster_of, 0, options)
    read = np.mean([BATCH_SIZE + len(made.batch(list(batch)).documents) for batch in list(sampler)[:20]])
    taken = int(trained.log["step"].max())
    negatives = [(group.query, list(group.negatives)) for group in groups]
    expected = None if mined.expected is None else mined.expected[0]
    return trained.model, taken, round(taken * read), negatives, expected


def _dev_pairs(job: Task):
    """Dev pairs as notebook 04 has them: labelled ones, and random ones that show drift."""
    import numpy as np
    import pandas as pd

    lots = np.random.default_rng(0)
    pairs = pd.DataFrame(job.dev[:1500], columns=["query", "text", "label"]).assign(kind="labelled")
    random = pd.DataFrame({"query": lots.permutation(pairs["query"]), "text": lots.permutation(pairs["text"])})
    return pd.concat([pairs, random.assign(label=0, kind="random")], ignore_index=True)


def prepared(job: Task, labelled: bool):
    """Groups by the graph and the miner, the cluster of every text, the graded pairs (None without labels), mined."""
    import pandas as pd

    from bgetune.config.stages import HardNegatives, Positives
    from bgetune.data.text import text_id
    from bgetune.graph import clusters as graph
    from bgetune.models.encoder import Encoder
    from bgetune.negatives import groups, mining
    from bgetune.negatives.world import World
    from bgetune.training.evaluation import graded_pairs
    from bgetune.training.groups import cluster_numbers, read_groups

    names = {text: text_id(text) for text in {*job.corpus, *(text for pair in job.train for text in pair[:2])}}
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
    graded = pairs.astype({"grade": float}).assign(split="train") if labelled else None
    world = World.of(texts, edges, clusters, graded)
    rules = HardNegatives(max_length=MAX_LENGTH)
    mined = mining.mine(world, Encoder(job.model, max_length=MAX_LENGTH), rules)
    with tempfile.TemporaryDirectory() as folder:
        groups.write_jsonl(groups.groups(world, mined, rules), Path(folder) / "train.jsonl")
        found = read_groups(Path(folder) / "train.jsonl")
    return found, cluster_numbers(found, texts, clusters), graded_pairs(graded, texts) if labelled else None, mined


def _options(job: Task, seed: int, **others):
    """What all contenders share, as our parameters; the rest at its default unless given."""
    from bgetune.config.stages import Train

    others = {"epochs": EPOCHS} | others
    return Train(
        batch_size=BATCH_SIZE,
        learning_rate=job.learning_rate,
        max_length=MAX_LENGTH,
        seed=seed,
        precision="bfloat16" if _bfloat16() else "float32",
        device="cpu",
        **others,
    )


def _bfloat16() -> bool:
    from bgetune.models import hub

    return hub.precision("auto", "cpu") == "bfloat16"


# --- judging ------------------------------------------------------------------------------------------------------


def judge(model, job: Task, negatives: list[tuple[str, list[str]]]) -> tuple[dict[str, float], dict]:
    """The measures, and the test scores for the paired bootstrap."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import precision_recall_curve

    from bgetune.metrics import calibration, separation
    from bgetune.models.encoder import Encoder

    base = Encoder(job.model, max_length=MAX_LENGTH)
    options = {"normalize_embeddings": True, "show_progress_bar": False}
    lots = np.random.default_rng(0).permutation(len(job.test))
    scores = {}
    texts = sorted({text for pair in [*job.dev, *job.test] for text in pair[:2]})
    number = {text: i for i, text in enumerate(texts)}
    for who, rows in (("base", base.encode(texts)), ("tuned", model.encode(texts, **options))):
        for part, pairs in (("dev", job.dev), ("test", job.test)):
            left, right = (rows[[number[pair[side]] for pair in pairs]] for side in (0, 1))
            scores[who, part] = np.einsum("pd,pd->p", left, right)
            if part == "test":
                scores[who, "random"] = np.einsum("pd,pd->p", left, right[lots])
    labels = {"dev": np.array([p[2] for p in job.dev]), "test": np.array([p[2] for p in job.test])}
    found = separation.separation(scores["tuned", "test"], labels["test"])
    precision, recall, _ = precision_recall_curve(labels["test"], scores["tuned", "test"])
    low, high = np.quantile(scores["base", "test"], [0.1, 0.9])
    platt = LogisticRegression(C=1e6).fit(scores["tuned", "dev"][:, None], labels["dev"])
    fitted = platt.predict_proba(scores["tuned", "test"][:, None])[:, 1]
    measures = {
        "auc": float(found["auc"][0]),
        "average_precision": float(found["average_precision"][0]),
        **_retrieval(rows, number, job),
        "recall@p.9": float(recall[precision >= 0.9].max()),
        "overlap": float(found["overlap"][0]),
        "squared_cosine": float(np.mean(scores["tuned", "random"] ** 2)),
        "relative_band": float(((scores["tuned", "test"] >= low) & (scores["tuned", "test"] <= high)).mean()),
        "ece": float(calibration.calibration_error(fitted, labels["test"])),
        **_negatives(base, job, negatives),
    }
    return measures, {"scores": scores["tuned", "test"].round(6).tolist(), "labels": labels["test"].tolist()}


def _retrieval(rows, number: dict[str, int], job: Task) -> dict[str, float]:
    """MAP@R and MRR@10 of test texts among test texts: relevant is what has the same meaning, or is a test positive."""
    import numpy as np

    texts = sorted({text for pair in job.test for text in pair[:2]})
    place = {text: i for i, text in enumerate(texts)}
    if job.meaning:
        names = np.array([job.meaning[text] for text in texts])
        same = names[:, None] == names[None]
    else:
        same = np.zeros((len(texts), len(texts)), dtype=bool)
        for a, b, label in job.test:
            same[place[a], place[b]] |= bool(label)
            same[place[b], place[a]] |= bool(label)
    np.fill_diagonal(same, False)
    asked = np.flatnonzero(same.any(axis=1))[:3000]
    vectors = rows[[number[text] for text in texts]]
    precisions, reciprocal = [], []
    for query in asked:
        scores = vectors @ vectors[query]
        scores[query] = -np.inf
        wanted = int(same[query].sum())
        hits = same[query, np.argsort(-scores, kind="stable")[: max(wanted, 10)]]
        first = np.flatnonzero(hits[:10])
        reciprocal.append(1 / (1 + first[0]) if len(first) else 0.0)
        hits = hits[:wanted]
        precisions.append((hits * np.cumsum(hits) / np.arange(1, wanted + 1)).sum() / wanted)
    return {"map@r": float(np.mean(precisions)), "mrr@10": float(np.mean(reciprocal))}


def _negatives(base, job: Task, negatives: list[tuple[str, list[str]]]) -> dict[str, float]:
    """False negatives by known truth (else by labelled positives), similarity by the base model, queries served."""
    import numpy as np

    pairs = [(query, text) for query, texts in negatives for text in texts]
    if not pairs:
        return {}
    queries = {text for pair in job.positives() for text in pair}
    texts = sorted({text for pair in pairs for text in pair})
    number = {text: i for i, text in enumerate(texts)}
    rows = base.encode(texts)
    left, right = (rows[[number[pair[side]] for pair in pairs]] for side in (0, 1))
    served = {query for query, found in negatives if found}
    found = {"similarity": float(np.einsum("pd,pd->p", left, right).mean()), "served": len(served) / len(queries)}
    if job.meaning:
        found["false_negatives"] = float(np.mean([job.meaning[a] == job.meaning[b] for a, b in pairs]))
    return found


def bootstrap(ours: dict, peer: dict, samples: int = 300) -> tuple[float, float]:
    """90 % interval of the difference in AUC, the test pairs drawn anew."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    labels, lots = np.array(ours["labels"]), np.random.default_rng(0)
    a, b = np.array(ours["scores"]), np.array(peer["scores"])
    rows = [lots.integers(len(labels), size=len(labels)) for _ in range(samples)]
    differences = [roc_auc_score(labels[r], a[r]) - roc_auc_score(labels[r], b[r]) for r in rows]
    return tuple(float(value) for value in np.quantile(differences, [0.05, 0.95]))


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
            print(f"{CONTENDERS[who]:32}" + "".join(f"{cell:>11}" for cell in cells))
            rows.append({"world": title, "who": who, "seeds": len(found), **means})
        peers = [who for who in table if who not in ("untuned", "bgetune")]
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
    parser.add_argument("--who", default=",".join(CONTENDERS))
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
