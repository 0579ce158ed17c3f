"""An exported network beside PyTorch: differences of maps, of people after decoding, and speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from duopose.errors import counted
from duopose.inference.image_inputs import ImageLike
from duopose.inference.model import Model, People
from duopose.network.flat_network import flatten_output, map_names
from duopose.network.pose_net import INPUT_MULTIPLE
from duopose.profiling.measure import limit_threads, measure

MAX_DIFFERENCE = 1e-4  # of maps, relative to the largest absolute value of the map
BATCH_SIZES = (1, 2)

# ---- maps ----


class MapDifference(NamedTuple):
    """The largest relative difference for one shape of the input."""

    shape: tuple[int, int, int]  # batch, height, width
    value: float
    name: str  # of the maps that have it


def checked_shapes(input_size: int) -> list[tuple[int, int, int]]:
    """Batch, height and width: three sizes around DATASET.INPUT_SIZE, each with two batches."""
    half, full, long = (_rounded_side(factor * input_size) for factor in (0.5, 1.0, 1.5))
    sizes = [(half, half), (full, full), (full, long)]
    return [(batch, height, width) for height, width in sizes for batch in BATCH_SIZES]


@torch.inference_mode()
def map_differences(
    reference: nn.Module, exported: nn.Module, shapes: Iterable[tuple[int, int, int]]
) -> list[MapDifference]:
    """The largest difference for each shape, on normally distributed images."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for batch, height, width in shapes:
        images = torch.randn(batch, 3, height, width, generator=generator)
        expected = reference(images)
        actual = exported(images)

        names = map_names(expected, height)
        pairs = zip(flatten_output(expected), flatten_output(actual), strict=True)
        differences = [relative_difference(a, b) for a, b in pairs]
        largest = int(np.argmax(differences))
        found.append(MapDifference((batch, height, width), differences[largest], names[largest]))
    return found


def relative_difference(expected: torch.Tensor, actual: torch.Tensor) -> float:
    """max |actual - expected| / max |expected|; infinite where a value is not finite."""
    if not torch.isfinite(actual).all():
        return float("inf")
    scale = expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((actual - expected).abs().max() / scale)


def _rounded_side(pixels: float) -> int:
    return max(round(pixels / INPUT_MULTIPLE), 1) * INPUT_MULTIPLE


# ---- people ----


@dataclass
class PeopleDifference:
    """Sums over images; `add` compares one image."""

    num_images: int = 0
    num_people: int = 0
    num_different: int = 0  # images with another number of people, or other joints found
    max_distance: float = 0.0  # pixels, over the joints of the other images
    max_score: float = 0.0

    def add(self, expected: People, actual: People) -> None:
        """Compare the people of one image, in order."""
        self.num_images += 1
        self.num_people += len(expected)
        if not _same_joints(expected, actual):
            self.num_different += 1
            return
        if not len(expected):
            return

        difference = np.abs(expected.keypoints - actual.keypoints)
        self.max_distance = max(self.max_distance, float(difference[..., :2].max()))
        scores = np.abs(expected.scores - actual.scores)
        self.max_score = max(self.max_score, float(scores.max()))

    def __str__(self) -> str:
        same = self.num_images - self.num_different
        people = counted(self.num_people, "person", "people")
        return (
            f"the same people in {same} of {self.num_images} images ({people}; "
            f"positions within {self.max_distance:.2g} pixels, scores within {self.max_score:.2g})"
        )


def people_difference(
    reference: Model, exported: Model, images: Sequence[ImageLike]
) -> PeopleDifference:
    """The people that both models find in the images."""
    difference = PeopleDifference()
    for image in images:
        difference.add(reference(image), exported(image))
    return difference


def _same_joints(one: People, other: People) -> bool:
    if len(one) != len(other):
        return False
    found = one.keypoints[..., 2] > 0
    other_found = other.keypoints[..., 2] > 0
    return np.array_equal(found, other_found) and np.array_equal(one.filled, other.filled)


# ---- speed ----


class Speed(NamedTuple):
    """Median milliseconds of one forward pass on one thread, measured in turns."""

    size: int  # pixels: one square image
    torch_ms: float
    exported_ms: float

    def __str__(self) -> str:
        ratio = self.torch_ms / self.exported_ms
        return (
            f"1 x {self.size}x{self.size}, one thread: PyTorch {self.torch_ms:.1f} ms, exported "
            f"{self.exported_ms:.1f} ms: {ratio:.2f} times as fast"
        )


def measure_speed(
    reference: nn.Module, open_network: Callable[[], nn.Module], input_size: int, repeats: int
) -> Speed:
    """Both on the CPU in turns. open_network: it takes torch's number of threads."""
    side = _rounded_side(input_size)
    images = torch.randn(1, 3, side, side)
    with limit_threads(1), torch.inference_mode():
        exported = open_network()
        functions = {"torch": lambda: reference(images), "exported": lambda: exported(images)}
        times = measure(functions, repeats, warm_up=2)
    return Speed(side, times["torch"], times["exported"])
