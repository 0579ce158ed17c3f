"""Optimizer, learning rate and averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from duopose.errors import UserError
from duopose.training.adam import Adam, AdamW

Groups = list[dict[str, object]]


def build_optimizer(cfg: CfgNode, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of TRAIN.OPTIMIZER over the parameters that ask for gradients.

    TRAIN.WD: adam and sgd add it to every parameter's gradient (the family's L2); adamw decays weights of convolutions only.
    """
    if cfg.TRAIN.OPTIMIZER not in OPTIMIZERS:
        raise UserError(
            f"TRAIN.OPTIMIZER: '{cfg.TRAIN.OPTIMIZER}' is unknown; use one of {', '.join(OPTIMIZERS)}"
        )
    groups = parameter_groups(network, cfg.TRAIN.WD, spare_vectors=cfg.TRAIN.OPTIMIZER == "adamw")
    return OPTIMIZERS[cfg.TRAIN.OPTIMIZER](cfg, groups)


def parameter_groups(network: nn.Module, decay: float, spare_vectors: bool) -> Groups:
    """All parameters with `decay`, or, with `spare_vectors`, biases and normalisation (1-D parameters) without."""
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not spare_vectors:
        return [{"params": wanted, "weight_decay": decay}]
    return [
        {"params": [p for p in wanted if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in wanted if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _adam(cfg: CfgNode, groups: Groups) -> torch.optim.Optimizer:
    return Adam(groups, lr=cfg.TRAIN.LR, fused=cfg.TRAIN.FUSED)


def _adamw(cfg: CfgNode, groups: Groups) -> torch.optim.Optimizer:
    return AdamW(groups, lr=cfg.TRAIN.LR, fused=cfg.TRAIN.FUSED)


def _sgd(cfg: CfgNode, groups: Groups) -> torch.optim.Optimizer:
    momentum, nesterov = cfg.TRAIN.MOMENTUM, cfg.TRAIN.NESTEROV
    return torch.optim.SGD(
        groups, lr=cfg.TRAIN.LR, momentum=momentum, nesterov=nesterov, fused=cfg.TRAIN.FUSED
    )


OPTIMIZERS: dict[str, Callable[[CfgNode, Groups], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over `optimizer.state_dict()` of a run whose memory layout (MODEL.CHANNELS_LAST) may have been another.

    torch keeps the layout that the state was saved in, and the fused CPU kernels pair values by their place in memory.
    """
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if (
                isinstance(value, torch.Tensor)
                and value.shape == parameter.shape
                and value.stride() != parameter.stride()
            ):
                kept[name] = torch.empty_like(
                    parameter, dtype=value.dtype, requires_grad=False
                ).copy_(value)


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the place in the run, so that there is no state to save."""

    base: float
    kind: str  # step | cosine
    milestones: tuple[int, ...]  # epochs, for step
    factor: float
    end_epoch: int
    warmup: int  # steps

    @staticmethod
    def of(cfg: CfgNode) -> Schedule:
        """The schedule that TRAIN.* describes."""
        train = cfg.TRAIN
        return Schedule(
            train.LR,
            train.LR_SCHEDULE,
            tuple(train.LR_STEP),
            train.LR_FACTOR,
            train.END_EPOCH,
            train.WARMUP,
        )

    def rate(self, progress: float, step: int) -> float:
        """The rate of the step number `step` (from 0), `progress` epochs (with fraction) after the start."""
        if self.kind == "cosine":
            done = min(progress / max(self.end_epoch, 1), 1.0)
            rate = self.base * (
                self.factor + (1 - self.factor) * (1 + math.cos(math.pi * done)) / 2
            )
        else:
            rate = self.base * self.factor ** sum(
                progress >= milestone for milestone in self.milestones
            )
        return rate * min((step + 1) / self.warmup, 1.0) if self.warmup else rate

    def apply(self, optimizer: torch.optim.Optimizer, progress: float, step: int) -> float:
        """Set the rate of every parameter group, and return it."""
        rate = self.rate(progress, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate


class AveragedWeights:
    """An exponential moving average of the weights (EMA), which is what is validated and saved where it is on.

    The decay rises as (1 + n) / (10 + n) up to `decay`, so that short runs do not keep their random beginnings.
    Running statistics of batch normalisation are averages already and are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            _values(self.network.parameters()), _values(network.parameters()), 1 - decay
        )
        if buffers := _values(self.network.buffers()):
            torch._foreach_copy_(buffers, _values(network.buffers()))


def _values(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in tensors]


def linearly_scaled_rate(rate: float, recipe_batch: int, batch: int) -> float:
    """The learning rate for another total batch (Goyal et al. 2017: in proportion)."""
    return rate * batch / recipe_batch
