"""Which images make up which batch, the same for any number of processes.

An epoch is one seeded permutation of the data set, cut into *global batches* of `batch * world` images; rank r takes
every world-th image of each, beginning with the r-th. So N processes with b images see the same global batches, in the same
order, as one process with N * b. Every image comes exactly once an epoch. The last global batch may be short: the
ranks' shares then differ by one at most, and `weights` makes the gradient the mean over its images all the same.
Only where fewer images than ranks are left, the ranks without one run an image again with weight 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]  # (epoch, index), how data sets are addressed


@dataclass(frozen=True)
class EpochPartition:
    """How an epoch's images are dealt out."""

    length: int  # images in the data set
    batch: int  # images of a process in a batch
    rank: int = 0
    world: int = 1
    accumulate: int = 1  # batches in a step
    seed: int = 0
    shuffle: bool = True

    @property
    def global_batch(self) -> int:
        """Images of all processes in a batch."""
        return self.batch * self.world

    @property
    def images_per_step(self) -> int:
        """Images of all processes in a full step."""
        return self.global_batch * self.accumulate

    def num_batches(self, seen: int = 0) -> int:
        """Batches of a process in the rest of an epoch of which `seen` images are done."""
        return -(-(self.length - seen) // self.global_batch)

    def num_steps(self, seen: int = 0) -> int:
        """Steps in the rest of an epoch of which `seen` images are done."""
        return -(-(self.length - seen) // self.images_per_step)

    def order(self, epoch: int) -> np.ndarray:
        """(length,) int: the epoch's permutation; the same in every process and every rerun."""
        if not self.shuffle:
            return np.arange(self.length)
        return np.random.default_rng([self.seed, epoch]).permutation(self.length)

    def batches(self, epoch: int, seen: int = 0) -> Iterator[list[Key]]:
        """This rank's batches of the epoch, leaving out the first `seen` images of all ranks."""
        order = self.order(epoch)
        for start in range(seen, self.length, self.global_batch):
            ours = order[start : start + self.global_batch][self.rank :: self.world]
            if not len(ours):
                ours = order[start : start + 1]  # weight 0, but every rank must take part
            yield [(epoch, int(index)) for index in ours]

    def step_weights(self, seen: int) -> list[float]:
        """Per batch of the step that begins after `seen` images: what to multiply this rank's mean loss with.

        Averaged over the ranks, the sum over the step's batches is then the mean over all images of the step.
        """
        images = min(self.images_per_step, self.length - seen)
        sizes = [
            min(self.global_batch, images - start) for start in range(0, images, self.global_batch)
        ]
        ours = [len(range(self.rank, size, self.world)) for size in sizes]
        return [mine * self.world / images for mine in ours]


class PositionSampler(Sampler[list[Key]]):
    """A rank's batches from a place in the middle of an epoch to the end of the run, so that workers can read ahead over epochs."""

    def __init__(self, partition: EpochPartition, end_epoch: int) -> None:
        self.partition, self.end_epoch = partition, end_epoch
        self.epoch = 0
        self.seen = 0

    def set_position(self, epoch: int, seen: int = 0) -> None:
        """Where the next iteration begins."""
        self.epoch, self.seen = epoch, seen

    def __iter__(self) -> Iterator[list[Key]]:
        seen = self.seen
        for epoch in range(self.epoch, self.end_epoch):
            yield from self.partition.batches(epoch, seen)
            seen = 0

    def __len__(self) -> int:
        rest = self.partition.num_batches(self.seen)
        return (
            rest + self.partition.num_batches() * (self.end_epoch - self.epoch - 1)
            if self.epoch < self.end_epoch
            else 0
        )
