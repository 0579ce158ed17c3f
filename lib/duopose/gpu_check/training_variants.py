"""Training steps in every precision, with every optimizer, in both memory layouts, and compiled."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch

from duopose.gpu_check.check_runner import Finding
from duopose.gpu_check.small_runs import (
    all_finite,
    noise_batch,
    relative_distance,
    small_training,
)
from duopose.training.setup import TrainingRun

PRECISIONS: dict[str, tuple[object, ...]] = {
    "fp32": (),
    "fp16": ("FP16.ENABLED", True),
    "fp16 static": ("FP16.ENABLED", True, "FP16.STATIC_LOSS_SCALE", 8192.0),
    "bf16": ("FP16.ENABLED", True, "FP16.DTYPE", "bf16"),
}
OPTIMIZERS: dict[str, tuple[object, ...]] = {
    "adam": ("TRAIN.OPTIMIZER", "adam", "TRAIN.LR", 1e-3),
    "adamw": ("TRAIN.OPTIMIZER", "adamw", "TRAIN.LR", 1e-3),
    "sgd": ("TRAIN.OPTIMIZER", "sgd", "TRAIN.LR", 0.01),
}
LAYOUTS = {"contiguous": False, "channels last": True}
STEPS = {"cuda": 8, "cpu": 3}
OVERFLOWING = 1e30  # weight of a loss whose gradient is infinite in fp16
SMALL = 2.0**-10  # weight of a loss whose scaled gradient surely fits into fp16
# |difference| / |update| of the weights between two optimizers, whose rounding fp16 amplifies.
UPDATE_TOLERANCE = 2e-2
COMPILED_TOLERANCE = 1e-3  # relative difference of the loss
# Plain gradient descent: Adam divides by the gradient's size, which amplifies rounding errors.
COMPARED = (*OPTIMIZERS["sgd"], "CUDNN.TF32", False)


# ---- every precision, optimizer and layout ----


def variants(device: str) -> Iterator[Finding]:
    """A few steps on one batch each: the loss falls, and everything stays finite."""
    for precision, optimizer in product(PRECISIONS, OPTIMIZERS):
        passed = True
        figures = []
        for layout, channels_last in LAYOUTS.items():
            settings = [*PRECISIONS[precision], *OPTIMIZERS[optimizer]]
            losses, is_finite = _train(device, *settings, "MODEL.CHANNELS_LAST", channels_last)
            passed = passed and is_finite and losses[-1] < losses[0]
            figures.append(f"{layout} {losses[0]:.3g} to {losses[-1]:.3g}")
        yield Finding(f"train, {precision}, {optimizer}", passed, f"loss {', '.join(figures)}")

    losses, is_finite = _train(device, *PRECISIONS["fp16"], "TRAIN.FUSED", False)
    passed = is_finite and losses[-1] < losses[0]
    figure = f"loss {losses[0]:.3g} to {losses[-1]:.3g}"
    yield Finding("train, fp16, optimizer not fused", passed, figure)


def _train(device: str, *settings: object) -> tuple[list[float], bool]:
    """The losses of some steps on one batch; whether all tensors are finite at the end."""
    with small_training(device, *settings, "MODEL.CHECKPOINT_ACTIVATIONS", False) as run:
        batch = noise_batch(run.cfg, run.context.device)
        losses = []
        for _ in range(STEPS[device]):
            (terms,) = run.step([batch], [1.0], "the check")
            losses.append(float(terms.total.detach()))
        return losses, all_finite(run)


# ---- a first step that overflows ----


def overflowing_first_step(device: str) -> Iterator[Finding]:
    """Fused SGD under fp16: the skipped step leaves nothing in the momentum."""
    for name, settings in {"momentum": (), "nesterov": ("TRAIN.NESTEROV", True)}.items():
        fused, is_right = _after_overflow(device, *settings)
        plain, _ = _after_overflow(device, *settings, "TRAIN.FUSED", False)
        difference = relative_distance(fused, plain)
        passed = is_right and difference < UPDATE_TOLERANCE
        figure = f"skipped and finite: {is_right}; update differs by {difference:.2g} from unfused"
        yield Finding(f"first step overflows, {name}", passed, figure)


def _after_overflow(device: str, *settings: object) -> tuple[torch.Tensor, bool]:
    """The update of all weights by a step that overflows and two that do not.

    Also whether the first one changed nothing, the others something, and all is finite.
    """
    rate = 0.01 / SMALL
    fp16_sgd = [*PRECISIONS["fp16"], "TRAIN.OPTIMIZER", "sgd", "TRAIN.LR", rate]
    fp16_sgd += ["DETERMINISTIC", True]
    with small_training(device, *fp16_sgd, *settings) as run:
        batch = noise_batch(run.cfg, run.context.device)
        _fill_free_memory(run)
        before = _flat_weights(run)
        run.step([batch], [OVERFLOWING], "the check")
        is_skipped = torch.equal(_flat_weights(run), before)
        for _ in range(2):
            run.step([batch], [SMALL], "the check")

        update = _flat_weights(run) - before
        return update, is_skipped and bool(update.any()) and all_finite(run)


def _flat_weights(run: TrainingRun) -> torch.Tensor:
    """All parameters in one vector on the CPU."""
    parameters = run.state.network.parameters()
    return torch.cat([parameter.detach().cpu().flatten() for parameter in parameters])


def _fill_free_memory(run: TrainingRun) -> None:
    """Leave NaN in the memory that the allocator hands out next, so that its use shows."""
    parameters = list(run.state.network.parameters())
    filled = [torch.full_like(parameter, float("nan")) for parameter in parameters]
    del filled


# ---- compiled ----


def missing_for_compiling() -> str:
    """What torch.compile lacks on this machine, as a sentence; empty where nothing is missing.

    Triton builds a small module for Python in C when it is used for the first time.
    """
    compilers = (os.environ.get("CC"), "gcc", "clang")
    if not any(name and shutil.which(name) for name in compilers):
        return "torch.compile needs a C compiler: gcc, clang, or the one that CC names"
    header = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    if not header.is_file():
        return f"torch.compile needs Python's headers (python3-dev): there is no {header}"
    return ""


def compiled_step(device: str) -> Iterator[Finding]:
    """TRAIN.COMPILE gives the loss of the plain network, also for a shorter last batch."""
    if missing := missing_for_compiling():
        yield Finding("train, compiled", None, missing)
        return
    losses: dict[bool, list[float]] = {}
    for compiled in (False, True):
        settings = (*COMPARED, "TRAIN.COMPILE", compiled)
        with small_training(device, *settings) as run:
            batch = noise_batch(run.cfg, run.context.device)
            short = batch._replace(
                images=batch.images[:1],
                keypoints=batch.keypoints[:1],
                masks=tuple(mask[:1] for mask in batch.masks),
                image_ids=batch.image_ids[:1],
            )
            losses[compiled] = []
            for one in (batch, batch, short):
                (terms,) = run.step([one], [1.0], "the check")
                losses[compiled].append(float(terms.total.detach()))

    difference = relative_distance(torch.tensor(losses[True]), torch.tensor(losses[False]))
    figure = f"relative difference of three losses {difference:.2g}"
    yield Finding("train, compiled", difference <= COMPILED_TOLERANCE, figure)
