"""Offsets read in their windows, and over the whole map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from duopose.losses.offset_loss import dense_offsets, whole_map_offset_loss, window_offset_loss
from duopose.types import OffsetTargets

SHAPE = torch.Size([3, 4, 3, 5])  # two edges


def example() -> tuple[torch.Tensor, OffsetTargets]:
    """Predictions, and targets at some cells of the first two images; the third has none."""
    generator = torch.Generator().manual_seed(0)
    taken = torch.rand(2, 2, 15, generator=generator) < 0.4
    image, edge, cell = taken.nonzero(as_tuple=True)
    value = 20 * torch.randn(len(cell), 2, generator=generator, dtype=torch.float64)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64), OffsetTargets(
        image, edge, cell, value
    )


def test_closed_form() -> None:
    prediction, targets = example()
    inside = dense_offsets(targets._replace(value=torch.ones_like(targets.value)), SHAPE)
    error = (
        F.smooth_l1_loss(prediction, dense_offsets(targets, SHAPE) / 16, reduction="none", beta=0.5)
        * inside
    )
    expected = error.sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp(min=1)
    torch.testing.assert_close(window_offset_loss(prediction, targets, unit=16, beta=0.5), expected)
    assert expected[2] == 0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_in_either_memory_layout(memory_format: torch.memory_format) -> None:
    prediction, targets = example()
    maps = prediction.contiguous(memory_format=memory_format).requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: window_offset_loss(maps, targets, 16, 0.5), maps)
    window_offset_loss(maps, targets, 16, 0.5).sum().backward()
    assert maps.grad.stride() == maps.stride()


def test_no_window_at_all_costs_nothing() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    maps = torch.randn(SHAPE, requires_grad=True)
    loss = window_offset_loss(
        maps, OffsetTargets(nothing, nothing, nothing, torch.zeros(0, 2)), 64, 0.1
    )
    loss.sum().backward()
    assert loss.tolist() == [0, 0, 0] and (maps.grad == 0).all()


def test_dense_offsets_lie_in_the_layout_s_channels() -> None:
    one = torch.tensor([1])
    maps = dense_offsets(
        OffsetTargets(one, one, torch.tensor([7]), torch.tensor([[3.0, -4.0]])), SHAPE
    )
    assert maps[1, 2, 1, 2] == 3 and maps[1, 3, 1, 2] == -4 and maps.abs().sum() == 7


def test_the_whole_map_way_counts_the_background_and_the_mask() -> None:
    prediction, target, mask = (
        torch.ones(1, 2, 2, 2),
        torch.zeros(1, 2, 2, 2),
        torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]),
    )
    assert whole_map_offset_loss(prediction, target, mask, beta=1.0).item() == pytest.approx(
        0.5 * 6 / 8
    )
