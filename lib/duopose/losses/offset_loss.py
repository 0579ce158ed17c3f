"""Smooth L1 of the offset maps, in the windows around the joints or over the whole map."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from duopose.types import OffsetTargets


def window_offset_loss(
    prediction: torch.Tensor, targets: OffsetTargets, unit: float, beta: float
) -> torch.Tensor:
    """Mean smooth L1 over the window cells, y and x, per image: (B,). 0 without any window.

    prediction: (B, C, h, w) in units of `unit` input pixels. beta: error at which smooth L1
    becomes linear, in the same unit. With w_n the weight of a window cell (`OffsetTargets`):

        loss = sum_n w_n (smooth_l1(y_n) + smooth_l1(x_n)) / (2 sum_n w_n)
    """
    batch_size = prediction.shape[0]
    predicted = _read_offsets(prediction, targets)
    error = F.smooth_l1_loss(predicted, targets.offset / unit, reduction="none", beta=beta)

    weight = targets.weight.to(error.dtype)
    weighted_error = weight * error.sum(dim=1)
    error_sum = error.new_zeros(batch_size).index_add(0, targets.image, weighted_error)
    weight_sum = error.new_zeros(batch_size).index_add(0, targets.image, weight)
    return error_sum / (2 * weight_sum).clamp(min=1)


def whole_map_offset_loss(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """Mean smooth L1 over all channels and cells, masked, per image: (B,).

    This is the loss of the public Double Embedding code, kept for comparison.
    prediction, target: (B, C, h, w) in one unit; the target is 0 outside the windows.
    mask: (B, h, w).
    """
    error = F.smooth_l1_loss(prediction, target, reduction="none", beta=beta)
    return (error * mask.unsqueeze(1)).mean(dim=(1, 2, 3))


def dense_offsets(targets: OffsetTargets, shape: torch.Size) -> torch.Tensor:
    """The targets as maps of that shape (B, C, h, w), in input pixels; 0 outside the windows.

    Edge e has y in channel 2e and x in channel 2e + 1.
    """
    batch_size, channels, height, width = shape
    maps = targets.offset.new_zeros(batch_size, channels // 2, 2, height * width)
    maps[targets.image, targets.edge, :, targets.cell] = targets.offset
    return maps.view(shape)


def _read_offsets(maps: torch.Tensor, targets: OffsetTargets) -> torch.Tensor:
    """(N, 2) y, x of the maps (B, C, h, w) at the window cells."""
    _, channels, height, width = maps.shape
    num_edges = channels // 2

    # One row per (image, cell, edge). This copies nothing where the maps are channels-last.
    rows = maps.permute(0, 2, 3, 1).reshape(-1, 2)
    image_and_cell = targets.image * (height * width) + targets.cell
    return rows.index_select(0, image_and_cell * num_edges + targets.edge)
