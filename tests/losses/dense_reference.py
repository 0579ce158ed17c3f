"""The training loss written over dense maps: an independent reference for the tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from duopose.losses.offset_loss import dense_offsets
from duopose.losses.tag_loss import tag_losses
from duopose.types import NetworkOutput, OffsetTargets, Targets


def dense_loss(cfg: CfgNode, output: NetworkOutput, targets: Targets) -> torch.Tensor:
    """The total loss of Double Embedding, offsets supervised in their windows."""
    weight = torch.ones(output.tags.shape[1])
    weight[-1] = cfg.LOSS.CENTER_WEIGHT

    total = torch.zeros(())
    for level, factor in enumerate(cfg.LOSS.HEATMAPS_LOSS_FACTOR):
        error = (output.heatmaps[level] - targets.heatmaps[level]) ** 2
        masked = error * targets.masks[level][:, None] * weight[None, :, None, None]
        total = total + factor * masked.mean()

    push, pull = tag_losses(output.tags, targets.tags, cfg.LOSS.AE_LOSS_TYPE)
    total = total + cfg.LOSS.PUSH_LOSS_FACTOR * push.mean()
    total = total + cfg.LOSS.PULL_LOSS_FACTOR * pull.mean()

    for level, factor in enumerate(cfg.LOSS.OFFSETS_LOSS_FACTOR):
        total = total + factor * _window_loss(cfg, output.offsets[level], targets.offsets[level])
    return total


def _window_loss(cfg: CfgNode, maps: torch.Tensor, targets: OffsetTargets) -> torch.Tensor:
    target = dense_offsets(targets, maps.shape) / cfg.MODEL.OFFSET_UNIT
    ones = targets._replace(offset=torch.ones_like(targets.offset))
    inside = dense_offsets(ones, maps.shape)

    beta = cfg.LOSS.OFFSETS_BETA
    error = F.smooth_l1_loss(maps, target, reduction="none", beta=beta) * inside
    count = inside.sum(dim=(1, 2, 3)).clamp(min=1)
    return (error.sum(dim=(1, 2, 3)) / count).mean()
