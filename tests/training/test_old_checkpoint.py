"""A checkpoint written before networks were composed of backbone and heads restores a run."""

from __future__ import annotations

import torch
from torch import nn

from duopose.config import load_config
from duopose.distributed.context import DistributedContext
from duopose.network import build_network
from duopose.skeletons import COCO
from duopose.training.checkpoint import TrainState
from duopose.training.optim import AveragedWeights, build_optimizer
from duopose.training.precision import Precision

CPU = torch.device("cpu")
CONTEXT = DistributedContext(CPU)
TINY = [
    "MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 4,
    "MODEL.HEAD_BLOCKS", 0, "MODEL.DECONV_BLOCKS", 1, "TRAIN.OPTIMIZER", "adamw",
]  # fmt: skip


def train_state(seed: int) -> TrainState:
    cfg = load_config(None, [str(word) for word in TINY])
    torch.manual_seed(seed)
    network = build_network(cfg, COCO)
    optimizer = build_optimizer(cfg, network)
    precision = Precision.from_config(cfg, CPU)
    return TrainState(network, optimizer, precision, AveragedWeights(network, 0.9))


def take_step(state: TrainState) -> None:
    output = state.network(torch.rand(2, 3, 64, 64))
    total = sum(maps.square().mean() for maps in (*output.heatmaps, output.tags, *output.offsets))
    total.backward()
    state.optimizer.step()
    assert state.averaged is not None
    state.averaged.update(state.network, step=0)


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.split(".", 1)[1]: tensor for name, tensor in state.items()}


def assert_same_tensors(a: nn.Module, b: nn.Module) -> None:
    others = b.state_dict()
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, others[name]), name


def test_old_names_in_a_checkpoint() -> None:
    saved = train_state(seed=1)
    take_step(saved)
    content = saved.checkpoint_content(CONTEXT)
    content["network"] = old_names(content["network"])
    content["averaged"] = old_names(content["averaged"])
    assert "conv1.weight" in content["network"]
    assert "local_head.predict_stride2.bias" in content["averaged"]

    restored = train_state(seed=2)
    restored.restore(content, CONTEXT)
    assert_same_tensors(restored.network, saved.network)
    assert restored.averaged is not None and saved.averaged is not None
    assert_same_tensors(restored.averaged.network, saved.averaged.network)

    # the optimizer's state is by index, so the order of parameters must not change
    pairs = zip(saved.network.named_parameters(), restored.network.parameters(), strict=True)
    for (name, parameter), other in pairs:
        moment = saved.optimizer.state[parameter]["exp_avg"]
        assert torch.equal(moment, restored.optimizer.state[other]["exp_avg"]), name
