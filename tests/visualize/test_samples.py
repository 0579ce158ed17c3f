"""Sheets of samples and targets show what the arrays say."""

import numpy as np
import torch

from duopose.geometry import MapFrame
from duopose.skeletons import COCO
from duopose.types import OffsetTargets, Sample, TagTargets
from duopose.visualize.draw import person_shades
from duopose.visualize.maps import MASKED, TITLE_HEIGHT
from duopose.visualize.samples import (
    edges_by_target,
    heatmap_images,
    offset_image,
    sample_image,
    tag_image,
)


def sample(keypoints: np.ndarray | None = None) -> Sample:
    """A grey image of 128 x 128 whose left half the loss must not look at."""
    people = np.zeros((1, 17, 3), dtype=np.float32) if keypoints is None else keypoints
    mask = np.ones((64, 64), dtype=np.uint8)
    mask[:, :32] = 0
    return Sample(
        np.full((128, 128, 3), 128, dtype=np.uint8),
        people,
        np.ones((128, 128), dtype=np.uint8),
        7,
        (mask[::2, ::2], mask),
    )


def one_limb() -> np.ndarray:
    keypoints = np.zeros((1, 17, 3), dtype=np.float32)
    keypoints[0, COCO.index("left_shoulder")] = 100, 40, 2
    keypoints[0, COCO.index("left_elbow")] = 100, 90, 2
    return keypoints


def test_sample_image_shows_mask_people_and_centre() -> None:
    shown = sample_image(sample(one_limb()), COCO).astype(int)
    assert (np.abs(shown[:, :60] - np.array(MASKED)).sum(-1) < 200).all()
    assert tuple(shown[40, 100]) == person_shades(0).left
    assert tuple(shown[65, 100]) == person_shades(0).middle  # the centre's ring lies half way
    assert sample_image(sample(), COCO, enlarge=2).shape == (256, 256, 3)


def test_heatmap_images_have_one_panel_a_keypoint() -> None:
    shown = heatmap_images(sample().image, np.random.default_rng(0).random((18, 32, 32)), COCO)
    assert shown.shape == (4 * (128 + TITLE_HEIGHT + 6) + 6, 5 * 134 + 6, 3)


def test_tag_cells_are_squares_over_their_pixels() -> None:
    tags = TagTargets(torch.tensor([[[5 * 32 + 9, 0]]]), torch.tensor([[[True, False]]]))
    shown = tag_image(sample(), tags, 0, 32, MapFrame(4))
    coloured = np.argwhere((shown == person_shades(0).middle).all(-1))
    assert abs(coloured.mean(0) - np.array([21.5, 37.5])).max() <= 0.5
    assert np.ptp(coloured, axis=0).max() <= 5


def test_arrows_lead_to_the_parent_and_skip_other_images() -> None:
    layout, frame = COCO.offset_layout(), MapFrame(4)
    edge = layout.edge(COCO.index("left_elbow"), COCO.index("left_shoulder"))
    cell = torch.tensor([20 * 32 + 5, 20 * 32 + 10])  # cells at (21.5, 81.5) and (41.5, 81.5)
    value = torch.tensor([[40 - 81.5, 100 - 21.5], [-60.0, 0.0]])  # y, x
    offsets = OffsetTargets(
        torch.tensor([0, 1]), torch.tensor([edge, edge]), cell, value, torch.ones(2)
    )
    groups = edges_by_target(layout, COCO)
    shown = offset_image(sample(), offsets, 0, [edge], 32, frame, COCO, enlarge=2)
    ink = np.argwhere(np.ptp(shown.astype(int), axis=2) > 60)[:, ::-1]
    start, end = (np.array(point) * 2 + 0.5 for point in ([21.5, 81.5], [100, 40]))
    for point in (start, end, (start + end) / 2):
        assert np.abs(ink - point).sum(1).min() < 3
    assert ink[:, 1].min() > 70  # the other image's arrow would point up
    assert edge in groups["limb joints to parents"] and sorted(
        e for group in groups.values() for e in group
    ) == list(range(21))
    assert (
        len(edges_by_target(COCO.offset_layout(reverse=True), COCO)["parents back to limb joints"])
        == 8
    )
