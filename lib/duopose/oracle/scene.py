"""What a perfect, or perfectly noisy, network believes about one image: people's joints, tags, offsets, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duopose.skeletons import OffsetLayout, Skeleton


@dataclass(frozen=True)
class Scene:
    """P people of one image, the centre as joint K. Positions in the merged input frame."""

    position: np.ndarray  # (P, K+1, 2) true places
    labelled: np.ndarray  # (P, K+1) bool
    peak: (
        np.ndarray
    )  # (P, K+1, 2) where the network believes them to be; windows and tags are round these
    height: np.ndarray  # (P, K+1) of the heatmap peak, 0 where there is none
    tag: np.ndarray  # (2, P, K+1) as seen plain and mirrored
    offset_error: np.ndarray  # (P, E, 2) x, y added to each offset, input pixels
    size: np.ndarray  # (P,) square root of the person's area, input pixels
    false_peaks: FalsePeaks


@dataclass(frozen=True)
class FalsePeaks:
    """N peaks that are nobody's."""

    joint: np.ndarray  # (N,) int
    peak: np.ndarray  # (N, 2)
    height: np.ndarray  # (N,)
    tag: np.ndarray  # (2, N)


NO_FALSE_PEAKS = FalsePeaks(np.zeros(0, int), np.zeros((0, 2)), np.zeros(0), np.zeros((2, 0)))


def clean_scene(keypoints: np.ndarray, size: np.ndarray, layout: OffsetLayout) -> Scene:
    """The people as annotated, known perfectly; tags are consecutive integers.

    keypoints: (P, K, 3) x, y, visibility in the merged input frame, at least one labelled joint a person. size: (P,).
    """
    seen = keypoints[..., 2] > 0
    centre = (
        np.where(seen[..., None], keypoints[..., :2], 0).sum(axis=1) / seen.sum(axis=1)[:, None]
    )
    position = np.concatenate([keypoints[..., :2], centre[:, None]], axis=1).astype(np.float64)
    labelled = np.column_stack([seen, np.ones(len(seen), dtype=bool)])
    tag = np.broadcast_to(
        np.arange(len(seen), dtype=np.float64)[None, :, None], (2, *labelled.shape)
    ).copy()
    error = np.zeros((len(seen), layout.num_edges, 2))
    return Scene(
        position,
        labelled,
        position.copy(),
        labelled.astype(np.float64),
        tag,
        error,
        size,
        NO_FALSE_PEAKS,
    )


def mirrored(scene: Scene, width: int, skeleton: Skeleton, layout: OffsetLayout) -> Scene:
    """The same scene in the mirrored input of that width: left and right change names, and tags are those of the mirrored pass."""
    flip = skeleton.flip_index_with_centre
    turn, shift = np.array([-1.0, 1.0]), np.array([width - 1.0, 0.0])
    false = scene.false_peaks
    return Scene(
        position=scene.position[:, flip] * turn + shift,
        labelled=scene.labelled[:, flip],
        peak=scene.peak[:, flip] * turn + shift,
        height=scene.height[:, flip],
        tag=scene.tag[::-1, :, flip],
        offset_error=scene.offset_error[:, layout.flip_edge] * turn,
        size=scene.size,
        false_peaks=FalsePeaks(
            flip[false.joint], false.peak * turn + shift, false.height, false.tag[::-1]
        ),
    )


def moved(scene: Scene, factor: np.ndarray, shift: np.ndarray) -> Scene:
    """The scene in another frame: x' = factor x + shift. Offset errors stay, in the new frame's pixels."""
    false = scene.false_peaks
    return Scene(
        scene.position * factor + shift,
        scene.labelled,
        scene.peak * factor + shift,
        scene.height,
        scene.tag,
        scene.offset_error,
        scene.size * factor.mean(),
        FalsePeaks(false.joint, false.peak * factor + shift, false.height, false.tag),
    )
