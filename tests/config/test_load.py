"""Loading: defaults <- yaml <- overrides, types, and all mistakes reported together."""

from __future__ import annotations

from pathlib import Path

import pytest

from duopose.config import (
    config_from_text,
    config_text,
    default_config,
    load_config,
    saved_settings,
)
from duopose.config.differences import differences, resolved_text
from duopose.config.load import override_keys
from duopose.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
STUDIES = PROJECT / "experiments" / "studies"  # no settings; tests/study/test_plan.py reads them
YAMLS = sorted(p for p in (PROJECT / "experiments").rglob("*.yaml") if p.parent != STUDIES)


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def problems(*words: object) -> list[str]:
    """The problems that these overrides cause, one line each."""
    with pytest.raises(UserError) as error:
        load_config(None, words)
    return str(error.value).splitlines()[1:]


def test_overrides_win_and_types_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "TRAIN:\n  LR: 1e-3\n  LR_STEP: [5]\nFP16: {ENABLED: false}\n")
    words = ["FP16.ENABLED", "True", "TRAIN.WD", "1", "TEST.SCALE_FACTOR", "[1, 2]"]
    cfg = load_config(path, [*words, "TRAIN.IMAGES_PER_GPU", 4])

    assert cfg.TRAIN.LR == 0.001 and cfg.TRAIN.LR_STEP == [5]
    assert cfg.FP16.ENABLED is True and cfg.TRAIN.IMAGES_PER_GPU == 4
    assert cfg.TRAIN.WD == 1.0 and isinstance(cfg.TRAIN.WD, float)
    assert cfg.TEST.SCALE_FACTOR == [1.0, 2.0]
    assert all(isinstance(scale, float) for scale in cfg.TEST.SCALE_FACTOR)


def test_loading_is_pure_and_frozen() -> None:
    first = load_config(None, ["TRAIN.LR", "0.5"])
    assert load_config(None).TRAIN.LR == default_config().TRAIN.LR
    with pytest.raises(AttributeError):
        first.TRAIN.LR = 1.0


def test_text_reads_back(tmp_path: Path) -> None:
    cfg = load_config(None, ["MODEL.WIDTH", "16", "TEST.SCALE_FACTOR", "[0.5, 1.0]"])
    text = config_text(cfg)
    assert load_config(write(tmp_path, text)) == cfg
    assert config_from_text(text) == cfg
    assert config_from_text(text, ["MODEL.WIDTH", 20]).MODEL.WIDTH == 20


def test_saved_settings_are_in_todays_keys() -> None:
    saved = saved_settings(
        "TEST: {REFINE: false}\nTRAIN: {LR: 0.5}\nDATASET: {SKELETON: gone.yaml}"
    )
    assert saved["TEST.FILL"] is False and "TEST.REFINE" not in saved
    assert saved["TRAIN.LR"] == 0.5 and saved["DATASET.SKELETON"] == "gone.yaml"
    assert saved["MODEL.WIDTH"] == default_config().MODEL.WIDTH


def test_all_mistakes_come_together() -> None:
    found = problems(
        *("TRAIN.LRR", "1"), *("FP16.ENABLED", "maybe"), *("TRAIN.WD", "much"),
        *("TRAIN.LR_STEP", "5"), *("GPUS", "1.5"), *("DATASET.ROOT", "1"),
    )  # fmt: skip
    keys = ["TRAIN.LRR", "FP16.ENABLED", "TRAIN.WD", "TRAIN.LR_STEP", "GPUS", "DATASET.ROOT"]
    assert [line.split(":")[0].strip(" -") for line in found] == keys


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("TRAIN.LRR", "TRAIN.LR"),
        ("test.flip_test", "TEST.FLIP_TEST"),
        ("SYNC_BN", "MODEL.SYNC_BN"),
        ("TEST.BATCH_SIZE_NMS_KERNEL", "TEST.NMS_KERNEL"),
        ("TRAIN.OFFSET_UNIT", "MODEL.OFFSET_UNIT"),
    ],
)
def test_unknown_keys_name_the_nearest(key: str, nearest: str) -> None:
    (line,) = problems(key, "1")
    assert key in line and nearest in line.split("mean")[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATASET.INPUT_SIZE", "500"),
        ("DATASET.SKELETON", "horse"),
        ("DATASET.MIN_SCALE", "2.0"),
        ("DEVICE", "gpu"),
        ("LOSS.HEATMAPS_LOSS_FACTOR", "[1.0, 2.0, 3.0]"),
        ("MODEL.MODULES", "[1, 1]"),
        ("MODEL.WIDTH", "30"),
        ("TEST.NMS_KERNEL", "4"),
        ("TEST.OUTLIER_PROBABILITY", "0"),
        ("TEST.SCALE_FACTOR", "[]"),
        ("TRAIN.BEGIN_EPOCH", "300"),
        ("TRAIN.END_EPOCH", "0"),
        ("TRAIN.LR", "nan"),
        ("TRAIN.LR", "inf"),
        ("TRAIN.MOMENTUM", "1"),
    ],
)
def test_values_that_cannot_work(key: str, value: str) -> None:
    (line,) = problems(key, value)
    assert key in line and value.strip("'") in line


def test_the_baseline_has_no_reverse_offsets_and_any_width() -> None:
    baseline = ["MODEL.NAME", "pose_higher_hrnet"]
    assert load_config(None, [*baseline, "MODEL.WIDTH", 30]).MODEL.WIDTH == 30
    (line,) = problems(*baseline, "MODEL.REVERSE_OFFSETS", True)
    assert "MODEL.REVERSE_OFFSETS" in line


@pytest.mark.parametrize("name", ["settings.py", "missing.yaml", "list.yaml", "broken.yaml"])
def test_unusable_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "settings.py").write_text("raise SystemExit('executed')")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match=name):
        load_config(tmp_path / name)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_recipe_loads(path: Path) -> None:
    load_config(path)


def test_there_are_recipes() -> None:
    assert len(YAMLS) >= 9


@pytest.mark.parametrize("benchmark", ["coco", "crowd_pose", "mpii"])
def test_the_public_paths_of_double_embedding_work(benchmark: str) -> None:
    public = PROJECT / "experiments" / benchmark / "higher_hrnet"
    ours = public.with_name("double_embedding")
    names = [path.name for path in ours.iterdir()]
    assert names and sorted(path.name for path in public.iterdir()) == sorted(names)

    for name in names:
        assert load_config(public / name) == load_config(ours / name)
        assert load_config(public / name).MODEL.NAME == "pose_higher_hrnet_de"


def test_key_and_value_may_be_one_word() -> None:
    cfg = load_config(None, ["TRAIN.LR=0.1", "SEED", "3", "DATASET.ROOT=a=b"])
    assert cfg.TRAIN.LR == 0.1 and cfg.SEED == 3 and cfg.DATASET.ROOT == "a=b"
    assert override_keys(["TRAIN.LR=0.1", "TEST.REFINE", True]) == {"TRAIN.LR", "TEST.FILL"}
    with pytest.raises(UserError, match="'SEED' has no value"):
        load_config(None, ["TRAIN.LR=0.1", "SEED"])


def test_mistakes_are_blamed_on_where_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, "TRAIN: {LR: 0.5}\n")
    with pytest.raises(UserError) as error:
        load_config(path, ["TRAIN.WD", "much"])
    assert str(path) not in str(error.value) and "KEY VALUE" in str(error.value)

    path = write(tmp_path, "TRAIN: {LR: no}\n")
    with pytest.raises(UserError) as error:
        load_config(path, ["TRAIN.WD", "much"])
    head, *lines = str(error.value).splitlines()
    assert head.startswith(str(path))
    blamed = {line.split(":")[0].strip(" -"): "KEY VALUE" in line for line in lines}
    assert blamed == {"TRAIN.LR": False, "TRAIN.WD": True}


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("MODEL.UPSAMPLE", "bilinaer", "bilinear"),
        ("TRAIN.OPTIMIZER", "AdamW", "adamw"),
        ("FP16.ENABLED", "yes", "True"),
        ("VERBOSE", "off", "False"),
    ],
)
def test_a_wrong_value_names_the_nearest(key: str, value: str, meant: str) -> None:
    (line,) = problems(key, value)
    assert line.endswith(f"did you mean {meant}?")


def test_differences_and_the_printed_settings(tmp_path: Path) -> None:
    first = saved_settings("TRAIN: {LR: 0.5}")
    second = saved_settings("SEED: 3")
    assert differences([first, second, first]) == {"SEED": [0, 3, 0], "TRAIN.LR": [0.5, 0.001, 0.5]}
    cfg = load_config(None, ["SEED", 3])
    text = resolved_text(cfg, ["a comment"])
    assert text.startswith("# a comment\n# 1 of ") and load_config(write(tmp_path, text)) == cfg
