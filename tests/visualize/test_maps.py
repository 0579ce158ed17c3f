"""Maps, training samples, arrows and grids show what is in the arrays."""

import numpy as np
import pytest
import torch

from duopose.geometry import MapFrame
from duopose.skeletons import COCO
from duopose.types import OffsetTargets, Sample, TagTargets
from duopose.visualize.draw import person_shades
from duopose.visualize.maps import (
    MASKED,
    TITLE_HEIGHT,
    colour_tags,
    draw_arrows,
    edges_by_target,
    heatmap_grid,
    make_grid,
    offset_image,
    overlay_heatmap,
    overlay_mask,
    sample_image,
    shrink,
    tag_grid,
    tag_image,
    window_arrows,
)


def grey(height: int = 64, width: int = 96) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def test_heatmap_is_brightest_at_its_peak() -> None:
    heatmap = np.zeros((16, 24), dtype=np.float32)
    heatmap[4, 18] = 1
    shown = overlay_heatmap(grey(), heatmap)
    brightness = shown.astype(int).sum(-1)
    y, x = np.unravel_index(brightness.argmax(), brightness.shape)
    assert shown.dtype == np.uint8 and shown.shape == (64, 96, 3)
    assert abs(y - (4 * 4 + 1.5)) <= 2 and abs(x - (18 * 4 + 1.5)) <= 2
    assert (shown[40:] == 64).all()  # elsewhere the darkened image


def test_tags_have_one_colour_a_value_and_none_where_they_mean_nothing() -> None:
    tags = np.zeros((2, 3))
    tags[:, 1], tags[:, 2] = 0.5, 1.0
    shown = colour_tags(tags, grey(4, 6))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 3
    where = np.zeros((2, 3), dtype=bool)
    where[0, 0] = True
    few = colour_tags(tags, grey(4, 6), where)
    assert (few[2:] == few[3, 5]).all() and (few[0, 0] != few[3, 5]).any()


def test_mask_tints_what_is_left_out() -> None:
    mask = np.ones((16, 24), dtype=np.uint8)
    mask[:, :12] = 0
    shown = overlay_mask(grey(), mask).astype(int)
    assert (shown[:, 48:] == 128).all()
    assert (shown[:, :48, 0] > 128).all() and (
        np.abs(shown[:, :48] - np.array(MASKED)).sum(-1).min() < 40
    )


def test_arrows_begin_and_end_at_the_given_points() -> None:
    ends = np.array([[80.0, 50.0], [10.0, 10.0]])
    shown = draw_arrows(
        grey(), np.array([[20.0, 50.0], [10.0, 10.0]]), ends, [(255, 0, 0), (0, 0, 255)]
    )
    assert np.abs(shown[50, [20, 50, 80]].astype(int) - np.array([255, 0, 0])).max() < 20
    assert tuple(shown[10, 10]) == (0, 0, 255)  # an arrow without length is a dot
    head = np.argwhere((shown != 128).any(-1) & (np.arange(96) > 70))
    assert head[:, 0].min() < 50 < head[:, 0].max() and head[:, 1].max() <= 81


@pytest.mark.parametrize("legacy_alignment", [False, True])
def test_window_arrows_end_at_the_target(legacy_alignment: bool) -> None:
    frame, target = MapFrame(4, legacy_alignment), np.array([33.0, 21.0])
    cells = np.array([0, 5 * 24 + 3, 15 * 24 + 23])
    starts = frame.to_input(np.stack([cells % 24, cells // 24], axis=1).astype(float))
    got_starts, ends = window_arrows(cells, (target - starts)[:, ::-1], 24, frame)
    assert np.allclose(got_starts, starts) and np.allclose(ends, target)


def test_a_grid_holds_every_image_whole() -> None:
    images = [np.full((20 + 5 * n, 30, 3), 10 * n + 5, dtype=np.uint8) for n in range(5)]
    canvas = make_grid(images, [f"image {n}" for n in range(5)], columns=2)
    for image in images:
        assert (canvas == image[0, 0]).all(-1).sum() >= image.shape[0] * image.shape[1]
    assert canvas.shape[0] == 3 * (40 + TITLE_HEIGHT + 6) + 6 and canvas.shape[1] == 2 * 36 + 6
    with pytest.raises(ValueError, match=r"5 .* 1 "):
        make_grid(images, ["one"])


def test_tag_grids_have_one_panel_per_map() -> None:
    heatmaps = np.random.default_rng(0).random((5, 16, 24))
    panels = tag_grid(grey(), heatmaps, heatmaps, COCO)
    assert panels.shape == (2 * (64 + TITLE_HEIGHT + 6) + 6, 3 * 102 + 6, 3)
    nothing = tag_grid(grey(), heatmaps, 0 * heatmaps, COCO)
    assert np.ptp(panels.astype(int), axis=2).max() > 60 > np.ptp(nothing, axis=2).max()


def test_shrinking_keeps_proportions_and_small_images() -> None:
    assert shrink(grey(), 48).shape == (32, 48, 3)
    assert shrink(grey(), 960).shape == (64, 96, 3)


def sample(keypoints: np.ndarray | None = None) -> Sample:
    """A grey image of 128 x 128 whose left half is masked."""
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


def test_a_heatmap_grid_has_one_panel_per_keypoint() -> None:
    shown = heatmap_grid(sample().image, np.random.default_rng(0).random((18, 32, 32)), COCO)
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
