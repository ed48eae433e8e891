"""Pairs that no training sees, for judging models and calibrating scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from bgetune.config.stages import HardNegatives
from bgetune.data.draw import draw
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.negatives.mining import for_judging, mine
from bgetune.negatives.world import World

MACHINE_MADE = ("back_translation", "generated")
"""Sources whose pairs train, and never judge."""

COLUMNS = {"query_id": str, "text_id": str, "label": "int64", "kind": str, "split": str}


def heldout(
    world: World,
    encoder: Encoder,
    rules: HardNegatives,
    reranker: Reranker | None = None,
    verdicts: Mapping[tuple[str, str], str] | None = None,
) -> pd.DataFrame:
    """Pairs of the dev and test clusters for judging: as many hard negatives and random pairs as positives, at most.

    Hard negatives are the nearest texts of other clusters that the reranker does not doubt. The window does not apply:
    it reads the base model's scores, and pairs chosen by it would flatter or blame that model. (Without a reranker the
    margin is all there is against false negatives; it does apply, also where training goes without.) Machine-made
    paraphrases judge nothing.

    Returns:
        The table `heldout`; no rows where no positive pair fell into dev or test.
    """
    rules = for_judging(rules)
    machine = world.positives["source"].isin(MACHINE_MADE)
    natural = set(world.positives.loc[~machine, "anchor"]) | set(world.positives.loc[~machine, "positive"])
    made = (set(world.positives["anchor"]) | set(world.positives["positive"])) - natural
    world = replace(world, positives=world.positives[~machine])
    parts = []
    for split in ("dev", "test"):
        pairs = _judging_positives(world, split, rules)
        if pairs.empty:
            continue
        mined = mine(world, encoder, rules, reranker, split=split, verdicts=verdicts)
        hard = mined.negatives.assign(query=mined.queries["anchor"].to_numpy()[mined.negatives["query"]])
        hard = hard[hard["query"].isin(pairs["query"]) & ~hard["candidate"].isin(made)]
        hard = hard.sort_values(["query", "rank"]).drop_duplicates(["query", "candidate"])
        hard["turn"] = hard.groupby("query").cumcount()
        hard["draw"] = _pair_draws(world, rules.seed, hard["query"], hard["candidate"])
        hard = hard.sort_values(["turn", "draw"]).head(len(pairs))
        taken = set(zip(hard["query"], hard["candidate"], strict=True))
        random = _random_pairs(world, split, pairs, rules.seed, exclude=taken, made=made)
        for kind, rows in (("positive", pairs), ("hard_negative", hard), ("random", random)):
            part = {"query_id": world.id[rows["query"]], "text_id": world.id[rows["candidate"]]}
            parts.append(pd.DataFrame(part).assign(label=int(kind == "positive"), kind=kind, split=split))
    table = pd.concat([pd.DataFrame(columns=COLUMNS), *parts], ignore_index=True).astype(COLUMNS)
    return table.sort_values(["split", "kind", "query_id", "text_id"], ignore_index=True)


def _judging_positives(world: World, split: str, rules: HardNegatives) -> pd.DataFrame:
    """Positive pairs of a split, one direction each, at most `heldout_per_cluster` of a cluster: query, candidate."""
    pairs = world.positives.rename(columns={"anchor": "query", "positive": "candidate"})
    pairs = pairs[(world.split[pairs["query"]] == split) & (world.split[pairs["candidate"]] == split)].copy()
    pairs["draw"] = _pair_draws(world, rules.seed, pairs["query"], pairs["candidate"])
    pairs["low"], pairs["high"] = pairs[["query", "candidate"]].min(axis=1), pairs[["query", "candidate"]].max(axis=1)
    pairs = pairs.sort_values("draw").drop_duplicates(["low", "high"])
    pairs["cluster"] = world.cluster[pairs["query"]]
    pairs = pairs[pairs.groupby("cluster").cumcount() < rules.heldout_per_cluster]
    return pairs[["query", "candidate"]].sort_values(["query", "candidate"], ignore_index=True)


def _random_pairs(
    world: World, split: str, pairs: pd.DataFrame, seed: int, exclude: set[tuple[int, int]], made: set[int]
) -> pd.DataFrame:
    """For each positive pair its query with a random text of another cluster, of the same kind as the positive."""
    rows = []
    usable = (world.split == split) & ~np.isin(np.arange(len(world.texts)), list(made))
    pools = {kind: np.flatnonzero(usable & (world.kind == kind)) for kind in ("query", "document")}
    for query, own in zip(pairs["query"], pairs["candidate"], strict=True):
        pool = pools[world.kind[own]]
        lots = np.random.default_rng([seed, int(world.id[query], 16), int(world.id[own], 16)])
        for text in pool[lots.integers(len(pool), size=20)] if len(pool) else ():
            pair = (query, int(text))
            if world.cluster[text] != world.cluster[query] and pair not in exclude and not world.labels.get(pair):
                exclude.add(pair)
                rows.append(pair)
                break
    return pd.DataFrame(rows, columns=["query", "candidate"])


def _pair_draws(world: World, seed: int, queries: pd.Series, candidates: pd.Series) -> list[float]:
    return [draw(seed, world.id[q], world.id[c]) for q, c in zip(queries, candidates, strict=True)]
