"""Times a training sample, relative to decoding the same JPEG with OpenCV, and the data loader."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.loader import collate, make_data_loader
from duopose.profiling.measure import Row, Stage, measure
from duopose.profiling.synthetic_data import drawn_dataset

BATCH_SIZE = 8  # of the throughput row
TIMED_BATCHES = 24


def add_arguments(parser: ArgumentParser) -> None:
    """Size and number of the images, number of workers."""
    parser.add_argument(
        "--size", type=int, default=512, help="side of the training square (default 512)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="loader processes of the throughput row (default 2); 0: no such row",
    )
    parser.add_argument("--images", type=int, default=8, help="different images (default 8)")


def run(args: Namespace) -> Iterator[Row]:
    """A sample in this process, then the throughput of several workers."""
    with TemporaryDirectory() as folder:
        dataset = drawn_dataset(Path(folder), args.images, args.size)
        yield time_sample(dataset, args.repeats)
        if args.workers:
            yield time_loader(dataset, args.workers)


def time_sample(dataset: CocoFormatDataset, repeats: int) -> Row:
    """Milliseconds per image of decoding, loading and the whole sample; bytes of a sample."""
    names = dataset.people.file_names
    files = [np.frombuffer(dataset.images.read_bytes(name), dtype=np.uint8) for name in names]
    indices = range(len(dataset))
    times = measure(
        {
            "decode": lambda: [cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files],
            "load": lambda: [dataset.load(index) for index in indices],
            "sample": lambda: [dataset[(0, index)] for index in indices],
        },
        repeats,
    )

    batch = collate([dataset[(0, 0)]])
    tensors = (batch.images, batch.keypoints, *batch.masks)
    row: Row = {"name": "sample, one core"}
    row |= {f"{name}_ms": ms / len(dataset) for name, ms in times.items()}
    row["decodes_per_sample"] = times["sample"] / times["decode"]
    row["bytes_per_sample"] = sum(tensor.nbytes for tensor in tensors)
    return row


def time_loader(dataset: CocoFormatDataset, workers: int) -> Row:
    """Samples per second, without the batches that the workers prepare while they start."""
    warm_up = 2 * workers + 1
    keys = []
    for batch in range(warm_up + TIMED_BATCHES):
        first = batch * BATCH_SIZE
        keys.append([(0, index % len(dataset)) for index in range(first, first + BATCH_SIZE)])

    batches = iter(make_data_loader(dataset, keys, workers))
    for _ in islice(batches, warm_up):
        pass
    start = time.perf_counter()
    num_samples = sum(len(batch.image_ids) for batch in batches)
    seconds = time.perf_counter() - start
    return {"name": "loader", "workers": workers, "samples_per_second": num_samples / seconds}


LOADER = Stage("loader", "Training samples: time and bytes.", add_arguments, run)
