"""HRNet: parallel branches of stride 4, 8, 16 and 32 with repeated multi-scale fusion.

Source: Sun, Xiao, Liu, Wang, "Deep High-Resolution Representation Learning for Human Pose
Estimation", CVPR 2019; the published code. Module names are HRNet's own, so that its ImageNet
weight files load.

    stem (stride 4) -> layer1 -> stage2 (2 branches) -> stage3 (3) -> stage4 (4) -> stride-4 branch
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import interpolate

from duopose.network.blocks import EXPANSION, basic_blocks, bottlenecks, checkpointed, conv_bn
from duopose.network.pose_net import Backbone


class HRNet(Backbone):
    """The HRNet backbone; its features are the stride-4 branch.

    width: channels of the stride-4 branch (32, 48); the others have 2, 4 and 8 times as many.
    modules: number of `HighResolutionModule`s in stages 2, 3 and 4.
    num_blocks: residual blocks per branch and module, and in layer1.
    upsample: "nearest" or "bilinear", see `HighResolutionModule`.
    checkpointing: recompute activations in the backward pass.
    """

    def __init__(
        self,
        width: int,
        modules: Sequence[int] = (1, 4, 3),
        num_blocks: int = 4,
        stem_channels: int = 64,
        upsample: str = "nearest",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = width
        self.checkpointing = checkpointing
        channels = [width, 2 * width, 4 * width, 8 * width]

        self.conv1 = nn.Conv2d(3, stem_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.conv2 = nn.Conv2d(stem_channels, stem_channels, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = bottlenecks(stem_channels, stem_channels, num_blocks)

        self.transition1 = _first_branches(stem_channels * EXPANSION, channels[:2])
        self.stage2 = _stage(channels[:2], modules[0], num_blocks, upsample)
        self.transition2 = _new_branch(channels[:3])
        self.stage3 = _stage(channels[:3], modules[1], num_blocks, upsample)
        self.transition3 = _new_branch(channels)
        self.stage4 = _stage(channels, modules[2], num_blocks, upsample, last_num_out=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (B, 3, H, W) -> features (B, width, H/4, W/4)."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = checkpointed(self.layer1, x, enabled=self.checkpointing)

        maps = [transition(x) for transition in self.transition1]
        maps = self._run_stage(self.stage2, maps)

        new_branch = self.transition2[-1](maps[-1])
        maps = self._run_stage(self.stage3, [*maps, new_branch])

        new_branch = self.transition3[-1](maps[-1])
        maps = self._run_stage(self.stage4, [*maps, new_branch])
        return maps[0]

    def _run_stage(self, stage: nn.ModuleList, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        for module in stage:
            maps = checkpointed(module, maps, enabled=self.checkpointing)
        return maps


class HighResolutionModule(nn.Module):
    """Residual blocks in each branch, then fusion: each branch gets the sum of all branches.

    channels: of the branches, finest first.
    num_out: how many branches, finest first, are returned. The last module of the network returns
        one: the fuse layers of the others would be parameters without a gradient.
    upsample: "nearest" (HRNet, HigherHRNet) or "bilinear" (public Double Embedding code).
    """

    def __init__(
        self, channels: Sequence[int], num_blocks: int, num_out: int, upsample: str
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.branches = nn.ModuleList(basic_blocks(c, num_blocks) for c in channels)
        self.relu = nn.ReLU(inplace=True)

        self.fuse_layers = nn.ModuleList()
        for target in range(num_out):
            layers = [_fuse_layer(channels, source, target) for source in range(len(channels))]
            self.fuse_layers.append(nn.ModuleList(layers))

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps of all branches, finest first -> fused maps of the first `num_out` branches."""
        maps = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]

        fused = []
        for target, layers in enumerate(self.fuse_layers):
            total = self._fuse(target, list(layers.children()), maps)
            fused.append(self.relu(total))
        return fused

    def _fuse(
        self, target: int, layers: Sequence[nn.Module], maps: list[torch.Tensor]
    ) -> torch.Tensor:
        """The sum of all branches at the resolution of branch `target`."""
        total = maps[target]

        coarser = [layers[source](maps[source]) for source in range(target + 1, len(maps))]
        if coarser:
            sum_upsampled = _sum_nearest if self.upsample == "nearest" else _sum_bilinear
            total = total + sum_upsampled(coarser)

        for source in range(target):
            total = total + layers[source](maps[source])
        return total


def _sum_nearest(maps: list[torch.Tensor]) -> torch.Tensor:
    """The sum of maps of 1/2, 1/4, ... of a resolution, upsampled to it by nearest neighbour.

    Nearest upsampling and addition commute, so each map is added to the next finer one after one
    doubling: one addition and one upsampling at full resolution instead of up to three.
    """
    total = interpolate(maps[-1], scale_factor=2.0, mode="nearest")
    for finer in reversed(maps[:-1]):
        total = interpolate(finer + total, scale_factor=2.0, mode="nearest")
    return total


def _sum_bilinear(maps: list[torch.Tensor]) -> torch.Tensor:
    """The sum of maps of 1/2, 1/4, ... of a resolution, upsampled to it bilinearly."""
    total = interpolate(maps[0], scale_factor=2.0, mode="bilinear", align_corners=False)
    for step, coarser in enumerate(maps[1:], start=2):
        factor = 2.0**step
        total = total + interpolate(
            coarser, scale_factor=factor, mode="bilinear", align_corners=False
        )
    return total


def _fuse_layer(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """Layers from one branch to another; upsampling itself is done in the sum."""
    if source == target:
        return nn.Identity()

    source_channels = channels[source]
    target_channels = channels[target]
    if source > target:
        return conv_bn(source_channels, target_channels, kernel=1, relu=False)

    steps = [
        conv_bn(source_channels, source_channels, stride=2) for _ in range(target - source - 1)
    ]
    last = conv_bn(source_channels, target_channels, stride=2, relu=False)
    return nn.Sequential(*steps, last)


def _first_branches(in_channels: int, channels: Sequence[int]) -> nn.ModuleList:
    """The transition from layer1 to the branches of stride 4 and 8."""
    stride4 = conv_bn(in_channels, channels[0])
    stride8 = nn.Sequential(conv_bn(in_channels, channels[1], stride=2))
    return nn.ModuleList([stride4, stride8])


def _new_branch(channels: Sequence[int]) -> nn.ModuleList:
    """The transition to one more branch, made from the coarsest one; the others do not change."""
    unchanged = [nn.Identity() for _ in channels[:-1]]
    new = nn.Sequential(conv_bn(channels[-2], channels[-1], stride=2))
    return nn.ModuleList([*unchanged, new])


def _stage(
    channels: Sequence[int],
    num_modules: int,
    num_blocks: int,
    upsample: str,
    last_num_out: int | None = None,
) -> nn.ModuleList:
    """`num_modules` modules; the last returns `last_num_out` branches (default: all)."""
    num_branches = len(channels)
    num_outs = [num_branches] * (num_modules - 1) + [last_num_out or num_branches]
    return nn.ModuleList(
        HighResolutionModule(channels, num_blocks, num_out, upsample) for num_out in num_outs
    )
