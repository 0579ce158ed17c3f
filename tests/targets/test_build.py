"""`TargetBuilder`: the targets of each model; mirrored images give mirrored targets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from duopose.config import default_config
from duopose.losses.offset_loss import dense_offsets
from duopose.skeletons import COCO, CROWDPOSE, MPII, Skeleton
from duopose.targets import build_targets
from duopose.types import Batch

WIDTH, HEIGHT = 128, 96
People = Callable[..., torch.Tensor]


def batch_of(keypoints: torch.Tensor) -> Batch:
    images = len(keypoints)
    masks = tuple(
        torch.ones(images, HEIGHT // stride, WIDTH // stride, dtype=torch.uint8)
        for stride in (4, 2)
    )
    return Batch(
        torch.zeros(images, 3, HEIGHT, WIDTH, dtype=torch.uint8),
        keypoints,
        masks,
        list(range(images)),
    )


def test_double_embedding_has_a_centre_and_offsets(people: People) -> None:
    targets = build_targets(default_config(), COCO)(batch_of(people(COCO, [3, 1], WIDTH, HEIGHT)))
    assert [maps.shape for maps in targets.heatmaps] == [(2, 18, 24, 32), (2, 18, 48, 64)]
    assert [mask.dtype for mask in targets.masks] == [torch.float32] * 2
    assert targets.tags.cells.shape == (2, 3, 18) and targets.tags.cells.max() < 24 * 32
    assert len(targets.offsets) == 2 and targets.offsets[1].cell.max() < 48 * 64


def test_offsets_at_stride_4_alone(people: People) -> None:
    cfg = default_config()
    batch = batch_of(people(COCO, [3, 1], WIDTH, HEIGHT))
    both = build_targets(cfg, COCO)(batch)
    cfg.MODEL.FINE_OFFSETS = False
    coarse = build_targets(cfg, COCO)(batch)
    assert len(coarse.heatmaps) == 2 and len(coarse.offsets) == 1
    assert torch.equal(coarse.offsets[0].offset, both.offsets[0].offset)


def test_the_baseline_has_neither(people: People) -> None:
    cfg = default_config()
    cfg.MODEL.NAME = "pose_higher_hrnet"
    targets = build_targets(cfg, COCO)(batch_of(people(COCO, [3, 1], WIDTH, HEIGHT)))
    assert targets.heatmaps[0].shape[1] == targets.tags.cells.shape[2] == 17
    assert targets.offsets == ()


def test_tags_are_read_where_the_heatmap_peaks() -> None:
    keypoints = torch.tensor([[[[30.0, 50.0, 2.0]] + [[0.0, 0.0, 0.0]] * 16]])
    targets = build_targets(default_config(), COCO)(batch_of(keypoints))
    assert targets.tags.valid[0, 0].nonzero().flatten().tolist() == [0, 17]
    assert targets.tags.cells[0, 0, 0] == targets.heatmaps[0][0, 0].argmax()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII], ids=lambda skeleton: skeleton.name)
def test_mirrored_people_have_mirrored_targets(
    people: People, skeleton: Skeleton, reverse: bool
) -> None:
    cfg = default_config()
    cfg.MODEL.REVERSE_OFFSETS = reverse
    make, layout = build_targets(cfg, skeleton), skeleton.offset_layout(reverse)
    keypoints = people(skeleton, [4, 2], WIDTH, HEIGHT)
    mirrored = keypoints[:, :, skeleton.flip_index].clone()
    mirrored[..., 0] = torch.where(mirrored[..., 2] > 0, WIDTH - 1 - mirrored[..., 0], 0)
    plain, flipped = make(batch_of(keypoints)), make(batch_of(mirrored))
    joints = skeleton.flip_index_with_centre
    for level, stride in enumerate((4, 2)):
        np.testing.assert_allclose(
            flipped.heatmaps[level].flip(3)[:, joints], plain.heatmaps[level], atol=1e-4
        )
        shape = torch.Size([2, layout.num_channels, HEIGHT // stride, WIDTH // stride])
        there, here = (dense_offsets(targets.offsets[level], shape) for targets in (flipped, plain))
        back = (
            there.flip(3)[:, layout.flip_channels]
            * torch.from_numpy(layout.flip_signs)[:, None, None]
        )
        np.testing.assert_allclose(back, here, atol=1e-3)
    width = WIDTH // 4
    y, x = plain.tags.cells // width, plain.tags.cells % width
    there = flipped.tags.cells[:, :, joints]
    assert torch.equal(flipped.tags.valid[:, :, joints], plain.tags.valid)
    assert torch.equal(there[plain.tags.valid], (y * width + width - 1 - x)[plain.tags.valid])


def test_mixed_precision_leaves_targets_alone(people: People) -> None:
    make, batch = (
        build_targets(default_config(), COCO),
        batch_of(people(COCO, [3, 1], WIDTH, HEIGHT)),
    )
    exact = make(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = make(batch)
    assert torch.equal(exact.heatmaps[0], under_autocast.heatmaps[0])
    assert torch.equal(exact.offsets[1].offset, under_autocast.offsets[1].offset)
