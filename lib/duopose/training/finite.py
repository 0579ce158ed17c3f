"""Weights that are not finite are never saved, and a training does not go on from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from duopose.errors import UserError
from duopose.training.optim import AveragedWeights

ADVICE = (
    "The training has diverged: lower TRAIN.LR, or set TRAIN.CLIP_GRAD_NORM or TRAIN.WARMUP, and "
    "under fp16 FP16.DTYPE bf16; with --resume-anyway a run goes on with other settings"
)


def first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str:
    """The name of the first tensor that holds NaN or infinity, '' where there is none.

    Waits for the device once.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return ""
    flags = torch.stack([torch.isfinite(tensor).all() for tensor in floating.values()])
    for name, is_finite in zip(floating, flags.tolist(), strict=True):
        if not is_finite:
            return name
    return ""


def check_finite(
    network: nn.Module, averaged: AveragedWeights | None, position: str, checkpoint: Path
) -> None:
    """UserError where a weight or a running statistic is NaN or infinite."""
    networks: Iterable[nn.Module] = [network, averaged.network] if averaged else [network]
    for one in networks:
        name = first_not_finite(one.state_dict())
        if name:
            raise UserError(
                f"{name} is not finite at {position}; nothing is saved, and {checkpoint} is that "
                f"of an earlier step. {ADVICE}"
            )
