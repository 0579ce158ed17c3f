"""Missing joints: after the grouping, look for them among the peaks of their type and by offsets.

The joints of two people can share one peak, or the grouping gave a peak to the wrong person. A
candidate is a pair (person p, peak i) where p lacks the joint of type i and i is within
MAX_RADII radii of the centre of p, also when another person has the peak. Its log-likelihood
is a sum of terms (see `evidence`):

    tag            tag of p against the nearest tag in a small window around the peak: where two
                   joints share a peak, each tag is on its own side of it
    prediction     position predicted by the neighbours' offsets against the peak's
    distance       from the centre of p, in radii
    shared window  offsets where windows overlap are trained as the mean over people, so a peak
                   that p shares with its owner q predicts the middle of the two centres, and a
                   peak of q alone the centre of q: llr(c_i - (c_p + c_q) / 2) - llr(c_i - c_q)
    score          as in the grouping
    assigned peak  a penalty if another person has the peak
    limbs          of a calibrated model: the limb prior

The best candidate fills the joint if its log-likelihood is above FILL_THRESHOLD; otherwise the
position predicted by the neighbours' offsets does, if there is one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from duopose.decode.calibration import limb_log_ratio, person_sizes
from duopose.decode.decoder_settings import DecoderSettings
from duopose.decode.evidence import (
    LOG_GAIN_DISTANCE,
    log_likelihood_ratio,
    score_term,
    squared_distances,
    tag_variance,
)
from duopose.decode.mrm import collect_predictions
from duopose.decode.people import NONE, GroupedPeople, gather
from duopose.skeletons import OffsetLayout
from duopose.types import Peaks

# Score of a joint filled in without a peak: small, but above 0, which would mean "not found".
PREDICTED_SCORE = 0.01

# Subtracted from the log-likelihood of a peak that another person has. Chosen on COCO val
# annotations with the perfect-network test.
ASSIGNED_PEAK_PENALTY = 1.0

# People without a centre peak need this many joints to be filled: with fewer they are mostly
# false peaks. Chosen on COCO val annotations with the perfect-network test.
MIN_JOINTS = 3

# Joints are looked for within this many radii of the centre. Two, because the baseline's
# radius, from joints alone, is small (CrowdPose, ideal maps: AP 99.5 -> 99.8 against one
# radius).
MAX_RADII = 2.0


def fill_missing_joints(
    peaks: Peaks,
    people: GroupedPeople,
    position: np.ndarray,
    score: np.ndarray,
    layout: OffsetLayout,
    settings: DecoderSettings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (P, K, 2) and scores (P, K) with missing joints filled, and a mask of these.

    position, score: of the joints found by the grouping. A joint filled with a peak gets the peak's
    score, one filled by offsets alone PREDICTED_SCORE. The mask is (P, K) bool.
    """
    position = position.copy()
    score = score.copy()
    missing = ~people.present
    if layout.num_edges:  # the baseline's people never have a centre peak
        num_joints = people.present.sum(axis=1)
        missing[(people.centre_peak == NONE) & (num_joints < MIN_JOINTS)] = False
    if not missing.any():
        return position, score, missing

    new_position, new_score = JointFiller(peaks, people, layout, settings).fill(missing)
    filled = missing & ~np.isnan(new_position[..., 0])
    position[filled] = new_position[filled]
    score[filled] = new_score[filled]
    return position, score, filled


class Candidates(NamedTuple):
    """N pairs of a person and a peak that may be its missing joint."""

    person: np.ndarray  # (N,) int
    peak: np.ndarray  # (N,) int
    joint: np.ndarray  # (N,) int type of the peak


class JointFiller:
    """Evidence on the missing joints of one image; each term returns (N,) for N candidates."""

    def __init__(
        self, peaks: Peaks, people: GroupedPeople, layout: OffsetLayout, settings: DecoderSettings
    ) -> None:
        self.peaks = peaks
        self.people = people
        self.layout = layout
        self.settings = settings
        self.owner = peak_owners(peaks, people, layout)
        self.predicted, self.predicted_sigma = predict_joints(peaks, people, layout)

    def fill(self, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (P, K, 2), NaN where unknown, and scores (P, K) of `missing` (P, K)."""
        position = self.predicted.copy()
        score = np.full(missing.shape, PREDICTED_SCORE)

        candidates = self.candidates(missing)
        log_likelihood = self.log_likelihood(candidates)
        best = best_of_each_joint(candidates, log_likelihood, missing.shape[1])
        best = best[log_likelihood[best] > self.settings.fill_threshold]

        person = candidates.person[best]
        joint = candidates.joint[best]
        peak = candidates.peak[best]
        position[person, joint] = self.peaks.position[peak]
        score[person, joint] = self.peaks.score[peak]
        return position, score

    def candidates(self, missing: np.ndarray) -> Candidates:
        """The pairs within MAX_RADII, ordered by person, then peak."""
        num_joint_peaks = int(np.searchsorted(self.peaks.joint, missing.shape[1]))
        joint = self.peaks.joint[:num_joint_peaks]
        position = self.peaks.position[:num_joint_peaks]

        squared = squared_distances(self.people.centre, position)
        limit = (MAX_RADII * self.people.radius[:, None]) ** 2
        is_far = squared > limit  # False where centre or radius are unknown
        person, peak = np.nonzero(missing[:, joint] & ~is_far)
        return Candidates(person, peak, joint[peak])

    def log_likelihood(self, candidates: Candidates) -> np.ndarray:
        """(N,) sum of all terms."""
        terms = (
            self.tag_term,
            self.prediction_term,
            self.distance_term,
            self.shared_window_term,
            self.score_term,
            self.assigned_peak_term,
            self.limb_term,
        )
        return np.sum([term(candidates) for term in terms], axis=0)

    # ---- the terms ----

    def tag_term(self, candidates: Candidates) -> np.ndarray:
        """The person's mean tag against the nearest tag around the peak."""
        tags_around = self.peaks.tags_around[candidates.peak]
        difference = tags_around - self.people.tag[candidates.person, None]
        nearest = squared_length(difference).min(axis=1)

        num_tags = self.people.num_tags[candidates.person]
        variance = tag_variance(num_tags, self.settings)
        return self._ratio(nearest, variance, self.settings.log_gain_tag)

    def prediction_term(self, candidates: Candidates) -> np.ndarray:
        """The position predicted by the person's other joints against the peak's."""
        predicted = self.predicted[candidates.person, candidates.joint]
        squared = squared_length(predicted - self.peaks.position[candidates.peak])
        sigma = self.predicted_sigma[candidates.person, candidates.joint]
        return self._ratio(squared, sigma**2, self.settings.log_gain_offset)

    def distance_term(self, candidates: Candidates) -> np.ndarray:
        """The distance of the peak from the person's centre, in radii."""
        centre = self.people.centre[candidates.person]
        squared = squared_length(centre - self.peaks.position[candidates.peak])
        variance = self.people.radius[candidates.person] ** 2
        return self._ratio(squared, variance, LOG_GAIN_DISTANCE)

    def shared_window_term(self, candidates: Candidates) -> np.ndarray:
        """The peak's predicted centre: that of two people's mean against that of its owner.

        0 where nobody has the peak. Each of the two ratios is bounded by half of the usual log, for
        they rest on one offset.
        """
        predicted = self.peaks.predicted_centre[candidates.peak]
        variance = self.peaks.offset_sigma[candidates.peak] ** 2
        owner = self.owner[candidates.peak]
        owner_centre = self.people.centre[owner]
        middle = (self.people.centre[candidates.person] + owner_centre) / 2

        to_middle = squared_length(predicted - middle)
        to_owner = squared_length(predicted - owner_centre)
        outlier = np.sqrt(self.settings.outlier_probability)
        shared = log_likelihood_ratio(to_middle, variance, 0.0, outlier)
        alone = log_likelihood_ratio(to_owner, variance, 0.0, outlier)
        return np.where(owner != NONE, shared - alone, 0.0)

    def score_term(self, candidates: Candidates) -> np.ndarray:
        """The peak's heatmap score, as in the grouping."""
        return score_term(self.peaks, self.settings)[candidates.peak]

    def assigned_peak_term(self, candidates: Candidates) -> np.ndarray:
        """The penalty for a peak that another person has."""
        return -ASSIGNED_PEAK_PENALTY * (self.owner[candidates.peak] != NONE)

    def limb_term(self, candidates: Candidates) -> np.ndarray:
        """The limb prior of a calibration: lengths of the limbs to the person's other joints."""
        total = np.zeros(len(candidates.peak))
        calibration = self.settings.calibration
        if calibration is None or not calibration.limbs:
            return total

        found = gather(self.peaks.position, self.people.peak_index, np.nan)
        joint_distance = np.array(calibration.joint_distance)
        size = person_sizes(found, self.people.present, self.people.centre, joint_distance)
        own = self.peaks.position[candidates.peak]
        limbs = zip(calibration.limbs, calibration.limb_limit, calibration.limb_scale)
        for pair, limit, scale in limbs:
            for joint, other in (pair, pair[::-1]):
                rows = np.flatnonzero(candidates.joint == joint)
                person = candidates.person[rows]
                length = np.linalg.norm(own[rows] - found[person, other], axis=1)
                total[rows] += limb_log_ratio(length / size[person], limit, scale)
        return total

    def _ratio(self, squared: np.ndarray, variance: np.ndarray, log_gain: float) -> np.ndarray:
        return log_likelihood_ratio(squared, variance, log_gain, self.settings.outlier_probability)


def squared_length(difference: np.ndarray) -> np.ndarray:
    """(...,) of vectors (..., D)."""
    return np.einsum("...d,...d->...", difference, difference)


def peak_owners(peaks: Peaks, people: GroupedPeople, layout: OffsetLayout) -> np.ndarray:
    """(M,) person of each peak, NONE where it is unassigned.

    A person of one joint without a centre peak is no owner: its peak is mostly one that two people
    share and neither got. The baseline's people have no centre peaks, so there it owns its peak.
    """
    owns = np.ones(len(people), dtype=bool)
    if layout.num_edges:
        owns = (people.centre_peak != NONE) | (people.present.sum(axis=1) != 1)

    owner = np.full(len(peaks.joint), NONE)
    person, joint = np.nonzero(people.present & owns[:, None])
    owner[people.peak_index[person, joint]] = person
    return owner


def predict_joints(
    peaks: Peaks, people: GroupedPeople, layout: OffsetLayout
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (P, K, 2) predicted by the neighbours' offsets, and their sigma (P, K).

    The precision-weighted mean of all predictions, with sigma of equation (2) in `evidence`; NaN
    where there is no prediction.
    """
    predictions = collect_predictions(peaks, people.peak_index, layout)
    weight = 1 / predictions.sigma**2
    total = predictions.sum_by_target(weight)
    total_weight = np.where(total > 0, total, np.nan)
    position = predictions.weighted_sum(weight) / total_weight[..., None]
    return position, 1 / np.sqrt(total_weight)


def best_of_each_joint(
    candidates: Candidates, log_likelihood: np.ndarray, num_joints: int
) -> np.ndarray:
    """Indices of the best candidate of each missing joint of each person; ties go to the first."""
    best_first = np.argsort(-log_likelihood, kind="stable")
    missing_joint = candidates.person * num_joints + candidates.joint
    _, first = np.unique(missing_joint[best_first], return_index=True)
    return best_first[first]
