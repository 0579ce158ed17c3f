"""Associative embedding: tags of one person are pulled together, tags of people pushed apart.

Newell, Huang, Deng: Associative Embedding, NeurIPS 2017. In an image with P tagged people let
t_pk be the tag of joint k of person p, and m_p the mean of the tags of person p:

    pull = 1 / P * sum_p mean_k (t_pk - m_p)^2
    push = 1/2 * 1 / (P (P - 1)) * sum_{p != q} f(m_p - m_q)

    f(d) = exp(-d^2)            push_type "exp"
    f(d) = max(0, 1 - |d|)      push_type "max", the hinge

With one person push is 0, with nobody both are 0. (The public Double Embedding code divides
0 by 0 for one person, which is a third of the augmented COCO samples.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from duopose.types import TagTargets


def _exponential(difference: torch.Tensor) -> torch.Tensor:
    return torch.exp(-difference.square())


def _hinge(difference: torch.Tensor) -> torch.Tensor:
    return (1 - difference.abs()).clamp(min=0)


PUSH_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": _exponential,
    "max": _hinge,
}


def tag_losses(
    tags: torch.Tensor, targets: TagTargets, push_type: str = "exp"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Push and pull losses per image, (B,) each.

    tags: (B, J, h, w). targets: cells of J joints. push_type: a key of PUSH_FUNCTIONS.
    """
    person_tags = _read_tags(tags, targets)  # (B, P, J)
    num_joints = targets.valid.sum(dim=2)  # (B, P)
    joint_weight = targets.valid / num_joints.clamp(min=1).unsqueeze(2)

    mean_tag = (person_tags * joint_weight).sum(dim=2)
    squared_distance = (person_tags - mean_tag.unsqueeze(2)).square()
    variance = (squared_distance * joint_weight).sum(dim=2)

    is_tagged = num_joints > 0
    pull = variance.sum(dim=1) / is_tagged.sum(dim=1).clamp(min=1)
    push = _push(mean_tag, is_tagged, PUSH_FUNCTIONS[push_type])
    return push, pull


def _read_tags(tags: torch.Tensor, targets: TagTargets) -> torch.Tensor:
    """(B, P, J) the tag of each joint of each person; any value where the target is not valid."""
    cells = targets.cells.transpose(1, 2)
    return tags.flatten(2).gather(2, cells).transpose(1, 2)


def _push(
    mean_tag: torch.Tensor,
    is_tagged: torch.Tensor,
    push_function: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """(B,) from the mean tags (B, P) of the people that have any tag."""
    num_people = is_tagged.sum(dim=1)
    oneself = torch.eye(is_tagged.shape[1], dtype=torch.bool, device=is_tagged.device)
    pairs = is_tagged.unsqueeze(1) & is_tagged.unsqueeze(2) & ~oneself

    difference = mean_tag.unsqueeze(2) - mean_tag.unsqueeze(1)
    similarity = push_function(difference) * pairs
    num_pairs = num_people * (num_people - 1)
    return 0.5 * similarity.sum(dim=(1, 2)) / num_pairs.clamp(min=1)
