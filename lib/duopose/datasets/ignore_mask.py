"""The ignore mask: regions that the losses skip (crowds, people without labelled keypoints).

An image's regions are packed to bytes when the annotation file is read, merged to one run-length
code when the image is used first, and decoded to a mask for every sample:

    pack_ignored_regions -> encode_regions -> decode_mask

Polygons and run-length codes are used as they are. Where an annotation has only a box (CrowdPose),
the box is ignored except inside the boxes of labelled people: a crowd's box may span the image.
"""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec
import numpy as np
import orjson
from pycocotools import mask as coco_mask

from duopose.datasets.segmentations import (
    MIN_POLYGON_NUMBERS,
    RunLengths,
    as_json,
    read_segmentation,
)

RunLengthCode = dict[str, Any]  # COCO's {"size": [height, width], "counts": bytes}


class _Packed(TypedDict):
    segmentations: list[msgspec.Raw]
    boxes: list[list[float]]
    labelled_boxes: list[list[float]]


_DECODER = msgspec.json.Decoder(_Packed)


def pack_ignored_regions(
    segmentations: list[object], boxes: list[object], labelled_boxes: list[object]
) -> bytes:
    """The regions of one image as json bytes, b"" where nothing is ignored.

    segmentations, boxes: of the ignored annotations, the boxes of those without a segmentation;
    labelled_boxes: of the labelled people. Boxes are [x, y, width, height].
    """
    if not segmentations and not boxes:
        return b""
    content = {
        "segmentations": [orjson.Fragment(as_json(one)) for one in segmentations],
        "boxes": boxes,
        "labelled_boxes": labelled_boxes if boxes else [],
    }
    return orjson.dumps(content)


def encode_regions(packed: bytes, width: int, height: int) -> RunLengthCode | None:
    """The union of an image's packed regions as one run-length code; None where there are none.

    SegmentationError where a segmentation is unusable.
    """
    if not packed:
        return None

    content = _DECODER.decode(packed)
    codes: list[RunLengthCode] = []
    for text in content["segmentations"]:
        segmentation = read_segmentation(bytes(text), width, height)
        if segmentation is not None:
            codes += _encode_segmentation(segmentation, width, height)
    if content["boxes"]:
        codes.append(_encode_boxes(content["boxes"], content["labelled_boxes"], width, height))

    return dict(coco_mask.merge(codes)) if codes else None


def decode_mask(code: RunLengthCode | None, width: int, height: int) -> np.ndarray:
    """(H, W) uint8: 0 inside the ignored regions, else 1."""
    if code is None:
        return np.ones((height, width), dtype=np.uint8)
    return 1 - np.ascontiguousarray(coco_mask.decode(code))


def _encode_segmentation(
    segmentation: list[list[float]] | RunLengths, width: int, height: int
) -> list[RunLengthCode]:
    """Codes of one checked annotation: of its polygons, or of its run lengths."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= MIN_POLYGON_NUMBERS]
        return list(coco_mask.frPyObjects(polygons, height, width)) if polygons else []
    counts = segmentation["counts"]
    if isinstance(counts, str):
        return [{"size": segmentation["size"], "counts": counts.encode()}]
    return [coco_mask.frPyObjects(segmentation, height, width)]


def _encode_boxes(
    boxes: list[list[float]], labelled_boxes: list[list[float]], width: int, height: int
) -> RunLengthCode:
    """Code of `boxes` without `labelled_boxes`."""
    region = np.zeros((height, width), dtype=np.uint8, order="F")
    for box in boxes:
        region[_pixels_of(box)] = 1
    for box in labelled_boxes:
        region[_pixels_of(box)] = 0
    return dict(coco_mask.encode(region))


def _pixels_of(box: list[float]) -> tuple[slice, slice]:
    """Rows and columns of a box [x, y, width, height], rounded to whole pixels."""
    x, y, width, height = box
    rows = slice(max(round(y), 0), max(round(y + height), 0))
    columns = slice(max(round(x), 0), max(round(x + width), 0))
    return rows, columns
