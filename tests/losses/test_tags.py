"""Pull and push of tags: closed forms, gradients, and images with few people."""

from __future__ import annotations

import math

import pytest
import torch

from duopose.losses.tag_loss import tag_losses
from duopose.types import TagTargets


def people(*tags: list[float]) -> tuple[torch.Tensor, TagTargets]:
    """Tag maps and targets of one image: joint k of person p has tag tags[p][k]."""
    joints, count = max(map(len, tags), default=1), max(len(tags), 1)
    maps = torch.zeros(1, joints, 1, count, dtype=torch.float64)
    valid = torch.zeros(1, count, joints, dtype=torch.bool)
    for person, values in enumerate(tags):
        for joint, value in enumerate(values):
            maps[0, joint, 0, person], valid[0, person, joint] = value, True
    cells = torch.arange(count).view(1, count, 1).expand(1, count, joints)
    return maps, TagTargets(cells, valid)


def test_pull_is_the_mean_spread() -> None:
    _, pull = tag_losses(*people([1.0, 3.0], [5.0]))
    assert pull.item() == pytest.approx((1.0 + 0.0) / 2)


@pytest.mark.parametrize(("push_type", "expected"), [("exp", math.exp(-0.25)), ("max", 0.5)])
def test_push_of_two_people(push_type: str, expected: float) -> None:
    push, _ = tag_losses(*people([1.0, 2.0], [2.0]), push_type)
    assert push.item() == pytest.approx(0.5 * expected)


def test_push_is_a_mean_over_ordered_pairs() -> None:
    push, _ = tag_losses(*people([0.0], [1.0], [3.0]))
    expected = 0.5 * 2 * (math.exp(-1) + math.exp(-9) + math.exp(-4)) / 6
    assert push.item() == pytest.approx(expected)


@pytest.mark.parametrize("push_type", ["exp", "max"])
def test_one_person_has_push_0(push_type: str) -> None:
    push, pull = tag_losses(*people([1.0, 2.0]), push_type)
    assert push.item() == 0 and pull.item() == pytest.approx(0.25)


def test_no_people_have_loss_0() -> None:
    maps, targets = people()
    push, pull = tag_losses(maps.requires_grad_(), targets)
    (push + pull).sum().backward()
    assert push.item() == pull.item() == 0
    assert maps.grad is not None and (maps.grad == 0).all()


def test_a_batch_padded_to_no_people_at_all_costs_nothing() -> None:
    empty = TagTargets(
        torch.zeros(2, 0, 3, dtype=torch.int64), torch.zeros(2, 0, 3, dtype=torch.bool)
    )
    push, pull = tag_losses(torch.randn(2, 3, 4, 4), empty)
    assert push.tolist() == pull.tolist() == [0, 0]


@pytest.mark.parametrize("push_type", ["exp", "max"])
def test_gradient(push_type: str) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64).requires_grad_()
    valid = torch.rand(3, 7, 4, generator=generator) > 0.5
    valid[1, 1:] = False
    valid[2] = False
    targets = TagTargets(torch.randint(0, 30, (3, 7, 4), generator=generator), valid)
    assert torch.autograd.gradcheck(lambda tags: tag_losses(tags, targets, push_type), maps)


def test_equal_tags_have_a_finite_gradient() -> None:
    maps, targets = people([1.0], [1.0])
    push, _ = tag_losses(maps.requires_grad_(), targets, "max")
    push.sum().backward()
    assert push.item() == 0.5
    assert maps.grad is not None and torch.isfinite(maps.grad).all()
