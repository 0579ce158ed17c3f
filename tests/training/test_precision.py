"""Mixed precision at a tiny size on the CPU: loss scales, skipped steps, fp32 losses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.tiny_train import TinyData, Trick, folder_of, train_here
from torch import nn

from duopose.config import load_config
from duopose.datasets.loader import collate
from duopose.datasets.transforms import normalise
from duopose.errors import UserError
from duopose.losses import build_criterion
from duopose.network import build_network
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.training.optim import build_optimizer
from duopose.training.precision import (
    DYNAMIC_START,
    GROWTH_INTERVAL,
    SMALL_STATIC_SCALE,
    Precision,
)
from duopose.training.step import TrainingStep

CPU = torch.device("cpu")


def one_step(precision: Precision, gradient: float) -> nn.Linear:
    """A step of a one-weight layer whose true gradient is `gradient`."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, fused=True)
    precision.backward((layer.weight * gradient).sum())
    precision.step(optimizer, layer)
    return layer


def test_dynamic_scale_halves_at_an_overflow_and_the_step_is_skipped() -> None:
    precision = Precision(CPU, torch.float16, static_scale=None)
    assert one_step(precision, float("inf")).weight.item() == 0.0
    assert precision.read() == {"loss_scale": DYNAMIC_START / 2, "skipped_steps": 1.0}
    assert one_step(precision, 2.0).weight.item() == -2.0
    assert precision.read() == {"loss_scale": DYNAMIC_START / 2, "skipped_steps": 0.0}


def test_dynamic_scale_doubles_after_a_thousand_good_steps() -> None:
    precision = Precision(CPU, torch.float16, static_scale=None)
    for _ in range(GROWTH_INTERVAL):
        one_step(precision, 1.0)
    assert precision.read()["loss_scale"] == DYNAMIC_START * 2


def test_static_scale_stays() -> None:
    precision = Precision(CPU, torch.float16, static_scale=128.0)
    assert one_step(precision, float("nan")).weight.item() == 0.0
    assert one_step(precision, 2.0).weight.item() == -2.0
    assert precision.read() == {"loss_scale": 128.0, "skipped_steps": 1.0}


def test_gradients_that_never_fit_are_a_user_error() -> None:
    precision = Precision(CPU, torch.float16, static_scale=None)
    for _ in range(40):
        one_step(precision, float("inf"))
    with pytest.raises(UserError, match=r"FP16\.DTYPE bf16"):
        precision.read()


@pytest.mark.parametrize("scale", [None, 64.0])
def test_clipping_sees_the_unscaled_gradient(scale: float | None) -> None:
    for dtype in (torch.float16, None):
        precision = Precision(CPU, dtype, scale, clip_norm=0.5)
        assert one_step(precision, 4.0).weight.item() == pytest.approx(-0.5, rel=1e-4)


def test_settings() -> None:
    dynamic = Precision.from_config(
        load_config(None, ["FP16.ENABLED", True, "FP16.DYNAMIC_LOSS_SCALE", True]), CPU
    )
    static = Precision.from_config(
        load_config(None, ["FP16.ENABLED", True, "FP16.STATIC_LOSS_SCALE", 8.0]), CPU
    )
    bf16 = Precision.from_config(
        load_config(None, ["FP16.ENABLED", True, "FP16.DTYPE", "bf16"]), CPU
    )
    assert (
        dynamic.read()["loss_scale"] == 2**16
        and static.read()["loss_scale"] == 8.0
        and bf16.read() == {}
    )
    assert Precision.from_config(load_config(None), CPU).read() == {}


TINY_NETWORK = [
    "MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 8,
    "MODEL.DECONV_BLOCKS", 1, "MODEL.HEAD_BLOCKS", 1,
]  # fmt: skip
# Losses are means over cells: those of two 64 x 64 images, times this, have the gradients of the
# batch that users train with, 12 images of 512 x 512.
WEIGHT_OF_A_LARGE_BATCH = 2 * 64**2 / (12 * 512**2)


def parameters_without_gradient(*settings: object) -> int:
    """Of a small network, after the first backward pass in fp16."""
    cfg = load_config(None, [*TINY_NETWORK, "FP16.ENABLED", True, *settings])
    torch.manual_seed(0)
    network = build_network(cfg, COCO)
    precision = Precision.from_config(cfg, CPU)
    optimizer = build_optimizer(cfg, network)
    parts = (normalise, build_targets(cfg, COCO), build_criterion(cfg, COCO))
    step = TrainingStep(network, network, *parts, optimizer, precision)

    images = TinyData(Trick())
    batch = collate([images[(0, index)] for index in range(2)])
    step.forward_backward(batch, WEIGHT_OF_A_LARGE_BATCH, "the test")
    precision.scaler.unscale_(optimizer)
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    return sum(not gradient.any() for gradient in gradients if gradient is not None)


def test_fp16_by_itself_gives_every_parameter_a_gradient() -> None:
    assert parameters_without_gradient() == 0
    assert parameters_without_gradient("FP16.DYNAMIC_LOSS_SCALE", True) == 0


def test_a_small_static_scale_loses_gradients_and_gives_a_notice() -> None:
    small = ["FP16.STATIC_LOSS_SCALE", 1.0]
    assert parameters_without_gradient(*small) > 100
    assert parameters_without_gradient("FP16.STATIC_LOSS_SCALE", SMALL_STATIC_SCALE) == 0

    def notice(*settings: object) -> str:
        return Precision.from_config(load_config(None, settings), CPU).scale_notice()

    on = ("FP16.ENABLED", True)
    assert "FP16.STATIC_LOSS_SCALE 1 " in notice(*on, *small)
    assert notice(*on, "FP16.DYNAMIC_LOSS_SCALE", False)
    assert not notice(*small) and not notice(*on, "FP16.DTYPE", "bf16", *small)
    assert not notice(*on) and not notice(*on, *small, "FP16.DYNAMIC_LOSS_SCALE", True)
    assert not notice(*on, "FP16.STATIC_LOSS_SCALE", SMALL_STATIC_SCALE)


def test_another_kind_of_scale_starts_anew_after_a_resume() -> None:
    """A dynamic scale that began at a static one of 1 would need 16 000 steps to be of use."""
    static = Precision(CPU, torch.float16, static_scale=1.0)
    one_step(static, 1.0)
    dynamic = Precision(CPU, torch.float16, static_scale=None)
    dynamic.load_state_dict(static.state_dict())
    one_step(dynamic, 1.0)
    assert dynamic.read()["loss_scale"] == DYNAMIC_START

    one_step(dynamic, float("inf"))
    again = Precision(CPU, torch.float16, static_scale=None)
    again.load_state_dict(dynamic.state_dict())
    assert again.read()["loss_scale"] == DYNAMIC_START / 2


@pytest.mark.parametrize("settings", [[], ["TRAIN.NESTEROV", True], ["TRAIN.FUSED", False]])
def test_a_first_step_that_overflows_leaves_no_trace_in_the_momentum(
    settings: list[object],
) -> None:
    """Deterministic algorithms fill new memory with NaN, so that its use shows."""
    layer = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(layer.weight)
    sgd = ["TRAIN.OPTIMIZER", "sgd", "TRAIN.LR", 1.0, "TRAIN.MOMENTUM", 0.5]
    optimizer = build_optimizer(load_config(None, [*sgd, *settings]), layer)
    precision = Precision(CPU, torch.float16, static_scale=None)
    torch.use_deterministic_algorithms(True)
    try:
        for gradient in (float("inf"), 1.0, 1.0):
            precision.backward((layer.weight * gradient).sum())
            precision.step(optimizer, layer)
    finally:
        torch.use_deterministic_algorithms(False)
    expected = -(1.5 + 1.75) if "TRAIN.NESTEROV" in settings else -(1 + 1.5)
    assert layer.weight.flatten().tolist() == [expected] * 4


@pytest.mark.parametrize(
    "settings",
    [["FP16.DYNAMIC_LOSS_SCALE", True], ["FP16.STATIC_LOSS_SCALE", 128.0], ["FP16.DTYPE", "bf16"]],
    ids=["dynamic", "static", "bf16"],
)
def test_a_run_learns_in_mixed_precision(tmp_path: Path, settings: list[object]) -> None:
    assert (
        train_here(
            tmp_path, "FP16.ENABLED", True, "TRAIN.LR", 0.02, "TRAIN.LR_STEP", [9], *settings
        )
        == 0
    )
    rows = [line.split(",") for line in folder_of(tmp_path).metrics_csv.read_text().splitlines()]
    losses = [float(row[4]) for row in rows if row[3] == "loss"]
    assert losses[-1] < 0.9 * losses[0]
    scales = {float(row[4]) for row in rows if row[3] == "loss_scale"}
    assert scales == (
        {128.0}
        if "FP16.STATIC_LOSS_SCALE" in settings
        else set()
        if "bf16" in settings
        else {65536.0}
    )
