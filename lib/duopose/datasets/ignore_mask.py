"""Where the loss must not look: crowds, and people whose keypoints nobody labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from pycocotools import mask as coco_mask


def encode_regions(regions: bytes, width: int, height: int) -> dict[str, Any] | None:
    """The union of an image's regions as one COCO run-length code, None where nothing is left out.

    regions: as `annotations.People` keeps them. Polygons and run lengths are taken as they are. Where an annotation has
    only a box (CrowdPose), the box is left out but for the boxes of labelled people: a crowd's box may span the image.
    """
    if not regions:
        return None
    content = orjson.loads(regions)
    codes = [
        code
        for segmentation in content["segmentations"]
        for code in _codes(segmentation, width, height)
    ]
    if content["boxes"]:
        codes.append(_encode_boxes(content["boxes"], content["kept_boxes"], width, height))
    return dict(coco_mask.merge(codes)) if codes else None


def decode_mask(code: dict[str, Any] | None, width: int, height: int) -> np.ndarray:
    """(H, W) uint8: 0 inside the regions, else 1."""
    if code is None:
        return np.ones((height, width), dtype=np.uint8)
    return 1 - np.ascontiguousarray(coco_mask.decode(code))


def _codes(segmentation: Any, width: int, height: int) -> list[dict[str, Any]]:
    """Run-length codes of one annotation's segmentation: polygons, or run lengths either plain or packed."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        return list(coco_mask.frPyObjects(polygons, height, width)) if polygons else []
    if isinstance(segmentation["counts"], list):
        return [coco_mask.frPyObjects(segmentation, height, width)]
    return [{"size": segmentation["size"], "counts": segmentation["counts"].encode()}]


def _encode_boxes(
    boxes: list[list[float]], kept: list[list[float]], width: int, height: int
) -> dict[str, Any]:
    region = np.zeros((height, width), dtype=np.uint8, order="F")
    for value, group in ((1, boxes), (0, kept)):
        for x, y, box_width, box_height in group:
            left, top = max(round(x), 0), max(round(y), 0)
            region[top : max(round(y + box_height), 0), left : max(round(x + box_width), 0)] = value
    return dict(coco_mask.encode(region))
