"""The heads: from the backbone's stride-4 features to maps at strides 4 and 2.

Double Embedding: Xu, Li, Peng, Ding, Wei, "A Global to Local Double Embedding Method for
Multi-person Pose Estimation", ACCV 2020. HigherHRNet: Cheng et al., "HigherHRNet: Scale-Aware
Representation Learning for Bottom-Up Human Pose Estimation", CVPR 2020. Every head has
HigherHRNet's form:

    coarse = conv1x1(features)                              at stride 4
    fine   = conv1x1(upsample(concat(features, coarse)))    at stride 2
"""

from __future__ import annotations

import torch
from torch import nn

from duopose.network.blocks import EXPANSION, BasicBlock, basic_blocks, bottlenecks, checkpointed
from duopose.types import NetworkOutput


class DoubleEmbeddingHeads(nn.Module):
    """The two heads of Double Embedding, which share no layer.

    global_head: 2 (K+1) maps at stride 4 (heatmaps, then tags) and K+1 heatmaps at stride 2.
    local_head: the offset maps at both strides, or at stride 4 only.

    num_heatmaps: K+1, the keypoints and the person centre.
    num_offsets: channels of the skeleton's offset layout.
    num_blocks: bottlenecks at the start of each head.
    has_fine_offsets: offset maps at stride 2 too.
    """

    def __init__(
        self,
        in_channels: int,
        num_heatmaps: int,
        num_offsets: int,
        num_blocks: int,
        deconv_channels: int,
        num_deconv_blocks: int,
        has_fine_offsets: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.num_heatmaps = num_heatmaps
        self.checkpointing = checkpointing

        sizes = (num_blocks, deconv_channels, num_deconv_blocks)
        num_coarse = 2 * num_heatmaps  # heatmaps and tags
        self.global_head = EmbeddingHead(in_channels, num_coarse, num_heatmaps, *sizes)
        num_fine_offsets = num_offsets if has_fine_offsets else 0
        self.local_head = EmbeddingHead(in_channels, num_offsets, num_fine_offsets, *sizes)

    def forward(self, features: torch.Tensor) -> NetworkOutput:
        """Features (B, in_channels, h, w) at stride 4 -> heatmaps, tags and offsets."""
        coarse, fine = checkpointed(self.global_head, features, enabled=self.checkpointing)
        offsets = checkpointed(self.local_head, features, enabled=self.checkpointing)

        coarse_heatmaps = coarse[:, : self.num_heatmaps]
        tags = coarse[:, self.num_heatmaps :]
        return NetworkOutput((coarse_heatmaps, fine), tags, offsets)


class HigherHRNetHeads(nn.Module):
    """The head of HigherHRNet, the baseline: heatmaps and a tag for every keypoint, no offsets.

    num_heatmaps: K keypoints; there is no person centre.
    Module names are those of the official weight files.
    """

    def __init__(
        self,
        in_channels: int,
        num_heatmaps: int,
        deconv_channels: int,
        num_deconv_blocks: int,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.num_heatmaps = num_heatmaps
        self.checkpointing = checkpointing

        num_coarse = 2 * num_heatmaps  # heatmaps and tags
        predict_stride4 = nn.Conv2d(in_channels, num_coarse, 1)
        predict_stride2 = nn.Conv2d(deconv_channels, num_heatmaps, 1)
        self.final_layers = nn.ModuleList([predict_stride4, predict_stride2])

        upsample = _official_upsample(in_channels + num_coarse, deconv_channels, num_deconv_blocks)
        self.deconv_layers = nn.ModuleList([upsample])

    def forward(self, features: torch.Tensor) -> NetworkOutput:
        """Features (B, in_channels, h, w) at stride 4 -> heatmaps and tags."""
        coarse = self.final_layers[0](features)

        combined = torch.cat((features, coarse), dim=1)
        upsampled = checkpointed(self.deconv_layers[0], combined, enabled=self.checkpointing)
        fine_heatmaps = self.final_layers[1](upsampled)

        coarse_heatmaps = coarse[:, : self.num_heatmaps]
        tags = coarse[:, self.num_heatmaps :]
        return NetworkOutput((coarse_heatmaps, fine_heatmaps), tags, ())


class EmbeddingHead(nn.Module):
    """One head of Double Embedding.

    Bottlenecks, a 1x1 convolution to `num_coarse` maps at stride 4; these and the features go
    through an `UpsampleBlock`, and a 1x1 convolution gives `num_fine` maps at stride 2. With
    `num_fine` 0 the head ends at stride 4.
    """

    def __init__(
        self,
        in_channels: int,
        num_coarse: int,
        num_fine: int,
        num_blocks: int,
        deconv_channels: int,
        num_deconv_blocks: int,
    ) -> None:
        super().__init__()
        if in_channels % EXPANSION:
            raise ValueError(
                f"in_channels must be a multiple of {EXPANSION} for the bottlenecks of the head, "
                f"got {in_channels}"
            )
        self.blocks = bottlenecks(in_channels, in_channels // EXPANSION, num_blocks)
        self.predict_stride4 = nn.Conv2d(in_channels, num_coarse, 1)
        self.has_fine_maps = num_fine > 0
        if self.has_fine_maps:
            combined_channels = in_channels + num_coarse
            self.upsample = UpsampleBlock(combined_channels, deconv_channels, num_deconv_blocks)
            self.predict_stride2 = nn.Conv2d(deconv_channels, num_fine, 1)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, in_channels, h, w) -> (B, num_coarse, h, w) and, if any, (B, num_fine, 2h, 2w)."""
        features = self.blocks(features)
        coarse = self.predict_stride4(features)
        if not self.has_fine_maps:
            return (coarse,)

        combined = torch.cat((features, coarse), dim=1)
        fine = self.predict_stride2(self.upsample(combined))
        return coarse, fine


class UpsampleBlock(nn.Module):
    """Deconvolution, batch normalisation, ReLU and basic blocks.

    (B, in_channels, h, w) -> (B, out_channels, 2h, 2w).
    """

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.deconv = _deconvolution(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.blocks = basic_blocks(out_channels, num_blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn(self.deconv(x)))
        upsampled: torch.Tensor = self.blocks(x)
        return upsampled


def _official_upsample(in_channels: int, out_channels: int, num_blocks: int) -> nn.Sequential:
    """The layers of `UpsampleBlock` under the names of HigherHRNet's files (`deconv_layers.0`)."""
    deconvolution = nn.Sequential(
        _deconvolution(in_channels, out_channels),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
    blocks = [nn.Sequential(BasicBlock(out_channels)) for _ in range(num_blocks)]
    return nn.Sequential(deconvolution, *blocks)


def _deconvolution(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """4x4 with stride 2: doubles the resolution (HigherHRNet)."""
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
