"""From peaks of a network and annotated people to a `Calibration`.

    1. fit tags, offsets, log odds of peaks and limbs, each alone     from the matched peaks
    2. fit tags and offsets again, together                           from people grouped by truth
    3. decode the same images with these
    4. fit scores of people and errors of positions                   from people matched to truth

Step 3 does not run the network again: people follow from the peaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from duopose.calibration.collect import AnnotatedPeople, ImagePeaks
from duopose.calibration.fit import (
    fit_expected_oks,
    fit_limb,
    fit_log_odds,
    fit_offsets,
    fit_position_errors,
    fit_tags,
    joint_distances,
    limb_pairs,
    offset_pairs,
    relative_limb_lengths,
    tag_pairs,
)
from duopose.calibration.fit_grouping import fit_grouping
from duopose.decode.associative_embedding import TagGrouper
from duopose.decode.calibration import (
    NUM_FEATURES,
    SCORE_KNOTS,
    Calibration,
    joint_kinds,
    person_features,
)
from duopose.decode.decoder import Decoder
from duopose.decode.decoder_settings import DecoderSettings
from duopose.decode.evidence import offset_sigma
from duopose.decode.grouping import Grouper
from duopose.decode.missing_joints import PREDICTED_SCORE
from duopose.decode.mrm import person_size
from duopose.decode.people import NONE
from duopose.skeletons import Skeleton
from duopose.types import Poses

MIN_PAIRS = 50  # of one person, and of two people; with fewer there is no fit of equation (1)
MIN_OKS = 0.1  # a detection with less is matched to nobody
# Joints of matched people this far from the truth, in person sizes, are someone else's: they are
# outliers, not errors of position (the distance of `collect.MATCH_DISTANCE`).
MAX_ERROR = 0.2


@dataclass(frozen=True)
class DecodedPeople:
    """The people of all images with the annotated ones they were matched to; P people in total."""

    features: np.ndarray  # (P, NUM_FEATURES) of `person_features`
    oks: np.ndarray  # (P,) with the matched person, 0 without
    score: np.ndarray  # (P,) the decoder's
    joint_score: np.ndarray  # (P, K)
    kind: np.ndarray  # (P, K) of `joint_kinds`
    error: np.ndarray  # (P, K) root mean square per axis, pixels; NaN where unknown or an outlier
    sigma: np.ndarray  # (P, K) stated by the decoder; 0 without calibration
    is_outlier: np.ndarray  # (P, K) bool: found, labelled, but more than MAX_ERROR away


def calibrate(decoder: Decoder, images: Sequence[ImagePeaks]) -> Calibration:
    """Fit everything. decoder: with the settings as given, without a calibration."""
    first = fit_evidence(decoder, images)
    calibrated = with_calibration(decoder, first)
    if decoder.layout.num_edges:
        grouping = fit_grouping(calibrated, images)
        first = replace(first, **grouping._asdict())
        calibrated = with_calibration(decoder, first)

    people = decode_people(calibrated, images)
    if not len(people.oks):
        return first

    weights = fit_expected_oks(people.features, people.oks)
    known = ~np.isnan(people.error)
    joint = np.broadcast_to(np.arange(known.shape[1]), known.shape)
    of_score, of_kind, of_joint = fit_position_errors(
        people.error[known] ** 2,
        people.joint_score[known],
        people.kind[known],
        joint[known],
        known.shape[1],
    )
    return replace(
        first,
        person_weights=_floats(weights),
        sigma_of_score=_floats(of_score),
        sigma_of_kind=_floats(of_kind),
        sigma_of_joint=_floats(of_joint),
    )


def fit_evidence(decoder: Decoder, images: Sequence[ImagePeaks]) -> Calibration:
    """Step 1; scores of people and errors of positions are neutral."""
    skeleton = decoder.skeleton
    settings = decoder.settings
    tag_sigma, log_gain_tag, floor = _fit_tags(images, settings)
    offsets = _fit_offsets(decoder, images, floor)
    log_odds, penalty = _fit_peaks(images, skeleton)
    truth = [image.truth for image in images]
    distance = joint_distances(truth)
    limbs = _fit_limbs(truth, skeleton, distance)
    return Calibration(
        tag_sigma=tag_sigma,
        log_gain_tag=log_gain_tag,
        offset_sigma=offsets[0],
        offset_sigma_relative=offsets[1],
        overlap_sigma=offsets[2],
        log_gain_offset=offsets[3],
        outlier_probability=float(np.exp(floor)),
        nms_suppressed_penalty=penalty,
        start_threshold=_start_threshold(images, skeleton, log_odds),
        peak_log_odds=_floats(log_odds),
        joint_distance=_floats(distance),
        limbs=tuple(limbs),
        limb_limit=tuple(limit for limit, _ in limbs.values()),
        limb_scale=tuple(scale for _, scale in limbs.values()),
        person_weights=(0.0,) * NUM_FEATURES,
        sigma_of_score=(0.0,) * len(SCORE_KNOTS),
        sigma_of_kind=(0.0,) * 3,
        sigma_of_joint=(0.0,) * skeleton.num_keypoints,
        num_tags=images[0].peaks.tag.shape[1],
        num_images=len(images),
    )


def _fit_tags(
    images: Sequence[ImagePeaks], settings: DecoderSettings
) -> tuple[float, float, float]:
    """Tag sigma, log gain, log outlier probability; as given where people are alone in images."""
    squared, same = tag_pairs(images)
    if _has_both_classes(same):
        return fit_tags(squared, same)
    return settings.tag_sigma, settings.log_gain_tag, float(np.log(settings.outlier_probability))


def _fit_offsets(
    decoder: Decoder, images: Sequence[ImagePeaks], floor: float
) -> tuple[float, float, float, float]:
    """Values of `fit_offsets`; as given without offsets or without wrong targets."""
    if decoder.layout.num_edges:
        pairs = offset_pairs(images, decoder.layout, decoder.skeleton)
        if _has_both_classes(pairs[1]):
            return fit_offsets(*pairs, floor)

    settings = decoder.settings
    return (
        settings.offset_sigma,
        settings.offset_sigma_relative,
        settings.overlap_sigma,
        settings.log_gain_offset,
    )


def _has_both_classes(same: np.ndarray) -> bool:
    num_same = int(same.sum())
    return min(num_same, len(same) - num_same) >= MIN_PAIRS


def _fit_peaks(images: Sequence[ImagePeaks], skeleton: Skeleton) -> tuple[np.ndarray, float]:
    """Log odds of the joints' peaks and the penalty of suppressed ones."""
    score = []
    suppressed = []
    is_true = []
    for image in images:
        rows = image.usable & (image.peaks.joint != skeleton.centre)
        score.append(image.peaks.score[rows])
        suppressed.append(image.peaks.nms_suppressed[rows])
        is_true.append(image.owner[rows] != NONE)
    return fit_log_odds(np.concatenate(score), np.concatenate(suppressed), np.concatenate(is_true))


def _start_threshold(
    images: Sequence[ImagePeaks], skeleton: Skeleton, log_odds: np.ndarray
) -> float:
    """The score of a peak that starts a person without a centre peak.

    Such a person is as rare as a missed centre, with probability m. So a peak starts one where its
    log odds outweigh log m.
    """
    missed = 1
    total = 2  # Laplace's rule: never 0 or 1
    for image in images:
        peaks = image.peaks
        is_centre = (peaks.joint == skeleton.centre) & ~peaks.nms_suppressed
        found = np.unique(image.owner[is_centre & (image.owner != NONE)])
        total += len(image.truth.size)
        missed += len(image.truth.size) - len(found)

    needed = -np.log(missed / total)
    enough = np.interp(np.linspace(0, 1, 101), SCORE_KNOTS, log_odds) >= needed
    return float(np.argmax(enough) / 100) if enough.any() else 1.0


def _fit_limbs(
    truth: Sequence[AnnotatedPeople], skeleton: Skeleton, distance: np.ndarray
) -> dict[tuple[int, int], tuple[float, float]]:
    """Pair of joints -> limit and scale, for the limbs with enough examples."""
    pairs = limb_pairs(skeleton)
    lengths = relative_limb_lengths(truth, pairs, distance)
    fits = {pair: fit_limb(lengths[:, index]) for index, pair in enumerate(pairs)}
    return {pair: fit for pair, fit in fits.items() if fit is not None}


# ---- decoding ----


def with_calibration(decoder: Decoder, calibration: Calibration | None) -> Decoder:
    """The decoder with the values of a calibration; None: unchanged."""
    settings = decoder.settings.with_calibration(calibration)
    return with_settings(decoder, settings)


def with_settings(decoder: Decoder, settings: DecoderSettings) -> Decoder:
    """The decoder and its grouper with other settings."""
    grouper = decoder.grouper
    assert isinstance(grouper, Grouper | TagGrouper)
    return replace(decoder, settings=settings, grouper=replace(grouper, settings=settings))


def decode_image(decoder: Decoder, image: ImagePeaks) -> Poses:
    """The people of an image from its peaks, merged input frame."""
    settings = decoder.settings
    peaks = image.peaks
    sigma = offset_sigma(
        peaks.max_offset_length,
        peaks.windows_overlap,
        settings.offset_sigma,
        settings.offset_sigma_relative,
        settings.overlap_sigma,
    )
    peaks = peaks._replace(offset_sigma=sigma)
    return decoder.to_poses(peaks, decoder.grouper.group(peaks))


def decode_people(decoder: Decoder, images: Sequence[ImagePeaks]) -> DecodedPeople:
    """Decode all images and match their people to the annotated ones."""
    parts = [_match_image(decoder, image, decode_image(decoder, image)) for image in images]
    names = list(DecodedPeople.__dataclass_fields__)
    columns = {}
    for name in names:
        columns[name] = np.concatenate([getattr(part, name) for part in parts])
    return DecodedPeople(**columns)


def _match_image(decoder: Decoder, image: ImagePeaks, poses: Poses) -> DecodedPeople:
    """The people of one image with the annotated person of each."""
    position = poses.keypoints[..., :2]
    score = poses.keypoints[..., 2]
    truth = image.truth
    oks, person = match_people(position, poses.scores, truth, decoder.skeleton)

    error = np.full(score.shape, np.nan)
    matched = np.flatnonzero(person != NONE)
    true_position = truth.position[person[matched], :-1]
    squared = ((position[matched] - true_position) ** 2).sum(axis=2)
    known = truth.labelled[person[matched], :-1] & (score[matched] > 0)
    limit = MAX_ERROR * truth.size[person[matched], None]
    is_near = squared < limit**2
    error[matched] = np.where(known & is_near, np.sqrt(squared / 2), np.nan)
    is_outlier = np.zeros(score.shape, dtype=bool)
    is_outlier[matched] = known & ~is_near

    kind = joint_kinds(score, poses.filled, PREDICTED_SCORE)
    calibration = decoder.settings.calibration
    log_odds = np.zeros(score.shape) if calibration is None else calibration.log_odds(score)
    size = person_size(position, score > 0)
    features = person_features(score, kind, size, log_odds)
    sigma = np.zeros(score.shape) if poses.sigma is None else poses.sigma
    return DecodedPeople(features, oks, poses.scores, score, kind, error, sigma, is_outlier)


def match_people(
    position: np.ndarray, score: np.ndarray, truth: AnnotatedPeople, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """OKS (P,) and annotated person (P,), NONE without one.

    As in COCO's evaluation: in the order of the scores, each takes the free person of the largest
    OKS. position: (P, K, 2). score: (P,).
    """
    oks = oks_matrix(position, truth, skeleton)
    best = np.zeros(len(score))
    person = np.full(len(score), NONE)
    if not oks.size:
        return best, person

    for row in np.argsort(-score, kind="stable"):
        column = int(oks[row].argmax())
        if oks[row, column] >= MIN_OKS:
            best[row] = oks[row, column]
            person[row] = column
            oks[:, column] = 0.0
    return best, person


def oks_matrix(position: np.ndarray, truth: AnnotatedPeople, skeleton: Skeleton) -> np.ndarray:
    """(P, Q) OKS of joints (P, K, 2) with the Q annotated people; their area is size^2."""
    labelled = truth.labelled[:, :-1]
    difference = position[:, None] - truth.position[:, :-1]
    squared = (difference**2).sum(axis=3)
    scale = 2 * np.array(skeleton.sigmas) * truth.size[:, None]
    similarity = np.exp(-squared / (2 * scale**2)) * labelled
    return np.asarray(similarity.sum(axis=2) / np.maximum(labelled.sum(axis=1), 1))


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
