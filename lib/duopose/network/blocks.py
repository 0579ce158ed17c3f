"""The building blocks of HRNet and of the heads; attribute names are HRNet's, since they are the keys of its weight files."""

from __future__ import annotations

import torch
from torch import nn

EXPANSION = 4  # a bottleneck has EXPANSION times as many channels outside as inside


def conv_bn(
    inside: int, outside: int, kernel: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch normalisation, and a ReLU if wanted; "same" padding."""
    layers: list[nn.Module] = [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the way round them; (B, channels, h, w) -> the same."""

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
        y += (
            x  # in place: batch normalisation keeps its input for the backward pass, not its output
        )
        return self.relu(y)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and the way round them; (B, inside, h, w) -> (B, 4 * planes, h, w)."""

    def __init__(self, inside: int, planes: int) -> None:
        super().__init__()
        outside = planes * EXPANSION
        self.conv1 = nn.Conv2d(inside, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            conv_bn(inside, outside, kernel=1, relu=False) if inside != outside else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def bottlenecks(inside: int, planes: int, count: int) -> nn.Sequential:
    """`count` bottlenecks in a row, ending with 4 * planes channels."""
    first = [Bottleneck(inside, planes)] if count else []
    return nn.Sequential(
        *first, *(Bottleneck(planes * EXPANSION, planes) for _ in range(count - 1))
    )


def basic_blocks(channels: int, count: int) -> nn.Sequential:
    """`count` basic blocks in a row."""
    return nn.Sequential(*(BasicBlock(channels) for _ in range(count)))


def initialize_weights(network: nn.Module) -> None:
    """The family's random start (HigherHRNet): convolutions normal with std 0.001, biases 0, normalisation 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.001)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
