"""Batches, made by worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from duopose.errors import UserError
from duopose.types import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size as a batch; people are padded with unlabelled ones to the largest number, at least one.

    Pictures lie in memory as they were read (channels last), which is the order the network's fast kernels want.
    """
    images = torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2)
    people = max(1, *(len(sample.keypoints) for sample in samples))
    keypoints = torch.zeros(len(samples), people, *samples[0].keypoints.shape[1:])
    for row, sample in zip(keypoints, samples, strict=True):
        row[: len(sample.keypoints)] = torch.from_numpy(sample.keypoints)
    masks = tuple(torch.from_numpy(np.stack(level)) for level in zip(*(sample.masks for sample in samples), strict=True))
    return Batch(images, keypoints, masks, [sample.image_id for sample in samples])


class BatchLoader:
    """An iterable of batches that raises a worker's UserError as the plain sentence it is (torch wraps it in a traceback)."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def build_loader(
    dataset: Dataset[Sample],
    sampler: Sampler[Any] | Iterable[Any],
    batch_size: int,
    workers: int = 0,
    drop_last: bool = False,
    pin_memory: bool = False,
    context: str | None = None,
) -> BatchLoader:
    """Batches of the keys that `sampler` gives: (epoch, index), whose augmentation does not depend on who makes it.

    workers: processes that live on between epochs; 0 loads in this process. context: fork | spawn | forkserver, None for
    the platform's own; all give the same batches.
    """
    loader: DataLoader[Any] = DataLoader(
        _Telling(dataset),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_collate_or_tell,
        drop_last=drop_last,
        pin_memory=pin_memory,
        worker_init_fn=_prepare_worker,
        persistent_workers=workers > 0,
        multiprocessing_context=context if workers else None,
    )
    return BatchLoader(loader)


class _Telling(Dataset[Any]):
    """Hands a UserError on as a value, so that it reaches the main process whole."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: Any) -> Sample | UserError:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


def _collate_or_tell(samples: Sequence[Sample | UserError]) -> Batch | UserError:
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    return collate(samples)  # type: ignore[arg-type]


def _prepare_worker(_worker: int) -> None:
    """One thread a worker: the cores are shared out by the number of workers."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
