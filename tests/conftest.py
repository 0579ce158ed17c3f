"""Paths of the shared real data, and skipping (saying so) where a clone has none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.devices.pretended_cuda import HostWaits, pretended_cuda

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs, unless `-m gpu` asks for the tests that need one.

    The other tests have DEVICE auto in places, compare bits, and fork; a process that has opened a
    CUDA context cannot fork into one that uses CUDA. Their subprocesses inherit the variable.
    """
    marks = str(config.getoption("markexpr"))
    if "gpu" not in marks or "not gpu" in marks:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(
            f"{folder} is absent: this test needs real data that is not part of the repository"
        )
    return folder


@pytest.fixture
def golden() -> Path:
    """The folder of golden vectors."""
    return _shared("golden")


@pytest.fixture
def real_data() -> Path:
    """The folder of real images and annotations."""
    return _shared("data")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small tensors are fastest on one thread, and the order of sums stays fixed."""
    torch.set_num_threads(1)


@pytest.fixture
def host_waits() -> Iterator[HostWaits]:
    """Inside the test cuda:0 is a pretended device; counts how often the host waits for it."""
    with pretended_cuda() as waits:
        yield waits
