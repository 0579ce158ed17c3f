"""Paths of the shared real data, and skipping (saying so) where a clone has none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"


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
