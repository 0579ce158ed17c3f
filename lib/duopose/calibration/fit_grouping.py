"""Joint fit of the evidence for grouping, by its conditional likelihood.

The decoder adds the log-likelihood ratios of tags, offsets and peaks as if they were independent.
They are not: at a wrong peak beside the right one, tag and offsets are right, too. Fitted one by
one (fit.py), their sum is too sure of itself. So they are fitted together, as what the decoder uses
them for. With all other joints of a person from the truth, its joint of type k is one of the peaks
i of this type, or none of them:

    (1)  P(i) = exp(L_i - c) / (1 + sum_j exp(L_j - c)),   P(none) = 1 / (1 + sum_j exp(L_j - c))

with L of decode/grouping.py, equation (1), without the limb prior. The fit is the maximum of the
product of (1) over the labelled joints of all people.

c is fitted too and then not used: it minimises wrong choices, but a wrong joint costs no OKS where
the alternative is no joint. TEST.JOINT_THRESHOLD stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from duopose.calibration.collect import ImagePeaks
from duopose.decode.decoder import Decoder
from duopose.decode.decoder_settings import DecoderSettings
from duopose.decode.evidence import PEAK_TERMS, offset_sigma
from duopose.decode.people import MIN_RADIUS, NONE, GroupedPeople
from duopose.types import Peaks

MAX_CHOICES = 4000  # choices in the fit; AP of the demo is the same with 12,000
MAX_NEIGHBOURS = 6  # joints that share an edge with one joint, in both directions
PRIOR = 1e-4  # weight of the squared distance from the start
MAX_EVALUATIONS = 1500


class GroupingFit(NamedTuple):
    """Fitted fields of `DecoderSettings`."""

    tag_sigma: float
    log_gain_tag: float
    offset_sigma: float
    offset_sigma_relative: float
    overlap_sigma: float
    log_gain_offset: float
    outlier_probability: float


@dataclass(frozen=True)
class Choices:
    """N peaks among which C joints of people choose; a choice's peaks follow each other."""

    first: np.ndarray  # (C,) row of the first peak of each choice
    is_true: np.ndarray  # (N,) bool: the peak is the joint
    peak: np.ndarray  # (N,) log odds of the peak alone
    tag: np.ndarray  # (N,) squared distance to the person's tag, divided by 1 + 1 / n
    # (N,) squared distance to the centre, divided by the squared radius; 0 where that is unknown
    distance: np.ndarray
    # (N, 1 + MAX_NEIGHBOURS) of the offset to the centre, then to and from the neighbours: squared
    # residual (NaN: there is none), longest offset and overlap of the predicting peak
    residual: np.ndarray
    length: np.ndarray
    overlap: np.ndarray


def fit_grouping(decoder: Decoder, images: Sequence[ImagePeaks]) -> GroupingFit:
    """The joint fit, started at the decoder's settings."""
    settings = decoder.settings
    start = _to_parameters(settings)
    parts = [part for image in images for part in _choices_of_image(decoder, image)]
    step = max(len(parts) // MAX_CHOICES, 1)
    parts = parts[::step]
    if not parts:
        return _to_fit(start)

    choices = _join(parts)

    def loss(parameters: np.ndarray) -> float:
        distance = parameters - start
        return negative_log_likelihood(choices, parameters) + PRIOR * float(distance @ distance)

    assert np.isfinite(loss(start)), "the search would stay at its start without a word"
    options = {"maxfev": MAX_EVALUATIONS, "xatol": 1e-3, "fatol": 1e-6}
    return _to_fit(minimize(loss, start, method="Nelder-Mead", options=options).x)


def negative_log_likelihood(choices: Choices, parameters: np.ndarray) -> float:
    """Mean of -log P over the choices, equation (1)."""
    logit = _log_ratios(choices, parameters)
    first = choices.first
    length = np.diff(np.append(first, len(logit)))

    highest = np.maximum(np.maximum.reduceat(logit, first), 0.0)
    shifted = np.exp(logit - np.repeat(highest, length))
    total = np.exp(-highest) + np.add.reduceat(shifted, first)
    chosen = np.add.reduceat(np.where(choices.is_true, logit, 0.0), first)
    return float((highest + np.log(total) - chosen).mean())


def _log_ratios(choices: Choices, parameters: np.ndarray) -> np.ndarray:
    """(N,) L - c."""
    fit = _to_fit(parameters)
    cost = parameters[-1]
    floor = np.log(fit.outlier_probability)

    tag = np.maximum(fit.log_gain_tag - choices.tag / (2 * fit.tag_sigma**2), floor)
    distance = np.maximum(-choices.distance / 2, floor)

    relative = np.where(choices.overlap, fit.overlap_sigma, fit.offset_sigma_relative)
    variance = fit.offset_sigma**2 + (relative * choices.length) ** 2
    offset = np.maximum(fit.log_gain_offset - choices.residual / (2 * variance), floor)
    offset[np.isnan(choices.residual)] = 0.0
    return choices.peak + tag + distance + offset.sum(axis=1) - cost


# ---- the parameters of the optimizer ----


def _to_parameters(settings: DecoderSettings) -> np.ndarray:
    """(8,) logarithms of what is positive, gains, and the cost of joining."""
    return np.array(
        [
            np.log(settings.tag_sigma),
            settings.log_gain_tag,
            np.log(settings.offset_sigma),
            np.log(settings.offset_sigma_relative),
            np.log(settings.overlap_sigma),
            settings.log_gain_offset,
            np.log(settings.outlier_probability),
            settings.joint_threshold,
        ]
    )


def _to_fit(parameters: np.ndarray) -> GroupingFit:
    """Inverse of `_to_parameters`, without the cost."""
    positive = np.exp(np.clip(parameters, -20.0, 20.0))
    return GroupingFit(
        tag_sigma=float(positive[0]),
        log_gain_tag=float(parameters[1]),
        offset_sigma=float(positive[2]),
        offset_sigma_relative=float(positive[3]),
        overlap_sigma=float(positive[4]),
        log_gain_offset=float(parameters[5]),
        outlier_probability=float(min(positive[6], 0.5)),
    )


# ---- the choices ----

Columns = dict[str, np.ndarray]


def _join(parts: Sequence[Columns]) -> Choices:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    sizes = [len(part["tag"]) for part in parts]
    first = np.cumsum([0, *sizes[:-1]])
    return Choices(first=first, **columns)


def _choices_of_image(decoder: Decoder, image: ImagePeaks) -> Iterator[Columns]:
    """The choices of each labelled joint that has any peak."""
    settings = decoder.settings
    peaks = _with_offset_sigma(image.peaks, settings)
    people = true_people(image, peaks, settings, decoder.skeleton.num_keypoints)
    log_odds = np.sum([term(peaks, settings) for term in PEAK_TERMS], axis=0)

    for joint in range(decoder.skeleton.num_keypoints):
        rows = np.flatnonzero((peaks.joint == joint) & image.usable)
        if not len(rows):
            continue
        for person in np.flatnonzero(image.truth.labelled[:, joint]).tolist():
            own_peak = int(people.peak_index[person, joint])
            offsets = _offset_columns(decoder, peaks, people, person, joint, rows)
            to_centre = peaks.position[rows] - people.centre[person]
            squared = (to_centre**2).sum(axis=1)
            has_radius = np.isfinite(people.radius[person])
            distance = squared / people.radius[person] ** 2 if has_radius else 0.0 * squared
            yield {
                "is_true": rows == own_peak,
                "peak": log_odds[rows],
                "tag": _tag_column(peaks, people, person, own_peak, rows),
                "distance": distance,
                **offsets,
            }


def _with_offset_sigma(peaks: Peaks, settings: DecoderSettings) -> Peaks:
    sigma = offset_sigma(
        peaks.max_offset_length,
        peaks.windows_overlap,
        settings.offset_sigma,
        settings.offset_sigma_relative,
        settings.overlap_sigma,
    )
    return peaks._replace(offset_sigma=sigma)


def true_people(
    image: ImagePeaks, peaks: Peaks, settings: DecoderSettings, num_joints: int
) -> GroupedPeople:
    """The annotated people, each with the peaks that were matched to it."""
    matched = np.flatnonzero(image.owner != NONE)
    owner = image.owner[matched]
    joint = peaks.joint[matched]
    num_people = len(image.truth.size)

    index = np.full((num_people, num_joints + 1), NONE)
    index[owner, joint] = matched
    tag = np.zeros((num_people, peaks.tag.shape[1]))
    centre = image.truth.position[:, -1]
    people = GroupedPeople.without_joints(index[:, -1], tag, centre, num_joints)
    people.peak_index[:] = index[:, :-1]
    min_radius = MIN_RADIUS * settings.offset_sigma
    people.update_from_peaks(peaks, settings.offset_sigma, min_radius)
    return people


def _tag_column(
    peaks: Peaks, people: GroupedPeople, person: int, own_peak: int, rows: np.ndarray
) -> np.ndarray:
    """Squared distances of tags to the mean of the person's other peaks."""
    count = float(people.num_tags[person])
    mean = people.tag[person]
    if own_peak != NONE and count > 1:
        mean = (count * mean - peaks.tag[own_peak]) / (count - 1)
        count -= 1
    squared = ((peaks.tag[rows] - mean) ** 2).sum(axis=1)
    return np.asarray(squared / (1 + 1 / count))


def _offset_columns(
    decoder: Decoder,
    peaks: Peaks,
    people: GroupedPeople,
    person: int,
    joint: int,
    rows: np.ndarray,
) -> Columns:
    """The last three columns of `Choices` for the peaks `rows` of a joint type."""
    shape = (len(rows), 1 + MAX_NEIGHBOURS)
    residual = np.full(shape, np.nan)
    predicting = np.tile(rows[:, None], shape[1])  # the peaks whose offset is read

    to_centre = peaks.predicted_centre[rows] - people.centre[person]
    residual[:, 0] = (to_centre**2).sum(axis=1)

    column = 1
    layout = decoder.layout
    own_peaks = people.peak_index[person]
    for edge, (source, target) in enumerate(zip(layout.source.tolist(), layout.target.tolist())):
        is_target = target == joint
        neighbour = source if is_target else target
        if joint not in (source, target) or target >= len(own_peaks) or column == shape[1]:
            continue
        other = own_peaks[neighbour]
        if other == NONE:
            continue
        sources = np.full(len(rows), other) if is_target else rows
        targets = rows if is_target else np.full(len(rows), other)
        difference = peaks.predicted_target[sources, edge] - peaks.position[targets]
        residual[:, column] = (difference**2).sum(axis=1)
        predicting[:, column] = sources
        column += 1

    return {
        "residual": residual,
        "length": peaks.max_offset_length[predicting],
        "overlap": peaks.windows_overlap[predicting],
    }
