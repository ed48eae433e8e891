import numpy as np
from hypothesis import given, strategies as st

from bgetune.training.sampler import RELATED, ClusterBatchSampler, MixedBatchSampler, compare, share_with_related

some_blocks = st.lists(st.integers(0, 15), min_size=1, max_size=120).map(np.array)


@given(blocks=some_blocks, batch_size=st.integers(2, 20), seed=st.integers(0, 5))
def test_every_row_once_and_each_block_as_far_apart_as_can_be(blocks, batch_size, seed):
    sampler = ClusterBatchSampler(blocks, batch_size, seed)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(blocks)))
    assert len(batches) == len(sampler) == -(-len(blocks) // batch_size)
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    for batch in batches:
        met = np.bincount(blocks[batch], minlength=blocks.max() + 1)
        assert (met <= -(-np.bincount(blocks) // len(batches))).all()


def test_batches_are_full_where_no_block_is_large():
    blocks = np.repeat(np.arange(40), 5)
    batches = list(ClusterBatchSampler(blocks, 20, 0))
    assert [len(batch) for batch in batches] == [20] * 10
    assert share_with_related(blocks, batches) == 0


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


def test_a_large_block_is_spread_evenly_and_told_where_it_leaves_few_negatives(caplog):
    blocks = np.array([0] * 50 + list(range(1, 51)))
    batches = list(ClusterBatchSampler(blocks, 20, 0))
    assert [np.sum(blocks[batch] == 0) for batch in batches] == [10] * 5
    assert not caplog.text
    ClusterBatchSampler(blocks[:99], 20, 0)
    assert "50 of 99 queries belong to one cluster" in caplog.text


def test_shuffled_batches_hold_related_rows_where_ours_do_not():
    found = compare(np.repeat(np.arange(10), 10), 10, 0)
    assert found.loc["shuffled", RELATED] > 0.5
    assert found.loc["by cluster", RELATED] == 0
    assert found["batches"].tolist() == found["largest batch"].tolist() == [10, 10]


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
