"""Everything a run must remember to go on as if it had not been interrupted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from duopose.distributed.context import DistributedContext
from duopose.network import translate_state_dict
from duopose.runtime import get_rng_states, set_rng_states
from duopose.training.meter import Meter
from duopose.training.optim import AveragedWeights, load_optimizer
from duopose.training.precision import Precision


@dataclass
class Position:
    """How far the run is. The learning rate follows from it, so the schedule needs no state of its own."""

    epoch: int = 0
    seen: int = 0  # images of this epoch that all ranks together have used
    step: int = 0  # updates since the start of the run
    validation_due: bool = False  # the epoch before this one has ended and waits for its validation


@dataclass
class Best:
    """The best validation so far."""

    score: float = -1.0  # AP, or the benchmark's own main number
    epoch: int = -1


@dataclass
class TrainState:
    """The live objects of a run; `content` and `restore` are each other's inverse."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision
    averaged: AveragedWeights | None
    position: Position = field(default_factory=Position)
    best: Best = field(default_factory=Best)
    meter: Meter = field(default_factory=Meter)

    @property
    def result(self) -> nn.Module:
        """The network to validate and to give to users: the averaged one where there is one."""
        return self.averaged.network if self.averaged else self.network

    def content(self, context: DistributedContext) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint. All ranks must call it: each has random states of its own."""
        own = {"random": get_rng_states(), "meter": self.meter.state_dict()}
        return {
            "position": asdict(self.position),
            "best": asdict(self.best),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "averaged": self.averaged.network.state_dict() if self.averaged else None,
            "ranks": context.all_gather_object(own),
        }

    @staticmethod
    def _load_weights(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
        """Weights of a checkpoint; older checkpoints have other names for the same tensors."""
        network.load_state_dict(translate_state_dict(state, network))

    def restore(self, content: dict[str, Any], context: DistributedContext) -> None:
        """Take over a checkpoint's content. With more ranks than it was written by, the new ones keep the streams they have."""
        self.position, self.best = Position(**content["position"]), Best(**content["best"])
        self._load_weights(self.network, content["network"])
        load_optimizer(self.optimizer, content["optimizer"])
        self.precision.load_state_dict(content["precision"])
        if self.averaged is not None:
            self._load_weights(self.averaged.network, content["averaged"] or content["network"])
        if context.rank < len(content["ranks"]):
            own = content["ranks"][context.rank]
            set_rng_states(own["random"])
            self.meter.load_state_dict(own["meter"])
