"""Made-up people for the tests of targets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from duopose.skeletons import Skeleton

People = Callable[..., torch.Tensor]


@pytest.fixture
def people() -> People:
    """people(skeleton, counts, width, height) -> keypoints (B, P, K, 3).

    counts: people of each image. Four fifths of the keypoints are labelled.
    """

    def random_people(
        skeleton: Skeleton, counts: list[int], width: int = 128, height: int = 128
    ) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (len(counts), max(counts, default=0), skeleton.num_keypoints)
        position = torch.rand(*shape, 2, generator=generator) * torch.tensor(
            [width - 1.0, height - 1.0]
        )
        visible = (torch.rand(*shape, 1, generator=generator) < 0.8).float() * 2
        there = torch.arange(shape[1]) < torch.tensor(counts)[:, None]
        visible *= there[:, :, None, None]
        return torch.cat([position * (visible > 0), visible], dim=-1)

    return random_people
