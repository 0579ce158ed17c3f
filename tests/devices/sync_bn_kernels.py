"""Plain CPU versions of the CUDA kernels that SyncBatchNorm calls, from their definitions.

Shapes: maps (B, C, h, w), statistics (C,), gathered statistics (ranks, C), counts (ranks,).
"""

from __future__ import annotations

from typing import Any

import torch

OVER_CELLS = (0, 2, 3)


def _per_channel(values: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, 1, 1)


def stats(maps: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and 1 / standard deviation per channel."""
    variance, mean = torch.var_mean(maps.float(), dim=OVER_CELLS, correction=0)
    return mean, (variance + eps).rsqrt()


def gather_stats(
    maps: torch.Tensor,
    means: torch.Tensor,
    invstds: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    momentum: float,
    eps: float,
    counts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and 1 / standard deviation of all ranks; updates the running statistics."""
    count = counts.view(-1, 1)
    total = counts.sum()
    mean = (means * count).sum(dim=0) / total
    variances = 1 / invstds.square() - eps
    squares = (variances + (means - mean).square()) * count
    variance = squares.sum(dim=0) / total
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * total / (total - 1), momentum)
    return mean, (variance + eps).rsqrt()


def normalised(
    maps: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    invstd: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """(maps - mean) * invstd * weight + bias."""
    scale = invstd * weight
    result = (maps.float() - _per_channel(mean)) * _per_channel(scale) + _per_channel(bias)
    return result.to(maps.dtype)


def backward_sums(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    mean: torch.Tensor,
    invstd: torch.Tensor,
    weight: torch.Tensor,
    *_needed: bool,
) -> tuple[torch.Tensor, ...]:
    """Sums of gradient and of gradient * (maps - mean); gradients of weight and bias."""
    gradient = gradient.float()
    sum_dy = gradient.sum(dim=OVER_CELLS)
    sum_dy_xmu = (gradient * (maps.float() - _per_channel(mean))).sum(dim=OVER_CELLS)
    return sum_dy, sum_dy_xmu, sum_dy_xmu * invstd, sum_dy.clone()


def input_gradient(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    mean: torch.Tensor,
    invstd: torch.Tensor,
    weight: torch.Tensor,
    sum_dy: torch.Tensor,
    sum_dy_xmu: torch.Tensor,
    counts: torch.Tensor,
) -> torch.Tensor:
    """Gradient of the maps, from the sums over all ranks."""
    total = counts.sum()
    centred = maps.float() - _per_channel(mean)
    projected = centred * _per_channel(sum_dy_xmu / total * invstd.square())
    result = gradient.float() - _per_channel(sum_dy / total) - projected
    return (result * _per_channel(invstd * weight)).to(maps.dtype)


aten = torch.ops.aten
KERNELS: dict[Any, Any] = {
    aten.batch_norm_stats: stats,
    aten.batch_norm_gather_stats_with_counts: gather_stats,
    aten.batch_norm_elemt: normalised,
    aten.batch_norm_backward_reduce: backward_sums,
    aten.batch_norm_backward_elemt: input_gradient,
}
