"""Building blocks of the backbones and heads, and activation checkpointing.

Attribute names (conv1, bn1, downsample ...) are those of torchvision's ResNet and of HRNet, because
they are the keys of the public weight files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

EXPANSION = 4  # output channels of a bottleneck / channels of its 3x3 convolution (He et al. 2016)


def conv_bn(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias and with "same" padding, batch normalisation, optional ReLU."""
    padding = kernel // 2
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016): (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        # In place: batch normalisation keeps its input for the backward pass, not its output.
        y += x
        return self.relu(y)


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions (He et al. 2016).

    (B, in_channels, h, w) -> (B, 4 * planes, h / stride, w / stride). The stride is in the 3x3
    convolution, as in torchvision ("ResNet v1.5").
    """

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = planes * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = conv_bn(in_channels, out_channels, 1, stride, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def bottlenecks(in_channels: int, planes: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` bottlenecks, the first with `stride`; they end with 4 * planes channels."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers.append(Bottleneck(in_channels, planes, stride))
        in_channels = planes * EXPANSION
        stride = 1
    return nn.Sequential(*layers)


def basic_blocks(channels: int, count: int) -> nn.Sequential:
    """`count` basic blocks."""
    return nn.Sequential(*(BasicBlock(channels) for _ in range(count)))


def initialize_weights(network: nn.Module) -> None:
    """HigherHRNet's initialisation, in place.

    Convolutions: normal with standard deviation 0.001, biases 0. Batch normalisation: weight 1,
    bias 0. Source: `init_weights` in the public HigherHRNet and HRNet code.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.001)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


# ---- activation checkpointing ----
#
# Chen et al. 2016: less memory, more time, the same results. A checkpointed module keeps only its
# inputs. The backward pass runs its forward pass a second time.


def checkpointed(module: nn.Module, *inputs: Any, enabled: bool = True) -> Any:
    """`module(*inputs)`, with activation checkpointing if `enabled` and in training mode.

    The second forward pass does not update the running statistics of batch normalisation: the
    first one has counted the batch already.
    """
    if not (enabled and module.training):
        return module(*inputs)

    # torch.compile updates buffers once by itself and does not support `context_fn`.
    if torch.compiler.is_compiling():
        return checkpoint(module, *inputs, use_reentrant=False)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=partial(_contexts, module))


def _contexts(
    module: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the first and of the second forward pass."""
    return nullcontext(), _frozen_running_statistics(module)


@contextmanager
def _frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Normalise by the batch's statistics, but leave the running statistics as they are."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]

    # SyncBatchNorm needs a counter tensor to add to; the result of this one is thrown away.
    scratch_counter = torch.zeros((), dtype=torch.long)
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = scratch_counter

    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, saved, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = counter
