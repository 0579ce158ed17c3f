"""Maps, arrows and sheets show what is in the arrays."""

import numpy as np
import pytest

from duopose.geometry import MapFrame
from duopose.visualize.maps import (
    MASKED,
    TITLE_HEIGHT,
    colour_tags,
    draw_arrows,
    heatmap_sheet,
    overlay_heatmap,
    overlay_mask,
    sheet,
    shrink,
    tag_sheet,
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


def test_arrows_begin_and_end_where_told() -> None:
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


def test_sheet_holds_every_image_whole() -> None:
    images = [np.full((20 + 5 * n, 30, 3), 10 * n + 5, dtype=np.uint8) for n in range(5)]
    canvas = sheet(images, [f"image {n}" for n in range(5)], columns=2)
    for image in images:
        assert (canvas == image[0, 0]).all(-1).sum() >= image.shape[0] * image.shape[1]
    assert canvas.shape[0] == 3 * (40 + TITLE_HEIGHT + 6) + 6 and canvas.shape[1] == 2 * 36 + 6
    with pytest.raises(ValueError, match="title"):
        sheet(images, ["one"])


def test_sheets_of_maps() -> None:
    heatmaps = np.random.default_rng(0).random((5, 16, 24))
    names = ["nose", "left_eye", "right_eye", "left_ear", "centre"]
    assert (
        heatmap_sheet(grey(), heatmaps, names, columns=3).shape
        == tag_sheet(grey(), heatmaps, heatmaps, names, columns=3).shape
    )
    assert tag_sheet(grey(), heatmaps, 0 * heatmaps, names).dtype == np.uint8


def test_shrinking_keeps_proportions_and_small_images() -> None:
    assert shrink(grey(), 48).shape == (32, 48, 3)
    assert shrink(grey(), 960).shape == (64, 96, 3)
