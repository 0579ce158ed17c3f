"""Ideal maps: what a network that learned its targets perfectly would give for a scene.

Independent of the training's target code on purpose (numpy, one image, written window by window), so that the two check each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from duopose.geometry import MapFrame
from duopose.oracle.scene import Scene
from duopose.skeletons import OffsetLayout
from duopose.types import STRIDES, NetworkOutput


@dataclass(frozen=True)
class IdealNetwork:
    """Renders scenes of one input size after another; plain settings of the targets."""

    layout: OffsetLayout
    sigma: float = 2.0  # cells
    radius: int = 7  # cells, of the offset windows
    legacy_alignment: bool = False  # heatmap centres on the floored cell
    offset_unit: float = 1.0
    with_centre: bool = True
    with_offsets: bool = True

    def __call__(self, scene: Scene, width: int, height: int) -> NetworkOutput:
        """Maps of a batch of one. scene: in the frame of this very input of `width` x `height` pixels."""
        sizes = [(height // stride, width // stride) for stride in STRIDES]
        frames = [MapFrame(stride, self.legacy_alignment) for stride in STRIDES]
        channels = scene.labelled.shape[1] - (0 if self.with_centre else 1)
        peaks = _instances(scene, channels)
        heat = tuple(
            _batch(self._heatmaps(peaks, frame, size, channels))
            for frame, size in zip(frames, sizes)
        )
        tags = _batch(self._tags(peaks, frames[0], sizes[0], channels))
        if not self.with_offsets:
            return NetworkOutput(heat, tags, ())
        offsets = tuple(
            _batch(self._offsets(scene, frame, size)) for frame, size in zip(frames, sizes)
        )
        return NetworkOutput(heat, tags, offsets)

    def _heatmaps(
        self, peaks: Instances, frame: MapFrame, size: tuple[int, int], channels: int
    ) -> np.ndarray:
        """(channels, *size), maximum over people of Gaussians, cut off at 3 sigma + 1 cells as in training."""
        reach = int(3 * self.sigma + 1)
        maps = np.zeros((channels, *size), np.float32)
        cells = frame.to_cells(peaks.place)
        middle = np.floor(cells if self.legacy_alignment else cells + 0.5).astype(int)
        centre = middle if self.legacy_alignment else cells
        steps = np.arange(-reach, reach + 1)
        distance = middle[:, :, None] + steps - centre[:, :, None]
        bell = np.exp(-(distance**2) / (2 * self.sigma**2))
        patches = (bell[:, 1, :, None] * bell[:, 0, None, :] * peaks.height[:, None, None]).astype(
            np.float32
        )
        for index in np.flatnonzero(peaks.height > 0):
            inside, rows, columns = _window(middle[index], reach, size)
            if inside:
                target = maps[peaks.joint[index], rows[0], columns[0]]
                np.maximum(target, patches[index, rows[1], columns[1]], out=target)
        return maps

    def _tags(
        self, peaks: Instances, frame: MapFrame, size: tuple[int, int], channels: int
    ) -> np.ndarray:
        """(channels, *size): within a window's reach, the tag of the nearest joint of that type; 0 elsewhere."""
        maps = np.zeros((channels, *size), np.float32)
        nearest = np.full((channels, *size), np.inf, np.float32)
        cells = frame.to_cells(peaks.place) - frame.peak_shift
        middle = np.floor(cells + 0.5).astype(int)
        steps = np.arange(-self.radius, self.radius + 1)
        squared = (middle[:, :, None] + steps - cells[:, :, None]) ** 2
        for index in range(len(cells)):
            inside, rows, columns = _window(middle[index], self.radius, size)
            if not inside:
                continue
            own = (squared[index, 1, rows[1], None] + squared[index, 0, None, columns[1]]).astype(
                np.float32
            )
            best = nearest[peaks.joint[index], rows[0], columns[0]]
            closer = own < best
            best[closer] = own[closer]
            maps[peaks.joint[index], rows[0], columns[0]][closer] = peaks.tag[index]
        return maps

    def _offsets(self, scene: Scene, frame: MapFrame, size: tuple[int, int]) -> np.ndarray:
        """(C, *size): in each joint's window target - pixel, in units; mean over people whose windows overlap; 0 elsewhere."""
        layout, height, width = self.layout, *size
        person, edge = np.nonzero(
            scene.labelled[:, layout.source] & scene.labelled[:, layout.target]
        )
        cells = frame.to_cells(scene.peak[person, layout.source[edge]]) - frame.peak_shift
        middle = np.floor(cells + 0.5).astype(int)
        target = scene.position[person, layout.target[edge]] + scene.offset_error[person, edge]
        steps = np.arange(-self.radius, self.radius + 1)
        column, row = (
            (middle[:, 0, None] + steps)[:, None, :],
            (middle[:, 1, None] + steps)[:, :, None],
        )
        column, row = np.broadcast_arrays(column, row)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        flat = (edge[:, None, None] * height + row) * width + column
        which = np.broadcast_to(np.arange(len(edge))[:, None, None], flat.shape)[inside]
        cell, place = np.unique(flat[inside], return_inverse=True)
        count = np.bincount(place, minlength=len(cell))
        maps = np.zeros((2 * layout.num_edges, height * width), np.float32)
        channel, spot = cell // (height * width), cell % (height * width)
        pixel = frame.to_input(np.stack([spot % width, spot // width], axis=1).astype(np.float64))
        for axis, first in ((1, 0), (0, 1)):
            mean = np.bincount(place, weights=target[which, axis], minlength=len(cell)) / count
            maps[2 * channel + first, spot] = (mean - pixel[:, axis]) / self.offset_unit
        return maps.reshape(-1, height, width)


@dataclass(frozen=True)
class Instances:
    """Everything that has a heatmap peak or a tag, N of them."""

    joint: np.ndarray  # (N,)
    place: np.ndarray  # (N, 2)
    height: np.ndarray  # (N,) 0: a tag but no peak
    tag: np.ndarray  # (N,) of the plain pass


def _instances(scene: Scene, channels: int) -> Instances:
    """The scene's joints, centre included where it has a channel, then its false peaks."""
    person, joint = np.nonzero(scene.labelled[:, :channels])
    false = scene.false_peaks
    return Instances(
        np.concatenate([joint, false.joint]),
        np.concatenate([scene.peak[person, joint], false.peak]),
        np.concatenate([scene.height[person, joint], false.height]),
        np.concatenate([scene.tag[0, person, joint], false.tag[0]]),
    )


def _window(
    middle: np.ndarray, reach: int, size: tuple[int, int]
) -> tuple[bool, tuple[slice, slice], tuple[slice, slice]]:
    """Whether a window meets the map; its rows and its columns, each as a slice of the map and one of the window."""
    rows, columns = (_clip(int(middle[axis]), reach, size[0 if axis else 1]) for axis in (1, 0))
    return rows[0].start < rows[0].stop and columns[0].start < columns[0].stop, rows, columns


def _clip(middle: int, reach: int, length: int) -> tuple[slice, slice]:
    first, last = max(middle - reach, 0), min(middle + reach + 1, length)
    return slice(first, last), slice(first - middle + reach, last - middle + reach)


def _batch(maps: np.ndarray) -> torch.Tensor:
    """A batch of one in channels-last memory format, which networks give."""
    return torch.from_numpy(maps)[None].contiguous(memory_format=torch.channels_last)
