"""A whole set of pictures through the predictor: loading, network and decoding overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from duopose.engine.inputs import PreparedPicture
from duopose.engine.pictures import TestPictures, load_batches, plan_batches
from duopose.engine.predict import Predictor
from duopose.engine.timing import StageTimes
from duopose.types import ImageResult

WAITING = 8  # pictures whose maps may wait for the decoder, so that maps do not pile up in memory

OnPicture = Callable[[PreparedPicture, ImageResult], None]


def predict_set(
    predictor: Predictor,
    pictures: TestPictures,
    indices: Sequence[int],
    batch_size: int,
    workers: int,
    times: StageTimes,
    on_picture: OnPicture,
) -> list[ImageResult]:
    """The people of the pictures at `indices`, in the order of `indices`.

    Worker processes read and resize, this thread runs the network, another merges and decodes. `on_picture` is called in
    this thread after each picture (progress, drawing). Time per stage is added to `times`; stages overlap, so they may add
    up to more than the wall time. On the CPU pictures are run one at a time: a batch gains nothing there, and its last
    bits would depend on the pictures that share it.
    """
    batch_size = 1 if predictor.device.type == "cpu" else batch_size
    order = {pictures.source.image_ids[index]: place for place, index in enumerate(indices)}
    batches = plan_batches(pictures.source, predictor.rule, indices, batch_size)
    results: list[ImageResult] = []
    waiting: deque[tuple[PreparedPicture, Future[ImageResult]]] = deque()

    def collect(left: int) -> None:
        while len(waiting) > left:
            picture, future = waiting.popleft()
            result = future.result()
            results.append(result)
            on_picture(picture, result)

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as decoding:
        for batch in _timed(load_batches(pictures, batches, workers), times):
            with times.stage("network"):
                passes = predictor.run(batch)
                if predictor.device.type == "cuda":
                    torch.cuda.synchronize(predictor.device)
            for picture, own in zip(batch, passes, strict=True):
                waiting.append((picture, decoding.submit(predictor.decode, picture, own, times)))
            collect(left=max(WAITING - len(batch), 0))
        collect(left=0)
    return sorted(results, key=lambda result: order[result.image_id])


def _timed(batches: Iterator[list[PreparedPicture]], times: StageTimes) -> Iterator[list[PreparedPicture]]:
    """The batches, the time spent waiting for each put down as loading."""
    while True:
        with times.stage("waiting for pictures"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
