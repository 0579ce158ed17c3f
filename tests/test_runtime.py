"""A run on the CPU of a machine with CUDA leaves CUDA alone; tests too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tests.training.tiny_train import folder_of, train_here

from duopose.errors import UserError
from duopose.profiling.measure import measure
from duopose.runtime import get_rng_states, set_rng_states
from duopose.training.checkpoint import read_checkpoint


@pytest.fixture
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says that there is CUDA; whatever opens a context fails."""

    def fail(*_: object) -> None:
        raise AssertionError("a CUDA context was opened")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for module in (torch.cuda, torch.cuda.random):
        monkeypatch.setattr(module, "_lazy_init", fail)


@pytest.mark.usefixtures("pretended_cuda")
def test_a_run_on_the_cpu_opens_no_cuda_context(tmp_path: Path) -> None:
    assert train_here(tmp_path, "TRAIN.END_EPOCH", 1) == 0
    ranks = read_checkpoint(folder_of(tmp_path).checkpoint).content["ranks"]
    assert ranks[0]["random"]["cuda"] is None
    assert train_here(tmp_path, "AUTO_RESUME", True) == 0


@pytest.mark.usefixtures("pretended_cuda")
def test_a_checkpoint_of_a_gpu_resumes_on_the_cpu() -> None:
    states = get_rng_states() | {"cuda": torch.zeros(16, dtype=torch.uint8)}
    expected = torch.rand(3)
    set_rng_states(states)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("pretended_cuda")
def test_measuring_on_the_cpu_opens_no_cuda_context() -> None:
    assert measure({"nothing": lambda: None}, 1).keys() == {"nothing"}


def test_the_tests_see_no_gpu(tmp_path: Path) -> None:
    """Else DEVICE auto would pick one in some, and forks of others would die."""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and not torch.cuda.is_available()
    with pytest.raises(UserError, match="DEVICE"):  # the tests' trainings use the DEVICE given
        train_here(tmp_path, "DEVICE", "cuda")
