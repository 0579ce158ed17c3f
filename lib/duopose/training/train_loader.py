"""Which images make up which batch, and loading these batches ahead of the training loop.

An epoch is one seeded permutation of the data set, cut into *global batches* of
batch_size * world_size images. Rank r takes images r, r + world_size, ... of each global batch. So
N processes with b images each see the same global batches, in the same order, as one process with
N * b. Every image is used exactly once an epoch.

The last global batch may be short. The batches of the ranks then differ by at most one image, and
`step_weights` still makes the gradient the mean over all images of the step. Only where fewer
images than ranks are left, the ranks without one process one image with weight 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Sampler

from duopose.datasets.loader import BatchLoader, KeyedDataset, make_data_loader
from duopose.training.wait_limit import WaitLimit
from duopose.types import Batch, Sample

Collate = Callable[[Sequence[Sample]], Batch]


@dataclass(frozen=True)
class EpochPartition:
    """Assigns the images of an epoch to ranks, batches and steps.

    `seen` in the methods: images of the epoch that all ranks together have used before.
    """

    num_images: int  # in the data set
    batch_size: int  # images of one process in a batch
    rank: int = 0
    world_size: int = 1
    accumulate: int = 1  # batches in a step
    seed: int = 0
    shuffle: bool = True

    @property
    def global_batch_size(self) -> int:
        """Images of all processes in a batch."""
        return self.batch_size * self.world_size

    @property
    def images_per_step(self) -> int:
        """Images of all processes in a full step."""
        return self.global_batch_size * self.accumulate

    def num_batches(self, seen: int = 0) -> int:
        """Batches of one process in the rest of the epoch."""
        return -(-(self.num_images - seen) // self.global_batch_size)

    def num_steps(self, seen: int = 0) -> int:
        """Steps in the rest of the epoch."""
        return -(-(self.num_images - seen) // self.images_per_step)

    def order(self, epoch: int) -> np.ndarray:
        """(num_images,) int: the permutation of the epoch, the same in every process and run."""
        if not self.shuffle:
            return np.arange(self.num_images)
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_images)

    def batches(self, epoch: int, seen: int = 0) -> Iterator[list[tuple[int, int]]]:
        """This rank's batches in the rest of the epoch, as lists of keys (epoch, index)."""
        order = self.order(epoch)
        for start in range(seen, self.num_images, self.global_batch_size):
            global_batch = order[start : start + self.global_batch_size]
            own = global_batch[self.rank :: self.world_size]
            if not len(own):
                own = global_batch[:1]  # has weight 0, but every rank must take part
            yield [(epoch, int(index)) for index in own]

    def step_weights(self, seen: int) -> list[float]:
        """For each batch of the next step: the factor of this rank's mean loss.

        The sum over the batches of the step, averaged over the ranks, is then the mean over all
        images of the step.
        """
        images = min(self.images_per_step, self.num_images - seen)
        weights = []
        for start in range(0, images, self.global_batch_size):
            global_batch = min(self.global_batch_size, images - start)
            own = len(range(self.rank, global_batch, self.world_size))
            weights.append(own * self.world_size / images)
        return weights


class PositionSampler(Sampler[list[tuple[int, int]]]):
    """A rank's batches from a position within an epoch to the end of the run.

    One iteration covers all epochs, so that workers read ahead across their boundaries.
    """

    def __init__(self, partition: EpochPartition, end_epoch: int) -> None:
        self.partition = partition
        self.end_epoch = end_epoch
        self.epoch = 0
        self.seen = 0

    def set_position(self, epoch: int, seen: int = 0) -> None:
        """Where the next iteration begins."""
        self.epoch = epoch
        self.seen = seen

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        seen = self.seen
        for epoch in range(self.epoch, self.end_epoch):
            yield from self.partition.batches(epoch, seen)
            seen = 0

    def __len__(self) -> int:
        if self.epoch >= self.end_epoch:
            return 0
        later_epochs = self.end_epoch - self.epoch - 1
        current = self.partition.num_batches(self.seen)
        return current + later_epochs * self.partition.num_batches()


class TrainLoader:
    """The batches of one rank on its device, epoch after epoch without a pause between them."""

    def __init__(
        self,
        dataset: KeyedDataset,
        collate: Collate,
        partition: EpochPartition,
        device: torch.device,
        workers: int,
        end_epoch: int,
    ) -> None:
        self.partition = partition
        self.device = device
        self.seconds_waited = 0.0  # for workers, since the start
        self.wait_limit: WaitLimit | None = None
        self.sampler = PositionSampler(partition, end_epoch)
        self.loader: BatchLoader[Batch] | None = make_data_loader(
            dataset,
            self.sampler,
            workers,
            pin_memory=device.type == "cuda",
            collate_samples=collate,
        )
        self._batches: Iterator[Batch] | None = None

    def steps(self, epoch: int, seen: int) -> Iterator[list[Batch]]:
        """The batches of each step in the rest of an epoch of which `seen` images are done.

        A step has TRAIN.ACCUMULATE batches, the last one of an epoch may have fewer. The first call
        sets where the run begins; the next ones must ask for the epochs that follow.
        """
        if self._batches is None:
            assert self.loader is not None, "the loader is closed"
            self.sampler.set_position(epoch, seen)
            self._batches = iter(self.loader)

        while seen < self.partition.num_images:
            num_batches = len(self.partition.step_weights(seen))
            yield [self._next_batch() for _ in range(num_batches)]
            seen += self.partition.images_per_step

    def close(self) -> None:
        """End the workers, even if other objects still refer to this loader."""
        if self.loader is not None:
            self.loader.close()
        self._batches = None
        self.loader = None

    def _next_batch(self) -> Batch:
        assert self._batches is not None
        start = time.perf_counter()
        with self.wait_limit.waiting() if self.wait_limit else nullcontext():
            batch = next(self._batches)
        self.seconds_waited += time.perf_counter() - start
        return move_to_device(batch, self.device)


def move_to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device; from pinned memory the copies do not block the host.

    The keypoints stay on the CPU, where the targets are prepared.
    """
    return Batch(
        images=batch.images.to(device, non_blocking=True),
        keypoints=batch.keypoints,
        masks=tuple(mask.to(device, non_blocking=True) for mask in batch.masks),
        image_ids=batch.image_ids,
        skipped=batch.skipped,
    )
