"""A whole set of images through the predictor: loading, network and decoding overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from duopose.inference.image_batches import TestImages, load_batches, plan_batches
from duopose.inference.predictor import Predictor
from duopose.inference.preprocess import PreparedImage
from duopose.inference.timing import StageTimes
from duopose.types import ImageResult

WAITING = 8  # images whose maps may wait for the decoder, so that maps do not pile up in memory

OnImage = Callable[[PreparedImage, ImageResult], None]


def predict_set(
    predictor: Predictor,
    images: TestImages,
    indices: Sequence[int],
    batch_size: int,
    workers: int,
    times: StageTimes,
    on_image: OnImage,
) -> list[ImageResult]:
    """The people of the images at `indices`, in the order of `indices`.

    Worker processes read and resize, this thread runs the network, another merges and decodes. `on_image` is called in
    this thread after each image (progress, drawing). Time per stage is added to `times`; stages overlap, so they may add
    up to more than the wall time. On the CPU images are run one at a time: a batch gains nothing there, and its last
    bits would depend on the images that share it.
    """
    batch_size = 1 if predictor.device.type == "cpu" else batch_size
    order = {images.source.image_ids[index]: context for context, index in enumerate(indices)}
    batches = plan_batches(images.source, predictor.rule, indices, batch_size)
    results: list[ImageResult] = []
    waiting: deque[tuple[PreparedImage, Future[ImageResult]]] = deque()

    def collect(left: int) -> None:
        while len(waiting) > left:
            image, future = waiting.popleft()
            result = future.result()
            results.append(result)
            on_image(image, result)

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as decoding:
        for batch in _timed(load_batches(images, batches, workers), times):
            with times.stage("network"):
                passes = predictor.run(batch)
                if predictor.device.type == "cuda":
                    torch.cuda.synchronize(predictor.device)
            for image, own in zip(batch, passes, strict=True):
                waiting.append((image, decoding.submit(predictor.decode, image, own, times)))
            collect(left=max(WAITING - len(batch), 0))
        collect(left=0)
    return sorted(results, key=lambda result: order[result.image_id])


def _timed(
    batches: Iterator[list[PreparedImage]], times: StageTimes
) -> Iterator[list[PreparedImage]]:
    """The batches, the time spent waiting for each put down as loading."""
    while True:
        with times.stage("waiting for images"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
