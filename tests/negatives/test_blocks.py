"""Mining in blocks of queries: what a corpus of one block and one of many have in common."""

import numpy as np
import pandas as pd
import pytest

from bgetune.negatives import groups, measure, mining, promotion
from bgetune.negatives.rules import Rules, Search

SETTINGS = [
    {"max_false_negatives": 0.2},
    {"max_false_negatives": None, "margin": 0.1},
    {"max_false_negatives": 0.2, "sampling": "band"},
    {"max_false_negatives": 0.01, "too_few": "random"},
]


def both(world, monkeypatch, reranker=None, **rules):
    """The same mining in one block and in many."""
    whole = world.mine(reranker and reranker(), **rules)
    with monkeypatch.context() as patch:
        patch.setattr(mining, "CANDIDATES_AT_ONCE", 60 * 60)
        return whole, world.mine(reranker and reranker(), **rules)


@pytest.mark.parametrize("rules", SETTINGS, ids=lambda rules: " ".join(map(str, rules.values())))
def test_blocks_change_no_negative_and_no_count(known_world, monkeypatch, rules):
    world = known_world(kinds=True)
    whole, blocks = both(world, monkeypatch, **rules)
    assert whole.complete == len(whole.queries)
    assert blocks.complete < len(whole.queries) / 3
    assert len(blocks.candidates) < len(whole.candidates) / 2
    pd.testing.assert_frame_equal(blocks.queries, whole.queries)
    pd.testing.assert_frame_equal(blocks.counts, whole.counts)
    assert (blocks.searched, blocks.expected) == (whole.searched, whole.expected)
    taken = [
        mined.negatives.sort_values(["query", "rank", "candidate"], ignore_index=True) for mined in (whole, blocks)
    ]
    pd.testing.assert_frame_equal(*taken)
    tables = [groups.training_groups(world.corpus, mined, max_positives=10) for mined in (whole, blocks)]
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(*(measure.rule_yields(mined) for mined in (whole, blocks)))
    pd.testing.assert_frame_equal(*(promotion.doubtful(world.corpus, mined, limit=50) for mined in (whole, blocks)))
    assert measure.advice(whole, least=1.1) == measure.advice(blocks, least=1.1)


def test_blocks_keep_missed_positives_and_doubtful_pairs(known_world, monkeypatch):
    world = known_world()
    whole, blocks = both(world, monkeypatch, world.reranker)
    for found in (promotion.missed_positives, lambda *some: promotion.doubtful(*some, limit=50)):
        pd.testing.assert_frame_equal(found(world.corpus, blocks), found(world.corpus, whole))
    assert len(promotion.missed_positives(world.corpus, blocks)) > 50


def test_the_counts_are_those_of_the_candidates(known_world):
    mined = known_world().mine(max_false_negatives=None, margin=0.9, rank_max=20)
    found = mined.candidates[mined.candidates["rank"] > 0]
    assert mined.counts["candidates"].sum() == len(found)
    for rule, row in mined.counts.iterrows():
        some = {"(taken)": found["taken"], "(not needed)": found["rule"].eq("") & ~found["taken"]}
        some = found[some.get(rule, found["rule"].eq(rule))]
        starved = some[~some["query"].isin(mined.negatives["query"])]
        assert (row["candidates"], row["queries"], row["starved"]) == (len(some), some["query"].nunique(), len(starved))
    assert mined.counts.loc["margin", "starved"] > 0


def test_rejected_candidates_are_those_of_a_sample_of_the_queries(known_world, monkeypatch):
    world = known_world()
    mined = world.mine()
    every = groups.rejected_candidates(world.corpus, mined)
    assert len(every) == mined.counts["candidates"].drop(["(not needed)", "(taken)"]).sum()
    monkeypatch.setattr(groups, "REJECTED", 20)
    some = groups.rejected_candidates(world.corpus, mined)
    first = world.corpus.id[mined.queries["anchor"].to_numpy()[:20]]
    pd.testing.assert_frame_equal(some, every[every["query_id"].isin(first)])
    assert 0 < len(some) < len(every)


def test_few_doubtful_candidates_are_kept_of_a_block_and_the_first_are_the_right_ones(known_world, monkeypatch):
    world = known_world()
    whole = world.mine()
    monkeypatch.setattr(mining, "CANDIDATES_AT_ONCE", 60 * 60)
    monkeypatch.setattr(mining, "DOUBTFUL", 40)
    blocks = world.mine()
    pd.testing.assert_frame_equal(*(promotion.doubtful(world.corpus, mined, limit=10) for mined in (whole, blocks)))
    kept = blocks.candidates[(blocks.candidates["query"] >= blocks.complete) & ~blocks.candidates["taken"]]
    assert 0 < len(kept) <= 40 * len(blocks.queries) / blocks.complete


def test_every_pool_is_indexed_once(known_world, monkeypatch, tmp_path):
    """Not for every block, and not for every setting of the ablation."""
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    world, made, over = known_world(kinds=True), [], Search.over
    monkeypatch.setattr(
        Search, "over", lambda self, texts, *, seed: (made.append(len(texts)), over(self, texts, seed=seed))[1]
    )
    monkeypatch.setattr(mining, "CANDIDATES_AT_ONCE", 60 * 60)
    search = Search(index="IVF4,Flat", search_params={"nprobe": 4})
    mined = mining.mine(world.corpus, world.encoder, rules=Rules(rank_max=60), search=search)
    assert made == [480, 480]
    exact = mining.mine(world.corpus, world.encoder, rules=Rules(rank_max=60))
    key = ["query", "candidate", "rank"]
    np.testing.assert_array_equal(mined.negatives[key].to_numpy(), exact.negatives[key].to_numpy())
    made.clear()
    measure.ablation(world.corpus, world.encoder, rules=Rules(rank_max=60), search=search, sample=50)
    assert made == [480, 480]
