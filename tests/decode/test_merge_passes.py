"""Merging of passes: the mean heatmap in closed form, in any memory format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from duopose.decode.merge_passes import Pass, merge_passes
from duopose.geometry import resize_for_test
from duopose.skeletons import COCO
from duopose.types import STRIDES, NetworkOutput

CHANNELS = COCO.num_keypoints + 1


def random_pass(scale: float, mirrored: bool, seed: int) -> Pass:
    """Random maps of an image of 96 x 64 pixels, contiguous."""
    frame = resize_for_test(96, 64, 64, scale, 0.5)
    generator = torch.Generator().manual_seed(seed)
    sizes = [(frame.height // stride, frame.width // stride) for stride in STRIDES]
    heatmaps = tuple(torch.rand(1, CHANNELS, *size, generator=generator) for size in sizes)
    tags = torch.rand(1, CHANNELS, *sizes[0], generator=generator)
    return Pass(NetworkOutput(heatmaps, tags, ()), frame, mirrored)


def channels_last(one: Pass) -> Pass:
    """The same pass; heatmaps and tags of stride 4 are slices of one map, as in networks."""
    coarse, fine = one.output.heatmaps
    both = torch.cat([coarse, one.output.tags], dim=1)
    both = both.contiguous(memory_format=torch.channels_last)
    fine = fine.contiguous(memory_format=torch.channels_last)
    output = NetworkOutput((both[:, :CHANNELS], fine), both[:, CHANNELS:], ())
    return one._replace(output=output)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)])
def test_memory_format_does_not_matter(scales: tuple[float, ...]) -> None:
    passes = [
        random_pass(scale, mirrored, seed)
        for seed, scale in enumerate(scales)
        for mirrored in (False, True)
    ]
    merged = resize_for_test(96, 64, 64, 1.0, 0.5)
    plain = merge_passes(passes, merged, COCO)
    other = merge_passes([channels_last(one) for one in passes], merged, COCO)
    assert torch.equal(plain.heatmaps, other.heatmaps)
    assert other.heatmaps.is_contiguous()


@pytest.mark.parametrize("change", [lambda one: one, channels_last])
def test_the_mean_of_a_pass_and_its_mirror_image(change: Callable[[Pass], Pass]) -> None:
    """Both passes agree; stride 4 is 0.25 everywhere. No input is changed."""
    one = random_pass(1.0, False, 0)
    coarse, fine = one.output.heatmaps
    level = torch.full_like(coarse, 0.25)
    flip = torch.as_tensor(COCO.flip_index_with_centre)
    plain = one._replace(output=one.output._replace(heatmaps=(level, fine)))
    turned = one.output._replace(heatmaps=(level, fine[:, flip].flip(-1)))
    passes = [change(plain), change(Pass(turned, one.frame, mirrored=True))]
    before = [heatmap.clone() for each in passes for heatmap in each.output.heatmaps]

    maps = merge_passes(passes, one.frame, COCO)
    expected = (fine[0] + 0.25) / 2
    assert torch.allclose(maps.heatmaps, expected, atol=1e-6)
    after = [heatmap for each in passes for heatmap in each.output.heatmaps]
    assert all(torch.equal(first, second) for first, second in zip(before, after, strict=True))


def test_tags_come_from_the_size_nearest_to_the_merged_input() -> None:
    passes = [random_pass(scale, False, 0) for scale in (0.5, 1.0, 2.0)]
    maps = merge_passes(passes, passes[1].frame, COCO)
    assert len(maps.tags) == 1
    assert len(maps.layers) == 6
    assert torch.equal(maps.tags[0].maps, passes[1].output.tags[0])


def test_a_layer_maps_points_to_cells() -> None:
    """cell = (x + 0.5) / stride - 0.5; in a mirrored pass of x' = width - 1 - x."""
    merged = resize_for_test(96, 64, 64, 1.0, 0.5)
    maps = merge_passes([random_pass(1.0, True, 0)], merged, COCO)
    layer = maps.layers[0]
    point = np.array([20.0, 9.0])
    mirrored_x = merged.width - 1 - 20.0
    expected = [(mirrored_x + 0.5) / 4 - 0.5, (9.0 + 0.5) / 4 - 0.5]
    assert layer.factor * point + layer.shift == pytest.approx(expected)
    assert np.array_equal(layer.channel, COCO.flip_index_with_centre)


def test_there_must_be_passes_of_one_image() -> None:
    merged = resize_for_test(96, 64, 64, 1.0, 0.5)
    with pytest.raises(ValueError):
        merge_passes([], merged, COCO)
    one = random_pass(1.0, False, 0)
    batch = one._replace(output=one.output._replace(tags=one.output.tags.repeat(2, 1, 1, 1)))
    with pytest.raises(ValueError):
        merge_passes([batch], merged, COCO)
