"""One training step: forward pass, targets, losses, backward pass, update.

    for each batch of the step:
        output = network(normalise(images))            mixed precision
        loss   = criterion(output, targets(keypoints)) float32, mean over images
        gradient += d(weight * loss)
    optimizer update

The training loop, the dry run and the benchmarks all use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from duopose.training.precision import FiniteCheck, Precision
from duopose.types import Batch, LossTerms, NetworkOutput, Targets

Normalise = Callable[[torch.Tensor], torch.Tensor]
MakeTargets = Callable[[Batch], Targets]
ComputeLosses = Callable[[NetworkOutput, Targets], LossTerms]  # e.g. losses.criterion.Criterion


@dataclass(frozen=True)
class TrainingStep:
    """The computation of a step; calling it makes one update."""

    model: nn.Module  # the network as it is called: may be compiled and wrapped for several ranks
    network: nn.Module  # the network itself, with the same weights
    normalise: Normalise  # (B, 3, H, W) uint8 -> float
    make_targets: MakeTargets
    criterion: ComputeLosses
    optimizer: torch.optim.Optimizer
    precision: Precision
    memory_format: torch.memory_format = torch.contiguous_format  # of the images

    def __call__(
        self, batches: Sequence[Batch], weights: Sequence[float], position: str
    ) -> list[LossTerms]:
        """Update from the gradient of the weighted losses; the loss terms of each batch.

        position: where in the run, for the UserError if a loss is not finite. The weights of the
        network are then not changed.
        """
        terms = []
        for number, (batch, weight) in enumerate(zip(batches, weights, strict=True), start=1):
            is_last = number == len(batches)
            with nullcontext() if is_last else self._no_grad_sync():
                terms.append(self.forward_backward(batch, weight, position))

        self.update()
        return terms

    def forward_backward(self, batch: Batch, weight: float, position: str) -> LossTerms:
        """Add the gradient of the weighted mean loss of a batch to `.grad`."""
        terms = self.compute_losses(batch)
        check = FiniteCheck(terms)
        self.precision.backward(terms.total * weight)
        check.raise_if_not_finite(batch.image_ids, position)
        return terms

    def compute_losses(self, batch: Batch) -> LossTerms:
        """Forward pass and losses."""
        output = self.forward(batch.images)
        targets = self.make_targets(batch)
        return self.criterion(output, targets)

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        """The network's outputs for (B, 3, H, W) uint8 images on the device."""
        inputs = self.normalise(images).contiguous(memory_format=self.memory_format)
        with self.precision.autocast():
            output: NetworkOutput = self.model(inputs)
        return output

    def update(self) -> None:
        """One step of the optimizer; clears the gradients."""
        self.precision.step(self.optimizer, self.network)

    def _no_grad_sync(self) -> AbstractContextManager[object]:
        """Gradients stay on each rank; the last batch of a step sums them over the ranks."""
        if isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()


def arrange_buckets(step: TrainingStep, batch: Batch) -> None:
    """Bring the gradients of a resumed run into the order that they had when it was saved.

    DistributedDataParallel sums gradients in buckets: in the first step of a process in the reverse
    order of the parameters, from then on in the order in which they became ready. The place in a
    bucket decides at which rank the sum of an element begins, and of three numbers a + (b + c)
    differs from (a + b) + c in the last bit. A backward pass that counts for nothing makes it have
    its first step.

    batch: of any images, on the device. All ranks must call it, before the first step; with two
    ranks or one it is not needed.
    """
    buffers = [buffer.clone() for buffer in step.network.buffers()]
    step.network.train()

    loss = step.compute_losses(batch).total
    (loss * 0).backward()

    step.optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in zip(step.network.buffers(), buffers, strict=True):
            buffer.copy_(before)
