"""From merged maps to people: peaks, grouping, refinement, filling, scores, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from duopose.decode.fill import fill
from duopose.decode.peaks import check_finite, find_cells, sub_pixel
from duopose.decode.refine import refine
from duopose.decode.sample import read_tags, read_votes
from duopose.decode.score import not_duplicates, person_scores
from duopose.decode.settings import DecoderSettings
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import Peaks, PoseMaps, Poses


class GroupsPeaks(Protocol):
    """Says which peak is whose."""

    def group(self, peaks: Peaks) -> np.ndarray:
        """(P, K) index of each person's peaks, -1 where a joint was not found."""
        ...


@dataclass(frozen=True)
class Decoder:
    """Maps of one picture to its people."""

    skeleton: Skeleton
    layout: OffsetLayout  # without entries for the baseline
    grouper: GroupsPeaks
    settings: DecoderSettings

    def decode(self, maps: PoseMaps) -> Poses:
        """The people of one picture in the merged input frame. ValueError where the maps hold NaN or infinity."""
        check_finite(maps)
        peaks = self.find_peaks(maps)
        member = self.grouper.group(peaks)
        return self.finish(maps, peaks, member)

    def find_peaks(self, maps: PoseMaps) -> Peaks:
        """All peaks with their tags and the votes of their offsets."""
        settings = self.settings
        radius = np.full(len(maps.heatmaps), settings.nms_kernel // 2)
        radius[self.skeleton.centre :] = settings.nms_kernel_centre // 2
        cells, score, secondary = find_cells(maps.heatmaps, settings.detection_threshold, radius, 2 * settings.max_people)
        joint = cells[:, 0]
        position = maps.frame.to_input(cells[:, 2:0:-1] + maps.frame.peak_shift)
        tag = read_tags(maps.tags, joint, position)
        vote = self._votes(maps, joint, position)
        if settings.adjust:
            position = sub_pixel(maps.layers, joint, position, limit=maps.frame.stride)
        return Peaks(joint, position, score, secondary, tag, vote)

    def _votes(self, maps: PoseMaps, joint: np.ndarray, position: np.ndarray) -> np.ndarray:
        vote = np.full((len(joint), self.layout.num_entries, 2), np.nan)
        peak, entry = np.nonzero(joint[:, None] == self.layout.source[None])
        vote[peak, entry] = read_votes(maps.offsets, entry, position[peak])
        return vote

    def finish(self, maps: PoseMaps, peaks: Peaks, member: np.ndarray) -> Poses:
        """Refined, filled, scored, ranked."""
        settings = self.settings
        score = np.where(member >= 0, peaks.score[member], 0.0) if len(peaks.score) else np.zeros(member.shape)
        position = refine(peaks, member, self.layout, settings)
        filled = np.zeros(member.shape, dtype=bool)
        if settings.fill:
            position, score, filled = fill(peaks, maps, member, position, score, self.layout, settings)
        ranks = person_scores(score)
        order = np.argsort(-ranks, kind="stable")[: settings.max_people]
        order = order[ranks[order] >= settings.person_threshold]
        if settings.drop_duplicates:
            order = order[not_duplicates(position[order], score[order] > 0)]
        keypoints = np.concatenate([position, score[..., None]], axis=2)
        return Poses(keypoints[order], ranks[order], filled[order])
