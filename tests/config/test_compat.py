"""Old keys: translated, compared with the skeleton, dropped, or reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from duopose.config import load_config
from duopose.config.build import get_setting
from duopose.config.compat import REMOVED_KEYS, RENAMED_KEYS, translate
from duopose.config.settings import SETTINGS
from duopose.errors import UserError

HIGHER_HRNET = """
MODEL:
  NAME: pose_higher_hrnet
  TAG_PER_JOINT: true
  EXTRA:
    FINAL_CONV_KERNEL: 1
    PRETRAINED_LAYERS: ['*']
    STEM_INPLANES: 64
    STAGE2:
      {NUM_MODULES: 1, NUM_BRANCHES: 2, BLOCK: BASIC, NUM_BLOCKS: [4, 4],
       NUM_CHANNELS: [48, 96], FUSE_METHOD: SUM}
    STAGE3:
      {NUM_MODULES: 4, NUM_BRANCHES: 3, BLOCK: BASIC, NUM_BLOCKS: [4, 4, 4],
       NUM_CHANNELS: [48, 96, 192], FUSE_METHOD: SUM}
    STAGE4:
      {NUM_MODULES: 3, NUM_BRANCHES: 4, BLOCK: BASIC, NUM_BLOCKS: [4, 4, 4, 4],
       NUM_CHANNELS: [48, 96, 192, 384], FUSE_METHOD: SUM}
    DECONV:
      {NUM_DECONVS: 1, NUM_CHANNELS: [40], KERNEL_SIZE: [4], NUM_BASIC_BLOCKS: 2,
       CAT_OUTPUT: [true]}
LOSS: {PUSH_LOSS_FACTOR: [0.001, 0.001], HEATMAPS_LOSS_FACTOR: 2.0}
TEST: {REFINE: false, MAX_NUM_PEOPLE: 7}
GPUS: [0, 1, 2, 3]
"""


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "higher_hrnet.yaml"
    path.write_text(HIGHER_HRNET)
    return path


def problems(path: Path | None, *words: object) -> list[str]:
    with pytest.raises(UserError) as error:
        load_config(path, words)
    return str(error.value).splitlines()[1:]


def test_keys_that_agree_with_the_skeleton_are_accepted() -> None:
    cfg = load_config(None, [
        "DATASET.NUM_JOINTS", "18", "MODEL.NUM_JOINTS", "17", "DATASET.WITH_CENTER", "True",
        "LJG_WITH_HIER",
        "[[7, 5], [9, 7], [8, 6], [10, 8], [13, 11], [15, 13], [14, 12], [16, 14]]",
        "RJG_TAG", "[5, 6, 11, 12]", "LJG_CENTER_ONLY", "[0,1,2,3,4]",
        "MODEL.NAME1", "pose_hrnet", "MODEL.NAME2", "pose_de", "GPUS", "(0,1,2,3)",
    ])  # fmt: skip
    assert cfg.MODEL.NAME == "pose_higher_hrnet_de" and cfg.GPUS == 4


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("DATASET.NUM_JOINTS", "14", "17"),
        ("RJG_TAG", "[0, 1]", "[5, 6, 11, 12]"),
        ("LJG_WITH_HIER", "[7, 8]", "[7, 8, 9, 10, 13, 14, 15, 16]"),
        ("LJG_CENTER_ONLY", "[0]", "[0, 1, 2, 3, 4]"),
        ("DATASET.WITH_CENTER", "False", "pose_higher_hrnet"),
    ],
)
def test_keys_that_contradict_the_skeleton_are_reported(
    key: str, value: str, expected: str
) -> None:
    (line,) = problems(None, key, value)
    assert key in line and expected in line


def test_a_higher_hrnet_yaml_is_translated(yaml: Path) -> None:
    cfg = load_config(yaml)
    assert cfg.MODEL.NAME == "pose_higher_hrnet" and cfg.MODEL.WIDTH == 48
    assert cfg.MODEL.MODULES == [1, 4, 3] and cfg.MODEL.STEM_CHANNELS == 64
    assert cfg.MODEL.DECONV_CHANNELS == 40 and cfg.MODEL.DECONV_BLOCKS == 2
    assert cfg.LOSS.PUSH_LOSS_FACTOR == 0.001 and cfg.LOSS.HEATMAPS_LOSS_FACTOR == [2.0, 2.0]
    assert cfg.TEST.FILL is False and cfg.TEST.MAX_PEOPLE == 7 and cfg.GPUS == 4


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_renamed_keys_reach_the_new_ones(tmp_path: Path, old: str, new: str) -> None:
    default = SETTINGS[new].default
    value = (not default) if isinstance(default, bool) else default + type(default)(1)
    value = 0.5 if isinstance(default, float) and new != "TEST.SCORE_WEIGHT" else value
    section, name = old.split(".")
    path = tmp_path / "old.yaml"
    path.write_text(f"{section}: {{{name}: {value}}}")

    assert get_setting(load_config(path), new) == value
    assert get_setting(load_config(None, [old, str(value)]), new) == value


def test_tables_agree_with_the_declarations() -> None:
    assert set(RENAMED_KEYS.values()) <= SETTINGS.keys()
    assert not (RENAMED_KEYS.keys() | REMOVED_KEYS) & SETTINGS.keys()
    assert translate(dict.fromkeys(REMOVED_KEYS - {"MODEL.NAME1", "MODEL.NAME2"}, 1), {}) == (
        {},
        [],
    )


def test_renamed_values() -> None:
    assert load_config(None, ["TEST.MPII_REGION", "pictures"]).TEST.MPII_REGION == "images"


@pytest.mark.parametrize(
    ("in_yaml", "override", "value", "key", "expected"),
    [
        ("MODEL: {WIDTH: 32}", "MODEL.EXTRA.STAGE4.NUM_CHANNELS", [48, 96, 192, 384],
         "MODEL.WIDTH", 48),
        ("MODEL: {EXTRA: {STAGE2: {NUM_CHANNELS: [48, 96]}}}", "MODEL.WIDTH", 32,
         "MODEL.WIDTH", 32),
        ("MODEL: {MODULES: [1, 1, 1]}", "MODEL.EXTRA.STAGE3.NUM_MODULES", 2,
         "MODEL.MODULES", [1, 2, 1]),
        ("MODEL: {EXTRA: {STAGE4: {NUM_MODULES: 1}}}", "MODEL.EXTRA.STAGE3.NUM_MODULES", 2,
         "MODEL.MODULES", [1, 2, 1]),
        ("MODEL: {DECONV_CHANNELS: 8}", "MODEL.EXTRA.DECONV.NUM_CHANNELS", [16],
         "MODEL.DECONV_CHANNELS", 16),
        ("TEST: {FILL: true}", "TEST.REFINE", False, "TEST.FILL", False),
        ("TEST: {REFINE: true}", "TEST.FILL", False, "TEST.FILL", False),
        ("TEST: {MAX_PEOPLE: 5}", "TEST.MAX_NUM_PEOPLE", 6, "TEST.MAX_PEOPLE", 6),
    ],
)  # fmt: skip
def test_an_override_wins_whichever_name_it_has(
    tmp_path: Path, in_yaml: str, override: str, value: object, key: str, expected: object
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(in_yaml)
    assert get_setting(load_config(path, [override, value]), key) == expected


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["MODEL.WIDTH", 32, "MODEL.EXTRA.STAGE2.NUM_CHANNELS", [48, 96]],
         ["MODEL.WIDTH", "MODEL.EXTRA.STAGE2.NUM_CHANNELS"]),
        (["MODEL.MODULES", [1, 1, 1], "MODEL.EXTRA.STAGE3.NUM_MODULES", 4],
         ["MODEL.MODULES", "MODEL.EXTRA.STAGE3.NUM_MODULES"]),
        (["TEST.FILL", True, "TEST.REFINE", False], ["TEST.FILL", "TEST.REFINE"]),
        (["MODEL.EXTRA.STAGE2.NUM_CHANNELS", [32, 48]], ["MODEL.EXTRA.STAGE2.NUM_CHANNELS"]),
        (["MODEL.EXTRA.STAGE2.BLOCK", "BOTTLENECK"], ["MODEL.EXTRA.STAGE2.BLOCK"]),
        (["MODEL.EXTRA.STAGE2.NUM_BLOCKS", [2, 2]], ["MODEL.EXTRA.STAGE2.NUM_BLOCKS"]),
        (["MODEL.EXTRA.SOMETHING", 1], ["MODEL.EXTRA.SOMETHING"]),
    ],
)  # fmt: skip
def test_contradictions_name_both_keys(words: list[object], keys: list[str]) -> None:
    (line,) = problems(None, *words)
    assert all(key in line for key in keys)
