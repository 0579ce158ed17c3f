"""Noise models of the perfect-network test; each simulates one kind of error of real networks.

The sizes below define the test, they are not fitted to a network. The figures in
docs/measurements/decoder.md, those of the public code included, are for these sizes.
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


NOISE_MODELS: dict[str, NoiseModel] = {
    "none": no_noise,
    "maps": noisy_maps,
    "displaced": displaced_peaks,
    "misses": missing_and_false_peaks,
}


def get_noise_model(name: str) -> NoiseModel:
    """The noise model of that name; UserError naming the valid ones."""
    if name not in NOISE_MODELS:
        names = ", ".join(NOISE_MODELS)
        raise UserError(f"there is no noise model '{name}'; use any of {names}")
    return NOISE_MODELS[name]
