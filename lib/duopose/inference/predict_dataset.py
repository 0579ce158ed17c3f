"""All images of a data set through a predictor: reading, network and decoding overlap.

Worker processes read and resize the images, the calling thread runs the network, and a second
thread merges and decodes, on a GPU in a stream of its own: it does not wait for the next batch.
Batches are planned from the annotated image sizes, so that a batch has one input size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.loader import BatchLoader
from duopose.datasets.workers import prepare_worker
from duopose.decode.merge_passes import Pass
from duopose.errors import BadSample, UserError
from duopose.inference.predictor import (
    InputTransform,
    Predictor,
    PreparedImage,
    StageTimes,
    group_by_key,
    prepare_image,
)
from duopose.skeletons import Skeleton
from duopose.types import ImageResult, Poses

# Images whose maps wait for the decoder, or one batch; bounds the memory that maps take.
MAX_WAITING = 8

OnImage = Callable[[ImageResult], object]


@dataclass(frozen=True)
class SkippedImage:
    """An image that cannot be used: DATASET.ON_BAD_SAMPLE skip."""

    image_id: int | str
    reason: str  # a sentence with file and id


class InputImages(Dataset[PreparedImage | SkippedImage | UserError]):
    """The images of a data set as network inputs."""

    def __init__(self, source: CocoFormatDataset, transform: InputTransform) -> None:
        self.source = source
        self.transform = transform
        self.skipped: list[SkippedImage] = []  # by `predict_dataset`

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> PreparedImage | SkippedImage | UserError:
        """A prepared image, or the error as a value: a worker process can return it unchanged."""
        try:
            return self._prepared(index)
        except BadSample as error:
            if self.source.skip_bad:
                return SkippedImage(self.source.image_ids[index], str(error))
            return error
        except UserError as error:
            return error

    def _prepared(self, index: int) -> PreparedImage:
        """BadSample where the image cannot be used."""
        image = self.source.read(index)
        image_id = self.source.image_ids[index]
        try:
            return prepare_image(image, image_id, self.transform)
        except BadSample as error:
            name = self.source.people.file_names[index]
            raise BadSample(f"image {name} (id {image_id}) {error}") from error


def plan_batches(
    source: CocoFormatDataset, transform: InputTransform, indices: Sequence[int], batch_size: int
) -> list[list[int]]:
    """Indices in batches of one input size each, by the annotated image sizes."""

    def input_sizes(index: int) -> tuple[tuple[int, int], ...]:
        width, height = source.people.sizes[index].tolist()
        return tuple((frame.width, frame.height) for frame in transform.frames(width, height))

    return list(group_by_key(indices, input_sizes, batch_size))


def load_batches(
    images: InputImages, batches: Sequence[Sequence[int]], workers: int, timeout: float = 0
) -> Iterator[list[PreparedImage]]:
    """The planned batches, read ahead by `workers` processes.

    A batch is split if an image file has another size than annotated. Raises the UserError of an
    image that cannot be read. timeout: seconds that a worker may take for a batch, 0 for no limit.
    """
    num_workers = min(workers, len(batches))
    loader: BatchLoader[list[PreparedImage | SkippedImage]] = BatchLoader(
        DataLoader(
            images,
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=num_workers,
            collate_fn=_images_or_error,
            worker_init_fn=prepare_worker,
            timeout=timeout if num_workers else 0,
        )
    )
    for batch in loader:
        images.skipped += [image for image in batch if isinstance(image, SkippedImage)]
        prepared = [image for image in batch if isinstance(image, PreparedImage)]
        yield from group_by_key(prepared, lambda image: image.input_shapes, len(batch))


def _images_or_error(
    images: Sequence[PreparedImage | SkippedImage | UserError],
) -> list[PreparedImage | SkippedImage] | UserError:
    """The images of a batch, or the first error among them."""
    usable: list[PreparedImage | SkippedImage] = []
    for image in images:
        if isinstance(image, UserError):
            return image
        usable.append(image)
    return usable


def predict_dataset(
    predictor: Predictor,
    images: InputImages,
    indices: Sequence[int],
    batch_size: int,
    workers: int,
    times: StageTimes,
    on_image: OnImage,
    timeout: float = 0,
) -> list[ImageResult]:
    """The people of the images at `indices`, in the order of `indices`.

    Images that are skipped have no people; `images.skipped` lists them.
    on_image: called in this thread with each result, e.g. for a progress bar.
    timeout: seconds that a worker may take for a batch, 0 for no limit.
    times: the time of each stage is added; stages overlap, so the sum may exceed the wall time.
    On the CPU the batch size is 1: a batch is not faster there, and the last bits of a result
    would depend on the other images of its batch.
    """
    if predictor.device.type == "cpu":
        batch_size = 1
    batches = plan_batches(images.source, predictor.transform, indices, batch_size)
    image_ids = images.source.image_ids
    order = {image_ids[index]: position for position, index in enumerate(indices)}

    results: list[ImageResult] = []
    waiting: deque[Future[ImageResult]] = deque()

    def collect(max_waiting: int) -> None:
        while len(waiting) > max_waiting:
            result = waiting.popleft().result()
            results.append(result)
            on_image(result)

    on_own_stream = own_stream(predictor.device)

    def decode(image: PreparedImage, passes: Sequence[Pass]) -> ImageResult:
        with on_own_stream():
            return predictor.decode(image, passes, times)

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as decoding:
        for batch in _timed(load_batches(images, batches, workers, timeout), times):
            with times.stage("network"):
                passes = predictor.forward(batch)
                wait_for_network(predictor.device)
            for image, image_passes in zip(batch, passes, strict=True):
                waiting.append(decoding.submit(decode, image, image_passes))
            # The images of one batch are decoded while the network computes the next one.
            collect(max_waiting=max(MAX_WAITING - len(batch), len(batch)))
        collect(max_waiting=0)

    results += [_no_people(image, images.source.skeleton) for image in images.skipped]
    return sorted(results, key=lambda result: order[result.image_id])


def _no_people(image: SkippedImage, skeleton: Skeleton) -> ImageResult:
    num_keypoints = skeleton.num_keypoints
    poses = Poses(
        keypoints=np.zeros((0, num_keypoints, 3)),
        scores=np.zeros(0),
        filled=np.zeros((0, num_keypoints), dtype=bool),
    )
    return ImageResult(image.image_id, poses)


def own_stream(device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """Contexts in which a GPU's work is queued in one stream of its own."""
    if device.type != "cuda":
        return nullcontext
    return partial(torch.cuda.stream, _decoding_stream(device))


@cache
def _decoding_stream(device: torch.device) -> torch.cuda.Stream:
    """The same one for each evaluation: torch keeps the memory of each stream for itself."""
    return torch.cuda.Stream(device)


def wait_for_network(device: torch.device) -> None:
    """Wait until a GPU has done the work of this thread's stream; the CPU is free meanwhile."""
    if device.type == "cuda":
        event = torch.cuda.Event(blocking=True)
        event.record()
        event.synchronize()


def _timed(
    batches: Iterator[list[PreparedImage]], times: StageTimes
) -> Iterator[list[PreparedImage]]:
    """The batches; the time spent waiting for each is counted as loading."""
    while True:
        with times.stage("waiting for images"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
