"""Batches for the training loop: read by worker processes, moved to the device, and the time spent waiting for them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from duopose.engine.sampler import Key, PositionSampler, Shares
from duopose.errors import UserError
from duopose.types import Batch, Sample


class KeyedDataset(Protocol):
    """A data set addressed by (epoch, index), so that augmentation depends on nothing else."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> Sample: ...


Collate = Callable[[Sequence[Sample]], Batch]


class LoadError(NamedTuple):
    """Why a sample could not be made; travels from the worker in the sample's place."""

    sentence: str


class Feed:
    """The batches of one rank. Workers live as long as the feed; `waited` sums the seconds spent waiting for them."""

    def __init__(self, dataset: KeyedDataset, collate: Collate, shares: Shares, device: torch.device, workers: int) -> None:
        self.shares, self.device, self.waited = shares, device, 0.0
        self.sampler = PositionSampler(shares)
        self.loader: DataLoader[Any] = DataLoader(
            _Guarded(dataset),
            batch_sampler=self.sampler,
            num_workers=workers,
            collate_fn=partial(_collate_or_error, collate),
            pin_memory=device.type == "cuda",
            worker_init_fn=prepare_worker,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # its own, so that making an iterator leaves torch's generator alone
        )

    def steps(self, epoch: int, seen: int) -> Iterator[list[Batch]]:
        """The batches of each step (TRAIN.ACCUMULATE of them, fewer at the end) of an epoch of which `seen` pictures are done."""
        self.sampler.set_position(epoch, seen)
        batches = self._timed(iter(self.loader))
        for _ in range(self.shares.num_steps(seen)):
            yield [batch for _, batch in zip(range(self.shares.accumulate), batches)]

    def _timed(self, batches: Iterator[Batch | LoadError]) -> Iterator[Batch]:
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            if isinstance(batch, LoadError):
                raise UserError(batch.sentence)
            yield to_device(batch, self.device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device; from pinned memory the copies run beside the host."""
    images, keypoints = (tensor.to(device, non_blocking=True) for tensor in (batch.images, batch.keypoints))
    return Batch(images, keypoints, tuple(mask.to(device, non_blocking=True) for mask in batch.masks), batch.image_ids)


class _Guarded(Dataset[Any]):
    """A data set whose user errors come back as values: raised in a worker they would arrive as a traceback in a string."""

    def __init__(self, dataset: KeyedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample | LoadError:
        try:
            return self.dataset[key]
        except UserError as error:
            return LoadError(str(error))
        except OSError as error:
            return LoadError(f"picture number {key[1]} of the training data could not be read: {error}; is the data folder still there?")


def _collate_or_error(collate: Collate, samples: Sequence[Sample | LoadError]) -> Batch | LoadError:
    for sample in samples:
        if isinstance(sample, LoadError):
            return sample
    return collate(samples)  # type: ignore[arg-type]


def prepare_worker(_worker: int) -> None:
    """One thread a worker, and deaf to Ctrl-C: the training process decides when workers end."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _second_time_ends)


def _second_time_ends(_number: int, _frame: FrameType | None) -> None:
    """Schedulers send SIGTERM to every process of a job; a worker that obeyed would break the step that is to be finished."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
