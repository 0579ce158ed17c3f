"""Old keys of the family: taken over, checked against the skeleton, or refused in a sentence."""

from __future__ import annotations

import pytest

from duopose.config import load_config
from duopose.errors import UserError


def test_keys_that_agree_with_the_skeleton_are_accepted() -> None:
    cfg = load_config(None, [
        "DATASET.NUM_JOINTS", "18", "MODEL.NUM_JOINTS", "17", "DATASET.WITH_CENTER", "True", "RJG_TAG", "[5, 6, 11, 12]",
        "LJG_WITH_HIER", "[[7, 5], [9, 7], [8, 6], [10, 8], [13, 11], [15, 13], [14, 12], [16, 14]]", "LJG_CENTER_ONLY", "[0,1,2,3,4]",
        "MODEL.NAME1", "pose_hrnet", "MODEL.NAME2", "pose_de", "GPUS", "(0,1,2,3)",
    ])  # fmt: skip
    assert cfg.MODEL.NAME == "pose_higher_hrnet_de" and cfg.GPUS == 4


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("DATASET.NUM_JOINTS", "14", "17 keypoints"),
        ("RJG_TAG", "[0, 1]", "[5, 6, 11, 12]"),
        ("LJG_WITH_HIER", "[7, 8]", "DATASET.SKELETON"),
        ("LJG_CENTER_ONLY", "[0]", "[0, 1, 2, 3, 4]"),
        ("DATASET.WITH_CENTER", "False", "person centre"),
    ],
)
def test_keys_that_contradict_it_are_refused(key: str, value: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(None, [key, value])
    assert key in str(error.value) and says in str(error.value)


def test_a_higher_hrnet_yaml_is_understood() -> None:
    extra = {
        "STAGE2": (1, [48, 96]),
        "STAGE3": (4, [48, 96, 192]),
        "STAGE4": (3, [48, 96, 192, 384]),
    }
    words: list[object] = [
        "MODEL.NAME",
        "pose_higher_hrnet",
        "LOSS.PUSH_LOSS_FACTOR",
        "[0.001, 0.001]",
        "MODEL.TAG_PER_JOINT",
        "True",
    ]
    for stage, (modules, channels) in extra.items():
        words += [
            f"MODEL.EXTRA.{stage}.NUM_MODULES",
            modules,
            f"MODEL.EXTRA.{stage}.NUM_CHANNELS",
            channels,
        ]
    cfg = load_config(None, words)
    assert (
        cfg.MODEL.WIDTH == 48
        and cfg.MODEL.MODULES == [1, 4, 3]
        and cfg.LOSS.PUSH_LOSS_FACTOR == 0.001
    )
