"""Noise models of the perfect-network test: what real networks get wrong, one kind at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from duopose.errors import UserError
from duopose.oracle.scene import FalsePeaks, Scene

TAG_ERROR = 0.3  # standard deviation; people's tags are 1 apart
LOWEST_HEIGHT = 0.3
OFFSET_ERROR = 3.0  # input pixels, standard deviation per axis
DISPLACEMENT = 0.10  # of the square root of the person's area, for a peak of height 0
MISSED_SHARE = 0.10
FALSE_SHARE = 0.05


def none(scene: Scene, size: tuple[int, int], generator: np.random.Generator) -> Scene:
    """A perfect network."""
    return scene


def maps(scene: Scene, size: tuple[int, int], generator: np.random.Generator) -> Scene:
    """Per joint instance, the centre too: tags + N(0, 0.3), plain and mirrored apart; heights * U(0.3, 1); offsets + N(0, 3) px."""
    shape = scene.labelled.shape
    return replace(
        scene,
        tag=scene.tag + generator.normal(0, TAG_ERROR, (2, *shape)),
        height=scene.height * generator.uniform(LOWEST_HEIGHT, 1, shape),
        offset_error=scene.offset_error
        + generator.normal(0, OFFSET_ERROR, scene.offset_error.shape),
    )


def displaced(scene: Scene, size: tuple[int, int], generator: np.random.Generator) -> Scene:
    """As `maps`, and each peak is moved by N(0, s) per axis, s = (1 - height) 0.10 sqrt(person area): low peaks are where networks err."""
    noisy = maps(scene, size, generator)
    deviation = (1 - noisy.height) * DISPLACEMENT * noisy.size[:, None]
    return replace(
        noisy, peak=noisy.peak + deviation[..., None] * generator.normal(0, 1, noisy.peak.shape)
    )


def misses(scene: Scene, size: tuple[int, int], generator: np.random.Generator) -> Scene:
    """A tenth of the joints and of the centres have no peak; false peaks, 5 % of the joints in number, anywhere, with anybody's tag."""
    height = scene.height * (generator.uniform(size=scene.height.shape) >= MISSED_SHARE)
    joints = int(scene.labelled[:, :-1].sum())
    count = generator.binomial(joints, FALSE_SHARE)
    people, kinds = scene.labelled.shape
    false = FalsePeaks(
        joint=generator.integers(0, kinds - 1, count),
        peak=generator.uniform([0, 0], [size[0] - 1, size[1] - 1], (count, 2)),
        height=np.ones(count),
        tag=np.broadcast_to(generator.uniform(-0.5, people - 0.5, count), (2, count)),
    )
    return replace(scene, height=height, false_peaks=false)


Noise = Callable[[Scene, tuple[int, int], np.random.Generator], Scene]
NOISES: dict[str, Noise] = {"none": none, "maps": maps, "displaced": displaced, "misses": misses}


def get_noise(name: str) -> Noise:
    """The noise model of that name; UserError naming the valid ones."""
    if name not in NOISES:
        raise UserError(f"there is no noise model '{name}'; use any of {', '.join(NOISES)}")
    return NOISES[name]
