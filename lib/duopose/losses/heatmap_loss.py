"""Squared error of heatmaps, where the mask allows it."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def heatmap_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    channel_weight: torch.Tensor,
    foreground_weight: float = 0.0,
) -> torch.Tensor:
    """Per image the mean over channels and cells of weight * (prediction - target)^2: (B,).

    prediction, target: (B, J, h, w); mask: (B, h, w), 0 where the loss must not look, else 1; channel_weight: (J,).
    A cell's weight is mask * channel_weight * (1 + foreground_weight * target). The mean counts masked cells too, as in
    HigherHRNet, so that an image that is half masked counts half.
    """
    result: torch.Tensor = _WeightedSquaredError.apply(
        prediction, target, mask, channel_weight.to(prediction.dtype), foreground_weight
    )
    return result


class _WeightedSquaredError(torch.autograd.Function):
    """By hand, because these are the largest tensors of the loss: one temporary of their size instead of four."""

    @staticmethod
    def forward(
        ctx: Any,
        prediction: torch.Tensor,
        target: torch.Tensor,
        mask: torch.Tensor,
        channel_weight: torch.Tensor,
        foreground: float,
    ) -> torch.Tensor:
        residual = (prediction - target).mul_(mask.unsqueeze(1))
        root = torch.sqrt(1 + foreground * target) if foreground else None
        if root is not None:
            residual.mul_(root)
        cells = residual.shape[1] * residual.shape[2] * residual.shape[3]
        ctx.save_for_backward(residual, root, channel_weight / cells)
        return torch.linalg.vector_norm(residual, dim=(2, 3)).square() @ (channel_weight / cells)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        residual, root, share = ctx.saved_tensors
        factor = 2 * gradients[0].unsqueeze(1) * share
        gradient = residual * factor[:, :, None, None]
        return gradient if root is None else gradient.mul_(root), None, None, None, None
