"""The loss as one writes it first, over dense maps by plain autograd: the measure of what ours saves, and a check of its numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from duopose.losses.criterion import Loss
from duopose.losses.offset_loss import dense_offsets
from duopose.losses.tag_loss import tag_losses
from duopose.types import NetworkOutput, OffsetTargets, Targets


def plain_loss(loss: Loss, output: NetworkOutput, targets: Targets) -> torch.Tensor:
    """The total of `loss` for offsets supervised in their windows, from dense targets and weights."""
    weight = loss.channel_weight.to(output.tags.device)
    total = torch.zeros((), device=output.tags.device)
    for factor, maps, target, mask in zip(
        loss.heatmap_factors, output.heatmaps, targets.heatmaps, targets.masks
    ):
        error = (maps - target) ** 2 * mask[:, None] * weight[None, :, None, None]
        total = total + factor * error.mean()
    push, pull = tag_losses(output.tags, targets.tags, loss.push_type)
    total = total + (loss.push_factor * push + loss.pull_factor * pull).mean()
    for factor, maps, offsets in zip(loss.offset_factors, output.offsets, targets.offsets):
        total = total + factor * _dense_window_loss(
            maps, offsets, loss.offset_unit, loss.offset_beta
        )
    return total


def _dense_window_loss(
    maps: torch.Tensor, targets: OffsetTargets, unit: float, beta: float
) -> torch.Tensor:
    target = dense_offsets(targets, maps.shape) / unit
    inside = dense_offsets(targets._replace(value=torch.ones_like(targets.value)), maps.shape)
    error = F.smooth_l1_loss(maps, target, reduction="none", beta=beta) * inside
    return (error.sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp(min=1)).mean()
