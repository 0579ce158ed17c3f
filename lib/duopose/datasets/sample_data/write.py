"""Writing a drawn data set, with the layout and annotation format of COCO or of CrowdPose."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import orjson

from duopose.coco_annotations import Record
from duopose.datasets.annotations import crowd_index, person_category_record
from duopose.datasets.sample_data.crowd import CROWD_STYLE
from duopose.datasets.sample_data.scene import DEFAULT_STYLE, SceneStyle, draw_scene
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.skeletons import Skeleton

# Split -> smallest image id; the splits share no id.
FIRST_IDS = {"train": 0, "val": 10_000_000, "test": 20_000_000}
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


@dataclass(frozen=True)
class FileFormat:
    """Where the files of a split are written, with {split} for train, val or test."""

    annotations: str
    images: str


FORMATS = {
    "coco": FileFormat("annotations/person_keypoints_{split}2017.json", "images/{split}2017"),
    "crowdpose": FileFormat("json/crowdpose_{split}.json", "images"),
}


@dataclass(frozen=True)
class Preset:
    """A kind of images."""

    style: SceneStyle
    # Annotation id = ids_per_image * image id + number: more than an image has; never 0.
    ids_per_image: int
    write_crowd_index: bool  # also in COCO's format; CrowdPose's always has it


PRESETS = {
    "default": Preset(DEFAULT_STYLE, ids_per_image=10, write_crowd_index=False),
    "crowd": Preset(CROWD_STYLE, ids_per_image=20, write_crowd_index=True),
}


def make_sample_data(
    out: Path,
    counts: Mapping[str, int],
    seed: int,
    size: int,
    skeleton: Skeleton,
    workers: int = 0,
    progress: Callable[[int], object] | None = None,
    preset: Preset = PRESETS["default"],
    file_format: FileFormat = FORMATS["coco"],
) -> None:
    """Draw images of size x size pixels; `counts`: split (train, val, test) -> number of images.

    Writes images and an annotation file per split below `out`. The same seed gives the same files
    for any number of workers (0: one per core). progress: called with the number of images added.
    UserError where drawn people lack a keypoint of the skeleton.
    """
    unknown = [name for name in skeleton.keypoints if name not in DRAWABLE]
    if unknown:
        raise UserError(
            f"skeleton '{skeleton.name}': drawn people have no {', '.join(unknown)}; "
            f"they have {', '.join(DRAWABLE)}"
        )

    workers = workers or len(os.sched_getaffinity(0))
    with_crowd_index = preset.write_crowd_index or file_format == FORMATS["crowdpose"]
    for split, count in counts.items():
        folder = out / file_format.images.format(split=split)
        folder.mkdir(parents=True, exist_ok=True)
        settings = DrawSettings(folder, FIRST_IDS[split], seed, size, skeleton.keypoints, preset)

        images: list[Record] = []
        annotations: list[Record] = []
        for image, people in _draw_all(partial(_draw_one, settings), count, workers):
            if with_crowd_index:
                image["crowdIndex"] = crowd_index(people)
            images.append(image)
            annotations += people
            if progress:
                progress(1)

        path = out / file_format.annotations.format(split=split)
        _write_annotations(path, images, annotations, skeleton)


@dataclass(frozen=True)
class DrawSettings:
    """What the images of a split have in common."""

    folder: Path
    first_id: int
    seed: int
    size: int  # pixels
    keypoints: tuple[str, ...]
    preset: Preset


def _draw_all(draw: Callable[[int], Drawn], count: int, workers: int) -> Iterator[Drawn]:
    """draw(0), draw(1) ... in this order."""
    if workers == 1 or count < MIN_IMAGES_FOR_WORKERS:
        yield from map(draw, range(count))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, range(count), chunksize=32)


def _draw_one(settings: DrawSettings, index: int) -> Drawn:
    """Draw and save one image. It depends on the seed, the split and its index alone."""
    cv2.setNumThreads(0)
    rng = np.random.default_rng([settings.seed, settings.first_id, index])
    size = settings.size
    image, people = draw_scene(rng, size, settings.keypoints, settings.preset.style)

    image_id = settings.first_id + index + 1
    name = f"{image_id:012d}.jpg"
    bgr = image[:, :, ::-1]
    path = settings.folder / name
    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise UserError(f"cannot write {path}; is the disk full?")

    for number, person in enumerate(people):
        person["image_id"] = image_id
        person["category_id"] = 1
        person["id"] = settings.preset.ids_per_image * image_id + number
    return {"id": image_id, "file_name": name, "width": size, "height": size}, people


def _write_annotations(
    path: Path, images: list[Record], annotations: list[Record], skeleton: Skeleton
) -> None:
    content = {
        "info": {"description": "Drawn people"},
        "categories": [person_category_record(skeleton)],
        "images": images,
        "annotations": annotations,
    }
    write_atomically(path, orjson.dumps(content))
