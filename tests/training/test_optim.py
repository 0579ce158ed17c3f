"""Learning rate, weight decay and averaged weights in closed form."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from duopose.config import load_config
from duopose.errors import UserError
from duopose.training.optim import (
    AveragedWeights,
    LearningRateSchedule,
    build_optimizer,
    linearly_scaled_rate,
    load_optimizer,
)
from duopose.training.precision import Precision


def test_step_schedule() -> None:
    schedule = LearningRateSchedule.from_config(load_config(None))
    assert [schedule.rate(epoch, 10) for epoch in (0, 199.99, 200, 260)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-5]
    )


def test_cosine_ends_at_the_factor() -> None:
    schedule = LearningRateSchedule.from_config(
        load_config(
            None, ["TRAIN.LR_SCHEDULE", "cosine", "TRAIN.END_EPOCH", 10, "TRAIN.LR_FACTOR", 0.01]
        )
    )
    assert [schedule.rate(epoch, 0) for epoch in (0, 5, 10, 12)] == pytest.approx(
        [1e-3, 0.505e-3, 1e-5, 1e-5]
    )


def test_warm_up_rises_by_the_step() -> None:
    schedule = LearningRateSchedule.from_config(load_config(None, ["TRAIN.WARMUP", 4]))
    assert [schedule.rate(0, step) for step in range(6)] == pytest.approx(
        [2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3]
    )


@pytest.mark.parametrize("fused", [True, False])
def test_adam_adds_the_decay_to_the_gradient_and_adamw_does_not_decay_vectors(fused: bool) -> None:
    for name, bias_moves in (("adam", True), ("sgd", True), ("adamw", False)):
        layer = nn.Linear(3, 3)
        nn.init.ones_(layer.bias)
        optimizer = build_optimizer(
            load_config(None, ["TRAIN.OPTIMIZER", name, "TRAIN.WD", 0.1, "TRAIN.FUSED", fused]),
            layer,
        )
        before = layer.weight.detach().clone()
        for parameter in layer.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        assert not torch.equal(before, layer.weight)
        assert (layer.bias.detach() != 1).all() == bias_moves


def test_sgd_has_momentum() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = build_optimizer(
        load_config(None, ["TRAIN.OPTIMIZER", "sgd", "TRAIN.LR", 1.0, "TRAIN.MOMENTUM", 0.5]), layer
    )
    for _ in range(3):
        layer.weight.grad = torch.ones(1, 1)
        optimizer.step()
    assert layer.weight.item() == pytest.approx(-(1 + 1.5 + 1.75))


def test_averaged_weights_rise_to_the_decay_and_copy_statistics() -> None:
    linear = nn.Linear(1, 1, bias=False)
    norm = nn.BatchNorm1d(1)
    network = nn.Sequential(linear, norm)
    nn.init.constant_(linear.weight, 0.0)
    averaged = AveragedWeights(network, max_decay=0.9)
    nn.init.constant_(linear.weight, 1.0)
    norm.load_state_dict(norm.state_dict() | {"running_mean": torch.tensor([3.0])})
    averaged.update(network, step=0)  # decay (1 + 0) / (10 + 0)
    state = averaged.network.state_dict()
    assert state["0.weight"].item() == pytest.approx(0.9)
    assert state["1.running_mean"].item() == 3.0
    averaged.update(network, step=10**6)
    state = averaged.network.state_dict()
    assert state["0.weight"].item() == pytest.approx(0.9 * 0.9 + 0.1)
    assert not any(parameter.requires_grad for parameter in averaged.network.parameters())


def test_linear_scaling() -> None:
    assert math.isclose(linearly_scaled_rate(1e-3, 96, 24), 2.5e-4)


def steps_of(layer: nn.Conv2d, optimizer: torch.optim.Optimizer, seed: int) -> torch.Tensor:
    """The weights after three steps with random gradients in the layout of the weights."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        layer.weight.grad = torch.empty_like(layer.weight).copy_(
            torch.randn(layer.weight.shape, generator=generator)
        )
        optimizer.step()
    return layer.weight.detach().clone(memory_format=torch.contiguous_format)


def convolution(layout: torch.memory_format) -> nn.Conv2d:
    torch.manual_seed(0)
    convolution = nn.Conv2d(32, 16, 3, bias=False)
    return convolution.to(memory_format=layout)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("saved_in", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("resumed_in", [torch.contiguous_format, torch.channels_last])
def test_the_layout_in_memory_changes_nothing_also_over_a_resume(
    name: str, saved_in: torch.memory_format, resumed_in: torch.memory_format
) -> None:
    """The fused kernels pair values by address: with another layout they mix up weights."""
    settings = ["TRAIN.OPTIMIZER", name, "TRAIN.WD", 0.1, "TRAIN.LR", 0.1]
    plain = convolution(torch.contiguous_format)
    expected = build_optimizer(load_config(None, [*settings, "TRAIN.FUSED", False]), plain)
    before, after = convolution(saved_in), convolution(resumed_in)
    first, second = (
        build_optimizer(load_config(None, settings), layer) for layer in (before, after)
    )
    torch.testing.assert_close(
        steps_of(before, first, seed=1), steps_of(plain, expected, seed=1), rtol=0, atol=1e-6
    )
    after.load_state_dict(before.state_dict())
    load_optimizer(second, first.state_dict())
    torch.testing.assert_close(
        steps_of(after, second, seed=2), steps_of(plain, expected, seed=2), rtol=0, atol=1e-6
    )


def test_moments_of_another_shape_are_refused() -> None:
    """The fused kernels would read and write beyond their end."""
    network = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["exp_avg"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"exp_avg .*\(1,\).*\(2, 3\)"):
        load_optimizer(optimizer, state)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("saved_fused", [True, False])
def test_a_run_resumes_with_the_other_kernel_under_fp16(name: str, saved_fused: bool) -> None:
    settings = ["TRAIN.OPTIMIZER", name, "TRAIN.LR", 0.1]
    layers = [nn.Linear(3, 3), nn.Linear(3, 3)]
    layers[1].load_state_dict(layers[0].state_dict())
    first, second = (
        build_optimizer(load_config(None, [*settings, "TRAIN.FUSED", fused]), layer)
        for layer, fused in zip(layers, (saved_fused, not saved_fused), strict=True)
    )
    precision = Precision(torch.device("cpu"), torch.float16, static_scale=None)

    def step(layer: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        precision.backward(layer(torch.ones(2, 3)).square().sum())
        precision.step(optimizer, layer)

    step(layers[0], first)
    layers[1].load_state_dict(layers[0].state_dict())
    load_optimizer(second, copy.deepcopy(first.state_dict()))
    for layer, optimizer in zip(layers, (first, second), strict=True):
        for _ in range(2):
            step(layer, optimizer)
    torch.testing.assert_close(layers[1].weight, layers[0].weight, rtol=0, atol=1e-6)
    assert second.param_groups[0]["fused"] is not saved_fused


def test_the_settings_of_now_decide_after_a_resume() -> None:
    layer = nn.Linear(2, 2)

    def optimizer(*settings: object) -> torch.optim.Optimizer:
        return build_optimizer(load_config(None, ["TRAIN.OPTIMIZER", "adamw", *settings]), layer)

    saved, now = optimizer("TRAIN.WD", 0.1), optimizer("TRAIN.WD", 0.3, "TRAIN.LR", 0.5)
    load_optimizer(now, saved.state_dict())
    assert [group["weight_decay"] for group in now.param_groups] == [0.3, 0.0]
    assert [group["lr"] for group in now.param_groups] == [0.5, 0.5]
    with pytest.raises(UserError, match=r"TRAIN\.OPTIMIZER"):
        load_optimizer(optimizer("TRAIN.OPTIMIZER", "sgd"), saved.state_dict())
