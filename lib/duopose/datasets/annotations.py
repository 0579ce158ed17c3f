"""The people of an annotation file in compact arrays, as training and evaluation need them.

Every annotation of the person category (`coco_annotations.person_category`) is one of:

- a labelled person: `iscrowd` is 0 and at least one keypoint has visibility > 0;
- an ignored region: all others; the losses skip it (`ignore_mask`).

`num_keypoints` is not used, because CrowdPose has people with labelled keypoints and 0 there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from duopose.coco_annotations import (
    PERSON_NAME,
    AnnotationFile,
    Record,
    is_person,
    person_category,
)
from duopose.datasets.ignore_mask import pack_ignored_regions
from duopose.datasets.segmentations import SegmentationError, as_json, read_segmentation
from duopose.errors import UserError
from duopose.skeletons import Skeleton

# Longest plausible side in pixels. JPEG's limit is 65,535; larger values are mistakes of the file.
MAX_IMAGE_SIDE = 100_000
MAX_VISIBILITY = 2  # visible; more is read as that


@dataclass(frozen=True)
class AnnotatedPeople:
    """Images and labelled people; arrays, so that loader processes share or copy them cheaply.

    N images in the file's order, M people. Person p of image i is row first[i] + p; the people of
    an image are sorted by area, largest first.
    """

    image_ids: list[int | str]
    file_names: list[str]
    sizes: np.ndarray  # (N, 2) int32 width, height
    first: np.ndarray  # (N + 1,) int64 row of each image's first person
    keypoints: np.ndarray  # (M, K, 3) float32 x, y, visibility in the image frame
    ignored_regions: list[bytes]  # N, of `pack_ignored_regions`; b"" where nothing is ignored
    is_annotated: np.ndarray  # (N,) bool: the image has at least one person or ignored region

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_image(self, index: int) -> np.ndarray:
        """(P, K, 3) keypoints of the people of one image."""
        return self.keypoints[self.first[index] : self.first[index + 1]]

    def only_annotated(self) -> AnnotatedPeople:
        """The same without the images that have no annotation at all."""
        chosen = np.flatnonzero(self.is_annotated).tolist()
        counts = np.diff(self.first)[self.is_annotated]

        return AnnotatedPeople(
            image_ids=[self.image_ids[index] for index in chosen],
            file_names=[self.file_names[index] for index in chosen],
            sizes=self.sizes[self.is_annotated],
            first=np.concatenate([[0], np.cumsum(counts)]),
            keypoints=self.keypoints,
            ignored_regions=[self.ignored_regions[index] for index in chosen],
            is_annotated=self.is_annotated[self.is_annotated],
        )


def collect_people(file: AnnotationFile, skeleton: Skeleton, limit: int = 0) -> AnnotatedPeople:
    """The people of the first `limit` images (0: all); UserError at the first unusable record."""
    images = file.images[:limit] if limit else file.images
    annotations = _annotations_by_image(file, images, skeleton)

    rows: list[np.ndarray] = []
    first = [0]
    ignored_regions: list[bytes] = []
    for image, of_image in zip(images, annotations, strict=True):
        labelled, ignored = _split_people(file.path, image, of_image, skeleton)
        rows += labelled
        first.append(len(rows))
        ignored_regions.append(ignored)

    no_people = np.zeros((0, skeleton.num_keypoints, 3), dtype=np.float32)
    sizes = [(image["width"], image["height"]) for image in images]
    return AnnotatedPeople(
        image_ids=[image["id"] for image in images],
        file_names=[image["file_name"] for image in images],
        sizes=np.array(sizes, dtype=np.int32).reshape(-1, 2),
        first=np.array(first),
        keypoints=np.stack(rows) if rows else no_people,
        ignored_regions=ignored_regions,
        is_annotated=np.array([bool(of_image) for of_image in annotations], dtype=bool),
    )


def _annotations_by_image(
    file: AnnotationFile, images: list[Record], skeleton: Skeleton
) -> list[list[Record]]:
    """The annotations of people, a list for each image."""
    index_of = _check_images(file.path, images)
    grouped: list[list[Record]] = [[] for _ in images]
    if not file.annotations:
        return grouped

    category = person_category(file.categories, skeleton.num_keypoints, file.path)
    for annotation in file.annotations:
        image_id = annotation.get("image_id")
        index = index_of.get(image_id) if isinstance(image_id, (int, str)) else None
        if index is not None and is_person(annotation, category):
            grouped[index].append(annotation)
    return grouped


def _check_images(path: Path, images: list[Record]) -> dict[int | str, int]:
    """Image id -> index in the file; UserError where an image lacks id, name or size."""
    for index, image in enumerate(images):
        missing = [key for key in ("id", "file_name", "width", "height") if key not in image]
        if missing:
            raise UserError(
                f"annotation file {path}: images[{index}] (id {image.get('id')}) "
                f"has no {', '.join(missing)}"
            )
        if not isinstance(image["id"], (int, str)) or not isinstance(image["file_name"], str):
            raise UserError(
                f"annotation file {path}: images[{index}] must have a number or a string as 'id' "
                "and a string as 'file_name'"
            )
        if not has_valid_size(image):
            raise UserError(
                f"annotation file {path}: images[{index}] (id {image['id']}) has width and height "
                f"{(image['width'], image['height'])}; they must be pixels"
            )
    return {image["id"]: index for index, image in enumerate(images)}


def has_valid_size(image: Record) -> bool:
    """Whether 'width' and 'height' are numbers between 1 and MAX_IMAGE_SIDE."""
    return _is_valid_side(image.get("width")) and _is_valid_side(image.get("height"))


def _is_valid_side(side: object) -> bool:
    if not isinstance(side, (int, float)) or isinstance(side, bool):
        return False
    return 1 <= side <= MAX_IMAGE_SIDE


def _split_people(
    path: Path, image: Record, annotations: list[Record], skeleton: Skeleton
) -> tuple[list[np.ndarray], bytes]:
    """Keypoints of the labelled people of an image, largest first, and its ignored regions."""
    labelled: list[tuple[Record, np.ndarray]] = []
    segmentations: list[object] = []
    boxes: list[object] = []
    for annotation in annotations:
        keypoints = _read_keypoints(path, annotation, skeleton)
        is_crowd = bool(annotation.get("iscrowd"))
        if keypoints is not None and not is_crowd and (keypoints[:, 2] > 0).any():
            labelled.append((annotation, keypoints))
        elif segmentation := _checked_segmentation(path, image, annotation):
            segmentations.append(segmentation)
        elif annotation.get("bbox"):
            boxes.append(annotation["bbox"])

    labelled.sort(key=lambda person: -person_area(*person))
    labelled_boxes = [annotation["bbox"] for annotation, _ in labelled if annotation.get("bbox")]
    ignored = pack_ignored_regions(segmentations, boxes, labelled_boxes)
    return [keypoints for _, keypoints in labelled], ignored


def _checked_segmentation(path: Path, image: Record, annotation: Record) -> msgspec.Raw | None:
    """The segmentation as json text; None where there is none. UserError where it is unusable."""
    value = annotation.get("segmentation")
    if value is None:
        return None
    try:
        text = as_json(value)
        segmentation = read_segmentation(text, image["width"], image["height"])
    except SegmentationError as error:
        raise UserError(
            f"annotation file {path}: 'segmentation' of annotation {annotation.get('id')} (image "
            f"{image['id']}) {error}; tools/check_data.py lists all of them"
        ) from error
    return None if segmentation is None else msgspec.Raw(text)


def _read_keypoints(path: Path, annotation: Record, skeleton: Skeleton) -> np.ndarray | None:
    """(K, 3) float32, unlabelled keypoints set to 0, 0, 0; None where the annotation has none."""
    flat = annotation.get("keypoints")
    if not flat:
        return None

    annotation_id = annotation.get("id")
    if len(flat) != 3 * skeleton.num_keypoints:
        raise UserError(
            f"annotation file {path}: annotation {annotation_id} has {len(flat)} numbers in "
            f"'keypoints', skeleton '{skeleton.name}' needs {3 * skeleton.num_keypoints} "
            f"(x, y, visibility of {skeleton.num_keypoints}); is DATASET.SKELETON right?"
        )
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            keypoints = np.array(flat, dtype=np.float32).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"annotation file {path}: 'keypoints' of annotation {annotation_id} are not all numbers"
        ) from error

    if not np.isfinite(keypoints).all():
        raise UserError(
            f"annotation file {path}: 'keypoints' of annotation {annotation_id} are not all finite "
            "numbers"
        )
    keypoints[keypoints[:, 2] <= 0] = 0
    keypoints[:, 2] = np.minimum(keypoints[:, 2], MAX_VISIBILITY)
    return keypoints


def person_area(annotation: Record, keypoints: np.ndarray) -> float:
    """'area', else the area of 'bbox', else that of the box around the labelled keypoints."""
    if annotation.get("area"):
        return float(annotation["area"])
    if annotation.get("bbox"):
        box = annotation["bbox"]
        return float(box[2] * box[3])
    points = keypoints[keypoints[:, 2] > 0, :2]
    return float(np.prod(points.max(0) - points.min(0)))


def crowd_index(annotations: list[Record]) -> float:
    """CrowdPose's measure of crowding: the mean over people of others' joints per own joint.

        1/n sum_i  (joints of others in the box of person i) / (own joints in the box of person i)

    annotations: of one image. Labelled joints count; people without one in their box are left out.
    0.0 where nobody is left, rounded to two decimals as in CrowdPose's files. Li et al.,
    "CrowdPose: Efficient Crowded Scenes Pose Estimation and a New Benchmark", CVPR 2019.
    """
    joints = []
    for annotation in annotations:
        points = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
        joints.append(points[points[:, 2] > 0, :2])

    ratios = []
    for annotation, own in zip(annotations, joints, strict=True):
        in_box = [_count_in_box(points, annotation["bbox"]) for points in joints]
        num_own = _count_in_box(own, annotation["bbox"])
        if num_own:
            ratios.append((sum(in_box) - num_own) / num_own)
    return round(sum(ratios) / len(ratios), 2) if ratios else 0.0


def _count_in_box(points: np.ndarray, box: list[float]) -> int:
    """Number of points (N, 2) in a box [x, y, width, height], its border included."""
    low = np.array(box[:2])
    high = low + box[2:]
    return int(((points >= low) & (points <= high)).all(1).sum())


def person_category_record(skeleton: Skeleton) -> Record:
    """The entry of 'categories' for people with this skeleton, as COCO writes it."""
    return {
        "id": 1,
        "name": PERSON_NAME,
        "supercategory": PERSON_NAME,
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[first + 1, second + 1] for first, second in skeleton.limb_index_pairs],
    }
