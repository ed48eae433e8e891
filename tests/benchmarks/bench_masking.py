"""What masking false negatives in the batch can bring at most: those that the truth knows are masked, and no others.

    python tests/benchmarks/bench_masking.py [--quick] [--worlds known,sparse,clinc] [--seeds 3] [--epochs 2]

A batch takes a query's positives as negatives of the other queries, but for those of the same cluster. Where the
clusters are incomplete, some are positives. A linear layer over the base model's frozen vectors learns the groups of 04
as they are and with exactly these masked; no estimate can do better. clinc needs ../shared, third-party data that is
not part of the repository, and all-MiniLM-L6-v2 (its folder in MINILM). Prints the share of false negatives among the
negatives from the batch, and for both AUC, average precision and half of the range over the seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
from bench_distillation import MEASURES, batches_of, judge_vectors, train_layer
from bench_separation import prepared
from separation_worlds import MAX_LENGTH, task


def compare(world: str, seeds: int, epochs: int, quick: bool) -> tuple[float, pd.DataFrame]:
    """The share of false negatives in the batches, and a row for each seed and way: auc, average_precision."""
    from bgetune.models.encoder import Encoder
    from bgetune.paths import locate

    job = task(world, quick)
    meaning = dict(job.meaning)
    if not meaning:
        known = pd.read_csv(locate(f"demo://{'small' if quick else 'standard'}/truth.csv"), dtype=str).dropna()
        meaning = dict(zip(known["text"], known["meaning"], strict=True))
    groups, cluster_of, _graded, _mined = prepared(job, False, None, {})
    read = {text for group in groups for text in (group.query, *group.positives, *group.negatives)}
    texts = sorted(read.union(*(pair[:2] for pair in job.test)))
    place = {text: number for number, text in enumerate(texts)}
    names = np.array([meaning.get(text, f"only {text}") for text in texts])
    vectors = torch.from_numpy(Encoder(job.model, max_length=MAX_LENGTH, device="cpu").encode(texts))
    own = [{*group.positives, *group.negatives} for group in groups]
    hard = {(group.query, text) for group, near in zip(groups, own, strict=True) for text in near}
    found, rows = [0, 0], []
    for seed in range(seeds):
        batches = batches_of(groups, cluster_of, {}, place, seed, epochs)
        masked = []
        for anchors, documents, labels, teacher in batches:
            mined = np.array([[(texts[a], texts[d]) in hard for d in documents] for a in anchors])
            from_batch = (labels.numpy() == 0) & ~mined
            false = from_batch & (names[anchors][:, None] == names[documents][None])
            found[0] += int(false.sum())
            found[1] += int(from_batch.sum())
            masked.append((anchors, documents, torch.where(torch.from_numpy(false), -1, labels), teacher))
        for way, made in (("as they are", batches), ("masked", masked)):
            layer = train_layer(vectors, made, None, 0.0, 1.0)
            rows.append({"seed": seed, "way": way} | judge_vectors(vectors @ layer.T, place, job.test))
    return found[0] / found[1], pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small demo world, one seed")
    parser.add_argument("--worlds", default="known,sparse")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    for world in options.worlds.split(","):
        seeds = 1 if options.quick else options.seeds
        share, table = compare(world, seeds, options.epochs, options.quick)
        print(f"{world}: {share:.3%} of the negatives from the batch are false")
        for way, rows in table.groupby("way"):
            spread = rows["auc"].max() / 2 - rows["auc"].min() / 2
            means = "  ".join(f"{name} {rows[name].mean():.4f}" for name in MEASURES)
            print(f"{way:12} {means}  spread {spread:.4f}", flush=True)


if __name__ == "__main__":
    main()
