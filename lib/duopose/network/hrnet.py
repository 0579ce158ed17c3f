"""HRNet (Sun et al. 2019, Wang et al. 2020): branches of stride 4, 8, 16 and 32 side by side, exchanging what they know.

Module names are HRNet's own, so that its ImageNet weight files load key for key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from duopose.network.activation_checkpointing import checkpointed
from duopose.network.blocks import EXPANSION, basic_blocks, bottlenecks, conv_bn

INPUT_MULTIPLE = 32  # the stride of the coarsest branch


class HighResolutionModule(nn.Module):
    """Residual blocks in each branch, then every branch gets the sum of all branches brought to its resolution.

    `channels` are those of the branches, finest first; `num_out` of them (the finest) are given back: the network's last
    module needs only one, and fuse layers that nobody reads would be parameters without a gradient.
    upsample: "nearest" (HRNet and HigherHRNet) or "bilinear" (public Double Embedding), how coarser branches are enlarged.
    """

    def __init__(self, channels: Sequence[int], blocks: int, num_out: int, upsample: str) -> None:
        super().__init__()
        self.upsample = upsample
        self.branches = nn.ModuleList(basic_blocks(c, blocks) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_layer(channels, source, target) for source in range(len(channels)))
            for target in range(num_out)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        return [
            self.relu(self._fuse(target, list(layers.children()), maps))
            for target, layers in enumerate(self.fuse_layers)
        ]

    def _fuse(
        self, target: int, layers: Sequence[nn.Module], maps: list[torch.Tensor]
    ) -> torch.Tensor:
        """The sum for one branch, at its resolution."""
        total = maps[target]
        if target + 1 < len(maps):
            coarser = [layers[source](maps[source]) for source in range(target + 1, len(maps))]
            total = total + (
                _sum_nearest(coarser) if self.upsample == "nearest" else _sum_bilinear(coarser)
            )
        for source in range(target):
            total = total + layers[source](maps[source])
        return total


def _sum_nearest(maps: list[torch.Tensor]) -> torch.Tensor:
    """Maps of 1/2, 1/4, ... of a resolution, enlarged to it by repeating cells, and added.

    Repeating cells and adding commute, so coarse maps are added to the next finer ones, one doubling at a time: the same
    sum with one addition and one enlargement at full size instead of up to three.
    """
    total = interpolate(maps[-1], scale_factor=2.0, mode="nearest")
    for finer in reversed(maps[:-1]):
        total = interpolate(finer + total, scale_factor=2.0, mode="nearest")
    return total


def _sum_bilinear(maps: list[torch.Tensor]) -> torch.Tensor:
    """Maps of 1/2, 1/4, ... of a resolution, enlarged to it bilinearly (pixel areas aligned), and added."""
    total = interpolate(maps[0], scale_factor=2.0, mode="bilinear", align_corners=False)
    for step, coarser in enumerate(maps[1:], start=2):
        total = total + interpolate(
            coarser, scale_factor=2.0**step, mode="bilinear", align_corners=False
        )
    return total


def _fuse_layer(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """What a branch goes through on its way to another; upsampling itself is done where the branches are summed."""
    if source == target:
        return nn.Identity()
    if source > target:
        return conv_bn(channels[source], channels[target], kernel=1, relu=False)
    steps = [
        conv_bn(channels[source], channels[source], stride=2) for _ in range(target - source - 1)
    ]
    return nn.Sequential(*steps, conv_bn(channels[source], channels[target], stride=2, relu=False))


class HRNet(nn.Module):
    """The backbone; `features` takes (B, 3, H, W), H and W multiples of 32, to (B, width, H/4, W/4).

    width: channels of the stride-4 branch (32, 48); the coarser ones have 2, 4, 8 times as many.
    modules: how many modules stages 2, 3 and 4 have. blocks: residual blocks per branch and module, and in layer1.
    upsample: "nearest" or "bilinear", see `HighResolutionModule`.
    recompute: keep only the modules' inputs for the backward pass and compute the rest again there.
    """

    def __init__(
        self,
        width: int,
        modules: Sequence[int],
        blocks: int,
        stem_channels: int,
        upsample: str,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        channels = [width, 2 * width, 4 * width, 8 * width]
        outside = stem_channels * EXPANSION
        self.recompute = recompute
        self.conv1 = nn.Conv2d(3, stem_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.conv2 = nn.Conv2d(stem_channels, stem_channels, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = bottlenecks(stem_channels, stem_channels, blocks)
        self.transition1 = nn.ModuleList(
            [conv_bn(outside, channels[0]), nn.Sequential(conv_bn(outside, channels[1], stride=2))]
        )
        self.stage2 = _stage(channels[:2], modules[0], blocks, upsample)
        self.transition2 = _new_branch(channels[:3])
        self.stage3 = _stage(channels[:3], modules[1], blocks, upsample)
        self.transition3 = _new_branch(channels)
        self.stage4 = _stage(channels, modules[2], blocks, upsample, last_num_out=1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised images -> the stride-4 branch (B, width, H/4, W/4); ValueError on other shapes."""
        _check_shape(images)
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.run(self.layer1, x)
        maps = [transition(x) for transition in self.transition1]
        maps = self._run_stage(self.stage2, maps)
        maps = self._run_stage(self.stage3, [*maps, self.transition2[-1](maps[-1])])
        maps = self._run_stage(self.stage4, [*maps, self.transition3[-1](maps[-1])])
        return maps[0]

    def _run_stage(self, stage: nn.ModuleList, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        for module in stage:
            maps = self.run(module, maps)
        return maps

    def run(self, module: nn.Module, *inputs: Any) -> Any:
        """Call a part of the network, keeping its activations or not as configured."""
        return (
            checkpointed(module, *inputs) if self.recompute and self.training else module(*inputs)
        )


def _stage(
    channels: Sequence[int],
    modules: int,
    blocks: int,
    upsample: str,
    last_num_out: int | None = None,
) -> nn.ModuleList:
    outs = [len(channels)] * (modules - 1) + [last_num_out or len(channels)]
    return nn.ModuleList(
        HighResolutionModule(channels, blocks, num_out, upsample) for num_out in outs
    )


def _new_branch(channels: Sequence[int]) -> nn.ModuleList:
    """The transition to a stage with one more, coarser branch, made from the so far coarsest; the others pass unchanged."""
    unchanged = [nn.Identity() for _ in channels[:-1]]
    return nn.ModuleList([*unchanged, nn.Sequential(conv_bn(channels[-2], channels[-1], stride=2))])


def _check_shape(images: torch.Tensor) -> None:
    if torch.compiler.is_compiling():  # a traced graph has its own shape rules
        return
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"the network takes images as (B, 3, H, W), got {tuple(images.shape)}")
    height, width = images.shape[-2:]
    if height % INPUT_MULTIPLE or width % INPUT_MULTIPLE or not height or not width:
        raise ValueError(
            f"the network takes sides that are multiples of {INPUT_MULTIPLE}, got height {height} and width {width}"
        )
