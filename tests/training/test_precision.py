"""Mixed precision at a tiny size on the CPU: loss scales, skipped steps, fp32 losses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.tiny_train import folder_of, train_here
from torch import nn

from duopose.config import load_config
from duopose.errors import UserError
from duopose.training.precision import DYNAMIC_START, GROWTH_INTERVAL, Precision

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
