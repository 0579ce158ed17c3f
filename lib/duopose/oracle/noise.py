"""Noise models of the perfect-network test.

`maps`, `displaced` and `misses` simulate one kind of error each. Their sizes define the test, they
are not fitted to a network. The figures in docs/measurements/decoder.md, those of the public code
included, are for these sizes. `learned` has all errors together, with sizes that were measured on
trained networks; docs/measurements/offsets_and_heatmaps.md compares it with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from duopose.errors import UserError
from duopose.oracle.simulated_people import FalsePeaks, SimulatedPeople

TAG_SIGMA = 0.3  # tags of different people differ by 1
MIN_PEAK_SCORE = 0.3
OFFSET_SIGMA = 3.0  # input pixels, per axis
# Per axis, for a peak of score 0, as a fraction of the square root of the person's area.
DISPLACEMENT_SIGMA = 0.10
MISSED_FRACTION = 0.10  # of the peaks, centres included
FALSE_FRACTION = 0.05  # of the number of labelled joints


class Learned:
    """Errors of three networks of the demo on its validation images, by `calibration.collect`.

    "Size": square root of the person's area. Some people are hard: each has a rate of missed
    joints of its own, and factors of the errors of its positions and tags. Errors of positions and
    offsets have more large values than a normal distribution: their root mean square is 1.3 to 1.6
    times the standard deviation that follows from the median. So they are drawn from Student's t
    distribution with three degrees of freedom, for which that ratio is 1.5.
    """

    SCORE_MEAN = 0.81  # of true peaks
    SCORE_SIGMA = 0.11
    MISSED = (0.25, 4.0)  # beta distribution of a person's rate of missed joints; mean 0.06
    # Displacement per axis: 0.22 exp(-3 score) sizes
    DISPLACEMENT_SIGMA = 0.22
    DISPLACEMENT_RATE = 3.0
    PERSON_DISPLACEMENT = 0.32  # standard deviation of the logarithm of a person's factor
    OFFSET_SIGMA = 0.10  # sizes, per axis
    TAG_SIGMA = 0.32  # around the tag of the person
    PERSON_TAG_ERROR = 0.48  # standard deviation of the logarithm of a person's factor
    PERSON_TAG_SIGMA = 2.7  # of the tags of people
    FALSE_FRACTION = 0.19  # of the number of labelled joints
    FALSE_SCORE_MEAN = 0.49
    FALSE_SCORE_SIGMA = 0.12
    FALSE_DISPLACEMENT_SIGMA = 0.05  # sizes, around a joint of another type of the same person
    FALSE_TAG_SIGMA = 0.85  # around the tag of that person
    FALSE_NEIGHBOURS = 3  # the nearest joints of another type, one of which has the false peak


DEGREES_OF_FREEDOM = 3  # of Student's t distribution
T_SCALE = 1 / 1.134  # gives it the median of a normal distribution of sigma 1

# noise_model(people, (width, height) of their frame, generator) -> people
NoiseModel = Callable[[SimulatedPeople, tuple[int, int], np.random.Generator], SimulatedPeople]


def no_noise(
    people: SimulatedPeople, size: tuple[int, int], generator: np.random.Generator
) -> SimulatedPeople:
    """A perfect network."""
    return people


def noisy_maps(
    people: SimulatedPeople, size: tuple[int, int], generator: np.random.Generator
) -> SimulatedPeople:
    """Errors of the maps' values, independent for each person and joint, the centre included.

    tag + N(0, 0.3), the plain and the mirrored one apart; score * U(0.3, 1);
    offset + N(0, 3 px) per axis.
    """
    shape = people.labelled.shape
    tag_error = generator.normal(0, TAG_SIGMA, (2, *shape))
    score_factor = generator.uniform(MIN_PEAK_SCORE, 1, shape)
    offset_error = generator.normal(0, OFFSET_SIGMA, people.offset_error.shape)

    return replace(
        people,
        tag=people.tag + tag_error,
        peak_score=people.peak_score * score_factor,
        offset_error=people.offset_error + offset_error,
    )


def displaced_peaks(
    people: SimulatedPeople, size: tuple[int, int], generator: np.random.Generator
) -> SimulatedPeople:
    """As `noisy_maps`, and each peak is moved by N(0, sigma) per axis.

    sigma = 0.10 (1 - score) sqrt(person area): networks err most where their peaks are low.
    """
    noisy = noisy_maps(people, size, generator)
    sigma = DISPLACEMENT_SIGMA * (1 - noisy.peak_score) * noisy.person_size[:, None]
    displacement = sigma[..., None] * generator.normal(0, 1, noisy.peak_position.shape)
    return replace(noisy, peak_position=noisy.peak_position + displacement)


def missing_and_false_peaks(
    people: SimulatedPeople, size: tuple[int, int], generator: np.random.Generator
) -> SimulatedPeople:
    """10 % of the peaks are missing; false peaks, 5 % of the joints, at random positions.

    A false peak has score 1 and a tag between those of the people.
    """
    is_found = generator.uniform(size=people.peak_score.shape) >= MISSED_FRACTION
    num_people, num_channels = people.labelled.shape
    num_joints = int(people.labelled[:, :-1].sum())
    num_false = generator.binomial(num_joints, FALSE_FRACTION)

    joint = generator.integers(0, num_channels - 1, num_false)
    far_corner = [size[0] - 1, size[1] - 1]
    position = generator.uniform([0, 0], far_corner, (num_false, 2))
    tag = generator.uniform(-0.5, num_people - 0.5, num_false)
    false_peaks = FalsePeaks(
        joint=joint,
        position=position,
        score=np.ones(num_false),
        tag=np.broadcast_to(tag, (2, num_false)),
    )
    return replace(people, peak_score=people.peak_score * is_found, false_peaks=false_peaks)


def learned_errors(
    people: SimulatedPeople, size: tuple[int, int], generator: np.random.Generator
) -> SimulatedPeople:
    """All errors of a trained network together, of the sizes in `Learned`."""
    num_people, num_channels = people.labelled.shape
    shape = (num_people, num_channels)
    score = generator.normal(Learned.SCORE_MEAN, Learned.SCORE_SIGMA, shape)
    score = np.clip(score, MIN_PEAK_SCORE, 1)
    missed_rate = generator.beta(*Learned.MISSED, (num_people, 1))
    is_found = generator.uniform(size=shape) >= missed_rate

    sigma = Learned.DISPLACEMENT_SIGMA * np.exp(-Learned.DISPLACEMENT_RATE * score)
    sigma *= people.person_size[:, None]
    sigma *= generator.lognormal(0, Learned.PERSON_DISPLACEMENT, (num_people, 1))
    displacement = sigma[..., None] * _heavy_tailed(generator, people.peak_position.shape)

    offset_sigma = Learned.OFFSET_SIGMA * people.person_size[:, None, None]
    offset_error = offset_sigma * _heavy_tailed(generator, people.offset_error.shape)

    person_tag = generator.normal(0, Learned.PERSON_TAG_SIGMA, (1, num_people, 1))
    factor = generator.lognormal(0, Learned.PERSON_TAG_ERROR, (1, num_people, 1))
    tag_error = Learned.TAG_SIGMA * factor * generator.normal(0, 1, (2, *shape))
    return replace(
        people,
        peak_position=people.peak_position + displacement,
        peak_score=people.peak_score * score * is_found,
        tag=person_tag + tag_error,
        offset_error=people.offset_error + offset_error,
        false_peaks=_peaks_at_other_joints(people, person_tag.reshape(-1), generator),
    )


def _peaks_at_other_joints(
    people: SimulatedPeople, person_tag: np.ndarray, generator: np.random.Generator
) -> FalsePeaks:
    """False peaks as networks have them: at a near joint of another type of the same person."""
    labelled = people.labelled[:, :-1]
    person, joint = np.nonzero(labelled)
    chosen = generator.uniform(size=len(joint)) < Learned.FALSE_FRACTION
    person = person[chosen]
    joint = joint[chosen]

    position = people.position[person, :-1]  # (N, K, 2)
    own = people.position[person, joint]
    distance = np.linalg.norm(position - own[:, None], axis=2)
    distance[~labelled[person]] = np.inf
    distance[np.arange(len(joint)), joint] = np.inf
    has_other = np.isfinite(distance).sum(axis=1) >= Learned.FALSE_NEIGHBOURS
    person = person[has_other]
    joint = joint[has_other]
    position = position[has_other]
    nearest = np.argsort(distance[has_other], axis=1, kind="stable")

    count = len(joint)
    rows = np.arange(count)
    other = nearest[rows, generator.integers(0, Learned.FALSE_NEIGHBOURS, count)]
    sigma = Learned.FALSE_DISPLACEMENT_SIGMA * people.person_size[person, None]
    score = generator.normal(Learned.FALSE_SCORE_MEAN, Learned.FALSE_SCORE_SIGMA, count)
    tag_error = Learned.FALSE_TAG_SIGMA * _heavy_tailed(generator, (2, count))
    return FalsePeaks(
        joint=joint,
        position=position[rows, other] + sigma * generator.normal(0, 1, (count, 2)),
        score=np.clip(score, MIN_PEAK_SCORE, 1),
        tag=person_tag[person] + tag_error,
    )


def _heavy_tailed(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Errors of the median of a normal distribution of sigma 1, with more large values."""
    return T_SCALE * generator.standard_t(DEGREES_OF_FREEDOM, shape)


NOISE_MODELS: dict[str, NoiseModel] = {
    "none": no_noise,
    "maps": noisy_maps,
    "displaced": displaced_peaks,
    "misses": missing_and_false_peaks,
    "learned": learned_errors,
}


def get_noise_model(name: str) -> NoiseModel:
    """The noise model of that name; UserError naming the valid ones."""
    if name not in NOISE_MODELS:
        names = ", ".join(NOISE_MODELS)
        raise UserError(f"there is no noise model '{name}'; use any of {names}")
    return NOISE_MODELS[name]
