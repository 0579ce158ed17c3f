"""Losses equal those of the public code with its factors: each function, and all together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from duopose.losses.heatmap_loss import heatmap_loss
from duopose.losses.offset_loss import whole_map_offset_loss
from duopose.losses.tag_loss import tag_losses
from duopose.types import TagTargets


@pytest.fixture
def public(golden: Path) -> dict[str, torch.Tensor]:
    with np.load(golden / "losses" / "public_de_losses.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


def tag_cells(packed: torch.Tensor, height: int, width: int) -> TagTargets:
    """Targets from the public code's (B, P, J, 2) pairs: packed index (any channel) and flag."""
    images, people, joints, _ = packed.shape
    cells = torch.zeros(images, people, joints, dtype=torch.int64)
    valid = torch.zeros(images, people, joints, dtype=torch.bool)
    for image, person, slot in packed[..., 1].nonzero().tolist():
        channel, cell = divmod(int(packed[image, person, slot, 0]), height * width)
        assert not valid[image, person, channel]
        cells[image, person, channel], valid[image, person, channel] = cell, True
    return TagTargets(cells, valid)


@pytest.mark.parametrize(("output", "level"), [("out2", 0), ("out3", 1)])
def test_heatmap_loss(public: dict[str, torch.Tensor], output: str, level: int) -> None:
    weight = torch.ones(18)
    weight[-1] = 5
    loss = heatmap_loss(
        public[output][:, :18], public[f"hm{level}"], public[f"mask{level}"], weight
    )
    np.testing.assert_allclose(loss.numpy(), public[f"loss_heatmap{level}"].numpy(), rtol=1e-5)


@pytest.mark.parametrize("level", [0, 1])
def test_offset_loss_over_the_whole_map(public: dict[str, torch.Tensor], level: int) -> None:
    loss = 2 * whole_map_offset_loss(
        public[f"out{level}"], public[f"off{level}"], public[f"mask{level}"], beta=1.0
    )
    np.testing.assert_allclose(loss.mean().item(), public[f"loss_offset{level}"].item(), rtol=1e-5)


def test_tag_losses(public: dict[str, torch.Tensor]) -> None:
    targets = tag_cells(public["joints0"], 32, 32)
    push, pull = tag_losses(public["out2"][:, 18:], targets, "exp")
    np.testing.assert_allclose(0.001 * push.numpy(), public["loss_push"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(0.001 * pull.numpy(), public["loss_pull"].numpy(), rtol=1e-5)
