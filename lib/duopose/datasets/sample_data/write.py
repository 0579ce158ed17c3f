"""Writing a drawn data set with COCO's layout and annotation format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import orjson

from duopose.coco_annotations import Record
from duopose.datasets.annotations import person_category_record
from duopose.datasets.sample_data.scene import draw_scene
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.skeletons import Skeleton

# Split -> smallest image id; the splits share no id.
TRAIN_SPLIT = "train2017"
VAL_SPLIT = "val2017"
FIRST_IDS = {TRAIN_SPLIT: 0, VAL_SPLIT: 10_000_000}
ANNOTATIONS_PER_IMAGE = 10  # annotation id = 10 * image id + number; never 0
JPEG_QUALITY = 95

# Keypoint names that a drawn body has.
PAIRED_JOINTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "toe")
SINGLE_JOINTS = ("nose", "head", "head_top", "neck", "upper_neck", "thorax", "pelvis")
DRAWABLE = (
    *SINGLE_JOINTS,
    *(f"{side}_{joint}" for side in ("left", "right") for joint in PAIRED_JOINTS),
)

MIN_IMAGES_FOR_WORKERS = 100  # drawing fewer takes less time than starting processes

Drawn = tuple[Record, list[Record]]  # an image's record, its annotations


def make_sample_data(
    out: Path,
    train: int,
    val: int,
    seed: int,
    size: int,
    skeleton: Skeleton,
    workers: int = 0,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Draw `train` + `val` images of size x size pixels.

    Writes images/SPLIT/*.jpg and annotations/person_keypoints_SPLIT.json below `out`. The same seed
    gives the same files for any number of workers (0: one per core). progress: called with the
    number of images added. UserError where drawn people lack a keypoint of the skeleton.
    """
    unknown = [name for name in skeleton.keypoints if name not in DRAWABLE]
    if unknown:
        raise UserError(
            f"skeleton '{skeleton.name}': drawn people have no {', '.join(unknown)}; "
            f"they have {', '.join(DRAWABLE)}"
        )

    workers = workers or len(os.sched_getaffinity(0))
    for split, count in ((TRAIN_SPLIT, train), (VAL_SPLIT, val)):
        folder = out / "images" / split
        folder.mkdir(parents=True, exist_ok=True)
        draw = partial(_draw_one, folder, FIRST_IDS[split], seed, size, skeleton.keypoints)

        images: list[Record] = []
        annotations: list[Record] = []
        for image, people in _draw_all(draw, count, workers):
            images.append(image)
            annotations += people
            if progress:
                progress(1)
        _write_annotations(out, split, images, annotations, skeleton)


def _draw_all(draw: Callable[[int], Drawn], count: int, workers: int) -> Iterator[Drawn]:
    """draw(0), draw(1) ... in this order."""
    if workers == 1 or count < MIN_IMAGES_FOR_WORKERS:
        yield from map(draw, range(count))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, range(count), chunksize=32)


def _draw_one(
    folder: Path, first_id: int, seed: int, size: int, keypoints: tuple[str, ...], index: int
) -> Drawn:
    """Draw and save one image. It depends on the seed, the split and its index alone."""
    cv2.setNumThreads(0)
    rng = np.random.default_rng([seed, first_id, index])
    image, people = draw_scene(rng, size, keypoints)

    image_id = first_id + index + 1
    name = f"{image_id:012d}.jpg"
    bgr = image[:, :, ::-1]
    if not cv2.imwrite(str(folder / name), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise UserError(f"cannot write {folder / name}; is the disk full?")

    for number, person in enumerate(people):
        person["image_id"] = image_id
        person["category_id"] = 1
        person["id"] = ANNOTATIONS_PER_IMAGE * image_id + number
    return {"id": image_id, "file_name": name, "width": size, "height": size}, people


def _write_annotations(
    out: Path, split: str, images: list[Record], annotations: list[Record], skeleton: Skeleton
) -> None:
    content = {
        "info": {"description": "Drawn people"},
        "categories": [person_category_record(skeleton)],
        "images": images,
        "annotations": annotations,
    }
    path = out / "annotations" / f"person_keypoints_{split}.json"
    write_atomically(path, orjson.dumps(content))
