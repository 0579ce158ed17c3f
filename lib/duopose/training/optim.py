"""Optimizer, learning rate schedule and averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from duopose.errors import UserError

ADAM_STATE = {"step", "exp_avg", "exp_avg_sq"}  # of each parameter, in torch
OPTIMIZERS = ("adam", "adamw", "sgd")  # values of TRAIN.OPTIMIZER


def build_optimizer(cfg: CfgNode, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of TRAIN.OPTIMIZER over all parameters that require gradients.

    TRAIN.WD: adam and sgd add it to the gradient of every parameter (L2, as in HigherHRNet); adamw
    decays the weights of convolutions only.
    """
    train = cfg.TRAIN
    no_decay_for_vectors = train.OPTIMIZER == "adamw"
    groups = parameter_groups(network, train.WD, no_decay_for_vectors)

    if train.OPTIMIZER == "adam":
        return torch.optim.Adam(groups, lr=train.LR, fused=train.FUSED)
    if train.OPTIMIZER == "adamw":
        return torch.optim.AdamW(groups, lr=train.LR, fused=train.FUSED)
    if train.OPTIMIZER == "sgd":
        sgd = torch.optim.SGD(
            groups,
            lr=train.LR,
            momentum=train.MOMENTUM,
            nesterov=train.NESTEROV,
            fused=train.FUSED,
        )
        fill_momentum(sgd)
        return sgd
    raise UserError(
        f"TRAIN.OPTIMIZER: '{train.OPTIMIZER}' is unknown; use one of {', '.join(OPTIMIZERS)}"
    )


def parameter_groups(
    network: nn.Module, decay: float, no_decay_for_vectors: bool
) -> list[dict[str, Any]]:
    """All parameters with weight decay; or without it for 1-D ones (biases, normalisation)."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not no_decay_for_vectors:
        return [{"params": parameters, "weight_decay": decay}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def fill_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give parameters without momentum one of 0, where the optimizer is SGD with momentum.

    torch's fused SGD makes the buffers in the first step, without filling them, and leaves them so
    where the gradients of that step overflow fp16. From 0 the first step gives the same bits as
    without a buffer: momentum * 0 + gradient.
    """
    for group in optimizer.param_groups:
        if group.get("momentum"):
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the moments of `optimizer.state_dict()`; all else stays as the settings of now say.

    The other run may have another TRAIN.FUSED, MODEL.CHANNELS_LAST, TRAIN.WD and so on. torch alone
    would take over the saved values of these options, and a fused optimizer that becomes another
    one by it fails under fp16.

    torch keeps the memory layout of the saved state, and the fused CPU kernels pair values by their
    address; so the state must get the layout of the parameters. UserError where the state is of
    another kind of optimizer.
    """
    saved_groups = state["param_groups"]
    own_groups = optimizer.state_dict()["param_groups"]
    if not saved_groups or _kind(saved_groups) != _kind(own_groups):
        raise UserError(
            "TRAIN.OPTIMIZER: the checkpoint was written with another optimizer, whose moments "
            f"{type(optimizer).__name__} cannot use; set it as it was, or start anew from the "
            "weights with MODEL.PRETRAINED model_best.pth"
        )
    _check_moments(optimizer, state)
    groups = [
        own | {"params": saved["params"]}
        for own, saved in zip(own_groups, saved_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
    fill_momentum(optimizer)

    for parameter, parameter_state in optimizer.state.items():
        for name, value in parameter_state.items():
            is_moment = isinstance(value, torch.Tensor) and value.shape == parameter.shape
            if is_moment and value.stride() != parameter.stride():
                moment = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
                parameter_state[name] = moment.copy_(value)


def _check_moments(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """UserError where parameters, moments or shapes are not those of the optimizer.

    The fused kernels would read and write beyond the end of a moment.
    """
    groups = [group["params"] for group in optimizer.param_groups]
    saved_groups = [group["params"] for group in state["param_groups"]]
    if [len(group) for group in groups] != [len(group) for group in saved_groups]:
        raise UserError(
            f"the checkpoint's optimizer has {sum(map(len, saved_groups))} parameters in "
            f"{len(saved_groups)} groups, this network {sum(map(len, groups))} in {len(groups)}; "
            "set TRAIN.OPTIMIZER and the MODEL settings as they were"
        )

    indices = [index for group in saved_groups for index in group]
    parameters = [parameter for group in groups for parameter in group]
    by_index = {
        index: parameter
        for index, parameter in zip(indices, parameters, strict=True)
        if isinstance(index, int)
    }
    is_adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    required: set[str] = ADAM_STATE if is_adam else set()
    for index, moments in state["state"].items():
        parameter = by_index.get(index)
        missing = required - set(moments)
        problem = f"{', '.join(sorted(missing))} is missing" if missing else ""
        if parameter is None:
            problem = "there is no such parameter"
        elif not missing:
            problem = _misfit(moments, parameter)
        if problem:
            raise UserError(
                f"the moments of parameter {str(index)[:20]} in the checkpoint's optimizer do not "
                f"fit: {problem}; the checkpoint is damaged, or of another network or "
                "TRAIN.OPTIMIZER. Begin from weights with MODEL.PRETRAINED"
            )


def _misfit(moments: dict[str, Any], parameter: torch.Tensor) -> str:
    """Which moment has not the parameter's shape, '' where all have; `step` is one number."""
    for name, value in moments.items():
        if name == "step" and isinstance(value, int | float):
            continue
        if value is None and name == "momentum_buffer":
            continue
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return f"{str(name)[:20]} is no tensor of real numbers"
        shape = () if name == "step" else tuple(parameter.shape)
        if tuple(value.shape) != shape:
            return f"{str(name)[:20]} has the shape {tuple(value.shape)}, not {shape}"
    return ""


def _kind(groups: list[dict[str, Any]]) -> tuple[bool, int]:
    """What distinguishes adam, adamw and sgd: their moments, and adamw's two groups."""
    return "betas" in groups[0], len(groups)


@dataclass(frozen=True)
class LearningRateSchedule:
    """The learning rate as a function of the position in the run, without a state of its own."""

    base_rate: float
    kind: str  # "step" | "cosine"
    milestones: tuple[int, ...]  # epochs, for "step"
    factor: float  # per milestone; for "cosine" the last rate as a fraction of the first
    end_epoch: float
    warmup_steps: int

    @staticmethod
    def from_config(cfg: CfgNode, end_epoch: float | None = None) -> LearningRateSchedule:
        """The schedule that TRAIN.* describes.

        end_epoch: end of the run in epochs, where it is not TRAIN.END_EPOCH.
        """
        return LearningRateSchedule(
            base_rate=cfg.TRAIN.LR,
            kind=cfg.TRAIN.LR_SCHEDULE,
            milestones=tuple(cfg.TRAIN.LR_STEP),
            factor=cfg.TRAIN.LR_FACTOR,
            end_epoch=cfg.TRAIN.END_EPOCH if end_epoch is None else end_epoch,
            warmup_steps=cfg.TRAIN.WARMUP,
        )

    def rate(self, progress: float, step: int) -> float:
        """The learning rate of step number `step` (from 0), `progress` epochs after the start."""
        if self.kind == "cosine":
            fraction_done = min(progress / max(self.end_epoch, 1), 1.0)
            cosine = (1 + math.cos(math.pi * fraction_done)) / 2
            rate = self.base_rate * (self.factor + (1 - self.factor) * cosine)
        else:
            passed = sum(progress >= milestone for milestone in self.milestones)
            rate = self.base_rate * self.factor**passed

        if self.warmup_steps:
            rate *= min((step + 1) / self.warmup_steps, 1.0)
        return rate

    def apply(self, optimizer: torch.optim.Optimizer, progress: float, step: int) -> float:
        """Set the rate of every parameter group, and return it."""
        rate = self.rate(progress, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate


class AveragedWeights:
    """Exponential moving average of the weights (EMA), which is validated and saved.

    average = decay * average + (1 - decay) * weights, where decay rises as (1 + n) / (10 + n) with
    the step n up to its limit (as in TensorFlow's ExponentialMovingAverage), so that short runs
    forget their random initialisation. Buffers, such as the running statistics of batch
    normalisation, are copied.

    Why not torch.optim.swa_utils.AveragedModel: it reads its step counter from the device at each
    update, and it ignores the decay at the first one.
    """

    def __init__(self, network: nn.Module, max_decay: float) -> None:
        self.max_decay = max_decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Average in the weights after step number `step` (from 0)."""
        decay = min(self.max_decay, (1 + step) / (10 + step))
        averages = _detached(self.network.parameters())
        torch._foreach_lerp_(averages, _detached(network.parameters()), 1 - decay)

        sources = _lists_by_dtype(network.buffers())
        for dtype, buffers in _lists_by_dtype(self.network.buffers()).items():
            torch._foreach_copy_(buffers, sources[dtype])


def _detached(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in tensors]


def _lists_by_dtype(tensors: Iterable[torch.Tensor]) -> dict[torch.dtype, list[torch.Tensor]]:
    """The tensors by type: a list of several types would be copied tensor by tensor on a GPU."""
    lists: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        lists.setdefault(tensor.dtype, []).append(tensor.detach())
    return lists


def linearly_scaled_rate(rate: float, recipe_batch_size: int, batch_size: int) -> float:
    """The learning rate for another total batch size, in proportion (Goyal et al. 2017)."""
    return rate * batch_size / recipe_batch_size
