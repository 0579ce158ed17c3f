"""Converter from MPII's annotations to COCO format with additional fields.

annotation: keypoints in the order of `skeletons.MPII`; bbox and area of the labelled keypoints;
    head_box [x1, y1, x2, y2], objpos [x, y] and scale, absent where MPII does not give them.
    People without keypoints have a bbox, so that the losses can ignore them.
image: id = MPII's own number of the image (from 1); groups = lists of annotation ids.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image

from duopose.coco_annotations import Record
from duopose.datasets.annotations import person_category_record
from duopose.datasets.prepare.mpii_mat import MpiiImage, MpiiPerson
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.geometry import PIXEL_STD
from duopose.regular_files import FolderReader, is_outside_name
from duopose.skeleton_tables import MPII_FILE_KEYPOINTS
from duopose.skeletons import MPII

# Area of a person / area of the box: the factor of CrowdPose's evaluator for files without areas.
PERSON_TO_BOX_AREA = 0.53
# MPII joint id of each keypoint of our skeleton.
JOINT_IDS = [MPII_FILE_KEYPOINTS.index(name) for name in MPII.keypoints]

IMAGE_FORMATS = ("JPEG", "PNG")  # MPII's images are JPEG files

Groups = list[list[list[int]]]  # image, group, annorect index
Sizes = dict[str, tuple[int, int]]  # image name -> width, height


@dataclass(frozen=True)
class SplitSummary:
    """The contents of a written file."""

    path: Path
    images: int
    people: int
    with_keypoints: int
    groups: int  # of two people or more


def image_sizes(
    names: Sequence[str], folder: Path, advance: Callable[[int], object] = lambda count: None
) -> Sizes:
    """Sizes of the images that exist in the folder, from their headers; UserError if none does.

    Names that lead out of the folder, FIFOs and files that are no images are left out.
    advance: called with 1 for each name, for a progress bar.
    """
    sizes: Sizes = {}
    reader = FolderReader(folder)
    for name in names:
        size = _size_of_image(reader, name)
        if size is not None:
            sizes[name] = size
        advance(1)

    if not sizes and names:
        raise UserError(
            f"none of the {len(names)} images is in '{folder}', e.g. {names[0]}; "
            "give the folder of MPII's images with --images"
        )
    return sizes


def _size_of_image(reader: FolderReader, name: str) -> tuple[int, int] | None:
    """Width and height from the header; None where there is no such image in the folder."""
    if is_outside_name(name):
        return None
    try:
        with reader.open(name) as file, Image.open(file, formats=IMAGE_FORMATS) as image:
            return image.size
    except Exception:  # PIL's readers raise many kinds for damaged headers
        return None


def split_images(
    images: Sequence[MpiiImage], val_fraction: float, val_names: Collection[str] = ()
) -> dict[str, list[int]]:
    """Indices of the splits train, val, trainval and test; only images that list people.

    Validation images are `val_names`, or else whole videos (images of one video look alike). These
    are chosen by a checksum of the video's number, so the same fraction gives everybody the same
    split. UserError where `val_names` are not training images.
    """
    listed = [index for index, image in enumerate(images) if image.people]
    trainval = [index for index in listed if images[index].train]
    names = {images[index].name for index in trainval}
    unknown = sorted(set(val_names) - names)
    if unknown:
        raise UserError(
            f"{len(unknown)} validation images are not among MPII's training images, "
            f"first {unknown[:3]}"
        )

    train: list[int] = []
    val: list[int] = []
    wanted = set(val_names)
    for index in trainval:
        image = images[index]
        is_val = image.name in wanted if wanted else _is_in_fraction(image, val_fraction)
        (val if is_val else train).append(index)

    test = [index for index in listed if not images[index].train]
    return {"train": train, "val": val, "trainval": trainval, "test": test}


def _is_in_fraction(image: MpiiImage, fraction: float) -> bool:
    """Whether the checksum of the image's video, scaled to [0, 1), is below `fraction`."""
    key = image.name if image.video is None else str(image.video)
    return zlib.crc32(key.encode()) / 2**32 < fraction


def to_coco(
    images: Sequence[MpiiImage], indices: Sequence[int], groups: Groups | None, sizes: Sizes
) -> dict[str, Any]:
    """The content of the annotation file of the images at `indices` that have a size."""
    records: list[Record] = []
    annotations: list[Record] = []
    for index in indices:
        image = images[index]
        if image.name not in sizes:
            continue

        annotation_ids: dict[int, int] = {}  # index of the annorect -> annotation id
        for rectangle, person in enumerate(image.people):
            annotation = _annotation(person)
            if annotation is not None:
                annotation_ids[rectangle] = len(annotations) + 1
                ids = {"id": annotation_ids[rectangle], "image_id": index + 1}
                annotations.append(ids | annotation)

        width, height = sizes[image.name]
        record = {"id": index + 1, "file_name": image.name, "width": width, "height": height}
        if groups is not None:
            record["groups"] = _groups_of_ids(groups[index], annotation_ids, image)
        records.append(record)

    categories = [person_category_record(MPII)]
    return {"images": records, "annotations": annotations, "categories": categories}


def _groups_of_ids(
    groups: list[list[int]], annotation_ids: dict[int, int], image: MpiiImage
) -> list[list[int]]:
    """Groups of annorect indices -> groups of annotation ids, without people that have none."""
    for group in groups:
        for rectangle in group:
            if not 0 <= rectangle < len(image.people):
                raise UserError(
                    f"the groups file names annorect {rectangle + 1} of image {image.name}, "
                    f"which has {len(image.people)}"
                )

    return [
        [annotation_ids[rectangle] for rectangle in group if rectangle in annotation_ids]
        for group in groups
    ]


def _annotation(person: MpiiPerson) -> Record | None:
    """The annotation without ids; None for an annorect without any position."""
    unlabelled = (0.0, 0.0, 0)
    keypoints = np.array([person.joints.get(joint, unlabelled) for joint in JOINT_IDS])
    labelled = keypoints[keypoints[:, 2] > 0, :2]
    box = _box(labelled, person)
    if box is None:
        return None

    annotation: Record = {
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": keypoints.reshape(-1).tolist(),
        "num_keypoints": len(labelled),
        "bbox": box,
        "area": box[2] * box[3] * PERSON_TO_BOX_AREA,
    }
    extras = {"head_box": person.head_box, "objpos": person.position, "scale": person.scale}
    return annotation | {key: value for key, value in extras.items() if value is not None}


def _box(labelled: np.ndarray, person: MpiiPerson) -> list[float] | None:
    """[x, y, width, height] of the labelled keypoints (N, 2).

    Where these have no extent, it is the square of the person's height around objpos, else the
    head rectangle, else None.
    """
    if len(labelled) > 1:
        extent = np.ptp(labelled, axis=0)
        if (extent > 0).all():
            return [*labelled.min(axis=0).tolist(), *extent.tolist()]

    if person.position is not None and person.scale:
        x, y = person.position
        half = PIXEL_STD / 2 * person.scale
        return [x - half, y - half, 2 * half, 2 * half]

    if person.head_box is not None:
        x1, y1, x2, y2 = person.head_box
        return [x1, y1, x2 - x1, y2 - y1]
    return None


def write_split(path: Path, content: dict[str, Any]) -> SplitSummary:
    """Write one annotation file atomically."""
    write_atomically(path, orjson.dumps(content))

    images = content["images"]
    annotations = content["annotations"]
    groups = [group for image in images for group in image.get("groups", ())]
    return SplitSummary(
        path=path,
        images=len(images),
        people=len(annotations),
        with_keypoints=sum(annotation["num_keypoints"] > 0 for annotation in annotations),
        groups=sum(len(group) > 1 for group in groups),
    )
