"""Where the CPU waits for the GPU: counted by torch itself, with the line of the project.

torch.cuda.set_sync_debug_mode makes torch warn at each operation that waits. The tests count the
same on a pretended device; here it is the real one.
"""

from __future__ import annotations

import os
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import duopose
from duopose.distributed.sync_batch_norm import SyncBatchNorm, convert_batch_norm
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
    train_steps,
)
from duopose.inference.predictor import Predictor, prepare_image
from duopose.network import build_network
from duopose.network.pose_net import PoseNet
from duopose.skeletons import COCO

PACKAGE = Path(duopose.__file__).parent
WARNING = "synchronizing CUDA operation"  # in torch's message
DECODING_WAITS = 2  # the peaks; what is read at them
OTHER_CODE = "not in duopose"
NUM_PEOPLE = 8
DECODED_SIZE = (512, 768)
NORM_TOLERANCE = 1e-3  # |difference| / |gradient|, between the kernels of two libraries

W32 = (
    "MODEL.MODULES", [1, 4, 3], "MODEL.BLOCKS", 4, "MODEL.DECONV_BLOCKS", 4, "MODEL.HEAD_BLOCKS", 3,
)  # fmt: skip
STEPS: dict[str, tuple[object, ...]] = {
    "double embedding": (),
    "baseline": BASELINE,
    "fp16": ("FP16.ENABLED", True),
    "bf16, EMA, clipped": (
        "FP16.ENABLED", True, "FP16.DTYPE", "bf16", "TRAIN.EMA", 0.9, "TRAIN.CLIP_GRAD_NORM", 1.0,
    ),
    "fp16, sgd, recomputed": (
        "FP16.ENABLED", True, "TRAIN.OPTIMIZER", "sgd", "MODEL.CHECKPOINT_ACTIVATIONS", True,
    ),
}  # fmt: skip


# ---- counting ----


class WaitLines:
    """Counts waits by the line of the project that caused them."""

    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Waits so far."""
        return sum(self.lines.values())

    def finding(self, name: str, limit: int) -> Finding:
        """Passed where there were at most `limit` waits."""
        figure = f"{self.count} waits, at most {limit} allowed"
        if self.lines:
            lines = [f"{line} x {count}" for line, count in self.lines.most_common(6)]
            figure += f": {', '.join(lines)}"
        return Finding(name, self.count <= limit, figure)

    def record(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Takes the place of warnings.showwarning."""
        if WARNING in str(message):
            self.lines[_project_line()] += 1


def _project_line() -> str:
    """The innermost line of the package on the stack, apart from this folder."""
    own_folder = Path(__file__).parent
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE) and not path.is_relative_to(own_folder):
            return f"{path.relative_to(PACKAGE)}:{frame.lineno}"
    return OTHER_CODE


@contextmanager
def counted_waits() -> Iterator[WaitLines]:
    """Counts the waits inside the block."""
    waits = WaitLines()
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = waits.record
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")


# ---- what is counted ----


def step_waits(device: str) -> Iterator[Finding]:
    """Training steps between two log lines, and that the count finds a wait at all."""
    with counted_waits() as waits:
        torch.ones(1, device=device).item()
    yield Finding("waits, a planted one", waits.count == 1, f"{waits.count} counted, 1 expected")

    for name, settings in STEPS.items():
        with small_training(device, *settings) as run:
            train_steps(run, 1)  # makes the constants
            with counted_waits() as waits:
                train_steps(run, 1)
        yield waits.finding(f"waits of a step, {name}", 0)


def image_waits(device: str) -> Iterator[Finding]:
    """Forward pass of an image with the flip test; merging and decoding of some people."""
    cfg = small_config(device)
    torch.manual_seed(0)
    target = torch_device(device)
    predictor = Predictor.from_config(cfg, build_network(cfg, COCO), COCO, target)
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    prepared = prepare_image(image, 0, predictor.transform)
    predictor.forward([prepared])  # makes the constants
    with counted_waits() as waits:
        predictor.forward([prepared])
    yield waits.finding("waits, forward pass of an image", 0)

    # Not the maps of that network: a random one has no peaks, or more than are read at once.
    passes, frame = ideal_passes(target, NUM_PEOPLE, DECODED_SIZE)
    find_people(passes, frame)
    with counted_waits() as waits:
        people = find_people(passes, frame)
    finding = waits.finding("waits, decoding of an image", DECODING_WAITS)
    figure = f"{finding.figure}; {len(people.scores)} of {NUM_PEOPLE} people"
    is_complete = len(people.scores) == NUM_PEOPLE
    yield Finding(finding.name, bool(finding.passed) and is_complete, figure)


# ---- batch normalisation over the ranks ----


class AlwaysSynchronised(SyncBatchNorm):
    """Uses the collectives even on a single rank: one GPU has room for one rank of NCCL."""

    def uses_own_statistics(self, group: dist.ProcessGroup | None) -> bool:
        """Only in evaluation mode."""
        return not self.training


def synchronised_norm_waits(device: str) -> Iterator[Finding]:
    """Synchronised layers by NCCL: the numbers of plain ones, and the waits of w32."""
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")  # there may be no other network
    with TemporaryDirectory(prefix="duopose-check-") as folder:
        store = f"file://{folder}/store"
        target = torch_device(device)
        dist.init_process_group("nccl", init_method=store, rank=0, world_size=1, device_id=target)
        try:
            yield _compared_norms(device)
            yield _waits_of_norms(device)
        finally:
            dist.destroy_process_group()


def _compared_norms(device: str) -> Finding:
    """In a small network: the 328 layers of w32 amplify rounding errors to 0.01 of the gradient."""
    network, images = _network_and_images(device)
    expected = _gradient_of_tags(network, images)
    synchronised, _ = _synchronised(network)
    found = _gradient_of_tags(synchronised, images)
    difference = relative_distance(found, expected)
    figure = f"relative difference of the gradient {difference:.2g}"
    return Finding("SYNC_BN by NCCL, one rank", difference <= NORM_TOLERANCE, figure)


def _waits_of_norms(device: str) -> Finding:
    network, images = _network_and_images(device, *W32)
    synchronised, number = _synchronised(network)
    synchronised(images)  # chooses kernels
    with counted_waits() as waits:
        synchronised(images)
    return waits.finding(f"waits, forward pass of {number} layers of SYNC_BN", 0)


def _network_and_images(device: str, *settings: object) -> tuple[torch.nn.Module, torch.Tensor]:
    cfg = small_config(device, *settings, "CUDNN.TF32", False, "CUDNN.BENCHMARK", False)
    batch = noise_batch(cfg, torch_device(device))
    torch.manual_seed(0)
    network = build_network(cfg, COCO).to(device).train()
    return network, batch.images.float() / 255


def _synchronised(network: torch.nn.Module) -> tuple[torch.nn.Module, int]:
    """The network with layers that always use the collectives; their number."""
    network = convert_batch_norm(network)
    layers = [part for part in network.modules() if isinstance(part, SyncBatchNorm)]
    for layer in layers:
        layer.__class__ = AlwaysSynchronised
    return network, len(layers)


def _gradient_of_tags(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Of the mean squared tag, of all parameters in one vector."""
    assert isinstance(network, PoseNet)
    network.zero_grad()
    network(images).tags.square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])
