"""Writing a drawn data set in COCO's layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson

from duopose.datasets.sample_data.scene import draw_scene
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.skeletons import Skeleton

SPLITS = {
    "train2017": 0,
    "val2017": 10_000_000,
}  # name -> where its image ids start, so that no two splits share one
Drawn = tuple[dict[str, Any], list[dict[str, Any]]]  # an image's record, its annotations
ANNOTATIONS_PER_IMAGE = 10  # ids of annotations: 10 * image id + number; never 0
SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "toe")
UNSIDED = ("nose", "head", "head_top", "neck", "upper_neck", "thorax", "pelvis")
DRAWABLE = (
    *UNSIDED,
    *(f"{side}_{joint}" for side in ("left", "right") for joint in SIDED),
)  # keypoint names that a drawn body has


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
    """Draw `train` + `val` images of size x size pixels into `out`, as images/SPLIT/*.jpg and annotations/person_keypoints_SPLIT.json.

    The same seed gives the same files, however many workers draw (0: as many as there are cores). `progress` is told how many
    images have been added. Raises UserError where the skeleton has keypoints that a drawn body lacks.
    """
    unknown = [name for name in skeleton.keypoints if name not in DRAWABLE]
    if unknown:
        raise UserError(
            f"skeleton '{skeleton.name}': drawn people have no {', '.join(unknown)}; they have {', '.join(DRAWABLE)}"
        )
    workers = workers or len(os.sched_getaffinity(0))
    for (split, first), count in zip(SPLITS.items(), (train, val), strict=True):
        (out / "images" / split).mkdir(parents=True, exist_ok=True)
        draw = partial(_draw_one, out / "images" / split, first, seed, size, skeleton.keypoints)
        images, annotations = [], []
        for image, people in _each(draw, count, workers):
            images.append(image)
            annotations += people
            if progress:
                progress(1)
        _write_annotations(out, split, images, annotations, skeleton)


def _each(draw: Callable[[int], Drawn], count: int, workers: int) -> Iterator[Drawn]:
    """draw(0), draw(1) ... in this order; a few images are not worth the start of processes."""
    if workers == 1 or count < 100:
        yield from map(draw, range(count))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, range(count), chunksize=32)


def _draw_one(
    folder: Path, first: int, seed: int, size: int, keypoints: tuple[str, ...], index: int
) -> Drawn:
    """Draw and save one image; its seed follows from the data set's seed, the split and its index alone."""
    cv2.setNumThreads(0)
    image, people = draw_scene(np.random.default_rng([seed, first, index]), size, keypoints)
    image_id = first + index + 1
    name = f"{image_id:012d}.jpg"
    if not cv2.imwrite(str(folder / name), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]):
        raise UserError(f"cannot write {folder / name}; is the disk full?")
    for number, person in enumerate(people):
        person |= {
            "image_id": image_id,
            "category_id": 1,
            "id": ANNOTATIONS_PER_IMAGE * image_id + number,
        }
    return {"id": image_id, "file_name": name, "width": size, "height": size}, people


def _write_annotations(
    out: Path,
    split: str,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    skeleton: Skeleton,
) -> None:
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
    }
    category["skeleton"] = [[a + 1, b + 1] for a, b in skeleton.limb_index_pairs]
    content = {
        "info": {"description": "Drawn people"},
        "categories": [category],
        "images": images,
        "annotations": annotations,
    }
    path = out / "annotations" / f"person_keypoints_{split}.json"
    write_atomically(path, orjson.dumps(content))
