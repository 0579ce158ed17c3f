"""Weighted squared error of heatmaps."""

from __future__ import annotations

import pytest
import torch

from duopose.losses.heatmap_loss import heatmap_loss


def example(
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(2, 3, 4, 5, generator=generator, dtype=dtype)
    target = torch.rand(2, 3, 4, 5, generator=generator, dtype=dtype)
    mask = (torch.rand(2, 4, 5, generator=generator) > 0.3).to(dtype)
    return prediction, target, mask, torch.tensor([1.0, 1.0, 5.0], dtype=dtype)


@pytest.mark.parametrize("foreground", [0.0, 3.0])
def test_closed_form(foreground: float) -> None:
    prediction, target, mask, weight = example()
    expected = (
        (prediction - target) ** 2
        * mask[:, None]
        * weight[:, None, None]
        * (1 + foreground * target)
    ).mean(dim=(1, 2, 3))
    torch.testing.assert_close(heatmap_loss(prediction, target, mask, weight, foreground), expected)


@pytest.mark.parametrize("foreground", [0.0, 3.0])
def test_gradient(foreground: float) -> None:
    prediction, target, mask, weight = example()
    assert torch.autograd.gradcheck(
        lambda maps: heatmap_loss(maps, target, mask, weight, foreground),
        prediction.requires_grad_(),
    )


def test_gradient_of_a_part_of_channels_last_maps() -> None:
    prediction, target, mask, weight = example()
    both = (
        torch.cat([prediction, prediction], dim=1)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    heatmap_loss(both[:, :3], target, mask, weight).sum().backward()
    plain = prediction.clone().requires_grad_()
    heatmap_loss(plain, target, mask, weight).sum().backward()
    assert both.grad is not None and plain.grad is not None
    torch.testing.assert_close(both.grad[:, :3], plain.grad)
    assert (both.grad[:, 3:] == 0).all()


def test_masked_cells_do_not_count() -> None:
    prediction, target, mask, weight = example()
    changed = torch.where(mask[:, None] > 0, prediction, prediction + 100)
    torch.testing.assert_close(
        heatmap_loss(changed, target, mask, weight), heatmap_loss(prediction, target, mask, weight)
    )
