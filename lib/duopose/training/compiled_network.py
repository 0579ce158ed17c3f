"""TRAIN.COMPILE: the network compiled for the batches of one size."""

from __future__ import annotations

import torch
from torch import nn

from duopose.types import NetworkOutput


class CompiledNetwork(nn.Module):
    """Runs full batches compiled, and others, as the last one of an epoch, uncompiled.

    torch.compile would compile the network anew for another batch size, which takes minutes. The
    weights are those of `network`.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        super().__init__()
        self.network = network
        self.batch_size = batch_size
        self.compiled = torch.compile(network.forward, dynamic=False)

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        """(B, 3, H, W) normalised images -> maps."""
        if len(images) == self.batch_size:
            output: NetworkOutput = self.compiled(images)
        else:
            output = self.network(images)
        return output
