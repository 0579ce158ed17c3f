"""The dry run: what it prints, and that it writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.tiny_train import Trick, train_here
from torch import nn

from duopose.training import batch_search
from duopose.training.batch_search import (
    LargestBatch,
    largest_on_cpu,
    power_of_two,
    saved_bytes,
    state_bytes,
)


def test_it_prints_what_is_needed_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(tmp_path, "TRAIN.TOTAL_BATCH", 24, "WORKERS", 1, dry_run=True) == 0
    output = capsys.readouterr().out
    for fragment in ("step: ", "loader: ", "memory: ", "TRAIN.ACCUMULATE 12"):
        assert output.count(fragment) == 1
    assert not list(tmp_path.iterdir())


def test_a_batch_that_does_not_fit_is_reported_before_it_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_search, "free_bytes", lambda: 3_000_000)
    assert (
        train_here(tmp_path, "TRAIN.IMAGES_PER_GPU", 64, dry_run=True, trick=Trick(batch_norm=0))
        == 0
    )
    output = capsys.readouterr().out
    assert "MODEL.CHECKPOINT_ACTIVATIONS" in output and "step: " not in output


def test_bytes_kept_for_the_backward_pass_are_counted_once() -> None:
    x = torch.rand(1000, requires_grad=True)
    assert saved_bytes(lambda: torch.sum(x.exp() * 2)) == 4000  # exp keeps its result
    assert saved_bytes(lambda: torch.sum(x * x)) == 4000  # x twice, one storage


def test_largest_batch_is_in_proportion_to_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_search, "free_bytes", lambda: 10_000)
    assert largest_on_cpu(100, fixed_bytes=200) == LargestBatch(72, 100, 10_000, was_run=False)
    assert largest_on_cpu(100, fixed_bytes=20_000).batch_size == 0
    assert [power_of_two(batch) for batch in (0, 1, 5, 64)] == [0, 1, 4, 64]


def test_state_is_weights_gradients_and_moments() -> None:
    assert state_bytes(nn.Linear(10, 10, bias=False).parameters(), extra_copies=2) == 100 * 4 * 4
