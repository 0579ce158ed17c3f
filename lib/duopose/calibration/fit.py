"""Fits of the decoder's model to matched peaks, each by maximum likelihood.

A ratio "same person" : "unrelated" with parameters t is fitted as what the decoder uses it for,
as a classifier: over pairs with label y (1: same person) and log-likelihood ratio L,

    (1)  t = argmin  mean of w_y (log(1 + exp L) - y L),      both classes with the same weight.

So a residual whose real distribution is not Gaussian still gets the right ratio. Log odds of
peaks, the expected OKS of people and the errors of positions are fits of the same kind:

    log odds of a peak    logistic regression, linear between SCORE_KNOTS, not decreasing
    expected OKS          logistic regression on the OKS, a number from 0 to 1
    error of a position   Gaussian with log sigma linear in score, kind and joint
    limbs                 99th and 99.9th percentile of the length in person sizes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize

from duopose.calibration.collect import AnnotatedPeople, ImagePeaks
from duopose.decode.calibration import IMPOSSIBLE_SCALES, SCORE_KNOTS, person_sizes
from duopose.decode.people import NONE
from duopose.skeletons import OffsetLayout, Skeleton

SMOOTHING = 1.0  # weight of squared second differences between knots: about one peak's
PRIOR = 1e-4  # weight of the squared distance from the defaults in `_minimize`
WEIGHT_DECAY = 1e-3  # of the regression of the OKS, for standardised features
MIN_LIMBS = 50  # with fewer lengths a limb has no prior
MIN_RELATIVE_SCALE = 0.05  # of a limb's limit: percentiles of few people can coincide
MAX_PAIRS = 200_000  # pairs used in one fit; more do not change a fit of five parameters
MIN_DISTANCE = 0.1  # joints nearer to the centre, in person sizes, do not measure the size
MIN_LABELLED = 0.6  # fraction of the joints that a person of the limb statistics needs


# ---- equation (1) ----


def classification_loss(same: np.ndarray, log_ratio: np.ndarray) -> float:
    """Equation (1) for pairs (N,): same (N,) bool."""
    positive = np.logaddexp(0.0, -log_ratio[same]).mean()
    negative = np.logaddexp(0.0, log_ratio[~same]).mean()
    return float(positive + negative) / 2


def fit_tags(squared: np.ndarray, same: np.ndarray) -> tuple[float, float, float]:
    """Tag sigma, log gain and log outlier probability.

    squared: (N,) squared differences of the tags of two peaks, summed over T. Their variance is
    2 sigma^2, as in `evidence.tag_affinity`.
    """

    def loss(parameters: np.ndarray) -> float:
        log_sigma, gain, floor = parameters
        log_ratio = gain - squared / (4 * np.exp(2 * log_sigma))
        return classification_loss(same, np.maximum(log_ratio, floor))

    start = [np.log(0.3), 1.5, -4.0]
    log_sigma, gain, floor = _minimize(loss, start)
    return float(np.exp(log_sigma)), float(gain), float(floor)


def fit_offsets(
    squared: np.ndarray, same: np.ndarray, length: np.ndarray, overlap: np.ndarray, floor: float
) -> tuple[float, float, float, float]:
    """Offset sigma in pixels, its two relative parts (alone, overlapping), and the log gain.

    squared: (N,) squared distances, in pixels, of predicted targets and peaks (or centres).
    length, overlap: (N,) of the predicting peaks. floor: log outlier probability.
    """

    def loss(parameters: np.ndarray) -> float:
        sigma, alone, overlapping = np.exp(parameters[:3])
        relative = np.where(overlap, overlapping, alone)
        variance = sigma**2 + (relative * length) ** 2
        log_ratio = parameters[3] - squared / (2 * variance)
        return classification_loss(same, np.maximum(log_ratio, floor))

    start = [np.log(4.0), np.log(0.12), np.log(0.3), 3.0]
    best = _minimize(loss, start)
    sigma, alone, overlapping = np.exp(best[:3])
    return float(sigma), float(alone), float(overlapping), float(best[3])


def _minimize(loss: Callable[[np.ndarray], float], start: Sequence[float]) -> np.ndarray:
    """Nelder-Mead: the loss has kinks, and few parameters.

    A weak prior at the start (the decoder's defaults) keeps the fit of perfectly separated
    classes finite.
    """
    origin = np.array(start)

    def with_prior(parameters: np.ndarray) -> float:
        distance = parameters - origin
        return loss(parameters) + PRIOR * float(distance @ distance)

    options = {"maxiter": 600, "xatol": 1e-3, "fatol": 1e-6}
    return np.asarray(minimize(with_prior, origin, method="Nelder-Mead", options=options).x)


# ---- regressions ----


def fit_log_odds(
    score: np.ndarray, nms_suppressed: np.ndarray, is_true: np.ndarray
) -> tuple[np.ndarray, float]:
    """Log odds at SCORE_KNOTS, not decreasing, and the penalty of an NMS-suppressed peak (>= 0).

    score: (N,). nms_suppressed, is_true: (N,) bool. Knots without peaks continue the others'.
    """
    basis = np.column_stack([knot_weights(score), -nms_suppressed.astype(float)])
    target = is_true.astype(float)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logit = basis @ parameters
        bend = np.diff(parameters[:-1], 2)
        value = (np.logaddexp(0.0, logit) - target * logit).sum() + SMOOTHING * (bend**2).sum()
        gradient = basis.T @ (_sigmoid(logit) - target)
        gradient[:-1] += 2 * SMOOTHING * _second_difference_transposed(bend)
        return float(value), gradient

    start = np.zeros(basis.shape[1])
    best = minimize(loss, start, jac=True, method="L-BFGS-B").x
    log_odds = np.maximum.accumulate(best[:-1])
    return log_odds, max(float(best[-1]), 0.0)


def fit_expected_oks(features: np.ndarray, oks: np.ndarray) -> np.ndarray:
    """Weights (F,) of features (N, F), the first of which is 1, for the OKS (N,)."""
    mean = features.mean(axis=0)
    spread = features.std(axis=0)
    mean[0] = 0.0
    spread[spread < 1e-9] = 1.0
    standardised = (features - mean) / spread

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logit = standardised @ weights
        decay = WEIGHT_DECAY * np.append(0.0, weights[1:])
        value = (np.logaddexp(0.0, logit) - oks * logit).mean() + decay @ weights
        gradient = standardised.T @ (_sigmoid(logit) - oks) / len(oks) + 2 * decay
        return float(value), gradient

    best = minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x
    weights = best / spread
    weights[0] -= (weights * mean).sum()
    return np.asarray(weights)


def fit_position_errors(
    squared: np.ndarray, score: np.ndarray, kind: np.ndarray, joint: np.ndarray, num_joints: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log sigma by score (SCORE_KNOTS), kind (3, the first is 0) and joint (K, mean about 0).

    squared: (N,) mean square error per axis. score, kind, joint: (N,).
    """
    one_hot_kind = kind[:, None] == np.arange(1, 3)
    one_hot_joint = joint[:, None] == np.arange(num_joints)
    basis = np.column_stack([knot_weights(score), one_hot_kind, one_hot_joint]).astype(float)
    num_knots = len(SCORE_KNOTS)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        log_variance = 2 * basis @ parameters
        ratio = squared * np.exp(-log_variance)
        bend = np.diff(parameters[:num_knots], 2)
        rest = parameters[num_knots:]
        value = (log_variance + ratio).sum() + SMOOTHING * ((bend**2).sum() + (rest**2).sum())
        gradient = 2 * basis.T @ (1 - ratio)
        gradient[:num_knots] += 2 * SMOOTHING * _second_difference_transposed(bend)
        gradient[num_knots:] += 2 * SMOOTHING * rest
        return float(value), gradient

    best = minimize(loss, np.zeros(basis.shape[1]), jac=True, method="L-BFGS-B").x
    by_kind = np.append(0.0, best[num_knots : num_knots + 2])
    return best[:num_knots], by_kind, best[num_knots + 2 :]


def knot_weights(score: np.ndarray) -> np.ndarray:
    """(N, knots) weights of linear interpolation: weights @ values == np.interp(score, ...)."""
    step = SCORE_KNOTS[1] - SCORE_KNOTS[0]
    clipped = np.clip(score, SCORE_KNOTS[0], SCORE_KNOTS[-1])
    return np.maximum(1 - np.abs(clipped[:, None] - SCORE_KNOTS) / step, 0.0)


def _second_difference_transposed(bend: np.ndarray) -> np.ndarray:
    return np.asarray(np.convolve(bend, [1.0, -2.0, 1.0]))


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logit)))


# ---- limbs ----


def joint_distances(truth: Sequence[AnnotatedPeople]) -> np.ndarray:
    """(K,) median distance of each joint from the centre, in person sizes; 0 where unusable."""
    rows = []
    for people in truth:
        distance = np.linalg.norm(people.position[:, :-1] - people.position[:, -1:], axis=2)
        labelled = people.labelled[:, :-1]
        relative = np.where(labelled, distance / people.size[:, None], np.nan)
        rows.append(relative[labelled.mean(axis=1) >= MIN_LABELLED])
    relative = np.concatenate(rows)

    result = np.zeros(relative.shape[1])
    enough = (~np.isnan(relative)).sum(axis=0) >= MIN_LIMBS
    result[enough] = np.nanmedian(relative[:, enough], axis=0)
    result[result < MIN_DISTANCE] = 0.0
    return result


def relative_limb_lengths(
    truth: Sequence[AnnotatedPeople], pairs: Sequence[tuple[int, int]], distance: np.ndarray
) -> np.ndarray:
    """(N, L) lengths of the limbs of all people in the decoder's person size; NaN unlabelled."""
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    rows = []
    for people in truth:
        joints = people.position[:, :-1]
        labelled = people.labelled[:, :-1]
        size = person_sizes(joints, labelled, people.position[:, -1], distance)
        length = np.linalg.norm(joints[:, first] - joints[:, second], axis=2)
        both = labelled[:, first] & labelled[:, second]
        rows.append(np.where(both, length / size[:, None], np.nan))
    return np.concatenate(rows)


def fit_limb(lengths: np.ndarray) -> tuple[float, float] | None:
    """Limit and scale of a limb's prior from lengths (N,); None where there are too few."""
    known = lengths[~np.isnan(lengths)]
    if len(known) < MIN_LIMBS:
        return None
    limit, extreme = np.quantile(known, [0.99, 0.999])
    scale = max((extreme - limit) / IMPOSSIBLE_SCALES, MIN_RELATIVE_SCALE * limit)
    return float(limit), float(scale)


def limb_pairs(skeleton: Skeleton) -> list[tuple[int, int]]:
    """The drawn limbs and the pairs of child and parent, each once."""
    pairs = [*skeleton.limb_index_pairs, *skeleton.parent_index.items()]
    return sorted({(min(pair), max(pair)) for pair in pairs})


# ---- pairs of peaks ----


def tag_pairs(images: Sequence[ImagePeaks]) -> tuple[np.ndarray, np.ndarray]:
    """Squared tag differences (N,) of all pairs of true peaks of an image, and whether same."""
    squared = []
    same = []
    for image in images:
        rows = np.flatnonzero(image.owner != NONE)
        first, second = np.triu_indices(len(rows), 1)
        difference = image.peaks.tag[rows[first]] - image.peaks.tag[rows[second]]
        squared.append((difference**2).sum(axis=1))
        same.append(image.owner[rows[first]] == image.owner[rows[second]])
    return _thinned(np.concatenate(squared)), _thinned(np.concatenate(same))


def offset_pairs(
    images: Sequence[ImagePeaks], layout: OffsetLayout, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Squared distance, same, length and overlap (N,) of predictions and their possible targets.

    For every true peak and each of its edges, the predicted target against all peaks of that type
    in the image, or all centres of people.
    """
    rows = []
    for image in images:
        edges = zip(layout.source.tolist(), layout.target.tolist())
        for edge, (source, target) in enumerate(edges):
            rows.append(_pairs_of_edge(image, edge, source, target, skeleton.centre))
    columns = _thinned(np.concatenate(rows))
    return columns[:, 0], columns[:, 1] > 0, columns[:, 2], columns[:, 3] > 0


def _pairs_of_edge(
    image: ImagePeaks, edge: int, source: int, target: int, centre: int
) -> np.ndarray:
    """(N, 4) squared distance, same, length, overlap."""
    peaks = image.peaks
    sources = np.flatnonzero((peaks.joint == source) & (image.owner != NONE))
    if target == centre:
        points = image.truth.position[:, -1]
        owner = np.arange(len(points))
    else:
        targets = np.flatnonzero((peaks.joint == target) & image.usable)
        points = peaks.position[targets]
        owner = image.owner[targets]

    difference = peaks.predicted_target[sources, edge][:, None] - points
    squared = (difference**2).sum(axis=2)
    same = image.owner[sources][:, None] == owner
    length = np.broadcast_to(peaks.max_offset_length[sources, None], squared.shape)
    overlap = np.broadcast_to(peaks.windows_overlap[sources, None], squared.shape)
    return np.stack([squared, same, length, overlap], axis=2).reshape(-1, 4)


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most MAX_PAIRS rows, evenly over all images."""
    step = max(len(values) // MAX_PAIRS, 1)
    return values[::step]
