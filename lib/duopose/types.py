"""The bundles that travel between the stages, each field with its shape and frame.

Letters: B images, P people, K keypoints (the centre is channel K), H W map size, C offset channels, T tag values of a
keypoint (passes of flip and scales). Frames: *image* = pixels of the file; *input* = pixels of the network input;
*cells* = of a map. All are pixel-index coordinates, x right, y down (`geometry`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from duopose.geometry import MapFrame

# ---- data ----


@dataclass(frozen=True)
class Sample:
    """One image with its people, before (image frame) or after (input frame) the transforms."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    keypoints: (
        np.ndarray
    )  # (P, K, 3) float32 x, y, visibility (0 not labelled, 1 hidden, 2 visible)
    mask: (
        np.ndarray
    )  # (H, W) uint8, 0 where the loss must not look (crowds, people without keypoints), else 1
    image_id: int | str
    masks: tuple[
        np.ndarray, ...
    ] = ()  # after the transforms: the mask at each map stride, (H/4, W/4), (H/2, W/2)


class Batch(NamedTuple):
    """Samples stacked; people padded with unlabelled ones to the largest P."""

    images: torch.Tensor  # (B, 3, H, W) uint8 RGB
    keypoints: (
        torch.Tensor
    )  # (B, P, K, 3) float32, input frame, visibility 0 where there is no person
    masks: tuple[torch.Tensor, ...]  # per map stride (B, h, w) uint8
    image_ids: list[int | str]


# ---- network ----


class NetworkOutput(NamedTuple):
    """What the network says; tuples go from stride 4 to stride 2."""

    heatmaps: tuple[torch.Tensor, ...]  # each (B, K+1, h, w); the baseline without centre has K
    tags: torch.Tensor  # (B, as many channels as the heatmaps, h, w) at stride 4
    offsets: tuple[
        torch.Tensor, ...
    ]  # each (B, C, h, w) in units of MODEL.OFFSET_UNIT input pixels; empty for the baseline


# ---- targets and losses ----


class TagTargets(NamedTuple):
    """Where to read each person's tags on the stride-4 map."""

    cells: torch.Tensor  # (B, P, K+1) int64, y * w + x; 0 where not valid
    valid: torch.Tensor  # (B, P, K+1) bool: labelled and inside the map


class OffsetTargets(NamedTuple):
    """Offsets of one stride, only where a window is: N window cells of all images and entries together."""

    image: torch.Tensor  # (N,) int64 index in the batch
    entry: torch.Tensor  # (N,) int64 entry of the `OffsetLayout`
    cell: torch.Tensor  # (N,) int64, y * w + x
    value: torch.Tensor  # (N, 2) float32 y, x of target - pixel in input pixels, mean over the people whose windows cover the cell


class Targets(NamedTuple):
    """What the network should say about a batch, per map stride where a tuple."""

    heatmaps: tuple[torch.Tensor, ...]  # (B, K+1, h, w) float32 in [0, 1]
    masks: tuple[torch.Tensor, ...]  # (B, h, w) float32
    tags: TagTargets
    offsets: tuple[OffsetTargets, ...]


class LossTerms(NamedTuple):
    """The losses by name, unweighted and weighted; `total` is the sum of the weighted ones over terms and its mean over images."""

    total: torch.Tensor  # () differentiable
    per_image: dict[
        str, torch.Tensor
    ]  # term name, e.g. "heatmap_4", "push", "offset_2" -> (B,) weighted, detached


# ---- decoding ----


class MapLayer(NamedTuple):
    """Maps of one pass as the network gave them (a mirrored pass stays mirrored), and how to find our own points in them.

    A point of the merged input lies at cell = factor * point + shift, per axis; a mirrored pass has a negative factor in x.
    """

    maps: torch.Tensor  # (channels, h, w)
    factor: np.ndarray  # (2,) x, y: cells per pixel of the merged input
    shift: np.ndarray  # (2,) cells
    channel: (
        np.ndarray
    )  # (n,) int: our channel (offsets: our entry) c is this pass's channel (entry) channel[c]
    peak_shift: float = 0.0  # cells to add to a peak's cell (`MapFrame.peak_shift`)
    unit: float = 1.0  # offsets: cells that 1.0 in the maps means


class PoseMaps(NamedTuple):
    """All passes of one image put together, ready for decoding; nothing here is upsampled that need not be.

    merged input frame = the network input at test scale 1, whether or not scale 1 is among the passes.
    """

    heatmaps: (
        torch.Tensor
    )  # (K+1, H, W) mean over passes and strides, on the stride-2 grid of the merged input
    frame: MapFrame  # of `heatmaps` on the merged input
    layers: tuple[
        MapLayer, ...
    ]  # heatmaps per pass and stride as they came, for sub-pixel positions
    tags: tuple[MapLayer, ...]  # one per pass whose tags count
    offsets: tuple[MapLayer, ...]  # per pass and stride; none for the baseline


class Peaks(NamedTuple):
    """Heatmap peaks, sorted by joint and best first within a joint; M of them. Arrays on the CPU."""

    joint: np.ndarray  # (M,) int, K = centre
    position: np.ndarray  # (M, 2) float64 x, y, merged input frame, sub-pixel
    score: np.ndarray  # (M,) float64 peak height
    nms_suppressed: (
        np.ndarray
    )  # (M,) bool: highest of its 3x3 cells only, in the shadow of a higher peak
    tag: np.ndarray  # (M, T)
    tag_around: (
        np.ndarray
    )  # (M, cells, T) tags of the same joint type in a small square round the peak
    vote: np.ndarray  # (M, E, 2) x, y: where the layout's entry e says its target is, merged input frame; NaN where e is another joint's
    reach: (
        np.ndarray
    )  # (M,) length in pixels of the longest forward offset, the scale of the votes' errors
    sigma: np.ndarray  # (M,) standard deviation per axis of the votes' errors, pixels
    centre_vote: np.ndarray  # (M, 2) where the peak says its person's centre is; NaN for torso joints, a centre's own place
    windows_overlap: np.ndarray  # (M,) bool: the votes are read where windows of several people overlap, so they are means over these people


@dataclass(frozen=True)
class Poses:
    """People found, in the frame the producing function states."""

    keypoints: (
        np.ndarray
    )  # (P, K, 3) x, y, score; score 0 and x = y = 0 where the joint was not found
    scores: np.ndarray  # (P,) by which people are ranked
    filled: (
        np.ndarray
    )  # (P, K) bool: the joint has no peak of its own in the grouping and was filled in afterwards


@dataclass(frozen=True)
class ImageResult:
    """The people of one image in the image frame."""

    image_id: int | str
    poses: Poses
