"""From merged maps to people: peaks, grouping, refinement, filling, scores, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from duopose.decode.evidence import max_offset_length, offset_sigma, predicted_centres
from duopose.decode.map_reading import read_tags_around, read_votes, window_overlaps
from duopose.decode.missing_joints import fill_missing_joints
from duopose.decode.mrm import refine_positions
from duopose.decode.peaks import check_values, find_cells
from duopose.decode.people import People, gather
from duopose.decode.score import not_duplicates, person_scores
from duopose.decode.settings import DecoderSettings
from duopose.decode.subpixel import sub_pixel
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import Peaks, PoseMaps, Poses


class GroupsPeaks(Protocol):
    """Says which peak is whose."""

    def group(self, peaks: Peaks) -> People:
        """The people that have any joint."""
        ...


@dataclass(frozen=True)
class Decoder:
    """Maps of one image to its people."""

    skeleton: Skeleton
    layout: OffsetLayout  # without edges for the baseline
    grouper: GroupsPeaks
    settings: DecoderSettings

    def decode(self, maps: PoseMaps) -> Poses:
        """The people of one image in the merged input frame.

        ValueError where the heatmaps hold NaN or +infinity, or the tags or offsets at a peak are not finite.
        """
        peaks = self.find_peaks(maps)
        people = self.grouper.group(peaks)
        return self.finish(peaks, people)

    def find_peaks(self, maps: PoseMaps) -> Peaks:
        """All peaks with their tags and the votes of their offsets."""
        settings = self.settings
        radius = np.full(len(maps.heatmaps), settings.nms_kernel // 2)
        radius[self.skeleton.centre :] = settings.nms_kernel_centre // 2
        cells, score, nms_suppressed = find_cells(
            maps.heatmaps, settings.detection_threshold, radius, 2 * settings.max_people
        )
        joint = cells[:, 0]
        position = maps.frame.to_input(cells[:, 2:0:-1] + maps.frame.peak_shift)
        around = read_tags_around(maps.tags, joint, position, settings.fill_radius)
        check_values("tags", around)
        vote, windows_overlap = self._votes(maps, joint, position)
        if settings.subpixel:
            position = sub_pixel(maps.layers, joint, position, limit=maps.frame.stride)
        reach = max_offset_length(position, vote, self.layout.num_forward)
        sigma = offset_sigma(
            reach, windows_overlap, settings.offset_sigma, settings.offset_sigma_relative
        )
        centre_vote = predicted_centres(joint, position, vote, self.layout, self.skeleton.centre)
        return Peaks(
            joint,
            position,
            score,
            nms_suppressed,
            around[:, around.shape[1] // 2],
            around,
            vote,
            reach,
            sigma,
            centre_vote,
            windows_overlap,
        )

    def _votes(
        self, maps: PoseMaps, joint: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Votes (M, E, 2) from the layers where a peak is alone in its window; whether (M,) it is so in none.

        Then the votes are those of the layer with the smallest window.
        """
        overlaps = window_overlaps(maps.offsets, joint, position, self.settings.offset_radius)
        alone = overlaps == 0
        windows_overlap = ~alone.any(axis=1)
        finest = np.array([1 / abs(layer.factor[0]) for layer in maps.offsets])
        usable = np.where(windows_overlap[:, None], finest == finest.min(initial=np.inf), alone)
        weight = usable / np.maximum(usable.sum(axis=1), 1)[:, None]
        vote = np.full((len(joint), self.layout.num_edges, 2), np.nan)
        peak, edge = np.nonzero(joint[:, None] == self.layout.source[None])
        found = read_votes(maps.offsets, edge, peak, position, weight)
        check_values("offsets", found)
        vote[peak, edge] = found
        return vote, windows_overlap

    def finish(self, peaks: Peaks, people: People) -> Poses:
        """Refined, filled, scored, ranked."""
        settings = self.settings
        score = gather(peaks.score, people.peak_index, 0.0)
        position = refine_positions(peaks, people.peak_index, self.layout, settings)

        filled = np.zeros(score.shape, dtype=bool)
        if settings.fill:
            position, score, filled = fill_missing_joints(
                peaks, people, position, score, self.layout, settings
            )

        ranks = person_scores(np.where(filled, settings.filled_score_weight * score, score))
        order = np.argsort(-ranks, kind="stable")
        duplicates = order[~not_duplicates(position[order], score[order] > 0)]
        ranks[duplicates] *= settings.duplicate_score_factor
        order = np.argsort(-ranks, kind="stable")[: settings.max_people]
        order = order[(ranks[order] >= settings.person_threshold) & (ranks[order] > 0)]
        keypoints = np.concatenate([position, score[..., None]], axis=2)
        return Poses(keypoints[order], ranks[order], filled[order])
