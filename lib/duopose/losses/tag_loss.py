"""Associative embedding: a person's tags are pulled together, different people's pushed apart.

Newell, Huang, Deng: Associative Embedding, NeurIPS 2017. Per image, m_p being the mean of person p's tags and P the number
of people with any: pull = 1/P sum_p mean_k (t_pk - m_p)^2 and push = 1/2 * 1/(P (P - 1)) sum_{p != q} f(m_p - m_q), with
f(d) = exp(-d^2) or the hinge max(0, 1 - |d|). One person has nobody to be pushed from, and nobody costs nothing
(the public code divides 0 by 0 with one person, a third of the augmented COCO samples).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from duopose.types import TagTargets

PUSH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": lambda difference: torch.exp(-difference.square()),
    "max": lambda difference: (1 - difference.abs()).clamp(min=0),
}


def tag_losses(
    tags: torch.Tensor, targets: TagTargets, push_type: str = "exp"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Push and pull of each image, (B,) each, of tag maps (B, J, h, w) and targets of J joints; `push_type` is a key of PUSH."""
    valid = targets.valid
    read = tags.flatten(2).gather(2, targets.cells.transpose(1, 2)).transpose(1, 2)  # (B, P, J)
    joints = valid.sum(dim=2)
    share = valid / joints.clamp(min=1).unsqueeze(2)
    mean = (read * share).sum(dim=2)
    spread = ((read - mean.unsqueeze(2)).square() * share).sum(dim=2)
    tagged = joints > 0
    people = tagged.sum(dim=1)
    pull = spread.sum(dim=1) / people.clamp(min=1)

    pairs = tagged.unsqueeze(1) & tagged.unsqueeze(2)
    pairs &= ~torch.eye(tagged.shape[1], dtype=torch.bool, device=tags.device)
    closeness = PUSH[push_type](mean.unsqueeze(2) - mean.unsqueeze(1)) * pairs
    push = 0.5 * closeness.sum(dim=(1, 2)) / (people * (people - 1)).clamp(min=1)
    return push, pull
