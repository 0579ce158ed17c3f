"""Test images by the batch: read and resized in worker processes, grouped so that a batch has one input size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from duopose.datasets.dataset import CocoFormatDataset
from duopose.errors import UserError
from duopose.inference.preprocess import InputRule, PreparedImage, prepare_image


class TestImages(Dataset[PreparedImage | UserError]):
    """The images of a data set, resized for the network."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(
        self, source: CocoFormatDataset, rule: InputRule, keep_images: frozenset[int] = frozenset()
    ) -> None:
        self.source, self.rule, self.keep_images = source, rule, keep_images

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> PreparedImage | UserError:
        """A prepared image; a UserError as a value, which a worker process can hand on whole."""
        try:
            image = self.source.read(index)
        except UserError as error:
            return error
        return prepare_image(
            image, self.source.image_ids[index], self.rule, index in self.keep_images
        )


def plan_batches(
    source: CocoFormatDataset, rule: InputRule, indices: Sequence[int], batch_size: int
) -> list[list[int]]:
    """Indices put together into batches of one input size each, in order of appearance."""
    open_batches: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    done: list[list[int]] = []
    for index in indices:
        key = tuple(
            (frame.width, frame.height)
            for frame in rule.frames(*source.people.sizes[index].tolist())
        )
        open_batches[key].append(index)
        if len(open_batches[key]) == batch_size:
            done.append(open_batches.pop(key))
    return [*done, *open_batches.values()]


def load_batches(
    images: TestImages, batches: Sequence[Sequence[int]], workers: int
) -> Iterator[list[PreparedImage]]:
    """The planned batches, read ahead by `workers` processes; an image whose file has another size than annotated splits its batch."""
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=min(workers, len(batches)),
        collate_fn=list,
        worker_init_fn=_one_thread,
    )
    for batch in loader:
        by_size: dict[tuple[tuple[int, ...], ...], list[PreparedImage]] = defaultdict(list)
        for image in batch:
            if isinstance(image, UserError):
                raise image
            by_size[tuple(one.shape for one in image.inputs)].append(image)
        yield from by_size.values()


def _one_thread(worker: int) -> None:
    """Workers are the parallelism; threads inside them would fight over the cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
