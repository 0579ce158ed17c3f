"""The perfect-network test: noise as specified, ideal maps as the targets have them, the tool from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from duopose.config import load_config
from duopose.errors import UserError
from duopose.oracle.ideal_maps import IdealNetwork
from duopose.oracle.noise import displaced, get_noise, maps, misses, none
from duopose.oracle.oracle_test import OracleTest
from duopose.oracle.scene import Scene, clean_scene, mirrored
from duopose.oracle.synthetic_people import crowd
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.types import Batch

LAYOUT = COCO.offset_layout(reverse=True)
SIZE = (512, 384)
TOOL = Path(__file__).resolve().parents[2] / "tools" / "oracle.py"


@pytest.fixture
def scene() -> Scene:
    return clean_scene(crowd(40, *SIZE, COCO), np.full(40, 80.0), LAYOUT)


def test_noise_has_the_stated_size_and_comes_from_the_seed(scene: Scene) -> None:
    noisy = maps(scene, SIZE, np.random.default_rng(0))
    assert np.std(noisy.tag - scene.tag) == pytest.approx(0.3, rel=0.05)
    assert np.std(noisy.offset_error) == pytest.approx(3.0, rel=0.05)
    assert 0.3 <= noisy.height.min() < 0.32 and 0.98 < noisy.height.max() <= 1.0
    assert np.abs(np.corrcoef((noisy.tag - scene.tag).reshape(2, -1))[0, 1]) < 0.1
    again = maps(scene, SIZE, np.random.default_rng(0))
    assert np.array_equal(again.tag, noisy.tag) and np.array_equal(
        again.offset_error, noisy.offset_error
    )
    assert np.array_equal(noisy.peak, scene.peak)


def test_low_peaks_are_displaced_most(scene: Scene) -> None:
    noisy = displaced(scene, SIZE, np.random.default_rng(0))
    share = (noisy.peak - scene.position) / ((1 - noisy.height) * scene.size[:, None])[..., None]
    assert np.std(share) == pytest.approx(0.10, rel=0.05)
    assert np.array_equal(noisy.position, scene.position)


def test_misses_and_false_peaks(scene: Scene) -> None:
    noisy = misses(scene, SIZE, np.random.default_rng(0))
    assert np.mean(noisy.height[scene.labelled] == 0) == pytest.approx(0.10, abs=0.03)
    assert len(noisy.false_peaks.joint) == pytest.approx(0.05 * 40 * 17, rel=0.4)
    assert none(scene, SIZE, np.random.default_rng(0)) is scene
    with pytest.raises(UserError, match="use any of none, maps, displaced, misses"):
        get_noise("fog")


def test_mirroring_twice_is_nothing(scene: Scene) -> None:
    noisy = displaced(scene, SIZE, np.random.default_rng(1))
    twice = mirrored(mirrored(noisy, SIZE[0], COCO, LAYOUT), SIZE[0], COCO, LAYOUT)
    for name in ("position", "peak", "height", "tag", "offset_error"):
        assert np.allclose(getattr(twice, name), getattr(noisy, name)), name


def test_ideal_maps_are_what_training_teaches() -> None:
    """Two programs, one definition: the oracle's maps against the training targets."""
    cfg = load_config(None, ["MODEL.REVERSE_OFFSETS", True])
    keypoints = crowd(5, *SIZE, COCO, seed=3)
    output = IdealNetwork(LAYOUT)(clean_scene(keypoints, np.ones(5), LAYOUT), *SIZE)
    masks = tuple(
        torch.ones(1, SIZE[1] // stride, SIZE[0] // stride, dtype=torch.uint8) for stride in (4, 2)
    )
    people = torch.from_numpy(keypoints[None].astype(np.float32))
    targets = build_targets(cfg, COCO)(
        Batch(torch.zeros(1, 3, SIZE[1], SIZE[0], dtype=torch.uint8), people, masks, [1])
    )
    for ideal, taught in zip(output.heatmaps, targets.heatmaps):
        assert torch.allclose(ideal, taught.float(), atol=2e-3)
    for ideal, taught in zip(output.offsets, targets.offsets):
        flat = ideal.reshape(LAYOUT.num_edges, 2, -1)
        values = flat[taught.edge, :, taught.cell]
        assert torch.allclose(values, taught.offset, atol=1e-2)
        assert int((flat.abs().sum(dim=1) > 0).sum()) <= len(taught.cell)


def test_results_do_not_depend_on_workers_or_limit(real_data: Path) -> None:
    cfg = load_config(None, ["DATASET.INPUT_SIZE", 256])
    path = str(real_data / "annotations_only" / "coco_keypoints_581_images.json")
    few, more = (
        OracleTest(cfg, path, limit, workers=workers) for limit, workers in ((4, 1), (6, 2))
    )
    rows = [next(test.rows(["maps"])) for test in (few, OracleTest(cfg, path, 4, workers=2))]
    assert rows[0]["AP"] == rows[1]["AP"] and rows[0]["people"] == rows[1]["people"]
    assert next(more.rows(["none"]))["AP"] > 0.9


def test_the_tool_writes_its_rows(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "annotations_only" / "crowdpose_keypoints_1400_images.json"
    command = [
        sys.executable,
        str(TOOL),
        "--annotations",
        str(path),
        "--limit",
        "4",
        "--json",
        str(tmp_path / "rows.json"),
    ]
    command += [
        "--noise",
        "none",
        "maps",
        "DATASET.DATASET",
        "crowdpose",
        "DATASET.INPUT_SIZE",
        "256",
    ]
    subprocess.run(command, check=True, capture_output=True)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["noise"] for row in rows] == ["none", "maps"]
    assert set(rows[0]) == {
        "noise",
        "AP",
        "AP50",
        "AP75",
        "AR",
        "people",
        "ms_per_image",
        "settings",
    }
    assert rows[0]["AP"] > 0.9


def test_the_tool_says_what_is_wrong(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "--annotations", str(tmp_path / "no.json"), "--noise", "none"],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 2 and b"no.json" in done.stderr and b"Traceback" not in done.stderr
