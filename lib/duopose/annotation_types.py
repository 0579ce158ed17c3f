"""The fields of COCO-format records that Duopose reads, with types and bounds.

Other fields may hold anything: they are not decoded. `null` counts as missing. A segmentation stays
json text, because only a few of them are used (`datasets/ignore_mask.py`).
"""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec
from msgspec import Meta

MAX_COORDINATE = 1e6  # pixels; positions far outside of an image are mistakes of the file
MAX_AREA = 1e10  # pixels; COCO's evaluator counts nobody above it
MAX_KEYPOINTS = 1000  # of a person
MAX_ID_LENGTH = 1024  # characters of an id that is text
MAX_NAME_LENGTH = 4096  # characters of a path, as on Linux

Pixels = Annotated[float, Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
Area = Annotated[float, Meta(ge=-MAX_AREA, le=MAX_AREA)]
WholeId = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TextId = Annotated[str, Meta(max_length=MAX_ID_LENGTH)]
Id = WholeId | TextId
Box = Annotated[list[Pixels], Meta(max_length=4)]  # x, y, width, height; [] counts as missing
Flag = Annotated[int, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=10_000)]
Keypoints = Annotated[list[Pixels], Meta(max_length=3 * MAX_KEYPOINTS)]
Name = Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]


class ImageFields(TypedDict, total=False):
    """An entry of 'images'."""

    id: Id
    file_name: Name
    width: Pixels
    height: Pixels
    crowdIndex: float | None  # CrowdPose
    groups: list[list[Id]] | None  # MPII: ids of annotations


class AnnotationFields(TypedDict, total=False):
    """An entry of 'annotations'."""

    id: Id | None
    image_id: Id | None
    category_id: Id | None
    keypoints: Keypoints | None  # x, y, visibility of each keypoint
    num_keypoints: Count | None
    bbox: Box | None
    area: Area | None
    iscrowd: Flag | bool | None
    segmentation: msgspec.Raw
    head_box: Box | None  # MPII: x1, y1, x2, y2
    objpos: Annotated[list[Pixels], Meta(max_length=2)] | None  # MPII
    scale: Pixels | None  # MPII


class CategoryFields(TypedDict, total=False):
    """An entry of 'categories'."""

    id: Id
    name: str | None
    keypoints: list[str] | None


class FileFields(TypedDict, total=False):
    """The lists of an annotation file."""

    images: list[ImageFields]
    annotations: list[AnnotationFields] | None
    categories: list[CategoryFields] | None
