"""Ideal maps: the output of a network that reproduces its training targets exactly.

    heatmap(cell) = max over peaks of score * exp(-|cell - position|^2 / (2 sigma^2))
    tag(cell)     = tag of the nearest peak of the same joint type          in the peak's window
    offset(cell)  = (mean over people of target + error) - cell position    in the peak's window

All maps are 0 outside the windows. Cells are those of a map, positions of targets in input pixels.

This is written independently of `duopose.targets` on purpose (numpy, one image, window by window).
tests/oracle compares the two, so each checks the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from duopose.decode.merge_passes import Pass
from duopose.geometry import InputFrame, MapFrame
from duopose.oracle.simulated_people import SimulatedPeople, in_other_frame, mirrored
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import STRIDES, NetworkOutput


class _Peaks(NamedTuple):
    """N joints of people and false peaks."""

    joint: np.ndarray  # (N,) int, channel
    position: np.ndarray  # (N, 2) x, y in input pixels
    score: np.ndarray  # (N,) 0: a tag but no heatmap peak
    tag: np.ndarray  # (N,) of the plain pass


class _Window(NamedTuple):
    """The part of a square window that is inside the map; both may be empty."""

    rows: slice
    columns: slice

    def row_index(self) -> np.ndarray:
        """The rows as integers."""
        return np.arange(self.rows.start, self.rows.stop)

    def column_index(self) -> np.ndarray:
        """The columns as integers."""
        return np.arange(self.columns.start, self.columns.stop)


@dataclass(frozen=True)
class IdealNetwork:
    """Renders the maps of simulated people, at any input size."""

    layout: OffsetLayout
    sigma: float = 2.0  # of the Gaussians, cells (DATASET.SIGMA)
    radius: int = 7  # of the windows of tags and offsets, cells (DATASET.OFFSET_RADIUS)
    legacy_alignment: bool = False  # Gaussians on the floored cell (HEATMAP_CENTRES rounded)
    offset_unit: float = 1.0  # input pixels (MODEL.OFFSET_UNIT)
    with_centre: bool = True  # False: the baseline, without the channel of the person centre
    offset_strides: tuple[int, ...] = STRIDES  # none for the baseline

    def __call__(self, people: SimulatedPeople, width: int, height: int) -> NetworkOutput:
        """Maps of a batch of one, for people in the frame of an input of width x height pixels."""
        num_channels = people.labelled.shape[1]
        if not self.with_centre:
            num_channels -= 1
        peaks = _collect_peaks(people, num_channels)

        heatmaps = []
        tags = []
        offsets = []
        for stride in STRIDES:
            frame = MapFrame(stride, self.legacy_alignment)
            shape = (num_channels, height // stride, width // stride)
            heatmaps.append(_to_batch(self._render_heatmaps(peaks, frame, shape)))
            if stride == STRIDES[0]:
                tags.append(_to_batch(self._render_tags(peaks, frame, shape)))
            if stride in self.offset_strides:
                offsets.append(_to_batch(self._render_offsets(people, frame, shape[1:])))
        return NetworkOutput(tuple(heatmaps), tags[0], tuple(offsets))

    def _render_heatmaps(
        self, peaks: _Peaks, frame: MapFrame, shape: tuple[int, int, int]
    ) -> np.ndarray:
        """Heatmaps of that shape (channels, height, width)."""
        maps = np.zeros(shape, np.float32)
        # Cut off at 3 sigma + 1 cells, as in training.
        radius = int(3 * self.sigma + 1)
        position = frame.to_cells(peaks.position)
        if self.legacy_alignment:
            position = np.floor(position)
        cell = np.floor(position + 0.5).astype(int)

        for index in np.flatnonzero(peaks.score > 0):
            window = _window(cell[index], radius, shape[1:])
            x, y = position[index]
            gaussian_y = self._gaussian(window.row_index() - y)
            gaussian_x = self._gaussian(window.column_index() - x)
            patch = gaussian_y[:, None] * gaussian_x[None, :] * peaks.score[index]

            target = maps[peaks.joint[index], window.rows, window.columns]
            np.maximum(target, patch.astype(np.float32), out=target)
        return maps

    def _gaussian(self, distance: np.ndarray) -> np.ndarray:
        return np.exp(-(distance**2) / (2 * self.sigma**2))

    def _render_tags(
        self, peaks: _Peaks, frame: MapFrame, shape: tuple[int, int, int]
    ) -> np.ndarray:
        """Tag maps of that shape (channels, height, width)."""
        maps = np.zeros(shape, np.float32)
        nearest = np.full(shape, np.inf, np.float32)  # squared distance to the nearest peak
        position = frame.to_cells(peaks.position) - frame.peak_shift
        cell = np.floor(position + 0.5).astype(int)

        for index, joint in enumerate(peaks.joint):
            window = _window(cell[index], self.radius, shape[1:])
            x, y = position[index]
            squared_y = (window.row_index() - y) ** 2
            squared_x = (window.column_index() - x) ** 2
            distance = (squared_y[:, None] + squared_x[None, :]).astype(np.float32)

            nearest_here = nearest[joint, window.rows, window.columns]
            is_nearer = distance < nearest_here
            nearest_here[is_nearer] = distance[is_nearer]
            maps[joint, window.rows, window.columns][is_nearer] = peaks.tag[index]
        return maps

    def _render_offsets(
        self, people: SimulatedPeople, frame: MapFrame, size: tuple[int, int]
    ) -> np.ndarray:
        """(C, height, width) offset maps in units of `offset_unit`."""
        layout = self.layout
        maps = np.zeros((layout.num_channels, *size), np.float32)
        position = frame.to_cells(people.peak_position) - frame.peak_shift
        cell = np.floor(position + 0.5).astype(int)
        has_offset = people.labelled[:, layout.source] & people.labelled[:, layout.target]

        for edge in range(layout.num_edges):
            with_edge = np.flatnonzero(has_offset[:, edge])
            target = people.position[with_edge, layout.target[edge]]
            target = target + people.offset_error[with_edge, edge]
            source_cell = cell[with_edge, layout.source[edge]]
            mean = self._mean_offset(source_cell, target, frame, size)
            maps[2 * edge : 2 * edge + 2] = mean / self.offset_unit
        return maps

    def _mean_offset(
        self, cell: np.ndarray, target: np.ndarray, frame: MapFrame, size: tuple[int, int]
    ) -> np.ndarray:
        """(2, height, width) y, x in input pixels for one edge, mean over people.

        cell: (N, 2) x, y of the windows' middle cells. target: (N, 2) x, y in input pixels.
        """
        total = np.zeros((2, *size))
        count = np.zeros(size)
        for middle, (target_x, target_y) in zip(cell, target, strict=True):
            window = _window(middle, self.radius, size)
            pixel_y = frame.to_input(window.row_index().astype(np.float64))
            pixel_x = frame.to_input(window.column_index().astype(np.float64))
            total[0, window.rows, window.columns] += target_y - pixel_y[:, None]
            total[1, window.rows, window.columns] += target_x - pixel_x[None, :]
            count[window.rows, window.columns] += 1
        return total / np.maximum(count, 1)


def ideal_passes(
    people: SimulatedPeople,
    merged: InputFrame,
    frames: Sequence[InputFrame],
    network: IdealNetwork,
    skeleton: Skeleton,
    flip: bool,
) -> list[Pass]:
    """The passes of a perfect network over one image, which treats both sides of a flip equally.

    people: in the frame `merged`. frames: the input of each test scale. flip: add mirrored passes.
    """
    passes = []
    for frame in frames:
        to_pass = merged.affine.inverse().then(frame.affine).matrix
        people_in_pass = in_other_frame(people, factor=np.diag(to_pass), shift=to_pass[:, 2])
        output = network(people_in_pass, frame.width, frame.height)
        passes.append(Pass(output, frame))

        if flip:
            flipped_people = mirrored(people_in_pass, frame.width, skeleton, network.layout)
            flipped_output = network(flipped_people, frame.width, frame.height)
            passes.append(Pass(flipped_output, frame, mirrored=True))
    return passes


def _collect_peaks(people: SimulatedPeople, num_channels: int) -> _Peaks:
    """The labelled joints of the first `num_channels` types, then the false peaks."""
    person, joint = np.nonzero(people.labelled[:, :num_channels])
    false_peaks = people.false_peaks
    return _Peaks(
        joint=np.concatenate([joint, false_peaks.joint]),
        position=np.concatenate([people.peak_position[person, joint], false_peaks.position]),
        score=np.concatenate([people.peak_score[person, joint], false_peaks.score]),
        tag=np.concatenate([people.tag[0, person, joint], false_peaks.tag[0]]),
    )


def _window(cell: np.ndarray, radius: int, size: tuple[int, int]) -> _Window:
    """The window of `radius` cells around a cell (x, y), in a map of size (height, width)."""
    height, width = size
    column, row = cell
    return _Window(_clipped_range(row, radius, height), _clipped_range(column, radius, width))


def _clipped_range(middle: int, radius: int, length: int) -> slice:
    start = min(max(middle - radius, 0), length)
    stop = max(min(middle + radius + 1, length), start)
    return slice(start, stop)


def _to_batch(maps: np.ndarray) -> torch.Tensor:
    """A batch of one in channels-last memory format, as networks give it."""
    return torch.from_numpy(maps)[None].contiguous(memory_format=torch.channels_last)
