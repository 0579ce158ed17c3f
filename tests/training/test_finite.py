"""NaN and infinity: never saved, never resumed, and a streak of skipped steps ends a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.tiny_train import folder_of, train_here
from torch import nn

from duopose.errors import NotFiniteError, UserError
from duopose.training import loop
from duopose.training.checkpoint import previous_path, read_checkpoint
from duopose.training.finite import first_not_finite
from duopose.training.precision import MAX_STREAK, Precision
from duopose.training.setup import Scores, TrainingRun


def break_weights_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """After the update of `step`, counted from 1, a weight is NaN: no loss shows it yet."""
    train_step = loop.train_step

    def step_and_break(run: TrainingRun, batches: Any) -> None:
        train_step(run, batches)
        if run.state.position.step == step:
            next(run.state.network.parameters()).data[0, 0, 0, 0] = float("nan")

    monkeypatch.setattr(loop, "train_step", step_and_break)


def test_the_first_tensor_that_is_not_finite_is_named() -> None:
    tensors = {"count": torch.tensor(3), "a": torch.ones(2, 2), "b": torch.ones(3)}
    assert first_not_finite(tensors) == ""
    tensors["b"][1] = float("inf")
    assert first_not_finite(tensors) == "b"
    assert first_not_finite({"count": torch.tensor(3)}) == ""


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint before them is kept, and the run can go on from it."""
    break_weights_at(monkeypatch, 4)
    settings = ["TRAIN.CHECKPOINT_EVERY", 2]
    with pytest.raises(UserError, match=r"stem\.0\.weight .*step 4; .*TRAIN\.LR"):
        train_here(tmp_path, *settings)
    monkeypatch.undo()
    content = read_checkpoint(folder_of(tmp_path).checkpoint).content
    assert content["position"]["step"] == 2 and not first_not_finite(content["network"])
    assert train_here(tmp_path, *settings, "AUTO_RESUME", True) == 0


def test_a_checkpoint_that_is_not_finite_is_not_resumed(tmp_path: Path) -> None:
    """Those of earlier versions may be so; the one before is used, with a notice."""
    train_here(tmp_path, "TRAIN.END_EPOCH", 1)
    path = folder_of(tmp_path).checkpoint
    content = read_checkpoint(path).content
    previous_path(path).write_bytes(path.read_bytes())
    content["network"]["stem.0.weight"][0] = float("nan")
    torch.save(content, path)
    loaded = read_checkpoint(path)
    assert loaded.path == previous_path(path) and "stem.0.weight" in loaded.notices[0]


def test_a_validation_that_is_not_finite_is_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on, and the validation is not due again."""
    build_run = train_here.__globals__["tiny_components"]

    def not_finite_first(*arguments: Any, **options: Any) -> Any:
        components = build_run(*arguments, **options)
        calls: list[nn.Module] = []

        def validate(network: nn.Module) -> Scores | None:
            calls.append(network)
            if len(calls) == 1:
                raise NotFiniteError("image id 17: the network's tags hold NaN")
            return Scores(0.5, {"AP": 0.5})

        object.__setattr__(components, "validate", validate)
        return components

    monkeypatch.setitem(train_here.__globals__, "tiny_components", not_finite_first)
    assert train_here(tmp_path) == 0
    folder = folder_of(tmp_path)
    assert "epoch 1 is not scored: image id 17" in folder.train_log.read_text()
    rows = [line.split(",") for line in folder.metrics_csv.read_text().splitlines()]
    assert [row[0] for row in rows if row[2] == "val"] == ["10"]
    assert read_checkpoint(folder.checkpoint).content["best"] == {"score": 0.5, "epoch": 2}


def test_a_streak_of_skipped_steps_ends_the_run() -> None:
    """A static scale with which every gradient overflows; one good step begins a new streak."""
    network = nn.Linear(1, 1)
    precision = Precision(torch.device("cpu"), torch.float16, 1.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def steps(count: int, factor: float) -> None:
        for _ in range(count):
            precision.backward((network.weight * factor).sum())
            precision.step(optimizer, network)

    before = network.weight.detach().clone()
    steps(MAX_STREAK - 1, float("inf"))
    assert precision.read()["skipped_steps"] == MAX_STREAK - 1
    assert torch.equal(network.weight, before)
    steps(1, 1.0)
    steps(MAX_STREAK - 1, float("inf"))
    precision.read()
    steps(1, float("inf"))
    with pytest.raises(UserError, match=r"bf16"):
        precision.read()
