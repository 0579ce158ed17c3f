"""Merging the passes over one image (test scales, mirrored or not) into one `PoseMaps`.

Heatmaps are averaged on a common grid, the stride-2 cells of the merged input, because peaks are
searched for everywhere in them:

    1. plain and mirrored maps of one input size and stride are added, mirrored ones flipped back
    2. each sum is resized once to the common grid
    3. the mean is taken over all passes and strides

Tags and offsets are needed at a few hundred points only. They stay as the network gave them and are
read through each pass's affine map (`map_reading`), which also divides offsets by the scale and
mirrors them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional

from duopose.device_tensors import constant, send
from duopose.geometry import Affine, InputFrame, MapFrame
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import STRIDES, MapLayer, NetworkOutput, PoseMaps

MERGED_STRIDE = 2


class Pass(NamedTuple):
    """The network's output for one image at one input size."""

    output: NetworkOutput  # of a batch of one
    frame: InputFrame  # of the input before it was mirrored
    mirrored: bool = False


def merge_passes(
    passes: Sequence[Pass],
    merged: InputFrame,
    skeleton: Skeleton,
    layout: OffsetLayout | None = None,
    offset_unit: float = 1.0,
    legacy_alignment: bool = False,
) -> PoseMaps:
    """Average the heatmaps; collect tags and offsets unchanged.

    merged: the input frame at scale 1, in which the people are decoded; it need not be among the
    passes. layout: None for a network without offsets. offset_unit: MODEL.OFFSET_UNIT, in input
    pixels. legacy_alignment: DATASET.HEATMAP_CENTRES is 'rounded'.

    Tags are taken only from the passes whose size is nearest to the merged input: tag values differ
    between input sizes. ValueError when there is no pass, or one holds more than one image.
    """
    if not passes:
        raise ValueError("nothing to merge: give at least one pass")
    if any(len(one.output.tags) != 1 for one in passes):
        raise ValueError("a pass must hold a batch of one image; take the image's index first")

    frames = [MapFrame(stride, legacy_alignment) for stride in STRIDES]
    tag_width = _nearest_width(passes, merged)
    heatmap_layers: list[MapLayer] = []
    tag_layers: list[MapLayer] = []
    offset_layers: list[MapLayer] = []
    for one in passes:
        output = one.output
        to_input = _merged_to_pass(merged, one)
        channel = _channel_index(one, skeleton)
        for maps, frame in zip(output.heatmaps, frames, strict=True):
            heatmap_layers.append(_layer(maps, to_input, frame, channel))
        if one.frame.width == tag_width:
            tag_layers.append(_layer(output.tags, to_input, frames[0], channel))
        if layout is not None and output.offsets:
            edge = layout.flip_edge if one.mirrored else np.arange(layout.num_edges)
            offset_frames = frames[: len(output.offsets)]
            for maps, frame in zip(output.offsets, offset_frames, strict=True):
                offset_layers.append(_layer(maps, to_input, frame, edge, offset_unit))

    return PoseMaps(
        heatmaps=_mean_heatmaps(passes, merged, skeleton),
        frame=MapFrame(MERGED_STRIDE, legacy_alignment),
        layers=tuple(heatmap_layers),
        tags=tuple(tag_layers),
        offsets=tuple(offset_layers),
    )


# ---- layers ----


def _nearest_width(passes: Sequence[Pass], merged: InputFrame) -> int:
    """The input width, among the passes, whose ratio to the merged width is nearest to 1."""
    widths = [one.frame.width for one in passes]
    return min(widths, key=lambda width: abs(np.log(width / merged.width)))


def _merged_to_pass(merged: InputFrame, one: Pass) -> Affine:
    """From the merged input frame to the input of a pass, mirrored where the pass is."""
    to_pass = merged.affine.inverse().then(one.frame.affine)
    return to_pass.then(Affine.mirror(one.frame.width)) if one.mirrored else to_pass


def _channel_index(one: Pass, skeleton: Skeleton) -> np.ndarray:
    """(channels,) int: channel of a pass's heatmaps and tags in which each keypoint is found."""
    channels = one.output.tags.shape[1]
    if not one.mirrored:
        return np.arange(channels)
    # the baseline can have K channels, Double Embedding has K+1
    has_centre = channels > skeleton.num_keypoints
    return skeleton.flip_index_with_centre if has_centre else skeleton.flip_index


def _layer(
    batch: torch.Tensor, to_input: Affine, frame: MapFrame, channel: np.ndarray, unit: float = 1.0
) -> MapLayer:
    """One map of a pass; unit: input pixels per 1.0 in the maps.

    Test resizing only scales, shifts and mirrors, so two points give the affine map per axis.
    """
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    shift, cells_of_one = frame.to_cells(to_input.apply(points))
    factor = cells_of_one - shift
    return MapLayer(batch[0], factor, shift, channel, frame.peak_shift, unit / frame.stride)


# ---- heatmaps ----


def _mean_heatmaps(passes: Sequence[Pass], merged: InputFrame, skeleton: Skeleton) -> torch.Tensor:
    """(K+1, H, W) float32, contiguous: mean over passes and strides on the merged grid."""
    sums: dict[tuple[int, int, bytes, int], torch.Tensor] = {}
    affines: dict[tuple[int, int, bytes, int], Affine] = {}
    for one in passes:
        frame = one.frame
        for stride, batch in zip(STRIDES, one.output.heatmaps, strict=True):
            maps = _to_contiguous(batch[0])
            if one.mirrored:
                channels = tuple(_channel_index(one, skeleton).tolist())
                maps = maps[constant(channels, torch.int64, maps.device)].flip(-1)
            key = (frame.width, frame.height, frame.affine.matrix.tobytes(), stride)
            sums[key] = sums[key] + maps if key in sums else maps
            affines[key] = _merged_to_map_cells(merged, frame, stride)

    first = next(iter(sums.values()))
    size = (merged.height // MERGED_STRIDE, merged.width // MERGED_STRIDE)
    total = first.new_zeros(len(first), *size)
    for key, maps in sums.items():
        total += _resize(maps, size, affines[key])
    total /= len(passes) * len(STRIDES)
    return total


def _to_contiguous(maps: torch.Tensor) -> torch.Tensor:
    """(C, h, w) float32 with each channel contiguous in memory; networks give channels-last maps.

    On the CPU OpenCV's transpose takes a quarter of the time of torch's copy (4 and 17 ms for
    18 x 512 x 768 maps).
    """
    maps = maps.detach().float()
    if maps.device.type != "cpu" or maps.is_contiguous():
        return maps.contiguous()
    cells = maps.permute(1, 2, 0).flatten(0, 1)  # (h * w, C)
    return torch.from_numpy(cv2.transpose(cells.numpy())).reshape(maps.shape)


def _merged_to_map_cells(merged: InputFrame, frame: InputFrame, stride: int) -> Affine:
    """From cells of the merged grid to cells of a pass's map.

    Cells are areas of stride x stride pixels; this is right for both conventions of `MapFrame`.
    """
    to_merged_input = Affine.resize(MERGED_STRIDE, MERGED_STRIDE)
    to_pass_input = merged.affine.inverse().then(frame.affine)
    to_cells = Affine.resize(1 / stride, 1 / stride)
    return to_merged_input.then(to_pass_input).then(to_cells)


def _resize(maps: torch.Tensor, size: tuple[int, int], affine: Affine) -> torch.Tensor:
    """Bilinear resizing, (C, h, w) -> (C, *size). affine: from cells of the new grid to the old.

    Plain resizing where both grids cover the same area, else (padded sides differ) resampling.
    """
    height, width = maps.shape[-2:]
    same_grid = np.allclose(affine.matrix, np.eye(2, 3), atol=1e-6)
    if (height, width) == size and same_grid:
        return maps

    aligned = Affine.resize(width / size[1], height / size[0])
    if not np.allclose(affine.matrix, aligned.matrix, atol=1e-6):
        return _resample(maps, size, affine)

    if maps.device.type != "cpu":
        batch = functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)
        return batch[0]

    # on the CPU OpenCV takes a quarter of torch's time
    resized = np.empty((len(maps), *size), np.float32)
    for source, target in zip(maps.numpy(), resized, strict=True):
        cv2.resize(source, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(resized)


def _resample(maps: torch.Tensor, size: tuple[int, int], affine: Affine) -> torch.Tensor:
    """Bilinear values of maps at affine(cell) for each cell of the new grid, 0 outside the maps."""
    columns, rows = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    cells = np.stack([columns, rows], axis=-1).astype(np.float64)
    height, width = maps.shape[-2:]
    # `grid_sample` takes -1 .. 1 from edge to edge of the map
    normalised = (affine.apply(cells) + 0.5) * (2 / np.array([width, height])) - 1
    grid = send(torch.from_numpy(normalised).to(maps.dtype), maps.device)
    batch = functional.grid_sample(maps[None], grid[None], mode="bilinear", align_corners=False)
    return batch[0]
