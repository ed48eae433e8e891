import numpy as np
import pytest
from hypothesis import given, strategies as st

from bgetune.training.sampler import (
    ClusterBatchSampler,
    MixedBatchSampler,
    share_with_false_negative,
    split_into_batches,
)

some_blocks = st.lists(st.integers(0, 15), min_size=1, max_size=120).map(np.array)


@given(blocks=some_blocks, batch_size=st.integers(2, 20), seed=st.integers(0, 5))
def test_every_row_once_and_no_block_twice_in_a_batch(blocks, batch_size, seed):
    sampler = ClusterBatchSampler(blocks, batch_size, seed)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(blocks)))
    assert all(len(set(blocks[batch])) == len(batch) <= batch_size for batch in batches)
    assert len(batches) == len(sampler)
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert share_with_false_negative(blocks, batches) == 0


def test_batches_are_full_where_no_block_is_large():
    blocks = np.repeat(np.arange(40), 5)
    assert [len(batch) for batch in ClusterBatchSampler(blocks, 20, 0)] == [20] * 10


def test_order_follows_from_seed_and_epoch():
    blocks = np.repeat(np.arange(30), 2)
    first, again, other = (list(ClusterBatchSampler(blocks, 8, seed)) for seed in (1, 1, 2))
    assert first == again != other
    sampler = ClusterBatchSampler(blocks, 8, 1)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_rows_meet_others_in_every_epoch():
    sampler = ClusterBatchSampler(np.arange(100), 10, 0)
    partners = set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        partners |= {row for batch in sampler if 0 in batch for row in batch}
    assert len(partners) > 60


def test_a_number_tells_its_epoch():
    sampler = ClusterBatchSampler(np.arange(10), 4, 0, renumber=True)
    sampler.set_epoch(3)
    assert sorted(row for batch in sampler for row in batch) == list(range(30, 40))


def test_a_block_too_large_is_told(caplog):
    blocks = np.array([0] * 50 + list(range(1, 51)))
    assert len(ClusterBatchSampler(blocks, 20, 0)) == 50
    assert "50 rows belong to one cluster" in caplog.text
    with pytest.raises(ValueError, match="does not fit"):
        split_into_batches(blocks, 5, np.random.default_rng(0))


def test_shuffled_batches_do_meet_false_negatives():
    blocks = np.repeat(np.arange(10), 10)
    shuffled = list(ClusterBatchSampler(np.arange(100), 20, 0))
    assert share_with_false_negative(blocks, shuffled) > 0.5


@given(rows=st.integers(4, 200), pairs=st.integers(4, 60), processes=st.integers(1, 4), seed=st.integers(0, 3))
def test_mixed_sets(rows, pairs, processes, seed):
    samplers = [ClusterBatchSampler(np.arange(n), 8, seed, processes) for n in (rows, pairs)]
    mixed = MixedBatchSampler(samplers, [0, rows], "proportional", seed, processes)
    batches = list(mixed)
    assert len(batches) == len(mixed)
    assert len(batches) % processes == 0
    assert sorted(row for batch in batches for row in batch) == list(range(rows + pairs))
    kinds = [{row >= rows for row in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    assert all(kinds[i] == kinds[i - i % processes] for i in range(len(kinds)))


def test_round_robin_ends_with_the_smaller_set():
    samplers = [ClusterBatchSampler(np.arange(n), 5, 0) for n in (50, 10)]
    batches = list(MixedBatchSampler(samplers, [0, 50], "round_robin", 0))
    assert [min(batch) >= 50 for batch in batches] == [False, True, False, True]
