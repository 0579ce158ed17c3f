"""Everything that a run must save to resume exactly."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from duopose.distributed.context import DistributedContext
from duopose.network import translate_state_dict
from duopose.runtime import get_rng_states, set_rng_states
from duopose.training.log import LossMeter
from duopose.training.optim import AveragedWeights, load_optimizer
from duopose.training.precision import Precision


@dataclass
class Position:
    """How far the run is; the learning rate follows from it. The names are keys in checkpoints."""

    epoch: int = 0  # epochs that are complete
    seen: int = 0  # images of this epoch that all ranks together have used
    step: int = 0  # updates since the start of the run
    validation_due: bool = False  # the epoch before this one has not been validated yet


@dataclass
class Best:
    """The best validation so far. The names are keys in checkpoints."""

    score: float = -1.0  # AP, or the main metric of the benchmark
    epoch: int = -1


@dataclass
class TrainState:
    """The objects of a run that change; `checkpoint_content` and `restore` are inverse."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision
    averaged: AveragedWeights | None
    position: Position = field(default_factory=Position)
    best: Best = field(default_factory=Best)
    meter: LossMeter = field(default_factory=LossMeter)

    @property
    def inference_network(self) -> nn.Module:
        """The network to validate and to save: the averaged one, if there is one."""
        return self.averaged.network if self.averaged else self.network

    def checkpoint_content(self, context: DistributedContext) -> dict[str, Any]:
        """Tensors and plain values. All ranks must call it: each has its own random states."""
        own = {"random": get_rng_states(), "meter": self.meter.state_dict()}
        averaged = self.averaged.network.state_dict() if self.averaged else None
        return {
            "position": asdict(self.position),
            "best": asdict(self.best),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "averaged": averaged,
            "ranks": context.all_gather_object(own),
        }

    def restore(self, content: dict[str, Any], context: DistributedContext) -> None:
        """Load the content of a checkpoint.

        Ranks that the run did not have when it was saved keep their own random states.
        """
        self.position = Position(**content["position"])
        self.best = Best(**content["best"])
        _load_weights(self.network, content["network"])
        load_optimizer(self.optimizer, content["optimizer"])
        self.precision.load_state_dict(content["precision"])
        if self.averaged is not None:
            _load_weights(self.averaged.network, content["averaged"] or content["network"])

        if context.rank < len(content["ranks"]):
            own = content["ranks"][context.rank]
            set_rng_states(own["random"])
            self.meter.load_state_dict(own["meter"])


def _load_weights(network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load the weights of a checkpoint; older ones have other names for the same tensors."""
    network.load_state_dict(translate_state_dict(weights, network))
