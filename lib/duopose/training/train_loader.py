"""Batches for the training loop: read ahead by worker processes, moved to the device, and the time spent waiting for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch

from duopose.datasets.loader import BatchLoader, KeyedDataset, build_loader
from duopose.training.partition import EpochPartition, PositionSampler
from duopose.types import Batch, Sample

Collate = Callable[[Sequence[Sample]], Batch]


class TrainLoader:
    """The batches of one rank, one epoch after the other without a pause between; `waited` sums the seconds spent waiting."""

    def __init__(
        self,
        dataset: KeyedDataset,
        collate: Collate,
        partition: EpochPartition,
        device: torch.device,
        workers: int,
        end_epoch: int,
    ) -> None:
        self.partition, self.device, self.waited = partition, device, 0.0
        self.sampler = PositionSampler(partition, end_epoch)
        pin = device.type == "cuda"
        self.loader: BatchLoader | None = build_loader(
            dataset, self.sampler, workers, pin, collate_samples=collate
        )
        self._batches: Iterator[Batch] | None = None

    def steps(self, epoch: int, seen: int) -> Iterator[list[Batch]]:
        """The batches of each step (TRAIN.ACCUMULATE of them, fewer at the end) of an epoch of which `seen` images are done.

        The first call says where the run begins; the next ones must ask for the epochs that follow.
        """
        if self._batches is None:
            assert self.loader is not None, "the feed is closed"
            self.sampler.set_position(epoch, seen)
            self._batches = iter(self.loader)
        while seen < self.partition.length:
            yield [self._next() for _ in self.partition.step_weights(seen)]
            seen += self.partition.images_per_step

    def close(self) -> None:
        """End the workers, whoever still holds this feed.

        Left to the interpreter's exit they are sent two SIGTERMs in a row, of which they are meant to survive the first; where
        both come as one, the parent waits for them for ever.
        """
        self._batches = self.loader = None

    def _next(self) -> Batch:
        assert self._batches is not None
        start = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - start
        return to_device(batch, self.device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device; from pinned memory the copies run beside the host."""
    images, keypoints = (
        tensor.to(device, non_blocking=True) for tensor in (batch.images, batch.keypoints)
    )
    return Batch(
        images,
        keypoints,
        tuple(mask.to(device, non_blocking=True) for mask in batch.masks),
        batch.image_ids,
    )
