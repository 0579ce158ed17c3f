"""The dry run: what it says, and that it writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_train import Trick, train_here
from torch import nn

from duopose.training import batch_size as fit
from duopose.training.batch_size import Fit, largest_on_cpu, power_of_two, saved_bytes, state_bytes


def test_it_says_what_is_needed_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(tmp_path, "TRAIN.TOTAL_BATCH", 24, "WORKERS", 1, dry_run=True) == 0
    said = capsys.readouterr().out
    for part in (
        "step: ",
        "images/s",
        "loader: ",
        "waiting for data",
        "largest batch that fits is",
        "IMAGES_PER_GPU is 2",
    ):
        assert part in said
    assert "made for 24 images a step, this run has 2" in said and "TRAIN.ACCUMULATE 12" in said
    assert not list(tmp_path.iterdir())


def test_a_batch_that_does_not_fit_is_told_before_it_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "free_bytes", lambda: 3_000_000)
    assert (
        train_here(tmp_path, "TRAIN.IMAGES_PER_GPU", 64, dry_run=True, trick=Trick(batch_norm=0))
        == 0
    )
    said = capsys.readouterr().out
    assert (
        "IMAGES_PER_GPU 64 does not fit" in said
        and "CHECKPOINT_ACTIVATIONS" in said
        and "step: " not in said
    )


def test_bytes_kept_for_the_backward_pass_are_counted_once() -> None:
    x = torch.rand(1000, requires_grad=True)
    assert saved_bytes(lambda: torch.sum(x.exp() * 2)) == 4000  # exp keeps its result
    assert saved_bytes(lambda: torch.sum(x * x)) == 4000  # x twice, one storage


def test_largest_batch_is_in_proportion_to_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "free_bytes", lambda: 10_000)
    assert largest_on_cpu(per_image=100, fixed=200) == Fit(72, 100, 10_000, tried=False)
    assert largest_on_cpu(per_image=100, fixed=20_000).batch == 0
    assert [power_of_two(batch) for batch in (0, 1, 5, 64)] == [0, 1, 4, 64]


def test_state_is_weights_gradients_and_moments() -> None:
    assert state_bytes(nn.Linear(10, 10, bias=False).parameters(), moments=2) == 100 * 4 * 4
