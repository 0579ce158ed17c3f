"""The order in which gradients are summed over the ranks, the same after a resume as before."""

from __future__ import annotations

import torch

from duopose.training.step import TrainingStep
from duopose.types import Batch


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
