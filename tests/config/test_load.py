"""Settings: merging, types, and all mistakes told at once with the nearest valid key."""

from __future__ import annotations

from pathlib import Path

import pytest

from duopose.config import config_text, load_config
from duopose.config.defaults import default_config
from duopose.config.merge import dotted_keys
from duopose.config.validate import CHOICES, RANGES
from duopose.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
YAMLS = sorted((PROJECT / "experiments").rglob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_overrides_win_and_types_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "TRAIN:\n  LR: 1e-3\n  LR_STEP: [5]\nFP16: {ENABLED: false}\n")
    cfg = load_config(
        path,
        [
            "FP16.ENABLED",
            "True",
            "TRAIN.WD",
            "1",
            "TEST.SCALE_FACTOR",
            "[1, 2]",
            "TRAIN.IMAGES_PER_GPU",
            4,
        ],
    )
    assert cfg.TRAIN.LR == 0.001 and cfg.TRAIN.LR_STEP == [5] and cfg.FP16.ENABLED is True
    assert cfg.TRAIN.WD == 1.0 and isinstance(cfg.TRAIN.WD, float)
    assert cfg.TEST.SCALE_FACTOR == [1.0, 2.0] and all(
        isinstance(s, float) for s in cfg.TEST.SCALE_FACTOR
    )


def test_loading_is_pure_and_frozen(tmp_path: Path) -> None:
    first = load_config(None, ["TRAIN.LR", "0.5"])
    assert load_config(None).TRAIN.LR == default_config().TRAIN.LR
    with pytest.raises(AttributeError):
        first.TRAIN.LR = 1.0


def test_dump_reads_back(tmp_path: Path) -> None:
    cfg = load_config(None, ["MODEL.WIDTH", "16", "TEST.SCALE_FACTOR", "[0.5, 1.0]"])
    assert load_config(write(tmp_path, config_text(cfg))) == cfg


def test_all_errors_come_together_with_the_nearest_key() -> None:
    with pytest.raises(UserError) as error:
        load_config(
            None,
            [
                "TRAIN.LRR",
                "1",
                "FP16.ENABLED",
                "maybe",
                "TRAIN.WD",
                "much",
                "TEST.SCALES",
                "[1]",
                "SYNC_BN",
                "True",
            ],
        )
    message = str(error.value)
    assert "5 problem(s)" in message
    assert "TRAIN.LRR" in message and "did you mean TRAIN.LR?" in message
    assert "FP16.ENABLED: expected True or False" in message
    assert "TRAIN.WD: expected a number" in message
    assert "did you mean MODEL.SYNC_BN?" in message


def test_wrong_values_are_all_told() -> None:
    settings = [
        "DATASET.INPUT_SIZE",
        "500",
        "TEST.NMS_KERNEL",
        "4",
        "DEVICE",
        "gpu",
        "DATASET.SKELETON",
        "horse",
        "TRAIN.LR",
        "nan",
        "MODEL.WIDTH",
        "30",
    ]
    with pytest.raises(UserError) as error:
        load_config(None, settings)
    for part in (
        "INPUT_SIZE: 500",
        "multiple of 32",
        "NMS_KERNEL: 4",
        "DEVICE: 'gpu'",
        "'horse' is unknown",
        "LR: nan",
        "WIDTH: 30",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["settings.py", "missing.yaml", "list.yaml", "broken.yaml"])
def test_unusable_files_are_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "settings.py").write_text("raise SystemExit('executed')")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match=name):
        load_config(tmp_path / name)


def test_checked_keys_exist() -> None:
    keys = set(dotted_keys(default_config()))
    assert set(CHOICES) <= keys and set(RANGES) <= keys


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_recipe_loads(path: Path) -> None:
    load_config(path)


def test_there_are_recipes() -> None:
    assert len(YAMLS) >= 9
