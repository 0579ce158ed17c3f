"""Batches of samples, made by worker processes."""

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

from duopose.datasets.dataset import SampleKey
from duopose.errors import UserError
from duopose.types import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size as a batch; people are padded with unlabelled ones to the largest P >= 1.

    Images keep their memory layout (channels last), the layout of cuDNN's fast kernels.
    """
    pixels = np.stack([sample.image for sample in samples])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)

    num_people = max(1, *(len(sample.keypoints) for sample in samples))
    keypoints = torch.zeros(len(samples), num_people, *samples[0].keypoints.shape[1:])
    for row, sample in zip(keypoints, samples, strict=True):
        row[: len(sample.keypoints)] = torch.from_numpy(sample.keypoints)

    masks_by_stride = zip(*(sample.masks for sample in samples), strict=True)
    masks = tuple(torch.from_numpy(np.stack(of_stride)) for of_stride in masks_by_stride)
    return Batch(images, keypoints, masks, [sample.image_id for sample in samples])


class KeyedDataset(Protocol):
    """Samples by key; a sample depends on its key alone."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> Sample: ...


class BatchLoader:
    """An iterable of batches that raises a worker's UserError without torch's worker traceback."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.loader)
        while (batch := _receive(batches)) is not None:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def _receive(batches: Iterator[Any]) -> Any:
    """The next batch, None at the end; a connection to a dead worker is a RuntimeError of torch's.

    torch notices a dead worker while it waits or by SIGCHLD, wherever the program is. Where the
    worker dies after it announced a batch and before its memory was fetched, the connection to it
    fails first.
    """
    try:
        return next(batches, None)
    except (FileNotFoundError, ConnectionError, EOFError) as error:
        if str(error).startswith("Caught "):  # raised inside a worker that lives
            raise
        reason = str(error) or type(error).__name__
        raise RuntimeError(f"DataLoader worker exited: {reason}") from error


def make_data_loader(
    dataset: KeyedDataset,
    batches: Iterable[Sequence[SampleKey]],
    workers: int = 0,
    pin_memory: bool = False,
    context: str | None = None,
    collate_samples: Callable[[Sequence[Sample]], Batch] = collate,
) -> BatchLoader:
    """A loader giving one batch for each list of keys; the batches do not depend on `workers`.

    workers: processes that stay alive between epochs; 0 loads in this process. context: fork,
    spawn, forkserver, or None for the platform's default. Creating and using the loader does not
    advance torch's global random generator.
    """
    loader: DataLoader[Any] = DataLoader(
        _ErrorsAsValues(dataset),
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=partial(_collate_or_error, collate_samples),
        pin_memory=pin_memory,
        worker_init_fn=_prepare_worker,
        persistent_workers=workers > 0,
        multiprocessing_context=context if workers else None,
        generator=torch.Generator(),
    )
    return BatchLoader(loader)


class _ErrorsAsValues(Dataset[Any]):
    """Returns a UserError instead of raising it, so that it reaches the main process unchanged."""

    def __init__(self, dataset: KeyedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Sample | UserError:
        try:
            return self.dataset[key]
        except UserError as error:
            return error
        except OSError as error:
            return UserError(
                f"the sample with the key {key} could not be read: {error}; "
                "is the data folder still there?"
            )


def _collate_or_error(
    collate_samples: Callable[[Sequence[Sample]], Batch], samples: Sequence[Sample | UserError]
) -> Batch | UserError:
    """The batch, or the first error among the samples."""
    usable: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        usable.append(sample)
    return collate_samples(usable)


def _prepare_worker(_worker_id: int) -> None:
    """One thread per worker, and signals ignored until the parent process ends the worker.

    Ctrl-C and a scheduler's SIGTERM reach every process of a job. A worker that stopped at the
    first one would break the training step that its parent still finishes.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_first_sigterm)


def _ignore_first_sigterm(_number: int, _frame: FrameType | None) -> None:
    """The next SIGTERM ends the process, as by default."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
