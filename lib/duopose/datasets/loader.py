"""Batches, made by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from duopose.errors import UserError
from duopose.types import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size as a batch; people are padded with unlabelled ones to the largest number, at least one.

    Images lie in memory as they were read (channels last), which is the order the network's fast kernels want.
    """
    images = torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2)
    people = max(1, *(len(sample.keypoints) for sample in samples))
    keypoints = torch.zeros(len(samples), people, *samples[0].keypoints.shape[1:])
    for row, sample in zip(keypoints, samples, strict=True):
        row[: len(sample.keypoints)] = torch.from_numpy(sample.keypoints)
    masks = tuple(
        torch.from_numpy(np.stack(level))
        for level in zip(*(sample.masks for sample in samples), strict=True)
    )
    return Batch(images, keypoints, masks, [sample.image_id for sample in samples])


Key = int | tuple[int, int]  # index, or (epoch, index)


class KeyedDataset(Protocol):
    """Samples by key; a sample depends on its key alone."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> Sample: ...


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
    dataset: KeyedDataset,
    batches: Iterable[Sequence[Key]],
    workers: int = 0,
    pin_memory: bool = False,
    context: str | None = None,
    collate_samples: Callable[[Sequence[Sample]], Batch] = collate,
) -> BatchLoader:
    """A batch for each list of keys; with (epoch, index) its augmentation does not depend on who makes it.

    workers: processes that live on between iterations; 0 loads in this process. context: fork | spawn | forkserver, None for
    the platform's own; all give the same batches. Making and using the loader leaves torch's random generator alone.
    """
    loader: DataLoader[Any] = DataLoader(
        _Telling(dataset),
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=partial(_collate_or_tell, collate_samples),
        pin_memory=pin_memory,
        worker_init_fn=_prepare_worker,
        persistent_workers=workers > 0,
        multiprocessing_context=context if workers else None,
        generator=torch.Generator(),
    )
    return BatchLoader(loader)


class _Telling(Dataset[Any]):
    """Hands a UserError on as a value, so that it reaches the main process whole."""

    def __init__(self, dataset: KeyedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample | UserError:
        try:
            return self.dataset[key]
        except UserError as error:
            return error
        except OSError as error:
            return UserError(
                f"the sample with the key {key} could not be read: {error}; is the data folder still there?"
            )


def _collate_or_tell(
    collate_samples: Callable[[Sequence[Sample]], Batch], samples: Sequence[Sample | UserError]
) -> Batch | UserError:
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    return collate_samples(samples)  # type: ignore[arg-type]


def _prepare_worker(_worker: int) -> None:
    """One thread a worker, the cores being shared out by their number; and when workers end is for their parent to decide.

    Ctrl-C reaches every process of a terminal, and schedulers send SIGTERM to every process of a job: a worker that obeyed
    would break the step that its parent wants to finish.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _second_time_ends)


def _second_time_ends(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
