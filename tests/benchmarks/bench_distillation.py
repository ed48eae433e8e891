"""Does the reranker teach the encoder? The ranking loss alone, and with the reranker's scores as a further target.

    python tests/benchmarks/bench_distillation.py [--quick] [--worlds demo,sparse] [--seeds 3] [--epochs 2]
        [--teacher FOLDER] [--all-weights] [--losses ranking "margin MSE"]

A linear layer over the base model's frozen vectors learns the groups that 04 would learn, in seconds, so that many
settings can be compared; with --all-weights the model itself learns them. The teacher scores each query with its
positives and hard negatives: the demo's own reranker, which knows its meanings nearly perfectly and so shows the most
that is to be had, or that of --teacher for the worlds of `separation_worlds`. Prints the teacher's measures on dev, and
for each loss AUC, average precision and the mean squared cosine of random pairs on test, mean over the seeds, and the
range of the gains; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from bench_separation import prepared
from separation_worlds import BATCH_SIZE, MAX_LENGTH, Pair, task
from torch import Tensor
from torch.nn import functional

MEASURES = ("auc", "average_precision")
SCALE, RATE, DEV = 20.0, 2e-3, 1000
DISTILLED = {
    "ranking": (None, 0.0, 1.0),
    "KL": ("kl", 1.0, 1.0),
    "KL, weight .3": ("kl", 0.3, 1.0),
    "KL, temperature 3": ("kl", 1.0, 3.0),
    "margin MSE": ("mse", 1.0, 1.0),
    "margin MSE, weight .3": ("mse", 0.3, 1.0),
    "margin MSE, weight 3": ("mse", 3.0, 1.0),
}
"""Loss -> what is added to the ranking loss, its weight, and the temperature of the teacher's logits."""


def distillation(kind: str, cosines: Tensor, labels: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far a batch's cosines are from the teacher's scores, on the positives and hard negatives of each query.

    Args:
        kind: "kl", the divergence of the softmax of the scaled cosines from that of the teacher's logits, as
            FlagEmbedding's `knowledge_distillation`; "mse", the squared error of the differences between a positive and
            a negative (arXiv 2010.02666), the teacher's divided by the scale.
        cosines, labels: (b, m), as `RankingLoss` has them.
        teacher: (b, m) logits, NaN where it read nothing.
        temperature: divides the logits.
    """
    read = ~teacher.isnan()
    teacher = teacher.nan_to_num(0) / temperature
    positive, negative = read & (labels == 1), read & (labels == 0)
    told = positive.any(1) & negative.any(1)
    if kind == "kl":
        shown = (positive | negative) & told[:, None]
        target = teacher.masked_fill(~shown, -1e9).softmax(1)
        found = (SCALE * cosines).masked_fill(~shown, -1e9).log_softmax(1)
        return (target * (target.clamp_min(1e-12).log() - found)).masked_fill(~shown, 0).sum(1)[told].mean()
    row, column = torch.nonzero(positive & told[:, None], as_tuple=True)
    margins = cosines[row, column][:, None] - cosines[row]
    wanted = (teacher[row, column][:, None] - teacher[row]) / SCALE
    errors = (margins - wanted).square().masked_fill(~negative[row], 0).sum(1) / negative[row].sum(1)
    return SCALE * errors.mean()


def compare(
    world: str, teacher: str | None, seeds: int, epochs: int, quick: bool, losses: Sequence[str], all_weights: bool
) -> pd.DataFrame:
    """A row for each seed and loss: auc, average_precision, squared_cosine on test."""
    from bgetune.metrics.separation import separation
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker

    job = task(world, quick)
    groups, cluster_of, _graded, _mined = prepared(job, False, None, {})
    reranker = Reranker(
        teacher or f"demo://{'small' if quick else 'standard'}/reranker", max_length=MAX_LENGTH, device="cpu"
    )
    read = [(group.query, text) for group in groups for text in (*group.positives, *group.negatives)]
    logits = torch.logit(torch.from_numpy(reranker.score(read)), eps=1e-4).tolist()
    encoder = Encoder(job.model, max_length=MAX_LENGTH, device="cpu")
    texts = sorted({text for pair in [*read, *job.test] for text in pair[:2]})
    vectors = torch.from_numpy(encoder.encode(texts))
    place = {text: number for number, text in enumerate(texts)}

    dev = job.dev[:DEV]
    found = separation(reranker.score([pair[:2] for pair in dev]), np.array([pair[2] for pair in dev]))
    print(f"{world}: the teacher on dev: " + ", ".join(f"{name} {found[name][0]:.4f}" for name in MEASURES))
    rows = []
    for seed in range(seeds):
        batches = batches_of(groups, cluster_of, dict(zip(read, logits, strict=True)), place, seed, epochs)
        for who in losses:
            kind, weight, temperature = DISTILLED[who]
            if all_weights:
                tuned = train_model(job.model, texts, batches, job.learning_rate, kind, weight, temperature)
            else:
                tuned = vectors @ train_layer(vectors, batches, kind, weight, temperature).T
            rows.append({"world": world, "seed": seed, "loss": who} | judge_vectors(tuned, place, job.test))
    return pd.DataFrame(rows)


def batches_of(groups, cluster_of, logits: dict, place: dict[str, int], seed: int, epochs: int) -> list[tuple]:
    """Batches as 04 makes them: rows of the anchors and documents, labels, the teacher's logits."""
    from bgetune.training.collator import GroupCollator
    from bgetune.training.groups import blocks
    from bgetune.training.sampler import ClusterBatchSampler

    collator = GroupCollator(None, groups, cluster_of, epochs, seed, positives=1, negatives=4)
    sampler = ClusterBatchSampler(blocks(groups, cluster_of), BATCH_SIZE, seed, renumber=True)
    made = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for items in sampler:
            batch = collator.batch(list(items))
            teacher = torch.full(batch.labels.shape, torch.nan)
            for row, group in enumerate(batch.groups):
                for column in np.flatnonzero(batch.labels[row] >= 0):
                    teacher[row, column] = logits.get((group.query, batch.documents[column]), torch.nan)
            anchors = torch.tensor([place[group.query] for group in batch.groups])
            documents = torch.tensor([place[text] for text in batch.documents])
            made.append((anchors, documents, torch.from_numpy(batch.labels), teacher))
    return made


def train_layer(vectors: Tensor, batches: list[tuple], kind: str | None, weight: float, temperature: float) -> Tensor:
    """The weights of a linear layer that starts as the identity."""
    layer = torch.eye(vectors.shape[1]).requires_grad_()
    _fit([layer], RATE, lambda rows: vectors[rows] @ layer.T, batches, kind, weight, temperature)
    return layer.detach()


def train_model(
    base: str, texts: list[str], batches: list[tuple], rate: float, kind: str | None, weight: float, temperature: float
) -> Tensor:
    """The vectors (n, d) of n texts by a model of which all weights were trained."""
    from bgetune.models.encoder import Encoder
    from bgetune.training.losses import embed

    torch.manual_seed(0)
    model = Encoder(base, max_length=MAX_LENGTH, device="cpu", cache_dir=None).model.train()

    def encode(rows: Tensor) -> Tensor:
        return embed(model, model.preprocess([texts[row] for row in rows]))

    _fit(list(model.parameters()), rate, encode, batches, kind, weight, temperature)
    return model.eval().encode(texts, convert_to_tensor=True, show_progress_bar=False)


def _fit(
    weights: list[Tensor],
    rate: float,
    encode: Callable[[Tensor], Tensor],
    batches: list[tuple],
    kind: str | None,
    weight: float,
    temperature: float,
) -> None:
    from bgetune.training.losses import RankingLoss

    ranking = RankingLoss(None, scale=SCALE, symmetric=True, orthogonality_weight=0.5)
    optimizer = torch.optim.AdamW(weights, lr=rate)
    steps = len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / (0.1 * steps)) * (1 - step / steps)
    )
    for anchors, documents, labels, teacher in batches:
        sides = [encode(rows) for rows in (anchors, documents)]
        loss = sum(ranking.compute_loss_from_embeddings(sides, labels).values())
        if kind:
            left, right = (functional.normalize(side, dim=1) for side in sides)
            loss = loss + weight * distillation(kind, left @ right.T, labels, teacher, temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def judge_vectors(vectors: Tensor, place: dict[str, int], pairs: Sequence[Pair]) -> dict[str, float]:
    from bgetune.metrics.separation import separation

    left, right = (
        functional.normalize(vectors[[place[pair[side]] for pair in pairs]], dim=1).numpy() for side in (0, 1)
    )
    found = separation(np.einsum("pd,pd->p", left, right), np.array([pair[2] for pair in pairs]))
    random = np.einsum("pd,pd->p", left, right[np.random.default_rng(0).permutation(len(right))])
    return {name: float(found[name][0]) for name in MEASURES} | {"squared_cosine": float(np.mean(random**2))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small demo world, one seed")
    parser.add_argument("--worlds", default="demo,sparse")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--teacher", help="folder of a cross-encoder; default: the demo's")
    parser.add_argument("--all-weights", action="store_true", help="train the model instead of a layer over it")
    parser.add_argument("--losses", nargs="+", default=list(DISTILLED), choices=list(DISTILLED))
    options = parser.parse_args()
    seeds, results = 1 if options.quick else options.seeds, []
    for world in options.worlds.split(","):
        table = compare(
            world, options.teacher, seeds, options.epochs, options.quick, options.losses, options.all_weights
        )
        plain = table[table["loss"] == "ranking"].set_index("seed")
        for who, rows in table.groupby("loss", sort=False):
            gains = rows.set_index("seed")["average_precision"] - plain["average_precision"]
            means = rows[[*MEASURES, "squared_cosine"]].mean()
            print(f"{who:24}" + "".join(f"  {name} {value:.4f}" for name, value in means.items()), end="")
            print(f"  gain in average precision {gains.min():+.4f} to {gains.max():+.4f}", flush=True)
        results += table.to_dict("records")
    print(json.dumps(results))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
