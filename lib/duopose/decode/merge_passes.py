"""Passes over one image (test scales, mirrored or not) put together into one set of maps.

Only the heatmaps are averaged on a common grid, because peaks are looked for everywhere in them: flipped pairs are
summed at their own resolution first, so that each scale and stride is resized once. Tags and offsets are needed at a few
hundred points only; they stay as the network gave them and are read there through each pass's own affine map, which
also divides the offsets by the scale and turns the mirrored ones round (`decode.sample`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional

from duopose.geometry import Affine, InputFrame, MapFrame
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import STRIDES, MapLayer, NetworkOutput, PoseMaps

MERGED_STRIDE = 2


class Pass(NamedTuple):
    """The network's answer to one image in one size."""

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
    """Average the heatmaps, and gather tags and offsets as they are.

    merged: the input frame at scale 1, in which the result is stated, whether or not it is among the passes.
    layout: None for a network without offsets. offset_unit: MODEL.OFFSET_UNIT. family: HEATMAP_CENTRES rounded.
    Tags come from the passes whose size is nearest to the merged input; tags of other sizes mean other numbers.
    Raises ValueError when there is no pass, or one holds more than one image.
    """
    if not passes:
        raise ValueError("nothing to merge: give at least one pass")
    if any(len(one.output.tags) != 1 for one in passes):
        raise ValueError("a pass must hold a batch of one image; take the image's index first")
    layers = [
        _layers(one, merged, skeleton, layout, offset_unit, legacy_alignment) for one in passes
    ]
    tag_size = min(
        (one.frame.width for one in passes), key=lambda width: abs(np.log(width / merged.width))
    )
    return PoseMaps(
        heatmaps=_mean_heatmaps(passes, merged, skeleton),
        frame=MapFrame(MERGED_STRIDE, legacy_alignment),
        layers=tuple(layer for found in layers for layer in found[0]),
        tags=tuple(found[1] for one, found in zip(passes, layers) if one.frame.width == tag_size),
        offsets=tuple(layer for found in layers for layer in found[2]),
    )


def _layers(
    one: Pass,
    merged: InputFrame,
    skeleton: Skeleton,
    layout: OffsetLayout | None,
    offset_unit: float,
    legacy_alignment: bool,
) -> tuple[list[MapLayer], MapLayer, list[MapLayer]]:
    to_pass = merged.affine.inverse().then(one.frame.affine)
    if one.mirrored:
        to_pass = to_pass.then(Affine.mirror(one.frame.width))
    channel = (
        _flip_index(skeleton, one.output.tags.shape[1])
        if one.mirrored
        else np.arange(one.output.tags.shape[1])
    )
    frames = [MapFrame(stride, legacy_alignment) for stride in STRIDES]
    heat = [
        _layer(maps, to_pass, frame, channel) for maps, frame in zip(one.output.heatmaps, frames)
    ]
    tags = _layer(one.output.tags, to_pass, frames[0], channel)
    if layout is None or not one.output.offsets:
        return heat, tags, []
    edge = layout.flip_edge if one.mirrored else np.arange(layout.num_edges)
    offsets = [
        _layer(maps, to_pass, frame, edge, offset_unit)
        for maps, frame in zip(one.output.offsets, frames)
    ]
    return heat, tags, offsets


def _layer(
    batch: torch.Tensor, to_pass: Affine, frame: MapFrame, channel: np.ndarray, unit: float = 1.0
) -> MapLayer:
    """One map of a pass; `to_pass` turns nothing, so that scale and shift say all. unit: input pixels that 1.0 means."""
    origin, ones = (
        frame.to_cells(to_pass.apply(np.full((1, 2), value)))[0] for value in (0.0, 1.0)
    )
    return MapLayer(batch[0], ones - origin, origin, channel, frame.peak_shift, unit / frame.stride)


def _flip_index(skeleton: Skeleton, channels: int) -> np.ndarray:
    """The baseline has K channels, Double Embedding K+1."""
    return (
        skeleton.flip_index
        if channels == skeleton.num_keypoints
        else skeleton.flip_index_with_centre
    )


def _mean_heatmaps(passes: Sequence[Pass], merged: InputFrame, skeleton: Skeleton) -> torch.Tensor:
    sums: dict[tuple[int, int, bytes, int], torch.Tensor] = {}
    affines: dict[tuple[int, int, bytes, int], Affine] = {}
    for one in passes:
        for stride, batch in zip(STRIDES, one.output.heatmaps):
            maps = batch[0].detach().float()
            if one.mirrored:
                maps = maps[
                    torch.as_tensor(_flip_index(skeleton, len(maps)), device=maps.device)
                ].flip(-1)
            key = (one.frame.width, one.frame.height, one.frame.affine.matrix.tobytes(), stride)
            sums[key] = sums[key] + maps if key in sums else maps
            affines[key] = _cells_to_cells(merged, one.frame, stride)
    size = (merged.height // MERGED_STRIDE, merged.width // MERGED_STRIDE)
    total: torch.Tensor | None = None
    for key, maps in sums.items():
        resized = _resize(maps, size, affines[key])
        total = (
            resized
            if total is None
            else total.add_(resized)
            if total is not maps
            else total + resized
        )
    assert total is not None  # there is at least one pass
    return total / (len(passes) * len(STRIDES))


def _cells_to_cells(merged: InputFrame, frame: InputFrame, stride: int) -> Affine:
    """From the cells of the merged grid to those of a pass's map, cells seen as areas, which both conventions' peaks agree with."""
    to_input = Affine.resize(MERGED_STRIDE, MERGED_STRIDE)
    return (
        to_input.then(merged.affine.inverse())
        .then(frame.affine)
        .then(Affine.resize(1 / stride, 1 / stride))
    )


def _resize(maps: torch.Tensor, size: tuple[int, int], affine: Affine) -> torch.Tensor:
    """Bilinear; (C, h, w) -> (C, *size). Plain resizing where the areas are aligned, else (padded sides differ) resampling."""
    height, width = maps.shape[-2:]
    if (height, width) == size and np.allclose(affine.matrix, np.eye(2, 3), atol=1e-6):
        return maps
    aligned = Affine.resize(width / size[1], height / size[0])
    if not np.allclose(affine.matrix, aligned.matrix, atol=1e-6):
        return _resample(maps, size, affine)
    if maps.device.type != "cpu":
        return functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[
            0
        ]
    source, resized = maps.numpy(), np.empty((len(maps), *size), np.float32)
    for channel in range(len(source)):  # on the CPU OpenCV takes a quarter of torch's time
        cv2.resize(
            source[channel], size[::-1], dst=resized[channel], interpolation=cv2.INTER_LINEAR
        )
    return torch.from_numpy(resized)


def _resample(maps: torch.Tensor, size: tuple[int, int], affine: Affine) -> torch.Tensor:
    """Maps read at affine(cell) for each cell of the new grid, 0 outside."""
    cells = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1).astype(
        np.float64
    )
    height, width = maps.shape[-2:]
    grid = (affine.apply(cells) + 0.5) * (2 / np.array([width, height])) - 1
    place = torch.as_tensor(grid, dtype=maps.dtype, device=maps.device)
    return functional.grid_sample(maps[None], place[None], mode="bilinear", align_corners=False)[0]
