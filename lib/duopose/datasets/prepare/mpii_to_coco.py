"""From MPII's own annotations to the project's: COCO format with what MPII has beside it.

annotation: keypoints in the order of `skeletons.MPII`, bbox and area of the labelled keypoints, head_box [x1, y1, x2, y2],
objpos [x, y], scale; those that MPII does not give are absent. image: groups = lists of annotation ids, id = MPII's own
number of the image (from 1). People without keypoints have a bbox, so that the loss can leave them out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image, UnidentifiedImageError

from duopose.datasets.prepare.mpii_mat import MpiiImage, MpiiPerson
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.skeleton_tables import MPII_FILE_KEYPOINTS
from duopose.skeletons import MPII

AREA_OF_BOX = 0.53  # pixels of a person as a share of the box, as CrowdPose's evaluator takes it
HALF_PERSON = 100.0  # pixels at scale 1: MPII's scale is the height / 200
JOINT_IDS = [MPII_FILE_KEYPOINTS.index(name) for name in MPII.keypoints]

Groups = list[list[list[int]]]
Sizes = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Summary:
    """What a written file holds."""

    path: Path
    images: int
    people: int
    with_keypoints: int
    groups: int  # of two people or more


def image_sizes(
    names: Sequence[str], folder: Path, advance: Callable[[int], object] = lambda count: None
) -> Sizes:
    """name -> (width, height) of the images that are in the folder, read from their first bytes; UserError if none is there."""
    sizes: Sizes = {}
    for name in names:
        try:
            with Image.open(folder / name) as image:
                sizes[name] = image.size
        except (FileNotFoundError, UnidentifiedImageError):
            pass
        advance(1)
    if not sizes and names:
        raise UserError(
            f"none of the {len(names)} images is in '{folder}', e.g. {names[0]}; give MPII's images by --images"
        )
    return sizes


def split_images(
    images: Sequence[MpiiImage], val_share: float, val_names: Collection[str] = ()
) -> dict[str, list[int]]:
    """Indices of the splits train, val, trainval, test; only images that list people.

    Validation images are those named, or else whole videos (images of one video look alike), picked by a checksum of the
    video's number, so that everybody who asks for the same share gets the same ones.
    """
    listed = [index for index, image in enumerate(images) if image.people]
    trainval = [index for index in listed if images[index].train]
    known, wanted = {images[index].name for index in trainval}, set(val_names)
    if not wanted <= known:
        raise UserError(
            f"{len(wanted - known)} validation images are not among MPII's training images, first {sorted(wanted - known)[:3]}"
        )
    val = [
        index
        for index in trainval
        if (images[index].name in wanted if wanted else _in_share(images[index], val_share))
    ]
    in_val = set(val)
    return {
        "train": [index for index in trainval if index not in in_val],
        "val": val,
        "trainval": trainval,
        "test": [index for index in listed if not images[index].train],
    }


def _in_share(image: MpiiImage, share: float) -> bool:
    key = image.name if image.video is None else str(image.video)
    return zlib.crc32(key.encode()) / 2**32 < share


def to_coco(
    images: Sequence[MpiiImage], indices: Sequence[int], groups: Groups | None, sizes: Sizes
) -> dict[str, Any]:
    """The annotation file of the images at `indices` that have a size."""
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in indices:
        image = images[index]
        if image.name not in sizes:
            continue
        width, height = sizes[image.name]
        record: dict[str, Any] = {
            "id": index + 1,
            "file_name": image.name,
            "width": width,
            "height": height,
        }
        numbers: dict[int, int] = {}  # annorect -> annotation id
        for rectangle, person in enumerate(image.people):
            annotation = _annotation(person)
            if annotation is not None:
                numbers[rectangle] = len(annotations) + 1
                annotations.append({"id": numbers[rectangle], "image_id": index + 1, **annotation})
        if groups is not None:
            record["groups"] = _numbered_groups(groups[index], numbers, image)
        records.append(record)
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(MPII.keypoints),
    }
    category["skeleton"] = [[a + 1, b + 1] for a, b in MPII.limb_index_pairs]
    return {"images": records, "annotations": annotations, "categories": [category]}


def _numbered_groups(
    groups: list[list[int]], numbers: dict[int, int], image: MpiiImage
) -> list[list[int]]:
    beyond = [
        index + 1 for group in groups for index in group if not 0 <= index < len(image.people)
    ]
    if beyond:
        raise UserError(
            f"the groups file names annorect {beyond[0]} of image {image.name}, which has {len(image.people)}"
        )
    return [[numbers[index] for index in group if index in numbers] for group in groups]


def _annotation(person: MpiiPerson) -> dict[str, Any] | None:
    """Without ids; None for a rectangle that says nothing about where the person is."""
    keypoints = np.array([person.joints.get(joint, (0.0, 0.0, 0)) for joint in JOINT_IDS])
    labelled = keypoints[keypoints[:, 2] > 0, :2]
    box = _box(labelled, person)
    if box is None:
        return None
    annotation: dict[str, Any] = {
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": keypoints.reshape(-1).tolist(),
        "num_keypoints": len(labelled),
        "bbox": box,
        "area": box[2] * box[3] * AREA_OF_BOX,
    }
    extras = {"head_box": person.head_box, "objpos": person.position, "scale": person.scale}
    return annotation | {key: value for key, value in extras.items() if value is not None}


def _box(labelled: np.ndarray, person: MpiiPerson) -> list[float] | None:
    """[x, y, width, height] of the labelled keypoints; where they do not span one, of what MPII says about place and size."""
    if len(labelled) > 1 and (np.ptp(labelled, axis=0) > 0).all():
        return [*labelled.min(axis=0).tolist(), *np.ptp(labelled, axis=0).tolist()]
    if person.position is not None and person.scale:
        half = HALF_PERSON * person.scale
        return [person.position[0] - half, person.position[1] - half, 2 * half, 2 * half]
    if person.head_box is not None:
        x1, y1, x2, y2 = person.head_box
        return [x1, y1, x2 - x1, y2 - y1]
    return None


def write_split(path: Path, content: dict[str, Any]) -> Summary:
    """Writes one annotation file whole or not at all."""
    write_atomically(path, orjson.dumps(content))
    annotations = content["annotations"]
    groups = [
        group for image in content["images"] for group in image.get("groups", ()) if len(group) > 1
    ]
    return Summary(
        path,
        len(content["images"]),
        len(annotations),
        sum(a["num_keypoints"] > 0 for a in annotations),
        len(groups),
    )
