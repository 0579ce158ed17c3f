"""Training steps in every precision, with every optimizer, in both memory layouts, and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch

from duopose.gpu_check.check_runner import Finding
from duopose.gpu_check.small_runs import (
    all_finite,
    noise_batch,
    relative_distance,
    small_training,
    weights_of,
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
    "sgd": ("TRAIN.OPTIMIZER", "sgd", "TRAIN.LR", 0.1),
}
LAYOUTS = {"contiguous": False, "channels last": True}
STEPS = {"cuda": 8, "cpu": 3}
OVERFLOWING = 1e30  # weight of a loss whose gradient is infinite in fp16
COMPILED_TOLERANCE = 1e-3  # relative difference of the loss


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
        fused, fused_is_finite = _after_overflow(device, *settings)
        plain, _ = _after_overflow(device, *settings, "TRAIN.FUSED", False)
        difference = max(relative_distance(fused[key], plain[key]) for key in fused)
        passed = fused_is_finite and difference < 1e-3
        figure = f"relative difference to unfused {difference:.2g}, finite {fused_is_finite}"
        yield Finding(f"first step overflows, {name}", passed, figure)


def _after_overflow(device: str, *settings: object) -> tuple[dict[str, torch.Tensor], bool]:
    """Weights after a step that overflows and two that do not; whether all is finite."""
    fp16_sgd = [*PRECISIONS["fp16"], *OPTIMIZERS["sgd"], "DETERMINISTIC", True]
    with small_training(device, *fp16_sgd, *settings) as run:
        batch = noise_batch(run.cfg, run.context.device)
        _fill_free_memory(run)
        before = weights_of(run)
        run.step([batch], [OVERFLOWING], "the check")
        parameters = dict(run.state.network.named_parameters())
        is_skipped = all(torch.equal(parameters[key].cpu(), before[key]) for key in parameters)

        # The batch statistics of the skipped step must not differ between the two runs either.
        for _ in range(2):
            run.step([batch], [2.0**-10], "the check")
        after = {key: parameter.detach().cpu() for key, parameter in parameters.items()}
        has_moved = any(not torch.equal(after[key], before[key]) for key in after)
        return after, is_skipped and has_moved and all_finite(run)


def _fill_free_memory(run: TrainingRun) -> None:
    """Leave NaN in the memory that the allocator hands out next, so that its use shows."""
    parameters = list(run.state.network.parameters())
    filled = [torch.full_like(parameter, float("nan")) for parameter in parameters]
    del filled


# ---- compiled ----


def compiled_step(device: str) -> Iterator[Finding]:
    """TRAIN.COMPILE gives the loss of the plain network, also for a shorter last batch."""
    losses: dict[bool, list[float]] = {}
    for compiled in (False, True):
        with small_training(device, "CUDNN.TF32", False, "TRAIN.COMPILE", compiled) as run:
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
