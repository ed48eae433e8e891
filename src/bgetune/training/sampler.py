"""Batch samplers that spread rows that may be positives of each other over as many batches as possible."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bgetune.locale import _

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def split_into_batches(blocks: np.ndarray, batches: int, rng: np.random.Generator) -> list[list[int]]:
    """Split rows into shuffled batches of equal size, the rows of each block as evenly as possible.

    Rows are ordered by block, blocks in random order, and row i goes to batch i modulo `batches`. A block with at most
    as many rows as there are batches thus has at most one row in each of them, and batch sizes differ by one at most.

    Args:
        blocks: (n,) int, the block number of every row.
        batches: number of batches.
        rng: random number generator of the shuffle.

    Returns:
        Row numbers of each batch; every row occurs once.
    """
    rows = rng.permutation(len(blocks))
    rank = rng.permutation(blocks.max() + 1)
    rows = rows[np.argsort(rank[blocks[rows]], kind="stable")]
    split = [rows[start::batches] for start in range(batches)]
    return [rng.permutation(split[i]).tolist() for i in rng.permutation(batches) if len(split[i])]


def share_with_related(blocks: np.ndarray, batches: Sequence[Sequence[int]]) -> float:
    """Share of rows whose batch holds another row of their block.

    Args:
        blocks: (n,) int, the block number of every row.
        batches: row numbers of each batch.
    """
    met = [np.unique(blocks[list(batch)], return_counts=True)[1] for batch in batches]
    return sum(int(counts[counts > 1].sum()) for counts in met) / len(blocks)


RELATED = "queries with another query of their cluster in the batch"
"""A column of `compare`."""


def compare(blocks: Sequence[int] | np.ndarray, batch_size: int, seed: int) -> pd.DataFrame:
    """An epoch of shuffled batches beside one of `ClusterBatchSampler`: number, largest, rows with a related one.

    Args:
        blocks: (n,) int, the block number of every row.
        batch_size, seed: as for `ClusterBatchSampler`.
    """
    import pandas as pd

    rows = np.asarray(blocks)
    samplers = {
        "shuffled": ClusterBatchSampler(np.arange(len(rows)), batch_size, seed),
        "by cluster": ClusterBatchSampler(rows, batch_size, seed),
    }
    batches = {name: list(made) for name, made in samplers.items()}
    epoch = {
        "batches": [len(made) for made in batches.values()],
        "largest batch": [max(map(len, made)) for made in batches.values()],
        RELATED: [share_with_related(rows, made) for made in batches.values()],
    }
    return pd.DataFrame(epoch, index=list(batches))


class ClusterBatchSampler:
    """Batch sampler of one data set for the trainer of sentence-transformers; see `split_into_batches`.

    Every row is used once an epoch, and the order depends on seed and epoch alone. Rows of one block meet in a batch
    only where the block has more rows than there are batches; `GroupCollator` masks them for each other. Where one
    block has more than half of the rows, which leaves few negatives, a warning is logged.

    Args:
        blocks: (n,) int, the block number of every row.
        batch_size: maximum number of rows in a batch.
        seed: seed of the shuffles.
        processes: number of processes of `torchrun`, which take the batches in turn.
        renumber: whether to yield epoch * n + row instead of row, so that a number also tells its epoch.
        together: whether the processes compute each batch together. It is then as large as theirs are in all, and comes
            once for each of them. Else every process has batches of its own.

    Raises:
        ValueError: if there are too few rows for the processes.
    """

    def __init__(
        self,
        blocks: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        processes: int = 1,
        renumber: bool = False,
        together: bool = False,
    ):
        self.blocks = np.asarray(blocks, dtype=np.int64)
        self.seed = seed
        self.renumber = renumber
        self.epoch = 0
        self.copies = processes if together else 1
        batch_size *= self.copies
        largest = int(np.bincount(self.blocks).max())
        if 2 * largest > len(self.blocks) > 1:
            logger.warning(
                _(
                    "{rows} of {all} queries belong to one cluster and are no negatives of each other, so that a batch "
                    "teaches little. A smaller max_cluster_size in 01_positives helps."
                ).format(rows=largest, all=len(self.blocks))
            )
        multiple = processes // self.copies
        full = -(-len(self.blocks) // (batch_size * multiple)) * multiple
        self.batches = min(full, len(self.blocks) // processes * multiple)  # no process without a row
        if not self.batches:
            raise ValueError(f"{len(self.blocks)} rows are too few for {processes} processes")

    def __len__(self) -> int:
        return self.batches * self.copies

    def __iter__(self) -> Iterator[list[int]]:
        first = self.epoch * len(self.blocks) if self.renumber else 0
        for batch in split_into_batches(self.blocks, self.batches, np.random.default_rng([self.seed, self.epoch])):
            for _copy in range(self.copies):
                yield [first + row for row in batch]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class MixedBatchSampler:
    """Batch sampler of several data sets that are trained together; each batch comes from one of them.

    Args:
        samplers: one for each data set.
        offsets: number of the first row of each data set in their concatenation.
        mixing: "proportional" shuffles all batches of all sets, each used once an epoch; "round_robin" takes the sets
            in turn until the smallest one is used up.
        seed: seed of the shuffle.
        processes: as for `ClusterBatchSampler`; all processes get batches of the same set at the same time, and the
            same batch where they compute it together.
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
            for _process in range(self.processes):
                yield [row + self.offsets[number] for row in next(batches[number])]

    def _turns(self) -> list[int]:
        """The number of the data set of each step; a step takes one batch for each process."""
        turns = [len(sampler) // self.processes for sampler in self.samplers]
        if self.mixing == "round_robin":
            return list(range(len(turns))) * min(turns)
        return np.random.default_rng([self.seed, self.epoch]).permutation(np.repeat(range(len(turns)), turns)).tolist()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for sampler in self.samplers:
            sampler.set_epoch(epoch)
