"""ResNet-50 with a top-down neck, as a backbone.

ResNet: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. Module names
are torchvision's (conv1, bn1, layer1 ... layer4), so that its ImageNet file resnet50-*.pth loads.
Neck: the top-down path of a feature pyramid network (Lin et al., CVPR 2017), with C2 ... C5 the
outputs of layer1 ... layer4 (strides 4, 8, 16, 32):

    P5 = lateral5(C5),   Pk = lateral_k(Ck) + upsample2(P(k+1)),   features = conv3x3(P2)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import interpolate

from duopose.network.blocks import EXPANSION, bottlenecks, checkpointed, conv_bn
from duopose.network.pose_net import Backbone

STEM_CHANNELS = 64  # He et al. 2016, table 1
PLANES = (64, 128, 256, 512)  # of layer1 ... layer4, same table
RESNET50_BLOCKS = (3, 4, 6, 3)  # same table
NECK_CHANNELS = 256  # "d = 256", Lin et al. 2017, section 3


class ResNet(Backbone):
    """ResNet of bottlenecks and a top-down neck: (B, 3, H, W) -> (B, out_channels, H/4, W/4).

    num_blocks: bottlenecks in layer1 ... layer4; the default is ResNet-50.
    checkpointing: recompute activations in the backward pass.
    """

    def __init__(
        self,
        out_channels: int,
        num_blocks: Sequence[int] = RESNET50_BLOCKS,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.checkpointing = checkpointing

        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        channels = [planes * EXPANSION for planes in PLANES]
        self.layer1 = bottlenecks(STEM_CHANNELS, PLANES[0], num_blocks[0])
        self.layer2 = bottlenecks(channels[0], PLANES[1], num_blocks[1], stride=2)
        self.layer3 = bottlenecks(channels[1], PLANES[2], num_blocks[2], stride=2)
        self.layer4 = bottlenecks(channels[2], PLANES[3], num_blocks[3], stride=2)
        self.neck = TopDownNeck(channels, out_channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (B, 3, H, W) -> features (B, out_channels, H/4, W/4)."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.maxpool(x)

        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = checkpointed(layer, x, enabled=self.checkpointing)
            maps.append(x)

        features: torch.Tensor = checkpointed(self.neck, maps, enabled=self.checkpointing)
        return features


class TopDownNeck(nn.Module):
    """Maps of stride 4, 8, 16, ... -> one map (B, out_channels, h, w) of stride 4."""

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            conv_bn(channels, NECK_CHANNELS, kernel=1, relu=False) for channels in in_channels
        )
        self.output = conv_bn(NECK_CHANNELS, out_channels)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """`maps`: finest first, each of half the resolution of the one before."""
        laterals = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]

        total = laterals[-1]
        for finer in reversed(laterals[:-1]):
            upsampled = interpolate(total, scale_factor=2.0, mode="bilinear", align_corners=False)
            total = finer + upsampled

        features: torch.Tensor = self.output(total)
        return features
