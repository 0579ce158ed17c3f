"""Values of the decoder that were measured on one network, and the functions that use them.

`duopose.calibration` fits them on labelled images; a model file carries them. Without them the
decoder uses its documented defaults. With z_k the log odds that a peak of score s is a joint,

    peak evidence   (1)  z(s): linear between SCORE_KNOTS
    person size     (2)  size_p = median over found joints k of |x_k - c_p| / joint_distance_k
    limb prior      (3)  -((l / size_p - limit) / scale)^2 / 2 above the limit, 0 below it,
                         at least LIMB_FLOOR, for a limb of length l
    person score    (4)  sigmoid(w . features): the expected OKS of the person
    position error  (5)  log sigma = a(s) + b_kind + d_k, in pixels of the merged input

Where no data determined a value, it is neutral: a joint_distance of 0 is not used, a limb without
enough examples has no prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import msgspec
import numpy as np

# Scores at which log odds and position errors are fitted. Scores are values of heatmaps whose
# targets are in 0 .. 1.
SCORE_KNOTS = np.linspace(0.0, 1.0, 11)

# The lowest log-likelihood ratio of a limb: below the sum of all other evidence on a peak (a sure
# peak 6, tag 4, centre and neighbours 4 each), so that it decides alone.
LIMB_FLOOR = -20.0

# A limb of more than this many scales above its limit is impossible. The scale is fitted so that
# this is the 99.9th percentile of the limbs of annotated people.
IMPOSSIBLE_SCALES = 2.0

MIN_SIZE = 4.0  # pixels; smaller people (of one joint) have this size in the person score
FOUND, FILLED_BY_PEAK, FILLED_BY_OFFSETS = range(3)  # how a joint was found
NUM_FEATURES = 6  # of `person_features`

# Bounds of the values in a file, far around those that fits give: beyond them scores and errors of
# positions overflow, or divisions by nearly 0 do.
MAX_VALUE = 1e6
MAX_LOGARITHM = 100.0
MIN_SIGMA = 1e-4
LOGARITHMS = ("log_gain_tag", "log_gain_offset", "peak_log_odds", "sigma_of_score", "sigma_of_kind",
              "sigma_of_joint")  # fmt: skip
SIGMAS = ("tag_sigma", "offset_sigma", "limb_scale")


@dataclass(frozen=True)
class Calibration:
    """Fitted values. The first nine replace the decoder's settings of the same names."""

    tag_sigma: float
    log_gain_tag: float
    offset_sigma: float  # pixels of the merged input
    offset_sigma_relative: float
    overlap_sigma: float
    log_gain_offset: float
    outlier_probability: float
    nms_suppressed_penalty: float
    start_threshold: float
    peak_log_odds: tuple[float, ...]  # at SCORE_KNOTS, not decreasing
    joint_distance: tuple[float, ...]  # (K,) in person sizes
    limbs: tuple[tuple[int, int], ...]  # pairs of joints with a prior
    limb_limit: tuple[float, ...]  # of each limb, in person sizes: the 99th percentile
    limb_scale: tuple[float, ...]  # of each limb, in person sizes
    person_weights: tuple[float, ...]  # (NUM_FEATURES,)
    sigma_of_score: tuple[float, ...]  # a(s) at SCORE_KNOTS
    sigma_of_kind: tuple[float, ...]  # b: found, filled by a peak, filled by offsets
    sigma_of_joint: tuple[float, ...]  # d: (K,)
    num_tags: int  # tags of a peak: 2 with flip test, else 1
    num_images: int  # that it was fitted on

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, as a model file keeps them."""
        return {
            name: _to_lists(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Calibration:
        """Inverse of `to_dict`; ValueError where fields are missing, unknown, or no numbers."""
        names = {field.name for field in fields(Calibration)}
        if set(content) != names:
            different = ", ".join(sorted(names ^ set(content)))
            raise ValueError(f"a calibration has other fields: {different}")

        calibration = msgspec.convert(content, Calibration)
        calibration.check()
        return calibration

    def check(self) -> None:
        """ValueError where a field is no usable number, or a list of another length."""
        num_joints = len(self.joint_distance)
        lengths = {
            "peak_log_odds": (len(SCORE_KNOTS),),
            "joint_distance": (num_joints,),
            "limbs": (len(self.limbs), 2),
            "limb_limit": (len(self.limbs),),
            "limb_scale": (len(self.limbs),),
            "person_weights": (NUM_FEATURES,),
            "sigma_of_score": (len(SCORE_KNOTS),),
            "sigma_of_kind": (FILLED_BY_OFFSETS + 1,),
            "sigma_of_joint": (num_joints,),
        }
        for field in fields(self):
            values = np.asarray(getattr(self, field.name))
            shape = lengths.get(field.name, ())
            is_numeric = values.dtype.kind in "iuf" or not values.size
            has_shape = values.shape == shape or (not values.size and 0 in shape)
            if not is_numeric or not has_shape or not np.isfinite(values.astype(float)).all():
                raise ValueError(f"'{field.name}' is no list of {shape or 'one'} finite numbers")
            _check_range(field.name, values.astype(float))

        joints = np.asarray(self.limbs, dtype=float).reshape(-1)
        if self.num_tags < 1 or (joints < 0).any() or (joints >= num_joints).any():
            raise ValueError("'num_tags' or 'limbs' are out of range")

    def for_num_tags(self, num_tags: int) -> Calibration:
        """For a test with another number of tags, over which squared differences are summed."""
        factor = np.sqrt(num_tags / self.num_tags)
        return replace(self, tag_sigma=float(self.tag_sigma * factor), num_tags=num_tags)

    def log_odds(self, score: np.ndarray) -> np.ndarray:
        """Equation (1), for scores of any shape."""
        return np.interp(score, SCORE_KNOTS, self.peak_log_odds)


def _check_range(name: str, values: np.ndarray) -> None:
    """ValueError where values of a field cannot be used."""
    largest = MAX_LOGARITHM if name in LOGARITHMS else MAX_VALUE
    smallest = MIN_SIGMA if name in SIGMAS else -largest
    if name == "outlier_probability":
        smallest = np.nextafter(0.0, 1.0)
        largest = np.nextafter(1.0, 0.0)
    if (values < smallest).any() or (values > largest).any():
        raise ValueError(f"'{name}' is not between {smallest:g} and {largest:g}")


def _to_lists(values: tuple[Any, ...]) -> list[Any]:
    return [_to_lists(value) if isinstance(value, tuple) else value for value in values]


# ---- limbs ----


def person_sizes(
    position: np.ndarray, found: np.ndarray, centre: np.ndarray, joint_distance: np.ndarray
) -> np.ndarray:
    """Equation (2): (P,) sizes in pixels from joints (P, K, 2); NaN with fewer than two joints.

    found: (P, K) bool. centre: (P, 2). The median is not moved by a joint of another person.
    """
    usable = found & (joint_distance > 0)
    distance = np.linalg.norm(position - centre[:, None], axis=2)
    size = np.where(usable, distance / np.where(joint_distance > 0, joint_distance, 1.0), np.nan)

    enough = usable.sum(axis=1) >= 2
    median = np.full(len(position), np.nan)
    median[enough] = np.nanmedian(size[enough], axis=1)
    return np.where(median > 0, median, np.nan)


def limb_log_ratio(relative_length: np.ndarray, limit: float, scale: float) -> np.ndarray:
    """Equation (3) for lengths in person sizes; 0 where they are NaN."""
    excess = np.maximum(np.nan_to_num(relative_length, nan=0.0) - limit, 0.0) / scale
    return np.maximum(-0.5 * excess**2, LIMB_FLOOR)


def impossible_joints(
    position: np.ndarray, score: np.ndarray, size: np.ndarray, calibration: Calibration
) -> np.ndarray:
    """(P, K) bool: joints to drop so that no person has an impossible limb.

    position: (P, K, 2). score: (P, K), 0 where not found. size: (P,), NaN where unknown. One joint
    of each person after the other: the one with the most impossible limbs, then the lowest score.
    """
    dropped = np.zeros(score.shape, dtype=bool)
    if not calibration.limbs or not len(score):
        return dropped

    first, second = np.array(calibration.limbs).T
    scale = IMPOSSIBLE_SCALES * np.array(calibration.limb_scale)
    limit = np.array(calibration.limb_limit) + scale
    length = np.linalg.norm(position[:, first] - position[:, second], axis=2)
    is_long = length > limit * np.where(np.isnan(size), np.inf, size)[:, None]

    for _ in range(score.shape[1]):
        found = (score > 0) & ~dropped
        impossible = is_long & found[:, first] & found[:, second]
        people = np.flatnonzero(impossible.any(axis=1))
        if not len(people):
            break
        count = np.zeros(score.shape)
        for limb in range(len(first)):
            count[:, first[limb]] += impossible[:, limb]
            count[:, second[limb]] += impossible[:, limb]
        badness = np.where(count > 0, count - np.clip(score, 0, 1) / 2, -np.inf)
        dropped[people, badness[people].argmax(axis=1)] = True
    return dropped


# ---- scores of people and errors of positions ----


def joint_kinds(score: np.ndarray, filled: np.ndarray, predicted_score: float) -> np.ndarray:
    """(P, K) FOUND, FILLED_BY_PEAK or FILLED_BY_OFFSETS (their score is `predicted_score`)."""
    by_peak = filled & (score > predicted_score)
    return np.where(by_peak, FILLED_BY_PEAK, np.where(filled, FILLED_BY_OFFSETS, FOUND))


def person_features(
    score: np.ndarray, kind: np.ndarray, size: np.ndarray, calibration_log_odds: np.ndarray
) -> np.ndarray:
    """(P, NUM_FEATURES) features of equation (4).

    score: (P, K), 0 where not found. kind: (P, K) of `joint_kinds`. size: (P,) in pixels.
    calibration_log_odds: (P, K) of the scores.
    """
    is_found = (score > 0) & (kind == FOUND)
    probability = 1 / (1 + np.exp(-calibration_log_odds))
    columns = (
        np.ones(len(score)),
        np.where(is_found, probability, 0.0).mean(axis=1),
        np.where(is_found, score, 0.0).mean(axis=1),
        is_found.mean(axis=1),
        (kind == FILLED_BY_PEAK).mean(axis=1),
        np.log(np.maximum(size, MIN_SIZE)),
    )
    return np.stack(columns, axis=1)


def expected_oks(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Equation (4): (P,) from features (P, NUM_FEATURES)."""
    return 1 / (1 + np.exp(-features @ weights))


def position_sigma(score: np.ndarray, kind: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Equation (5): (P, K) pixels per axis; 0 where the joint was not found (score 0)."""
    log_sigma = np.interp(score, SCORE_KNOTS, calibration.sigma_of_score)
    log_sigma = log_sigma + np.array(calibration.sigma_of_kind)[kind]
    log_sigma += np.array(calibration.sigma_of_joint)
    return np.where(score > 0, np.exp(log_sigma), 0.0)
