"""All losses together: few and many people, alone and in a batch, each option."""

from __future__ import annotations

import pytest
import torch
from tests.losses.dense_reference import dense_loss
from yacs.config import CfgNode

from duopose.config import default_config, offset_strides
from duopose.losses import build_criterion
from duopose.profiling.synthetic_data import synthetic_batch, synthetic_output
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.types import Batch, NetworkOutput

SIZE, COUNTS = 64, (0, 1, 2, 40)


def images_with_people(counts: tuple[int, ...]) -> Batch:
    batch = synthetic_batch(COCO, len(counts), max(counts), SIZE)
    for image, count in enumerate(counts):
        batch.keypoints[image, count:] = 0
    return batch


def outputs(cfg: CfgNode, images: int) -> NetworkOutput:
    layout = COCO.offset_layout(cfg.MODEL.REVERSE_OFFSETS)
    output = synthetic_output(18, layout.num_channels, images, SIZE, SIZE)
    num_offset_maps = len(offset_strides(cfg))
    output = output._replace(offsets=output.offsets[:num_offset_maps])
    output = output.map(lambda maps: maps.clone().requires_grad_())
    if cfg.MODEL.NAME == "pose_higher_hrnet_de":
        return output
    cut = [maps[:, :-1].detach().requires_grad_() for maps in (*output.heatmaps, output.tags)]
    return NetworkOutput((cut[0], cut[1]), cut[2], ())


def one_image(output: NetworkOutput, image: int) -> NetworkOutput:
    one = slice(image, image + 1)
    return NetworkOutput(
        tuple(m[one] for m in output.heatmaps),
        output.tags[one],
        tuple(m[one] for m in output.offsets),
    )


OPTIONS: dict[str, list[object]] = {
    "default": [],
    "baseline": ["MODEL.NAME", "pose_higher_hrnet"],
    "map": ["LOSS.OFFSETS_AREA", "map"],
    "hinge": ["LOSS.AE_LOSS_TYPE", "max"],
    "foreground": ["LOSS.FOREGROUND_WEIGHT", 9.0],
    "reverse": ["MODEL.REVERSE_OFFSETS", True],
    "coarse offsets": ["MODEL.FINE_OFFSETS", False],
    "rounded": ["DATASET.HEATMAP_CENTRES", "rounded"],
}


@pytest.fixture(params=OPTIONS)
def cfg(request: pytest.FixtureRequest) -> CfgNode:
    cfg = default_config()
    cfg.merge_from_list(OPTIONS[request.param])
    return cfg


def test_finite_with_no_one_two_and_forty_people(cfg: CfgNode) -> None:
    output, batch = outputs(cfg, len(COUNTS)), images_with_people(COUNTS)
    terms = build_criterion(cfg, COCO)(output, build_targets(cfg, COCO)(batch))
    terms.total.backward()
    assert torch.isfinite(terms.total)
    for maps in (*output.heatmaps, output.tags, *output.offsets):
        assert maps.grad is not None and torch.isfinite(maps.grad).all()
    assert all(
        term.shape == (4,) and torch.isfinite(term).all() and not term.requires_grad
        for term in terms.per_image.values()
    )
    assert terms.per_image["push"][:2].tolist() == [0, 0] and terms.per_image["pull"][0] == 0
    torch.testing.assert_close(
        terms.total.detach(), torch.stack(list(terms.per_image.values())).sum(dim=0).mean()
    )


def test_the_loss_of_an_image_does_not_depend_on_the_batch(cfg: CfgNode) -> None:
    output, batch = outputs(cfg, len(COUNTS)), images_with_people(COUNTS)
    make, loss = build_targets(cfg, COCO), build_criterion(cfg, COCO)
    together = loss(output, make(batch)).per_image
    for image, count in enumerate(COUNTS):
        one = slice(image, image + 1)
        own = Batch(
            batch.images[one],
            batch.keypoints[one, :count],
            tuple(mask[one] for mask in batch.masks),
            [image],
        )
        alone = loss(one_image(output, image), make(own)).per_image
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            in_batch = together[name][image]
            message = f"{name}: {{}}".format
            torch.testing.assert_close(value[0], in_batch, rtol=1e-6, atol=1e-6, msg=message)


def test_terms_are_named_by_stride() -> None:
    def names(name: str, fine_offsets: bool = True) -> list[str]:
        cfg = default_config()
        cfg.MODEL.NAME = name
        cfg.MODEL.FINE_OFFSETS = fine_offsets
        terms = build_criterion(cfg, COCO)(
            outputs(cfg, 1), build_targets(cfg, COCO)(images_with_people((1,)))
        )
        return list(terms.per_image)

    assert names("pose_higher_hrnet_de") == [
        "heatmap_4",
        "heatmap_2",
        "push",
        "pull",
        "offset_4",
        "offset_2",
    ]
    assert names("pose_higher_hrnet_de", fine_offsets=False)[-1] == "offset_4"
    assert names("pose_higher_hrnet") == ["heatmap_4", "heatmap_2", "push", "pull"]


def test_factors_scale_their_terms() -> None:
    cfg = default_config()
    output, targets = outputs(cfg, 2), build_targets(cfg, COCO)(images_with_people((2, 3)))
    cfg.LOSS.OFFSETS_LOSS_FACTOR = [2.0, 2.0]
    before = build_criterion(cfg, COCO)(output, targets).per_image
    cfg.LOSS.HEATMAPS_LOSS_FACTOR, cfg.LOSS.OFFSETS_LOSS_FACTOR = [3.0, 1.0], [2.0, 8.0]
    cfg.LOSS.PUSH_LOSS_FACTOR, cfg.LOSS.PULL_LOSS_FACTOR = 0.002, 0.005
    after = build_criterion(cfg, COCO)(output, targets).per_image
    ratios = {"heatmap_4": 3, "heatmap_2": 1, "push": 2, "pull": 5, "offset_4": 1, "offset_2": 4}
    for name, ratio in ratios.items():
        torch.testing.assert_close(after[name], ratio * before[name])


def test_a_perfect_offset_has_loss_0_and_a_far_one_its_distance() -> None:
    cfg = default_config()
    cfg.LOSS.OFFSETS_LOSS_FACTOR = [2.0, 2.0]
    targets = build_targets(cfg, COCO)(images_with_people((2,)))
    loss = build_criterion(cfg, COCO)
    output = outputs(cfg, 1)
    where = targets.offsets[0]
    with torch.no_grad():
        for part, channel in ((0, 2 * where.edge), (1, 2 * where.edge + 1)):
            output.offsets[0][where.image, channel, where.cell // 16, where.cell % 16] = (
                where.offset[:, part] / 64 + part
            )
    assert loss(output, targets).per_image["offset_4"].item() == pytest.approx(
        2 * (0 + (1 - 0.1 / 2)) / 2, rel=1e-4
    )


def test_losses_are_computed_in_float32_under_mixed_precision() -> None:
    cfg = default_config()
    targets = build_targets(cfg, COCO)(images_with_people((2, 3)))
    output = outputs(cfg, 2)
    half = NetworkOutput(
        (output.heatmaps[0].bfloat16(), output.heatmaps[1].bfloat16()),
        output.tags.bfloat16(),
        (output.offsets[0].bfloat16(), output.offsets[1].bfloat16()),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = build_criterion(cfg, COCO)(half, targets)
    assert terms.total.dtype == torch.float32
    terms.total.backward()
    torch.testing.assert_close(
        terms.total, build_criterion(cfg, COCO)(output, targets).total, rtol=1e-2, atol=1e-3
    )


def test_the_plain_form_of_the_benchmark_gives_the_same_number_and_gradient() -> None:
    cfg = default_config()
    targets = build_targets(cfg, COCO)(images_with_people(COUNTS))
    ours, plain = outputs(cfg, 4), outputs(cfg, 4)
    loss = build_criterion(cfg, COCO)
    total = loss(ours, targets).total
    expected = dense_loss(cfg, plain, targets)
    torch.testing.assert_close(total, expected)
    total.backward()
    expected.backward()
    for a, b in zip(
        (*ours.heatmaps, ours.tags, *ours.offsets), (*plain.heatmaps, plain.tags, *plain.offsets)
    ):
        torch.testing.assert_close(a.grad, b.grad)
