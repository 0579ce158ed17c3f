"""Evidence for grouping: log-likelihood ratios of "same person" against "unrelated".

Every measurement has a residual r: a person's tag minus a peak's tag, or a predicted position
(peak + offset) minus another peak's position. With Gaussian errors of standard deviation sigma
per axis,

    (1)  log_likelihood_ratio(r) = max(log_gain - |r|^2 / (2 sigma^2), log(outlier_probability)).

log_gain is the log ratio of the two densities at r = 0. The maximum is a truncated quadratic,
the usual approximation of log(gain exp(-|r|^2 / (2 sigma^2)) + outlier_probability): one wrong
offset cannot outweigh everything else. A measurement that does not exist (NaN) gives 0. The
ratios of independent measurements are added.

The error of an offset grows with its length and has a lower bound:

    (2)  sigma^2 = OFFSET_SIGMA^2 + (OFFSET_SIGMA_RELATIVE * max_offset_length)^2

with the length of the longest forward offset of the peak, so that sigma is not reduced for
foreshortened limbs.

Each term is a function listed in one of four tuples. To add a rule, write a function, list it,
and declare its setting if it has one:

    UNARY_TERMS     person and peak  (P, M)  tag, predicted centre, distance from centre
    PEAK_TERMS      peak             (M,)    heatmap score, NMS suppression
    PAIRWISE_TERMS  two peaks        joint types that share an edge: offsets in both directions
    AFFINITY_TERMS  two peaks        (L, L)  without a person: tags, predicted centres, distance
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from duopose.decode.calibration import Calibration, limb_log_ratio, person_sizes
from duopose.decode.decoder_settings import OVERLAP_SIGMA, DecoderSettings
from duopose.decode.people import GroupedPeople, gather
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import Peaks

# A distance has no gain: to be near a person's centre is possible for unrelated peaks too.
LOG_GAIN_DISTANCE = 0.0

# Two peaks of one person are at most about this many max_offset_lengths apart. Chosen on COCO
# val annotations with the perfect-network test.
MAX_EXTENT = 2.0

MIN_RELATIVE_SCORE = 1e-6  # keeps the logarithm of a score of 0 finite


# ---- the formula ----


def log_likelihood_ratio(
    squared_residual: np.ndarray,
    variance: np.ndarray | float,
    log_gain: float,
    outlier_probability: float,
) -> np.ndarray:
    """Equation (1) for |r|^2 summed over axes and sigma^2; 0 where either is NaN."""
    scale = np.asarray(-0.5 / variance, dtype=squared_residual.dtype)

    ratio = squared_residual * scale
    ratio += log_gain
    np.maximum(ratio, np.log(outlier_probability), out=ratio)
    np.copyto(ratio, 0.0, where=np.isnan(ratio))
    return ratio


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) float32 squared distances of points (N, D) and (M, D)."""
    total = np.zeros((len(first), len(second)), np.float32)
    for axis in range(first.shape[1]):
        column = first[:, axis, None].astype(np.float32)
        difference = column - second[:, axis].astype(np.float32)
        difference *= difference
        total += difference
    return total


# ---- the offsets of a peak: length, error and predicted centre ----


def max_offset_length(
    position: np.ndarray, predicted_target: np.ndarray, num_forward: int
) -> np.ndarray:
    """(M,) length in pixels of each peak's longest forward offset.

    position: (M, 2). predicted_target: (M, E, 2), NaN for edges of other joint types. Peaks without
    offsets get the mean of the others.
    """
    offset = predicted_target[:, :num_forward] - position[:, None]
    squared = (offset**2).sum(axis=2)
    squared = np.nan_to_num(squared)
    length = np.sqrt(squared.max(axis=1, initial=0.0))

    has_offset = length > 0
    mean_length = length[has_offset].mean() if has_offset.any() else 0.0
    return np.where(has_offset, length, mean_length)


def offset_sigma(
    length: np.ndarray,
    windows_overlap: np.ndarray,
    floor: float,
    relative: float,
    overlap: float = OVERLAP_SIGMA,
) -> np.ndarray:
    """Equation (2): (M,) standard deviation per axis, in pixels, of the peaks' offsets."""
    relative_sigma = np.where(windows_overlap, overlap, relative)
    return np.hypot(floor, relative_sigma * length)


def predicted_centres(
    joint: np.ndarray,
    position: np.ndarray,
    predicted_target: np.ndarray,
    layout: OffsetLayout,
    centre: int,
) -> np.ndarray:
    """(M, 2) centre of the person predicted by each peak.

    NaN for torso joints, which have no offset to the centre; a centre peak's own position.
    """
    to_centre = np.flatnonzero(layout.target == centre)
    edge_of_joint = np.full(centre + 1, -1)
    edge_of_joint[layout.source[to_centre]] = to_centre

    predicted = np.full((len(joint), 2), np.nan)
    edge = edge_of_joint[joint]
    has_edge = edge >= 0
    predicted[has_edge] = predicted_target[has_edge, edge[has_edge]]

    is_centre = joint == centre
    predicted[is_centre] = position[is_centre]
    return predicted


# ---- unary terms: (P, M) for people and joint peaks ----


def tag_variance(num_tags: np.ndarray, settings: DecoderSettings) -> np.ndarray:
    """Variance of a tag minus the mean of n others: TAG_SIGMA^2 (1 + 1/n)."""
    return settings.tag_sigma**2 * (1 + 1 / num_tags)


def tag_term(people: GroupedPeople, peaks: Peaks, settings: DecoderSettings) -> np.ndarray:
    """The person's mean tag against the peak's tag."""
    squared = squared_distances(people.tag, peaks.tag)
    variance = tag_variance(people.num_tags, settings)[:, None]
    return log_likelihood_ratio(
        squared, variance, settings.log_gain_tag, settings.outlier_probability
    )


def centre_term(people: GroupedPeople, peaks: Peaks, settings: DecoderSettings) -> np.ndarray:
    """The person's centre against the centre predicted by the peak."""
    squared = squared_distances(people.centre, peaks.predicted_centre)
    variance = peaks.offset_sigma**2
    return log_likelihood_ratio(
        squared, variance, settings.log_gain_offset, settings.outlier_probability
    )


def distance_term(people: GroupedPeople, peaks: Peaks, settings: DecoderSettings) -> np.ndarray:
    """Distance of the peak from the person's centre, in radii.

    For torso joints, which have no offsets to the centre, it is the only evidence of their own.
    """
    squared = squared_distances(people.centre, peaks.position)
    variance = people.radius[:, None] ** 2
    return log_likelihood_ratio(squared, variance, LOG_GAIN_DISTANCE, settings.outlier_probability)


UnaryTerm = Callable[[GroupedPeople, Peaks, DecoderSettings], np.ndarray]
UNARY_TERMS: tuple[UnaryTerm, ...] = (tag_term, centre_term, distance_term)


# ---- peak terms: (M,), "joint of a person" against "false peak" ----


def score_term(peaks: Peaks, settings: DecoderSettings) -> np.ndarray:
    """SCORE_WEIGHT * log(score / CONFIDENT_SCORE), 0 from CONFIDENT_SCORE on.

    False peaks of a trained network get rarer with the score by a power law. Measured on 400 drawn
    images with a trained network: AP 46.5 without, 50.2 with this term (detection threshold 0.1).
    A calibration replaces it by the measured log odds that a peak of this score is a joint.
    """
    if settings.calibration is not None:
        return settings.calibration.log_odds(peaks.score)
    relative = peaks.score / settings.confident_score
    clipped = np.clip(relative, MIN_RELATIVE_SCORE, 1.0)
    return settings.score_weight * np.log(clipped)


def nms_suppression_term(peaks: Peaks, settings: DecoderSettings) -> np.ndarray:
    """A penalty for 3x3 maxima with a higher peak in their NMS window."""
    return -settings.nms_suppressed_penalty * peaks.nms_suppressed


PeakTerm = Callable[[Peaks, DecoderSettings], np.ndarray]
PEAK_TERMS: tuple[PeakTerm, ...] = (score_term, nms_suppression_term)


# ---- pairwise terms: peaks of two joint types ----


def peak_slices(joint: np.ndarray, num_joints: int) -> list[slice]:
    """The rows of each joint type's peaks; joint: (M,) sorted."""
    bounds = np.searchsorted(joint, np.arange(num_joints + 1)).tolist()
    return [slice(first, last) for first, last in pairwise(bounds)]


def offset_term(
    peaks: Peaks, layout: OffsetLayout, settings: DecoderSettings, rows: list[slice]
) -> dict[tuple[int, int], np.ndarray]:
    """Predicted position of the target against its peaks, for every edge between joints.

    Returns (source, target) -> (N_source, N_target). A reverse edge is independent evidence.
    """
    blocks = {}
    for edge, (source, target) in enumerate(zip(layout.source.tolist(), layout.target.tolist())):
        if target >= len(rows):  # the centre: `centre_term`
            continue
        predicted = peaks.predicted_target[rows[source], edge]
        squared = squared_distances(predicted, peaks.position[rows[target]])
        variance = peaks.offset_sigma[rows[source], None] ** 2
        blocks[source, target] = log_likelihood_ratio(
            squared, variance, settings.log_gain_offset, settings.outlier_probability
        )
    return blocks


PairwiseTerm = Callable[
    [Peaks, OffsetLayout, DecoderSettings, list[slice]], dict[tuple[int, int], np.ndarray]
]
PAIRWISE_TERMS: tuple[PairwiseTerm, ...] = (offset_term,)


# ---- affinity terms: (L, L) for peaks that belong to nobody yet ----


def tag_affinity(peaks: Peaks, settings: DecoderSettings) -> np.ndarray:
    """Difference of two tags: sigma^2 = 2 TAG_SIGMA^2."""
    squared = squared_distances(peaks.tag, peaks.tag)
    variance = 2 * settings.tag_sigma**2
    return log_likelihood_ratio(
        squared, variance, settings.log_gain_tag, settings.outlier_probability
    )


def centre_affinity(peaks: Peaks, settings: DecoderSettings) -> np.ndarray:
    """Difference of two predicted centres."""
    squared = squared_distances(peaks.predicted_centre, peaks.predicted_centre)
    variance = np.add.outer(peaks.offset_sigma**2, peaks.offset_sigma**2)
    return log_likelihood_ratio(
        squared, variance, settings.log_gain_offset, settings.outlier_probability
    )


def distance_affinity(peaks: Peaks, settings: DecoderSettings) -> np.ndarray:
    """Distance of two peaks, in units of the largest extent of a person of their size."""
    squared = squared_distances(peaks.position, peaks.position)
    mean_length = np.add.outer(peaks.max_offset_length, peaks.max_offset_length) / 2
    extent = np.maximum(MAX_EXTENT * mean_length, settings.offset_sigma)
    return log_likelihood_ratio(squared, extent**2, LOG_GAIN_DISTANCE, settings.outlier_probability)


AffinityTerm = Callable[[Peaks, DecoderSettings], np.ndarray]
AFFINITY_TERMS: tuple[AffinityTerm, ...] = (tag_affinity, centre_affinity, distance_affinity)


# ---- all terms of one image ----


class GroupingEvidence:
    """The summed log-likelihood ratios of one image.

    A peak is its row in `peaks` everywhere: the first M rows are joints, the centre peaks follow.
    """

    def __init__(
        self, peaks: Peaks, skeleton: Skeleton, layout: OffsetLayout, settings: DecoderSettings
    ) -> None:
        num_joint_peaks = int(np.searchsorted(peaks.joint, skeleton.centre))

        self.peaks = peaks
        self.settings = settings
        self.joint_peaks = select_peaks(peaks, slice(0, num_joint_peaks))
        self.rows = peak_slices(self.joint_peaks.joint, skeleton.num_keypoints)

        terms = [term(self.joint_peaks, settings) for term in PEAK_TERMS]
        self.join_cost = (settings.joint_threshold - np.sum(terms, axis=0)).astype(np.float32)

        # pairwise[i, j] for peaks i and j; the last row, reached by NONE = -1, holds zeros.
        self.pairwise = np.zeros((num_joint_peaks + 1, num_joint_peaks), np.float32)
        self.neighbours: list[list[int]] = [[] for _ in self.rows]
        for pairwise_term in PAIRWISE_TERMS:
            blocks = pairwise_term(self.joint_peaks, layout, settings, self.rows)
            for (first, second), block in blocks.items():
                self._add_block(first, second, block)

        self.limbs_of: list[list[tuple[int, float, float]]] = [[] for _ in self.rows]
        if settings.calibration is not None:
            self._add_limbs(settings.calibration)

    def _add_limbs(self, calibration: Calibration) -> None:
        """For each joint the (neighbour, limit, scale) of its limbs."""
        values = zip(calibration.limb_limit, calibration.limb_scale)
        for (first, second), (limit, scale) in zip(calibration.limbs, values):
            self.limbs_of[first].append((second, limit, scale))
            self.limbs_of[second].append((first, limit, scale))

    def _add_block(self, first: int, second: int, block: np.ndarray) -> None:
        """Add log-likelihood ratios (N_first, N_second) of the peaks of two joint types."""
        self.pairwise[self.rows[first], self.rows[second]] += block
        self.pairwise[self.rows[second], self.rows[first]] += block.T
        if second not in self.neighbours[first]:
            self.neighbours[first].append(second)
            self.neighbours[second].append(first)

    def unary(self, people: GroupedPeople) -> np.ndarray:
        """(P, M) of every person and joint peak, minus the cost of joining: 0 is the threshold."""
        total = -self.join_cost + UNARY_TERMS[0](people, self.joint_peaks, self.settings)
        for term in UNARY_TERMS[1:]:
            total += term(people, self.joint_peaks, self.settings)
        return total

    def limb_prior(self, joint: int, peak_index: np.ndarray, size: np.ndarray) -> np.ndarray:
        """(P, N) limb prior of the peaks of one joint type, given the other joints of the people.

        peak_index: (P, K). size: (P,) in pixels, NaN where unknown. See `calibration`.
        """
        peaks = self.joint_peaks.position
        candidates = peaks[self.rows[joint]]
        total = np.zeros((len(peak_index), len(candidates)), np.float32)
        for neighbour, limit, scale in self.limbs_of[joint]:
            other = gather(peaks, peak_index[:, neighbour], np.nan)
            length = np.sqrt(squared_distances(other, candidates))
            total += limb_log_ratio(length / size[:, None], limit, scale)
        return total

    def person_sizes(self, people: GroupedPeople) -> np.ndarray | None:
        """(P,) sizes of people in pixels, NaN where unknown; None where there is no limb prior."""
        calibration = self.settings.calibration
        if calibration is None or not calibration.limbs:
            return None
        position = gather(self.joint_peaks.position, people.peak_index, 0.0)
        distance = np.array(calibration.joint_distance)
        return person_sizes(position, people.present, people.centre, distance)

    def affinity(self, rows: np.ndarray) -> np.ndarray:
        """(L, L) that two of the peaks `rows` (L,) belong to one person."""
        chosen = select_peaks(self.joint_peaks, rows)
        total = self.pairwise[np.ix_(rows, rows)]
        for term in AFFINITY_TERMS:
            total += term(chosen, self.settings)
        return total


def select_peaks(peaks: Peaks, rows: np.ndarray | slice) -> Peaks:
    """The peaks of an index, mask or slice."""
    return Peaks(*(field[rows] for field in peaks))
