"""One training step taken apart: how long its forward pass, targets, losses, backward pass and update take on the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch

from duopose.training.precision import FiniteCheck
from duopose.training.setup import TrainingRun
from duopose.types import Batch

PARTS = ("forward", "targets", "loss", "backward", "optimizer")


class Marks:
    """Moments of the device's own time, by CUDA events where it has them; nothing waits before `between`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.moments: list[tuple[str, torch.cuda.Event | float]] = []

    def mark(self, name: str) -> None:
        """Note the moment at which everything so far will be done."""
        if self.device.type != "cuda":
            self.moments.append((name, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.moments.append((name, event))

    def between(self) -> dict[str, float]:
        """Milliseconds from the mark before to each mark but the first, by name."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        pairs = zip(self.moments, self.moments[1:], strict=False)
        return {name: _milliseconds(start, end) for (_, start), (name, end) in pairs}


def _milliseconds(start: torch.cuda.Event | float, end: torch.cuda.Event | float) -> float:
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float) and isinstance(end, float)
        return (end - start) * 1000
    return float(start.elapsed_time(end))


def marked_step(run: TrainingRun, batch: Batch) -> dict[str, float]:
    """One training step with one batch; milliseconds of each of PARTS."""
    step = run.step
    marks = Marks(run.context.device)
    marks.mark("start")
    output = step.forward(batch.images)
    marks.mark("forward")
    targets = step.make_targets(batch)
    marks.mark("targets")
    terms = step.criterion(output, targets)
    check = FiniteCheck(terms)
    marks.mark("loss")
    step.precision.backward(terms.total)
    check.raise_if_not_finite(batch.image_ids, "the benchmark")
    marks.mark("backward")
    step.update()
    marks.mark("optimizer")
    return marks.between()


def part_times(run: TrainingRun, batch: Batch, repeats: int) -> Mapping[str, float]:
    """Median milliseconds of each of PARTS; the first two steps choose kernels and make room, and are not counted."""
    found = [marked_step(run, batch) for _ in range(repeats + 2)][2:]
    return {name: statistics.median(times[name] for times in found) for name in PARTS}
