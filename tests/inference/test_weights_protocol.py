"""Weights against the settings of a yaml: what decides is refused, the rest is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from duopose.config import build_skeleton, load_config
from duopose.errors import UserError
from duopose.inference.weights_protocol import check_weights, model_settings
from duopose.network import build_network
from duopose.skeletons import COCO, Skeleton

WriteModel = Callable[..., Path]
SWAPPED = replace(COCO, keypoints=(COCO.keypoints[1], COCO.keypoints[0], *COCO.keypoints[2:]))


@pytest.fixture
def check(write_model: WriteModel, tiny_settings: tuple[object, ...]) -> Callable[..., list[str]]:
    """check(settings now, settings of the file, ...) compares; returns the notices."""

    def compare(
        now: tuple[object, ...],
        of_file: tuple[object, ...] = (),
        skeleton: Skeleton = COCO,
        explicit: set[str] | None = None,
        for_training: bool = False,
    ) -> list[str]:
        path = write_model(of_file, skeleton)
        words = [*tiny_settings, "TEST.DETECTION_THRESHOLD", 0.05, *now]
        cfg = load_config(None, words)
        keys = explicit or set()
        return check_weights(cfg, build_skeleton(cfg), path, keys, "--model", for_training)

    return compare


def test_the_same_settings_give_no_notice(check: Callable[..., list[str]]) -> None:
    assert check(()) == []
    assert check(("TEST.FLIP_TEST", False, "GPUS", 2, "DATASET.ROOT", "elsewhere")) == []
    assert check(("MODEL.UPSAMPLE", "bilinear")) == []  # what '' stands for


@pytest.mark.parametrize(
    ("key", "value", "in_file"),
    [
        ("MODEL.OFFSET_UNIT", 724.077, "64.0"),
        ("MODEL.UPSAMPLE", "nearest", "'bilinear'"),
        ("DATASET.HEATMAP_CENTRES", "rounded", "'subpixel'"),
    ],
)
def test_decisive_settings_are_refused_with_both_values(
    check: Callable[..., list[str]], key: str, value: object, in_file: str
) -> None:
    with pytest.raises(UserError) as error:
        check((key, value))
    assert f"{key}: {in_file} in the file, {value!r} now" in str(error.value)
    (notice,) = check((key, value), explicit={key})  # given on the command line: wanted
    assert key in notice


def test_another_order_of_joints_is_refused(check: Callable[..., list[str]]) -> None:
    with pytest.raises(UserError, match=r"DATASET\.SKELETON: keypoints \['left_eye', 'nose'"):
        check((), skeleton=SWAPPED)
    with pytest.raises(UserError, match="keypoints"):
        check((), skeleton=SWAPPED, for_training=True)
    assert len(check((), skeleton=SWAPPED, explicit={"DATASET.SKELETON"})) == 1


def test_training_may_start_from_weights_of_another_number_of_joints(
    check: Callable[..., list[str]],
) -> None:
    (notice,) = check(("DATASET.SKELETON", "crowdpose"), for_training=True)
    assert "DATASET.SKELETON: '' in the file, 'crowdpose' now" in notice
    with pytest.raises(UserError, match=r"DATASET\.SKELETON"):
        check(("DATASET.SKELETON", "crowdpose"))


def test_offset_unit_does_not_count_without_offsets(check: Callable[..., list[str]]) -> None:
    baseline = ("MODEL.NAME", "pose_higher_hrnet")
    assert check((*baseline, "MODEL.OFFSET_UNIT", 16.0), baseline) == []


def test_other_settings_are_reported(check: Callable[..., list[str]]) -> None:
    (notice,) = check(("TRAIN.LR", 0.5, "DATASET.SIGMA", 3.0))
    assert "TRAIN.LR: 0.001 in the file, 0.5 now" in notice
    assert "DATASET.SIGMA: 2.0 in the file, 3.0 now" in notice


def test_weights_of_other_codebases_carry_no_settings(tmp_path: Path) -> None:
    cfg = load_config(None)
    path = tmp_path / "public.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    assert check_weights(cfg, COCO, path, set(), "--model") == []


def test_a_model_file_with_and_without_a_yaml(write_model: WriteModel, tmp_path: Path) -> None:
    path = write_model(("MODEL.OFFSET_UNIT", 16.0))
    assert model_settings(path, "", []).cfg.MODEL.OFFSET_UNIT == 16.0
    yaml = tmp_path / "my.yaml"
    yaml.write_text("MODEL: {WIDTH: 4}\n")
    with pytest.raises(UserError, match=r"MODEL\.OFFSET_UNIT: 16\.0 .* 64\.0"):
        model_settings(path, str(yaml), [])
    cfg = model_settings(path, str(yaml), ["MODEL.OFFSET_UNIT", "64"]).cfg
    assert cfg.MODEL.OFFSET_UNIT == 64.0
    assert build_network(cfg, COCO) is not None
