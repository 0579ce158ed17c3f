"""Generated batches and outputs to time with; no data is needed."""

from __future__ import annotations

import torch

from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import STRIDES, Batch, NetworkOutput


def example_batch(
    skeleton: Skeleton, num_images: int, people: int, size: int, device: str = "cpu", seed: int = 0
) -> Batch:
    """Images of size x size noise with that many people each: keypoints scattered round random places, 40 to 200 px across.

    All keypoints inside the image are labelled, which is more than real annotations have. Nothing is masked.
    """
    generator = torch.Generator().manual_seed(seed)
    middle = torch.rand(num_images, people, 1, 2, generator=generator) * size
    extent = 20 + 80 * torch.rand(num_images, people, 1, 1, generator=generator)
    scatter = (
        2 * torch.rand(num_images, people, skeleton.num_keypoints, 2, generator=generator) - 1
    ) * extent
    place = middle + scatter
    inside = ((place > -0.5) & (place < size - 0.5)).all(dim=-1, keepdim=True)
    keypoints = torch.cat([place * inside, 2.0 * inside], dim=-1)
    pixels = torch.randint(
        0, 256, (num_images, 3, size, size), generator=generator, dtype=torch.uint8
    )
    masks = tuple(
        torch.ones(num_images, size // stride, size // stride, dtype=torch.uint8)
        for stride in STRIDES
    )
    return Batch(
        pixels.to(device),
        keypoints.to(device),
        tuple(mask.to(device) for mask in masks),
        list(range(num_images)),
    )


def example_output(
    skeleton: Skeleton,
    layout: OffsetLayout,
    num_images: int,
    size: int,
    device: str = "cpu",
    seed: int = 1,
) -> NetworkOutput:
    """Random maps of Double Embedding that want gradients, at strides 4 and 2."""
    generator = torch.Generator().manual_seed(seed)

    def maps(channels: int, stride: int) -> torch.Tensor:
        values = (
            torch.randn(num_images, channels, size // stride, size // stride, generator=generator)
            * 0.1
        )
        return values.to(device).requires_grad_()

    joints = skeleton.num_keypoints + 1
    return NetworkOutput(
        heatmaps=(maps(joints, 4), maps(joints, 2)),
        tags=maps(joints, 4),
        offsets=(maps(layout.num_channels, 4), maps(layout.num_channels, 2)),
    )
