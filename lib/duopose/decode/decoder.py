"""From merged maps of one image to its people.

peaks      cells by non-maximum suppression; their tags and offsets; sub-pixel positions
grouping   which peaks belong to one person
refining   Mutual Refine Machine: peaks move towards their neighbours' predictions
filling    joints that the grouping did not find
ranking    scores, people found twice, the best `max_people`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from duopose.decode.calibration import (
    Calibration,
    expected_oks,
    impossible_joints,
    joint_kinds,
    person_features,
    person_sizes,
    position_sigma,
)
from duopose.decode.decoder_settings import DecoderSettings
from duopose.decode.evidence import max_offset_length, offset_sigma, predicted_centres
from duopose.decode.map_reading import (
    count_window_overlaps,
    predicted_targets,
    read_together,
    tags_around,
)
from duopose.decode.missing_joints import PREDICTED_SCORE, fill_missing_joints
from duopose.decode.mrm import person_size, refine_positions
from duopose.decode.peaks import check_values, find_peak_cells
from duopose.decode.people import NONE, GroupedPeople, gather
from duopose.decode.score import find_duplicates, person_scores
from duopose.decode.subpixel import subpixel_positions
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import Peaks, PoseMaps, Poses


class PeakGrouper(Protocol):
    """Assigns peaks to people."""

    def group(self, peaks: Peaks) -> GroupedPeople:
        """The people who have at least one joint."""
        ...


class Offsets(NamedTuple):
    """What the offset maps hold at M peaks."""

    predicted_target: np.ndarray  # (M, E, 2), as in `Peaks`
    windows_overlap: np.ndarray  # (M,) bool, as in `Peaks`


@dataclass(frozen=True)
class Decoder:
    """Decodes the maps of one image."""

    skeleton: Skeleton
    layout: OffsetLayout  # without edges for the baseline
    grouper: PeakGrouper
    settings: DecoderSettings

    def decode(self, maps: PoseMaps) -> Poses:
        """The people of one image, in the merged input frame.

        NotFiniteError where the heatmaps hold NaN or +infinity, or where the tags or offsets at a
        peak are not finite.
        """
        peaks = self.find_peaks(maps)
        people = self.grouper.group(peaks)
        return self.to_poses(peaks, people)

    # ---- peaks ----

    def find_peaks(self, maps: PoseMaps) -> Peaks:
        """All peaks, with the tags and offsets at them."""
        settings = self.settings
        radius = np.full(len(maps.heatmaps), settings.nms_kernel // 2)
        radius[self.skeleton.centre :] = settings.nms_kernel_centre // 2
        # twice max_people: the limit counts suppressed peaks too
        cells, score, nms_suppressed = find_peak_cells(
            maps.heatmaps, settings.detection_threshold, radius, limit=2 * settings.max_people
        )
        joint = cells[:, 0]
        column_row = cells[:, 2:0:-1]
        position = maps.frame.to_input(column_row + maps.frame.peak_shift)

        peak, edge = np.nonzero(joint[:, None] == self.layout.source)
        weight, windows_overlap = self._offset_weights(maps, joint, position)
        subpixel_layers = maps.layers if settings.subpixel else ()
        one_cell = maps.frame.stride  # the largest correction
        tags, targets, position = read_together(
            tags_around(maps.tags, joint, position, settings.fill_radius),
            predicted_targets(maps.offsets, edge, peak, position, weight),
            subpixel_positions(subpixel_layers, joint, position, one_cell),
        )
        check_values("tags", tags)
        check_values("offsets", targets)

        predicted_target = np.full((len(joint), self.layout.num_edges, 2), np.nan)
        predicted_target[peak, edge] = targets
        offsets = Offsets(predicted_target, windows_overlap)
        return self._to_peaks(joint, position, score, nms_suppressed, tags, offsets)

    def _offset_weights(
        self, maps: PoseMaps, joint: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights (M, layers) of the layers in the offsets of each peak, and `windows_overlap`.

        Where windows of several people overlap, an offset is the mean over these people. So only
        layers count in which a peak is in no other peak's window. Where there is no such layer,
        `windows_overlap` is True and the layers with the smallest window count.
        """
        overlaps = count_window_overlaps(maps.offsets, joint, position, self.settings.offset_radius)
        alone = overlaps == 0
        windows_overlap = ~alone.any(axis=1)
        pixels_per_cell = np.array([1 / abs(layer.factor[0]) for layer in maps.offsets])
        smallest_window = pixels_per_cell == pixels_per_cell.min(initial=np.inf)
        usable = np.where(windows_overlap[:, None], smallest_window, alone)
        weight = usable / np.maximum(usable.sum(axis=1, keepdims=True), 1)
        return weight, windows_overlap

    def _to_peaks(
        self,
        joint: np.ndarray,
        position: np.ndarray,
        score: np.ndarray,
        nms_suppressed: np.ndarray,
        tags_around: np.ndarray,
        offsets: Offsets,
    ) -> Peaks:
        """The bundle, with what follows from the offsets."""
        predicted_target, windows_overlap = offsets
        length = max_offset_length(position, predicted_target, self.layout.num_forward)
        sigma = offset_sigma(
            length,
            windows_overlap,
            self.settings.offset_sigma,
            self.settings.offset_sigma_relative,
            self.settings.overlap_sigma,
        )
        middle = tags_around.shape[1] // 2
        return Peaks(
            joint=joint,
            position=position,
            score=score,
            nms_suppressed=nms_suppressed,
            tag=tags_around[:, middle],
            tags_around=tags_around,
            predicted_target=predicted_target,
            max_offset_length=length,
            offset_sigma=sigma,
            predicted_centre=predicted_centres(
                joint, position, predicted_target, self.layout, self.skeleton.centre
            ),
            windows_overlap=windows_overlap,
        )

    # ---- people ----

    def to_poses(self, peaks: Peaks, people: GroupedPeople) -> Poses:
        """Refine, fill and rank the grouped people."""
        settings = self.settings
        if settings.calibration is not None:
            people = without_impossible_joints(peaks, people, settings.calibration)
        score = gather(peaks.score, people.peak_index, 0.0)
        position = refine_positions(peaks, people.peak_index, self.layout, settings)

        filled = np.zeros(score.shape, dtype=bool)
        if settings.fill:
            position, score, filled = fill_missing_joints(
                peaks, people, position, score, self.layout, settings
            )

        sigma: np.ndarray | None = None
        if settings.calibration is None:
            counted_score = np.where(filled, settings.filled_score_weight * score, score)
            ranking_score = person_scores(counted_score)
        else:
            self._drop_impossible(people, position, score, filled, settings.calibration)
            kind = joint_kinds(score, filled, PREDICTED_SCORE)
            ranking_score = calibrated_scores(position, score, kind, settings.calibration)
            sigma = position_sigma(score, kind, settings.calibration)

        order = np.argsort(-ranking_score, kind="stable")
        duplicate = find_duplicates(position[order], score[order] > 0)
        ranking_score[order[duplicate]] *= settings.duplicate_score_factor

        order = np.argsort(-ranking_score, kind="stable")[: settings.max_people]
        kept = (ranking_score >= settings.person_threshold) & (ranking_score > 0)
        order = order[kept[order]]
        keypoints = np.concatenate([position, score[..., None]], axis=2)
        return Poses(
            keypoints[order],
            ranking_score[order],
            filled[order],
            None if sigma is None else sigma[order],
        )

    @staticmethod
    def _drop_impossible(
        people: GroupedPeople,
        position: np.ndarray,
        score: np.ndarray,
        filled: np.ndarray,
        calibration: Calibration,
    ) -> None:
        """Remove joints, found or filled, so that no person has an impossible limb; in place."""
        distance = np.array(calibration.joint_distance)
        size = person_sizes(position, score > 0, people.centre, distance)
        dropped = impossible_joints(position, score, size, calibration)
        position[dropped] = 0.0
        score[dropped] = 0.0
        filled[dropped] = False


def without_impossible_joints(
    peaks: Peaks, people: GroupedPeople, calibration: Calibration
) -> GroupedPeople:
    """The people without the peaks that would give them impossible limbs."""
    position = gather(peaks.position, people.peak_index, 0.0)
    score = gather(peaks.score, people.peak_index, 0.0)
    distance = np.array(calibration.joint_distance)
    size = person_sizes(position, people.present, people.centre, distance)

    dropped = impossible_joints(position, score, size, calibration)
    return replace(people, peak_index=np.where(dropped, NONE, people.peak_index))


def calibrated_scores(
    position: np.ndarray, score: np.ndarray, kind: np.ndarray, calibration: Calibration
) -> np.ndarray:
    """(P,) expected OKS of people with joints (P, K, 2) of scores and kinds (P, K)."""
    size = person_size(position, score > 0)
    features = person_features(score, kind, size, calibration.log_odds(score))
    return expected_oks(features, np.array(calibration.person_weights))
