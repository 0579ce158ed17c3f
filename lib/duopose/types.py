"""The typed records that travel between the stages; every field states its shape and frame.

Letters: B images, P people, K keypoints (channel K is the person centre), H W map size, C offset
channels, T tag values of a keypoint (one per pass over test scales and flips).

Frames: *image frame* = pixels of the image file; *input frame* = pixels of the network input;
*cells* = positions on a map. All are pixel-index coordinates, x right, y down (`geometry`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from duopose.geometry import MapFrame

# ---- data ----


@dataclass(frozen=True)
class Sample:
    """One image with its people.

    Image frame before the transforms, input frame after them.
    """

    image: np.ndarray  # (H, W, 3) uint8 RGB
    # (P, K, 3) float32 x, y, visibility (0 not labelled, 1 hidden, 2 visible)
    keypoints: np.ndarray
    # (H, W) uint8, 0 where the loss ignores the image (crowds, people without keypoints), else 1
    mask: np.ndarray
    image_id: int | str
    # After the transforms: the mask at each map stride, (H/4, W/4) and (H/2, W/2)
    masks: tuple[np.ndarray, ...] = ()
    # Why images in whose place this one came cannot be used: DATASET.ON_BAD_SAMPLE skip
    skipped: tuple[str, ...] = ()


class Batch(NamedTuple):
    """Stacked samples. Images with fewer people are padded with unlabelled ones."""

    images: torch.Tensor  # (B, 3, H, W) uint8 RGB
    # (B, P, K, 3) float32, input frame; visibility 0 where there is no person. Always on the CPU
    keypoints: torch.Tensor
    masks: tuple[torch.Tensor, ...]  # per map stride (B, h, w) uint8
    image_ids: list[int | str]
    skipped: tuple[str, ...] = ()  # of all samples


# ---- network ----

STRIDES = (4, 2)  # input pixels per cell of the network's maps, in the order of `NetworkOutput`


class NetworkOutput(NamedTuple):
    """Maps of the network. Tuples are ordered as STRIDES: stride 4, then stride 2."""

    heatmaps: tuple[torch.Tensor, ...]  # each (B, K+1, h, w); K channels for the baseline
    tags: torch.Tensor  # (B, as many channels as the heatmaps, h, w) at stride 4
    # Each (B, C, h, w) in units of MODEL.OFFSET_UNIT input pixels; empty for the baseline, stride 4
    # alone without MODEL.FINE_OFFSETS
    offsets: tuple[torch.Tensor, ...]

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> NetworkOutput:
        """The same structure with `function` applied to every map."""
        mapped: list[Any] = []  # maps or tuples of maps, as the fields
        for field in self:
            if isinstance(field, torch.Tensor):
                mapped.append(function(field))
            else:
                mapped.append(tuple(function(maps) for maps in field))
        return NetworkOutput(*mapped)


# ---- targets and losses ----


class TagTargets(NamedTuple):
    """The cells of the stride-4 map at which the tags of each person are read."""

    cells: torch.Tensor  # (B, P, K+1) int64, y * w + x; 0 where not valid
    valid: torch.Tensor  # (B, P, K+1) bool: labelled and inside the map


class OffsetTargets(NamedTuple):
    """Offsets of one stride at the N window cells of all images and edges.

    A cell that lies in the windows of n people comes n times, each time with weight 1/n. Cells of
    weight 0 are not supervised; they repeat the offset of another one.
    """

    image: torch.Tensor  # (N,) int64 index in the batch
    edge: torch.Tensor  # (N,) int64 edge of the `OffsetLayout`
    cell: torch.Tensor  # (N,) int64, y * w + x
    # (N, 2) float32 y, x of target - cell in input pixels, mean over overlapping windows
    offset: torch.Tensor
    weight: torch.Tensor  # (N,) float32, 1 / number of windows that cover the cell, or 0


class Targets(NamedTuple):
    """Supervision of a batch; tuples are ordered as STRIDES."""

    heatmaps: tuple[torch.Tensor, ...]  # (B, K+1, h, w) float32 in [0, 1]
    masks: tuple[torch.Tensor, ...]  # (B, h, w) float32
    tags: TagTargets
    offsets: tuple[OffsetTargets, ...]  # of the strides of `NetworkOutput.offsets`


class LossTerms(NamedTuple):
    """The weighted losses of a batch by name.

    `total` is the sum over terms, averaged over images.
    """

    total: torch.Tensor  # () differentiable
    # Term name, e.g. "heatmap_4", "push", "offset_2" -> (B,) weighted, detached
    per_image: dict[str, torch.Tensor]


# ---- decoding ----


class MapLayer(NamedTuple):
    """Maps of one pass, and the affine map from the merged input to their cells.

    A point of the merged input lies at cell = factor * point + shift, per axis. The maps of a
    mirrored pass stay mirrored: factor is negative in x, and `channel` exchanges left and right.
    """

    maps: torch.Tensor  # (channels, h, w), any memory format
    factor: np.ndarray  # (2,) x, y: cells per pixel of the merged input
    shift: np.ndarray  # (2,) cells
    # (n,) int. Heatmaps and tags: keypoint k is channel channel[k] of `maps`. Offsets: edge e has
    # y, x in channels 2 * channel[e], 2 * channel[e] + 1.
    channel: np.ndarray
    peak_shift: float = 0.0  # cells to add to a peak's cell (`MapFrame.peak_shift`)
    unit: float = 1.0  # offsets: cells per 1.0 in the maps


class PoseMaps(NamedTuple):
    """All passes of one image, ready for decoding. Only `heatmaps` are resized to a common grid.

    Merged input frame: the network input at test scale 1, also if no pass has scale 1.
    """

    # (K+1, H, W) mean over passes and strides, on the stride-2 grid of the merged input
    heatmaps: torch.Tensor
    frame: MapFrame  # of `heatmaps` on the merged input
    layers: tuple[MapLayer, ...]  # heatmaps of each pass and stride, for sub-pixel positions
    tags: tuple[MapLayer, ...]  # one per pass of the size nearest to the merged input
    offsets: tuple[MapLayer, ...]  # one per pass and stride; empty for the baseline


class Peaks(NamedTuple):
    """M heatmap peaks, sorted by joint and best first within a joint. Arrays on the CPU.

    Positions are x, y in pixels of the merged input. E: edges of the `OffsetLayout`.
    """

    joint: np.ndarray  # (M,) int, K = centre
    position: np.ndarray  # (M, 2) float64, sub-pixel
    score: np.ndarray  # (M,) float64 heatmap value
    nms_suppressed: np.ndarray  # (M,) bool: a 3x3 maximum only; a higher peak is in its NMS window
    tag: np.ndarray  # (M, T)
    tags_around: np.ndarray  # (M, cells, T) tags of the same joint type in a square around the peak
    # (M, E, 2) peak + offset: the predicted position of the edge's target; NaN if the peak is not
    # of the edge's source joint
    predicted_target: np.ndarray
    # (M,) length of the longest forward offset; the errors of the offsets grow with it
    max_offset_length: np.ndarray
    offset_sigma: np.ndarray  # (M,) standard deviation per axis of `predicted_target`
    # (M, 2) predicted centre of the person; NaN for torso joints, own position for centre peaks
    predicted_centre: np.ndarray
    # (M,) bool: the peak is inside another peak's offset window in every layer, so its offsets are
    # means over several people
    windows_overlap: np.ndarray


@dataclass(frozen=True)
class Poses:
    """People of one image, in the frame stated by the function that returns them."""

    # (P, K, 3) x, y, score; all 0 where the joint was not found
    keypoints: np.ndarray
    scores: np.ndarray  # (P,) used for ranking
    filled: np.ndarray  # (P, K) bool: the joint got no peak in the grouping and was filled in later
    # (P, K) standard deviation of x and of y in pixels of the same frame, 0 where the joint was not
    # found; None where the model is not calibrated
    sigma: np.ndarray | None = None


@dataclass(frozen=True)
class ImageResult:
    """The people of one image in the image frame."""

    image_id: int | str
    poses: Poses
