"""Squared error of heatmaps, weighted by a mask, the channel and the target."""

from __future__ import annotations

import torch


def heatmap_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    channel_weight: torch.Tensor,
    foreground_weight: float = 0.0,
) -> torch.Tensor:
    """Mean over channels and cells of weight * (prediction - target)^2, per image: (B,).

    prediction, target: (B, J, h, w). mask: (B, h, w), 0 where the loss ignores the image, else 1.
    channel_weight: (J,). The weight of a cell is

        mask * channel_weight * (1 + foreground_weight * target)

    The mean counts masked cells too, as in HigherHRNet: a half masked image counts half.
    """
    weight = mask.unsqueeze(1) * channel_weight[:, None, None]
    if foreground_weight:
        weight = weight * (1 + foreground_weight * target)

    error = (prediction - target).square()
    return (weight * error).mean(dim=(1, 2, 3))
