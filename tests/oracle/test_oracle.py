"""Noise as specified, ideal maps equal to the training targets, tools/oracle.py on real files."""

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
from duopose.oracle.noise import NOISE_MODELS, get_noise_model
from duopose.oracle.perfect_network import PerfectNetworkTest, build_ideal_network
from duopose.oracle.simulated_people import SimulatedPeople, ideal_people, in_other_frame, mirrored
from duopose.profiling.synthetic_data import synthetic_people, with_false_peaks
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.types import Batch

LAYOUT = COCO.offset_layout(reverse=True)
SIZE = (512, 384)
TOOL = Path(__file__).resolve().parents[2] / "tools" / "oracle.py"


@pytest.fixture
def people() -> SimulatedPeople:
    return ideal_people(synthetic_people(40, *SIZE, COCO), np.full(40, 80.0), LAYOUT)


def add_noise(name: str, people: SimulatedPeople, seed: int = 0) -> SimulatedPeople:
    return get_noise_model(name)(people, SIZE, np.random.default_rng(seed))


def robust_sigma(errors: np.ndarray) -> float:
    """Standard deviation of a normal distribution with the median of these absolute errors."""
    return float(1.4826 * np.median(np.abs(errors)))


# ---- noise ----


def test_noise_of_maps_has_the_stated_size_and_depends_on_the_seed(people: SimulatedPeople) -> None:
    noisy = add_noise("maps", people)
    tag_error = noisy.tag - people.tag
    assert np.std(tag_error) == pytest.approx(0.3, rel=0.05)
    assert abs(np.corrcoef(tag_error.reshape(2, -1))[0, 1]) < 0.1
    assert np.std(noisy.offset_error) == pytest.approx(3.0, rel=0.05)
    assert 0.3 <= noisy.peak_score.min() < 0.32
    assert 0.98 < noisy.peak_score.max() <= 1.0
    assert np.array_equal(noisy.peak_position, people.peak_position)

    assert np.array_equal(add_noise("maps", people).tag, noisy.tag)
    assert not np.array_equal(add_noise("maps", people, seed=1).tag, noisy.tag)


def test_low_peaks_are_displaced_most(people: SimulatedPeople) -> None:
    noisy = add_noise("displaced", people)
    scale = (1 - noisy.peak_score) * people.person_size[:, None]
    displacement = (noisy.peak_position - people.position) / scale[..., None]
    assert np.std(displacement) == pytest.approx(0.10, rel=0.05)
    assert np.array_equal(noisy.position, people.position)


def test_misses_and_false_peaks(people: SimulatedPeople) -> None:
    noisy = add_noise("misses", people)
    assert np.mean(noisy.peak_score[people.labelled] == 0) == pytest.approx(0.10, abs=0.03)
    assert len(noisy.false_peaks.joint) == pytest.approx(0.05 * 40 * 17, rel=0.4)
    assert add_noise("none", people) is people


def test_learned_errors_have_the_measured_sizes(people: SimulatedPeople) -> None:
    noisy = add_noise("learned", people)
    size = people.person_size[:, None, None]
    found = people.labelled & (noisy.peak_score > 0)
    assert 0.02 < 1 - found.sum() / people.labelled.sum() < 0.12
    assert np.median(noisy.peak_score[found]) == pytest.approx(0.81, abs=0.02)

    assert robust_sigma(noisy.offset_error / size) == pytest.approx(0.10, rel=0.1)
    displacement = (noisy.peak_position - people.position) / size
    expected = 0.22 * np.exp(-3 * noisy.peak_score)[..., None]
    assert robust_sigma((displacement / expected)[found]) == pytest.approx(1.0, rel=0.15)

    tag_error = noisy.tag - np.median(noisy.tag, axis=2, keepdims=True)
    assert robust_sigma(tag_error) == pytest.approx(0.32, rel=0.2)
    assert np.std(np.median(noisy.tag[0], axis=1)) == pytest.approx(2.7, rel=0.3)


def test_learned_false_peaks_lie_at_other_joints(people: SimulatedPeople) -> None:
    false_peaks = add_noise("learned", people).false_peaks
    assert len(false_peaks.joint) == pytest.approx(0.19 * people.labelled[:, :-1].sum(), rel=0.3)
    difference = people.position[:, :-1] - false_peaks.position[:, None, None]  # (N, P, K, 2)
    distance = np.linalg.norm(difference, axis=3) / people.person_size[:, None]
    assert np.median(distance.min(axis=(1, 2))) < 0.1
    assert np.median(false_peaks.score) == pytest.approx(0.49, abs=0.05)


def test_an_unknown_noise_model_is_an_error() -> None:
    with pytest.raises(UserError, match="fog"):
        get_noise_model("fog")


# ---- simulated people ----


def test_the_centre_is_the_mean_of_the_labelled_keypoints() -> None:
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, 5] = (10, 20, 2)
    keypoints[0, 12] = (30, 60, 1)
    keypoints[0, 3] = (900, 900, 0)
    people = ideal_people(keypoints, np.ones(1), LAYOUT)
    assert people.position[0, 17].tolist() == [20, 40]
    assert np.flatnonzero(people.labelled[0]).tolist() == [5, 12, 17]


def test_mirroring_twice_changes_nothing(people: SimulatedPeople) -> None:
    noisy = with_false_peaks(add_noise("displaced", people), 2, *SIZE)
    once = mirrored(noisy, SIZE[0], COCO, LAYOUT)
    twice = mirrored(once, SIZE[0], COCO, LAYOUT)
    left, right = COCO.flip_pairs[0]
    left_index = COCO.keypoints.index(left)
    right_index = COCO.keypoints.index(right)
    assert np.allclose(once.position[:, left_index, 0], 511 - noisy.position[:, right_index, 0])
    for name in ("position", "peak_position", "peak_score", "tag", "offset_error"):
        assert np.allclose(getattr(twice, name), getattr(noisy, name)), name
    for name in ("joint", "position", "score", "tag"):
        assert np.allclose(getattr(twice.false_peaks, name), getattr(noisy.false_peaks, name)), name


def test_another_frame_moves_positions_and_keeps_offset_errors(people: SimulatedPeople) -> None:
    noisy = with_false_peaks(add_noise("displaced", people), 2, *SIZE)
    moved = in_other_frame(noisy, np.array([2.0, 2.0]), np.array([5.0, -1.0]))
    assert np.allclose(moved.position, 2 * noisy.position + [5, -1])
    assert np.allclose(moved.false_peaks.position, 2 * noisy.false_peaks.position + [5, -1])
    assert np.allclose(moved.person_size, 160)
    assert np.array_equal(moved.offset_error, noisy.offset_error)


# ---- ideal maps ----


@pytest.mark.parametrize("heatmap_centres", ["subpixel", "rounded"])
def test_ideal_maps_equal_the_training_targets(heatmap_centres: str) -> None:
    """Two independent programs, one definition."""
    options = ["MODEL.REVERSE_OFFSETS", True, "DATASET.HEATMAP_CENTRES", heatmap_centres]
    cfg = load_config(None, options)
    keypoints = synthetic_people(5, *SIZE, COCO, seed=3)
    network = build_ideal_network(cfg, COCO)
    output = network(ideal_people(keypoints, np.ones(5), LAYOUT), *SIZE)

    width, height = SIZE
    masks = [torch.ones(1, height // stride, width // stride) for stride in (4, 2)]
    images = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    batch = Batch(images, torch.from_numpy(keypoints[None]).float(), tuple(masks), [1])
    targets = build_targets(cfg, COCO)(batch)

    for ideal, target in zip(output.heatmaps, targets.heatmaps, strict=True):
        assert torch.allclose(ideal, target, atol=2e-3)
    for ideal, offsets in zip(output.offsets, targets.offsets, strict=True):
        flat = cfg.MODEL.OFFSET_UNIT * ideal.reshape(LAYOUT.num_edges, 2, -1)
        assert torch.allclose(flat[offsets.edge, :, offsets.cell], offsets.offset, atol=1e-2)
        num_ideal_cells = int((flat.abs().sum(dim=1) > 0).sum())
        assert num_ideal_cells <= len(torch.unique(offsets.edge * 10**6 + offsets.cell))

    tags = output.tags[0].flatten(1)
    for person, cells in enumerate(targets.tags.cells[0]):
        values = tags[torch.arange(18), cells]
        assert (values == person).float().mean() > 0.8, "a few are hidden by nearer people"


def test_a_window_at_the_border_is_cut_off() -> None:
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, 0] = (-200, -200, 2)
    keypoints[0, 5] = (511, 0, 2)
    output = IdealNetwork(LAYOUT)(ideal_people(keypoints, np.ones(1), LAYOUT), *SIZE)
    assert output.heatmaps[0][0, 0].max() == 0
    assert output.heatmaps[0][0, 5].argmax() == 127
    assert int((output.heatmaps[0][0, 5] > 0).sum()) == 8 * 8
    assert output.tags.is_contiguous(memory_format=torch.channels_last)


# ---- the tool ----


def test_results_do_not_depend_on_workers_or_limit(real_data: Path) -> None:
    cfg = load_config(None, ["DATASET.INPUT_SIZE", 256])
    path = str(real_data / "annotations_only" / "coco_keypoints_581_images.json")
    one, two = (
        next(PerfectNetworkTest(cfg, path, limit=4, workers=workers).rows(["maps"]))
        for workers in (1, 2)
    )
    assert one["AP"] == two["AP"]
    assert one["people"] == two["people"]
    assert next(PerfectNetworkTest(cfg, path, limit=6).rows(["none"]))["AP"] > 0.9


def test_the_tool_writes_its_rows(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "annotations_only" / "crowdpose_keypoints_1400_images.json"
    file = tmp_path / "rows.json"
    settings = ["DATASET.DATASET", "crowdpose", "DATASET.INPUT_SIZE", "256"]
    options = ["--annotations", str(path), "--limit", "4", "--workers", "1", "--json", str(file)]
    command = [sys.executable, str(TOOL), *options, "--noise", "none", "maps", *settings]
    subprocess.run(command, check=True, capture_output=True)

    rows = json.loads(file.read_text())
    assert [row["noise"] for row in rows] == ["none", "maps"]
    metrics = {"AP", "AP50", "AP75", "AR"}
    assert set(rows[0]) == metrics | {"noise", "people", "ms_per_image", "settings"}
    assert rows[0]["AP"] > 0.9


def test_the_tool_names_a_missing_file(tmp_path: Path) -> None:
    options = ["--annotations", str(tmp_path / "no.json"), "--noise", "none"]
    done = subprocess.run([sys.executable, str(TOOL), *options], check=False, capture_output=True)
    assert done.returncode == 2
    assert b"no.json" in done.stderr
    assert b"Traceback" not in done.stderr
    assert set(NOISE_MODELS) == {"none", "maps", "displaced", "misses", "learned"}
