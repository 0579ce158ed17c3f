"""Batches of samples, made by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from duopose.datasets.dataset import SampleKey
from duopose.datasets.workers import end_workers, prepare_worker
from duopose.errors import UserError
from duopose.types import Batch, Sample

AnyBatch = TypeVar("AnyBatch")
NO_IMAGES = (
    "a disk or a process that reads images does not answer; look at the disk of DATASET.ROOT, or "
    "raise DATA_TIMEOUT if it is only slow"
)


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
    skipped = tuple(reason for sample in samples for reason in sample.skipped)
    return Batch(images, keypoints, masks, [sample.image_id for sample in samples], skipped)


class KeyedDataset(Protocol):
    """Samples by key; a sample depends on its key alone."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> Sample: ...


class BatchLoader(Generic[AnyBatch]):
    """An iterable of batches that raises a worker's UserError without torch's worker traceback.

    When an iteration ends with an error, the workers end, too.
    """

    _batches: Iterator[Any] | None = None  # of the last iteration

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[AnyBatch]:
        batches = iter(self.loader)
        self._batches = batches
        try:
            while (batch := _receive(batches)) is not None:
                yield batch
        except GeneratorExit:  # no error: the workers wait for the next iteration
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers now, whoever still refers to this loader."""
        if self._batches is not None:
            end_workers(self._batches)


def _receive(batches: Iterator[Any]) -> Any:
    """The next batch, None at the end. Raises a UserError that a worker has returned.

    torch notices a dead worker while it waits or by SIGCHLD, wherever the program is. Where the
    worker dies after it announced a batch and before its memory was fetched, the connection to it
    fails first.
    """
    try:
        batch = next(batches, None)
    except (FileNotFoundError, ConnectionError, EOFError) as error:
        if str(error).startswith("Caught "):  # raised inside a worker that lives
            raise
        reason = str(error) or type(error).__name__
        raise RuntimeError(f"DataLoader worker exited: {reason}") from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader timed out"):
            raise
        raise UserError(f"{error} (DATA_TIMEOUT): {NO_IMAGES}") from error
    if not isinstance(batch, UserError):
        return batch

    try:
        raise batch
    finally:
        del batch  # the error holds this frame, and must not be held by it


def make_data_loader(
    dataset: KeyedDataset,
    batches: Iterable[Sequence[SampleKey]],
    workers: int = 0,
    pin_memory: bool = False,
    context: str | None = None,
    collate_samples: Callable[[Sequence[Sample]], Batch] = collate,
) -> BatchLoader[Batch]:
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
        worker_init_fn=prepare_worker,
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
