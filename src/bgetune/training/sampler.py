"""Batches in which no two rows belong together: rows are dealt to batches like cards, one block after the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

logger = logging.getLogger(__name__)


def deal(blocks: np.ndarray, batches: int, rng: np.random.Generator) -> list[list[int]]:
    """Deal rows to batches so that no batch gets two rows of one block.

    Blocks are shuffled, then all rows of a block, then all of the next, go to consecutive batches: as long as no block
    has more rows than there are batches, each of its rows lands in another batch, and batches differ in size by one
    row at most.

    Args:
        blocks: (n,) the block number of every row.
        batches: how many, at least the size of the largest block.
        rng: the source of the shuffle.

    Returns:
        Row numbers of every batch; every row once.

    Raises:
        ValueError: if a block has more rows than there are batches.
    """
    if np.bincount(blocks).max() > batches:
        raise ValueError(f"a block of {np.bincount(blocks).max()} rows does not fit into {batches} batches")
    rows = rng.permutation(len(blocks))
    rank = rng.permutation(blocks.max() + 1)
    rows = rows[np.argsort(rank[blocks[rows]], kind="stable")]
    dealt = [rows[start::batches] for start in range(batches)]
    return [rng.permutation(dealt[i]).tolist() for i in rng.permutation(batches) if len(dealt[i])]


def met_false_negative(blocks: np.ndarray, batches: Sequence[Sequence[int]]) -> float:
    """The share of rows that meet another row of their block in their batch, and so a false negative."""
    met = [np.unique(blocks[list(batch)], return_counts=True)[1] for batch in batches]
    return sum(int(counts[counts > 1].sum()) for counts in met) / len(blocks)


class ClusterBatchSampler:
    """Batches of rows of one kind for the trainer of sentence-transformers.

    Every row comes once an epoch; no batch holds two rows of one block; all batches have the same size, or one row
    less; the order follows from seed and epoch alone. A block with more rows than there are full batches makes more and
    smaller batches, and a warning.

    Args:
        blocks: (n,) the block number of every row.
        batch_size: most rows in a batch.
        seed: of the shuffles.
        processes: the number of batches is a multiple of it, so that every process of `torchrun` gets as many.
        renumber: epoch e yields e * n + row instead of row, so that a number tells its epoch, too.
    """

    def __init__(self, blocks: Sequence[int], batch_size: int, seed: int, processes: int = 1, renumber: bool = False):
        self.blocks = np.asarray(blocks, dtype=np.int64)
        self.seed = seed
        self.renumber = renumber
        self.epoch = 0
        largest = int(np.bincount(self.blocks).max())
        full = -(-len(self.blocks) // batch_size)
        if largest > 2 * full:
            logger.warning(
                "%d rows belong to one cluster and may not share a batch: batches shrink from %d rows to %d. "
                "A smaller max_cluster_size in 01_positives helps.",
                *(largest, batch_size, -(-len(self.blocks) // largest)),
            )
        wanted = -(-max(largest, full) // processes) * processes
        self.batches = min(wanted, len(self.blocks) // processes * processes)
        if self.batches < largest:
            raise ValueError(f"{len(self.blocks)} rows are too few for {processes} processes")

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        first = self.epoch * len(self.blocks) if self.renumber else 0
        for batch in deal(self.blocks, self.batches, np.random.default_rng([self.seed, self.epoch])):
            yield [first + row for row in batch]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class MixedBatchSampler:
    """The batches of several data sets that train together; each batch is of one set.

    Args:
        samplers: one a data set.
        offsets: number of the first row of every data set in their concatenation.
        mixing: "proportional" shuffles all batches of all sets, each once an epoch; "round_robin" takes them in turn
            until the smallest set is used up.
        seed: of the shuffle.
        processes: as for `ClusterBatchSampler`; all processes get a batch of the same set at the same time.
    """

    batch_size = None  # tells accelerate that batches differ in size
    drop_last = False

    def __init__(
        self,
        samplers: Sequence[ClusterBatchSampler],
        offsets: Sequence[int],
        mixing: str,
        seed: int,
        processes: int = 1,
    ):
        self.samplers = samplers
        self.offsets = offsets
        self.mixing = mixing
        self.seed = seed
        self.processes = processes
        self.epoch = 0

    def __len__(self) -> int:
        lengths = [len(sampler) for sampler in self.samplers]
        return sum(lengths) if self.mixing == "proportional" else min(lengths) * len(lengths)

    def __iter__(self) -> Iterator[list[int]]:
        batches = [iter(sampler) for sampler in self.samplers]
        for number in self._turns():
            for _ in range(self.processes):
                yield [row + self.offsets[number] for row in next(batches[number])]

    def _turns(self) -> list[int]:
        """Which set's turn it is, a turn being one batch for every process."""
        turns = [len(sampler) // self.processes for sampler in self.samplers]
        if self.mixing == "round_robin":
            return list(range(len(turns))) * min(turns)
        return np.random.default_rng([self.seed, self.epoch]).permutation(np.repeat(range(len(turns)), turns)).tolist()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for sampler in self.samplers:
            sampler.set_epoch(epoch)
