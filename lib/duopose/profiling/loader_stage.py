"""What a training sample costs in a worker, as a multiple of OpenCV's decoding of the same JPEG, and how many bytes it sends."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import orjson

from duopose.coco_annotations import read_annotation_file
from duopose.datasets.annotations import collect_people
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.loader import build_loader, collate
from duopose.datasets.sample_data.body import pose_body
from duopose.datasets.sample_data.figure import Canvas, draw_figure, random_look
from duopose.datasets.split_files import FolderImages
from duopose.datasets.transforms import Augmentation
from duopose.profiling.measure import Row, measure, print_row
from duopose.skeletons import COCO

WIDTH, HEIGHT, PEOPLE = 640, 480, 10


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this stage."""
    parser.add_argument(
        "--size", type=int, default=512, help="side of the training square (default 512)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="loader processes of the throughput row; 0: leave the row out",
    )
    parser.add_argument("--images", type=int, default=8, help="different images")


def run(args: Namespace) -> dict[str, list[Row]]:
    """One core's share per sample, then the throughput of several workers."""
    with TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), args.images, args.size)
        rows = [_one_core(dataset, args.repeats)]
        if args.workers:
            rows.append(_throughput(dataset, args.workers))
    for row in rows:
        print_row(row)
    return {"rows": rows}


def _one_core(dataset: CocoFormatDataset, repeats: int) -> Row:
    files = [
        np.frombuffer(dataset.images.read_bytes(name), dtype=np.uint8)
        for name in dataset.people.file_names
    ]
    count = len(dataset)
    found = measure(
        {
            "decode": lambda: [cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files],
            "load": lambda: [dataset.load(index) for index in range(count)],
            "sample": lambda: [dataset[(0, index)] for index in range(count)],
        },
        repeats,
    )
    batch = collate([dataset[(0, 0)]])
    size = sum(
        tensor.numel() * tensor.element_size()
        for tensor in (batch.images, batch.keypoints, *batch.masks)
    )
    times = {f"{name}_ms": value / count for name, value in found.items()}
    return {
        "name": "sample, one core",
        **times,
        "decodes_per_sample": found["sample"] / found["decode"],
        "bytes_per_sample": size,
    }


def _throughput(dataset: CocoFormatDataset, workers: int, batch: int = 8, batches: int = 25) -> Row:
    """Samples a second once the workers run; the first batches are not counted."""
    keys = [
        [(0, (first + place) % len(dataset)) for place in range(batch)]
        for first in range(0, batch * (batches + workers * 2), batch)
    ]
    start, counted = 0.0, 0
    for number, _ in enumerate(build_loader(dataset, keys, workers)):
        if number == workers * 2:
            start = time.perf_counter()
        counted += batch if number > workers * 2 else 0
    return {
        "name": "loader",
        "workers": workers,
        "samples_per_second": counted / (time.perf_counter() - start),
    }


def make_dataset(folder: Path, num_images: int, size: int) -> CocoFormatDataset:
    """640 x 480 JPEGs of noise and ten drawn people each, one region left out in every other image (as in COCO's train2017)."""
    images: list[Row] = []
    annotations: list[Row] = []
    for number in range(1, num_images + 1):
        image, people = _draw(np.random.default_rng(number))
        cv2.imwrite(str(folder / f"{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT}
        )
        if number % 2:
            people.append(
                {"keypoints": [0] * 51, "segmentation": [[20, 20, 200, 30, 180, 200, 30, 220]]}
            )
        annotations += [
            person | {"image_id": number, "iscrowd": 0, "category_id": 1, "id": len(annotations)}
            for person in people
        ]
    path = folder / "annotations.json"
    path.write_bytes(orjson.dumps({"images": images, "annotations": annotations}))
    people_of_all = collect_people(read_annotation_file(path), COCO)
    return CocoFormatDataset(
        people_of_all, FolderImages(folder), COCO, str(path), Augmentation(input_size=size)
    )


def _draw(rng: np.random.Generator) -> tuple[np.ndarray, list[Row]]:
    noise = [
        cv2.resize(
            rng.normal(0, 40, (n * 3, n * 4, 3)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        for n in (2, 10, 50)
    ]
    canvas = Canvas(
        np.clip(128 + sum(noise), 0, 255).astype(np.uint8),
        np.zeros((HEIGHT, WIDTH), dtype=np.uint8),
    )
    people: list[Row] = []
    for number in range(PEOPLE):
        shift, height = (
            np.append(rng.uniform((80, 120), (WIDTH - 80, HEIGHT - 120)), 0.0),
            rng.uniform(100, 260),
        )
        joints = {name: point * height + shift for name, point in pose_body(rng).items()}
        draw_figure(canvas, joints, random_look(rng), height, number)
        people.append(
            {
                "keypoints": [
                    value for name in COCO.keypoints for value in (*joints[name][:2].tolist(), 2)
                ],
                "area": height**2 / 4,
            }
        )
    grain = rng.normal(0, 6, canvas.image.shape)
    return np.clip(canvas.image + grain, 0, 255).astype(np.uint8), people
