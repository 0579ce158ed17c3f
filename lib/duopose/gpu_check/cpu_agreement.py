"""Targets, losses, gradients, maps and people of a device against those of the CPU.

On a CPU there is no other device: targets and people are compared with what is known of them, and
losses and gradients with those of torch's plain convolutions instead of oneDNN's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from duopose.decode import Pass
from duopose.distributed.context import DistributedContext
from duopose.gpu_check.check_runner import Finding
from duopose.gpu_check.small_runs import (
    BASELINE,
    find_people,
    ideal_passes,
    noise_batch,
    relative_distance,
    small_config,
    small_training,
    torch_device,
)
from duopose.inference.predictor import Predictor, prepare_image
from duopose.network import build_network
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.types import Targets

CPU = torch.device("cpu")
EXACT = ("CUDNN.TF32", False)  # fp32 products with all their bits
# Relative to the largest value of a tensor: exp may differ in the last bits, and the offsets of
# several people in one cell are added in any order.
TARGET_TOLERANCE = 1e-6
PIXEL_TOLERANCE = 0.01
MAP_TOLERANCE = 1e-3  # relative; of fp32 sums in another order through the whole network

TARGETS: dict[str, tuple[object, ...]] = {
    "double embedding": (),
    "baseline": BASELINE,
    "offsets on the whole map": ("LOSS.OFFSETS_AREA", "map"),
    "rounded centres": ("DATASET.HEATMAP_CENTRES", "rounded"),
}


class Bounds(NamedTuple):
    """What a precision may differ by from fp32 on the CPU."""

    network: tuple[object, ...]  # settings
    precision: tuple[object, ...]
    loss: float  # largest relative difference of a loss term
    gradient: float  # |difference| / |gradient|, over all parameters


# Batch normalisation of a random network amplifies rounding errors. On a CPU, at the sizes for
# CUDA, the gradient of fp16 differs from that of fp32 by 0.12 and that of bf16 by 0.28, the loss
# terms by 0.001 and 0.005. TF32 has the mantissa of fp16. A wrong scale or sign makes it 1 or more.
LOSSES: dict[str, Bounds] = {
    "fp32, double embedding": Bounds((), EXACT, 1e-4, 5e-3),
    "fp32, baseline": Bounds(BASELINE, EXACT, 1e-4, 5e-3),
    "TF32": Bounds((), ("CUDNN.TF32", True), 1e-2, 0.4),
    "fp16": Bounds((), ("FP16.ENABLED", True), 1e-2, 0.4),
    "bf16": Bounds((), ("FP16.ENABLED", True, "FP16.DTYPE", "bf16"), 5e-2, 0.7),
}
WEIGHT = 2.0**-10  # of the loss, so that the scaled gradient of a small batch fits into fp16


# ---- targets ----


def targets(device: str) -> Iterator[Finding]:
    """Every tensor of the targets, for the forms of targets that the settings know."""
    for name, settings in TARGETS.items():
        cfg = small_config(device, *settings)
        make_targets = build_targets(cfg, COCO)
        expected = make_targets(noise_batch(cfg, CPU))
        found = make_targets(noise_batch(cfg, torch_device(device)))

        difference = _largest_difference(found, expected)
        low, high = _heatmap_range(found)
        has_peaks = low >= 0 and 0.5 < high <= 1
        figure = f"largest difference {difference:.2g}, largest value of a heatmap {high:.3f}"
        passed = difference <= TARGET_TOLERANCE and has_peaks
        yield Finding(f"targets, {name}", passed, figure)


def _largest_difference(found: Targets, expected: Targets) -> float:
    """Relative to the largest value of each tensor, or to 1 where all are smaller."""
    pairs = list(zip(_tensors(found), _tensors(expected), strict=True))
    differences = [0.0]
    for one, other in pairs:
        on_cpu = one.cpu()
        if on_cpu.shape != other.shape or on_cpu.dtype != other.dtype:
            return float("inf")
        if on_cpu.numel():
            largest = max(float(other.double().abs().max()), 1.0)
            differences.append(float((on_cpu.double() - other.double()).abs().max()) / largest)
    return max(differences)


def _tensors(value: torch.Tensor | Sequence[object]) -> list[torch.Tensor]:
    """All tensors of a record of records."""
    if isinstance(value, torch.Tensor):
        return [value]
    found = []
    for part in value:
        assert isinstance(part, torch.Tensor | tuple)
        found += _tensors(part)
    return found


def _heatmap_range(made: Targets) -> tuple[float, float]:
    maps = [heatmaps.cpu() for heatmaps in made.heatmaps]
    return min(float(one.min()) for one in maps), max(float(one.max()) for one in maps)


# ---- losses and gradients ----


class Outcome(NamedTuple):
    """What a backward pass gives."""

    terms: dict[str, torch.Tensor]  # loss term -> (B,)
    gradient: torch.Tensor  # of all parameters, in one vector


def losses_and_gradients(device: str) -> Iterator[Finding]:
    """Loss terms and the gradient of a batch, in every precision, against fp32 on the CPU."""
    for name, bounds in LOSSES.items():
        if device == "cpu" and name == "TF32":
            yield Finding("losses, TF32", None, "a number format of CUDA")
            continue
        found = _outcome(device, device, (*bounds.network, *bounds.precision))
        with torch.backends.mkldnn.flags(enabled=device != "cpu"):
            expected = _outcome("cpu", device, (*bounds.network, *EXACT))

        distances = [
            relative_distance(found.terms[term], value) for term, value in expected.terms.items()
        ]
        gradient = relative_distance(found.gradient, expected.gradient)
        passed = max(distances) <= bounds.loss and gradient <= bounds.gradient
        figure = f"relative difference of loss terms {max(distances):.2g}, gradient {gradient:.2g}"
        yield Finding(f"losses, {name}", passed, figure)


def _outcome(compute_on: str, sizes_of: str, settings: tuple[object, ...]) -> Outcome:
    """Of a batch of noise and a network of the sizes for the device `sizes_of`."""
    context = DistributedContext(torch_device(compute_on))
    with small_training(sizes_of, *settings, context=context) as run:
        batch = noise_batch(run.cfg, context.device)
        terms = run.step.forward_backward(batch, WEIGHT, "the check")
        run.step.precision.scaler.unscale_(run.state.optimizer)

        gradients = [parameter.grad for parameter in run.state.network.parameters()]
        flat = [gradient.flatten().cpu() for gradient in gradients if gradient is not None]
        return Outcome(dict(terms.per_image), torch.cat(flat) / WEIGHT)


# ---- from images to people ----


def maps_and_people(device: str) -> Iterator[Finding]:
    """The network's maps with the flip test; the people decoded from maps of a perfect network."""
    if device == "cuda":
        yield _maps_of_network(device)
    else:
        yield Finding("maps of the network", None, "on a CPU there is nothing to compare with")
    for num_people in (1, 8, 20):
        yield _decoded_people(device, num_people)


def _maps_of_network(device: str) -> Finding:
    """One image, plain and mirrored; on CUDA both are one batch."""
    found = _network_passes(device, torch_device(device))
    expected = _network_passes(device, CPU)
    distances = []
    for one, other in zip(found, expected, strict=True):
        pairs = zip(_tensors(one.output), _tensors(other.output), strict=True)
        distances += [relative_distance(*pair) for pair in pairs]
    figure = f"relative difference {max(distances):.2g}, {len(found)} passes"
    return Finding("maps of the network", max(distances) <= MAP_TOLERANCE, figure)


@torch.inference_mode()
def _network_passes(sizes_of: str, device: torch.device) -> list[Pass]:
    cfg = small_config(sizes_of, *EXACT)
    torch.manual_seed(0)
    predictor = Predictor.from_config(cfg, build_network(cfg, COCO), COCO, device)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    return predictor.forward([prepare_image(image, 0, predictor.transform)])[0]


def _decoded_people(device: str, num_people: int) -> Finding:
    """Merging and decoding on the device and on the CPU, where all people must be found."""
    size = (512, 768) if device == "cuda" else (256, 384)
    found = find_people(*ideal_passes(torch_device(device), num_people, size))
    expected = find_people(*ideal_passes(CPU, num_people, size))
    name = f"decoding, {num_people} people"
    if len(found.scores) != len(expected.scores):
        return Finding(name, False, f"{len(found.scores)} found, {len(expected.scores)} on the CPU")

    pixels = float(np.abs(found.keypoints - expected.keypoints).max())
    is_complete = len(found.scores) == num_people
    figure = f"{len(found.scores)} found, largest difference {pixels:.2g} pixels"
    return Finding(name, pixels <= PIXEL_TOLERANCE and is_complete, figure)
