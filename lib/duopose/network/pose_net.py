"""The whole networks: the backbone with the heads of Double Embedding, and HigherHRNet as the baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from duopose.network.heads import EmbeddingHead, higher_hrnet_upsample
from duopose.network.hrnet import HRNet
from duopose.types import NetworkOutput


@dataclass(frozen=True)
class Sizes:
    """How large a network is; the names and defaults of the settings are MODEL.* in docs/settings.md."""

    width: int = 32
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    stem_channels: int = 64
    deconv_channels: int = 32
    deconv_blocks: int = 4
    head_blocks: int = 3
    upsample: str = "bilinear"


class DoubleEmbeddingNet(HRNet):
    """Double Embedding: a global head (heatmaps and tags) and a local one (offsets) that share nothing but the features.

    num_heatmaps: keypoints and the centre. num_offsets: channels of the skeleton's offset layout.
    """

    def __init__(
        self, sizes: Sizes, num_heatmaps: int, num_offsets: int, recompute: bool = False
    ) -> None:
        super().__init__(
            sizes.width, sizes.modules, sizes.blocks, sizes.stem_channels, sizes.upsample, recompute
        )
        self.num_heatmaps = num_heatmaps
        rest = (sizes.head_blocks, sizes.deconv_channels, sizes.deconv_blocks)
        self.global_head = EmbeddingHead(sizes.width, 2 * num_heatmaps, num_heatmaps, *rest)
        self.local_head = EmbeddingHead(sizes.width, num_offsets, num_offsets, *rest)

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        """(B, 3, H, W) normalised images, H and W multiples of 32 -> maps at strides 4 and 2."""
        features = self.features(images)
        coarse, heatmaps = self.run(self.global_head, features)
        heatmaps_and_tags = (coarse[:, : self.num_heatmaps], coarse[:, self.num_heatmaps :])
        return NetworkOutput(
            (heatmaps_and_tags[0], heatmaps),
            heatmaps_and_tags[1],
            self.run(self.local_head, features),
        )


class HigherHRNet(HRNet):
    """The baseline (Cheng et al. 2020): one head, a tag for every joint, no offsets; keys as in its official weight files."""

    def __init__(self, sizes: Sizes, num_heatmaps: int, recompute: bool = False) -> None:
        super().__init__(
            sizes.width, sizes.modules, sizes.blocks, sizes.stem_channels, sizes.upsample, recompute
        )
        self.num_heatmaps = num_heatmaps
        coarse = 2 * num_heatmaps
        self.final_layers = nn.ModuleList(
            [nn.Conv2d(sizes.width, coarse, 1), nn.Conv2d(sizes.deconv_channels, num_heatmaps, 1)]
        )
        upsample = higher_hrnet_upsample(
            sizes.width + coarse, sizes.deconv_channels, sizes.deconv_blocks
        )
        self.deconv_layers = nn.ModuleList([upsample])

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        """(B, 3, H, W) normalised images, H and W multiples of 32 -> maps at strides 4 and 2."""
        features = self.features(images)
        coarse = self.final_layers[0](features)
        upsampled = self.run(self.deconv_layers[0], torch.cat((features, coarse), dim=1))
        heatmaps = self.final_layers[1](upsampled)
        return NetworkOutput(
            (coarse[:, : self.num_heatmaps], heatmaps), coarse[:, self.num_heatmaps :], ()
        )
