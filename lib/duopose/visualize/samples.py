"""What training sees of an image, made visible: the sample with its people and mask, and its targets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from duopose.geometry import MapFrame
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import OffsetTargets, Sample, TagTargets
from duopose.visualize.draw import OUTLINE, draw_disc, draw_truth, person_shades
from duopose.visualize.maps import draw_arrows, overlay_heatmap, overlay_mask, sheet, window_arrows

WHITE = (255, 255, 255)
ARROW_SPACING = 5  # cells between the arrows drawn of an offset window


def sample_image(sample: Sample, skeleton: Skeleton, enlarge: int = 1) -> np.ndarray:
    """A sample with its people, their centres, what the loss must not look at, and the first person's joint names.

    The mask is the sample's own, or after the transforms the one of the finest map. enlarge: size of the result in the sample's.
    """
    image = cv2.resize(sample.image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)
    keypoints = _enlarged(sample.keypoints, enlarge)
    canvas = draw_truth(
        overlay_mask(image, sample.masks[-1] if sample.masks else sample.mask), keypoints, skeleton
    )
    for person in range(len(keypoints)):
        draw_centre(canvas, keypoints[person], person)
    if len(keypoints):
        write_names(canvas, keypoints[0], skeleton.keypoints)
    return canvas


def heatmap_images(image: np.ndarray, heatmaps: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """A sheet of target heatmaps (K or K+1, h, w) over the image; titles carry the highest value."""
    names = [*skeleton.keypoints, "centre"][: len(heatmaps)]
    titles = [
        f"{name}, highest {heatmap.max():.2f}"
        for name, heatmap in zip(names, heatmaps, strict=True)
    ]
    return sheet([overlay_heatmap(image, heatmap) for heatmap in heatmaps], titles)


def tag_image(
    sample: Sample, tags: TagTargets, row: int, map_width: int, frame: MapFrame, enlarge: int = 1
) -> np.ndarray:
    """Where each person's tags are read: a square a cell in the person's colour; `row` is the sample's place in the batch."""
    canvas = (
        cv2.resize(sample.image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR) // 2
    )
    half = enlarge * frame.stride / 2
    for person, (cells, valid) in enumerate(
        zip(tags.cells[row].numpy(), tags.valid[row].numpy(), strict=True)
    ):
        starts, _ = window_arrows(cells[valid], np.zeros((int(valid.sum()), 2)), map_width, frame)
        for x, y in _enlarged(starts, enlarge):
            first, last = (round(x - half), round(y - half)), (round(x + half), round(y + half))
            cv2.rectangle(canvas, first, last, person_shades(person).middle, -1)
    return canvas


def offset_image(
    sample: Sample,
    offsets: OffsetTargets,
    row: int,
    edges: Sequence[int],
    map_width: int,
    frame: MapFrame,
    skeleton: Skeleton,
    enlarge: int,
) -> np.ndarray:
    """Arrows from the windows of the given edges' joints to what the targets say; every ARROW_SPACING-th cell each way."""
    keypoints = _enlarged(sample.keypoints, enlarge)
    image = cv2.resize(sample.image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)
    canvas = draw_truth(image // 2 + 96, keypoints, skeleton)
    for person in range(len(keypoints)):
        draw_centre(canvas, keypoints[person], person)
    of_sample = offsets.image.numpy() == row
    for number, edge in enumerate(edges):
        chosen = of_sample & (offsets.edge.numpy() == edge)
        cells, values = offsets.cell.numpy()[chosen], offsets.offset.numpy()[chosen]
        sparse = (cells % map_width % ARROW_SPACING == 0) & (
            cells // map_width % ARROW_SPACING == 0
        )
        starts, ends = window_arrows(cells[sparse], values[sparse], map_width, frame)
        colour = person_shades(number).middle
        canvas = draw_arrows(
            canvas, _enlarged(starts, enlarge), _enlarged(ends, enlarge), [colour] * len(starts)
        )
    return canvas


def edges_by_target(layout: OffsetLayout, skeleton: Skeleton) -> dict[str, list[int]]:
    """The layout's edges in groups that can be looked at together."""
    forward = np.arange(layout.num_edges) < layout.num_forward
    to_centre = layout.target == skeleton.centre
    limb = np.isin(layout.source, skeleton.limb_indices)
    groups = {
        "limb joints to parents": forward & ~to_centre,
        "limb joints to centres": to_centre & limb,
        "centre-only joints to centres": to_centre & ~limb,
        "parents back to limb joints": ~forward,
    }
    return {
        name: np.flatnonzero(chosen).tolist() for name, chosen in groups.items() if chosen.any()
    }


def draw_centre(canvas: np.ndarray, keypoints: np.ndarray, person: int) -> None:
    """A ring at the mean of a person's labelled keypoints (K, 3), in place."""
    labelled = keypoints[:, 2] > 0
    if labelled.any():
        centre = keypoints[labelled, :2].mean(0)
        for radius, colour in ((7, OUTLINE), (6, WHITE), (4, person_shades(person).middle)):
            draw_disc(canvas, centre, radius, colour)


def write_names(canvas: np.ndarray, keypoints: np.ndarray, names: Sequence[str]) -> None:
    """Names beside a person's labelled keypoints (K, 3), in place."""
    for (x, y, visibility), name in zip(keypoints.tolist(), names, strict=True):
        if visibility > 0:
            for colour, width in ((OUTLINE, 3), (WHITE, 1)):
                cv2.putText(
                    canvas,
                    name,
                    (round(x) + 5, round(y) + 4),
                    cv2.FONT_HERSHEY_SIMPLEX,
                    0.36,
                    colour,
                    width,
                    cv2.LINE_AA,
                )


def _enlarged(points: np.ndarray, factor: int) -> np.ndarray:
    """Points (..., >= 2) in an image resized by `factor`, pixel areas kept aligned; further columns are kept."""
    moved = np.array(points, dtype=np.float64)
    moved[..., :2] = (moved[..., :2] + 0.5) * factor - 0.5
    return moved
