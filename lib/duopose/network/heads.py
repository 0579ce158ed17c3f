"""The heads: what is read from the backbone's stride-4 features, at stride 4 and, a deconvolution later, at stride 2."""

from __future__ import annotations

import torch
from torch import nn

from duopose.network.blocks import EXPANSION, BasicBlock, basic_blocks, bottlenecks


class UpsampleBlock(nn.Module):
    """Deconvolution (4x4, stride 2), normalisation, ReLU and basic blocks: (B, inside, h, w) -> (B, channels, 2h, 2w)."""

    def __init__(self, inside: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.deconv = _deconvolution(inside, channels)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.blocks = basic_blocks(channels, blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.relu(self.bn(self.deconv(x))))


class EmbeddingHead(nn.Module):
    """One head of Double Embedding; the global and the local one differ in their channels alone.

    Bottlenecks (channels, channels / 4), a 1x1 convolution to `coarse` maps at stride 4; these beside the features go
    through an `UpsampleBlock`, and a 1x1 convolution gives `fine` maps at stride 2.
    """

    def __init__(
        self,
        channels: int,
        coarse: int,
        fine: int,
        head_blocks: int,
        deconv_channels: int,
        deconv_blocks: int,
    ) -> None:
        super().__init__()
        if channels % EXPANSION:
            raise ValueError(
                f"MODEL.WIDTH must be a multiple of {EXPANSION} for the heads' bottlenecks, got {channels}"
            )
        self.blocks = bottlenecks(channels, channels // EXPANSION, head_blocks)
        self.predict_stride4 = nn.Conv2d(channels, coarse, 1)
        self.upsample = UpsampleBlock(channels + coarse, deconv_channels, deconv_blocks)
        self.predict_stride2 = nn.Conv2d(deconv_channels, fine, 1)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, channels, h, w) -> (B, coarse, h, w), (B, fine, 2h, 2w)."""
        features = self.blocks(features)
        coarse = self.predict_stride4(features)
        return coarse, self.predict_stride2(self.upsample(torch.cat((features, coarse), dim=1)))


def higher_hrnet_upsample(inside: int, channels: int, blocks: int) -> nn.Sequential:
    """The same as `UpsampleBlock`, under the module names of HigherHRNet's weight files (`deconv_layers.0`)."""
    deconvolution = nn.Sequential(
        _deconvolution(inside, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    )
    return nn.Sequential(
        deconvolution, *(nn.Sequential(BasicBlock(channels)) for _ in range(blocks))
    )


def _deconvolution(inside: int, outside: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inside, outside, 4, stride=2, padding=1, bias=False)
