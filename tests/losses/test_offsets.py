"""Offsets read in their windows, and over the whole map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from duopose.losses.offset_loss import dense_offsets, whole_map_offset_loss, window_offset_loss
from duopose.types import OffsetTargets

SHAPE = torch.Size([3, 4, 3, 5])  # two edges
UNIT = 16
BETA = 0.5


def example() -> tuple[torch.Tensor, OffsetTargets]:
    """Predictions, and targets at some cells of the first two images; the third has none."""
    generator = torch.Generator().manual_seed(0)
    is_supervised = torch.rand(2, 2, 15, generator=generator) < 0.4
    image, edge, cell = is_supervised.nonzero(as_tuple=True)
    offset = 20 * torch.randn(len(cell), 2, generator=generator, dtype=torch.float64)
    weight = torch.ones(len(cell), dtype=torch.float64)

    prediction = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return prediction, OffsetTargets(image, edge, cell, offset, weight)


def test_closed_form() -> None:
    prediction, targets = example()
    loss = window_offset_loss(prediction, targets, UNIT, BETA)

    ones = targets._replace(offset=torch.ones_like(targets.offset))
    inside = dense_offsets(ones, SHAPE)
    dense = dense_offsets(targets, SHAPE) / UNIT
    error = F.smooth_l1_loss(prediction, dense, reduction="none", beta=BETA) * inside
    expected = error.sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp(min=1)
    torch.testing.assert_close(loss, expected)
    assert expected[2] == 0


def test_a_cell_stored_twice_with_half_the_weight_counts_once() -> None:
    prediction, targets = example()
    twice = OffsetTargets(*(torch.cat([field, field]) for field in targets))
    halved = twice._replace(weight=twice.weight / 2)
    torch.testing.assert_close(
        window_offset_loss(prediction, halved, UNIT, BETA),
        window_offset_loss(prediction, targets, UNIT, BETA),
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_in_either_memory_layout(memory_format: torch.memory_format) -> None:
    prediction, targets = example()
    maps = prediction.contiguous(memory_format=memory_format).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: window_offset_loss(x, targets, UNIT, BETA), maps)


def test_no_window_at_all_costs_nothing() -> None:
    index = torch.zeros(0, dtype=torch.int64)
    nothing = OffsetTargets(index, index, index, torch.zeros(0, 2), torch.zeros(0))
    maps = torch.randn(SHAPE, requires_grad=True)
    loss = window_offset_loss(maps, nothing, 64, 0.1)
    loss.sum().backward()
    assert loss.tolist() == [0, 0, 0]
    assert maps.grad is not None and (maps.grad == 0).all()


def test_dense_offsets_lie_in_the_channels_of_the_layout() -> None:
    one = torch.tensor([1])
    offset = torch.tensor([[3.0, -4.0]])
    targets = OffsetTargets(one, one, torch.tensor([7]), offset, torch.ones(1))
    maps = dense_offsets(targets, SHAPE)
    assert maps[1, 2, 1, 2] == 3
    assert maps[1, 3, 1, 2] == -4
    assert maps.abs().sum() == 7


def test_the_whole_map_counts_the_background_and_the_mask() -> None:
    prediction = torch.ones(1, 2, 2, 2)
    target = torch.zeros(1, 2, 2, 2)
    mask = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    loss = whole_map_offset_loss(prediction, target, mask, beta=1.0)
    assert loss.item() == pytest.approx(0.5 * 6 / 8)
