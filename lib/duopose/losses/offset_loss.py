"""Smooth L1 of the offset maps, in the joints' windows only or over the whole map."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from duopose.types import OffsetTargets


def window_offset_loss(
    prediction: torch.Tensor, targets: OffsetTargets, unit: float, beta: float
) -> torch.Tensor:
    """Per image the mean smooth L1 over its window cells, y and x: (B,); 0 for an image without windows.

    prediction: (B, C, h, w) in units of `unit` input pixels; beta: where smooth L1 turns linear, in that unit.
    """
    index = _index_in_memory(prediction, targets)
    result: torch.Tensor = _WindowSmoothL1.apply(
        prediction, index, targets.image, targets.value, unit, beta
    )
    return result


def whole_map_offset_loss(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """The public code's way, for comparison: per image the mean smooth L1 over all channels and cells, masked: (B,).

    prediction, target: (B, C, h, w) in one unit, the target 0 outside the windows; mask: (B, h, w).
    """
    error = F.smooth_l1_loss(prediction, target, reduction="none", beta=beta)
    return (error * mask.unsqueeze(1)).mean(dim=(1, 2, 3))


def dense_offsets(targets: OffsetTargets, shape: torch.Size) -> torch.Tensor:
    """The targets as maps of that shape (B, C, h, w) in input pixels, y in channel 2e, x in 2e + 1; 0 where no window is."""
    images, channels, height, width = shape
    maps = targets.value.new_zeros(images, channels // 2, 2, height * width)
    maps[targets.image, targets.edge, :, targets.cell] = targets.value
    return maps.view(shape)


def _is_channels_last(maps: torch.Tensor) -> bool:
    return maps.stride(1) == 1


def _index_in_memory(maps: torch.Tensor, targets: OffsetTargets) -> torch.Tensor:
    """(2 N,) int64, all y before all x: where in the memory of (B, C, h, w) maps the targets' values are."""
    _, channels, height, width = maps.shape
    if _is_channels_last(maps):
        y, to_x = (
            (targets.image * (height * width) + targets.cell) * channels + 2 * targets.edge,
            1,
        )
    else:
        y, to_x = (
            (targets.image * channels + 2 * targets.edge) * (height * width) + targets.cell,
            height * width,
        )
    return torch.cat([y, y + to_x])


class _WindowSmoothL1(torch.autograd.Function):
    """By hand, because autograd would sum gradients where a cell is read twice, which none is; here it is a plain write.

    With d the error and g = clamp(d / beta, -1, 1) the smooth L1 is g (d - beta g / 2), and g is its derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        index: torch.Tensor,
        image: torch.Tensor,
        value: torch.Tensor,
        unit: float,
        beta: float,
    ) -> torch.Tensor:
        ctx.shape, ctx.channels_last = maps.shape, _is_channels_last(maps)
        flat = (maps.permute(0, 2, 3, 1) if ctx.channels_last else maps).reshape(-1)
        error = flat.index_select(0, index).view(2, -1).sub_(value.T, alpha=1 / unit)
        slope = (error / beta).clamp_(-1, 1)
        per_cell = error.sub_(slope, alpha=beta / 2).mul_(slope).sum(dim=0)
        borders = torch.searchsorted(image, torch.arange(ctx.shape[0] + 1, device=image.device))
        share = 1 / (2 * borders.diff()).clamp(min=1).to(error.dtype)
        ctx.save_for_backward(index, image, slope, share)
        return error.new_zeros(ctx.shape[0]).index_add_(0, image, per_cell) * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        index, image, slope, share = ctx.saved_tensors
        flat = torch.zeros(ctx.shape.numel(), dtype=slope.dtype, device=slope.device)
        flat.scatter_(0, index, (slope * (gradients[0] * share).index_select(0, image)).view(-1))
        if not ctx.channels_last:
            return flat.view(ctx.shape), None, None, None, None, None
        images, channels, height, width = ctx.shape
        return (
            flat.view(images, height, width, channels).permute(0, 3, 1, 2),
            None,
            None,
            None,
            None,
            None,
        )
