"""With HEATMAP_CENTRES rounded targets equal those of the public code, where it is correct."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from duopose.config import default_config
from duopose.losses.offset_loss import dense_offsets
from duopose.skeletons import COCO, CROWDPOSE, Skeleton
from duopose.targets import build_targets
from duopose.types import Batch, Targets

CASES = [(COCO, prefix, size) for prefix in ("c0_", "c1_", "c2_") for size in (128, 256)] + [
    (CROWDPOSE, "", 128)
]


def read(golden: Path, skeleton: Skeleton, prefix: str, size: int) -> dict[str, np.ndarray]:
    with np.load(golden / "targets" / f"targets_{skeleton.name}.npz") as file:
        return {
            name: file[f"{prefix}{name}_{size}"]
            for name in ("joints", "heatmaps", "visible", "offsets")
        }


def rounded_targets(skeleton: Skeleton, joints: np.ndarray, size: int) -> tuple[Targets, int]:
    """Targets of the golden joints (cells of a map of `size`), and the index of that map."""
    cfg = default_config()
    cfg.DATASET.HEATMAP_CENTRES = "rounded"
    stride = 512 // size
    keypoints = torch.tensor(joints[:, :-1], dtype=torch.float32)
    keypoints[..., :2] *= stride
    masks = tuple(torch.ones(1, 512 // s, 512 // s, dtype=torch.uint8) for s in (4, 2))
    batch = Batch(torch.zeros(1, 3, 512, 512, dtype=torch.uint8), keypoints[None], masks, [0])
    return build_targets(cfg, skeleton)(batch), (4, 2).index(stride)


@pytest.mark.parametrize(("skeleton", "prefix", "size"), CASES)
def test_heatmaps_equal_the_golden_ones(
    golden: Path, skeleton: Skeleton, prefix: str, size: int
) -> None:
    expected = read(golden, skeleton, prefix, size)
    targets, level = rounded_targets(skeleton, expected["joints"], size)
    np.testing.assert_allclose(targets.heatmaps[level][0].numpy(), expected["heatmaps"], atol=1e-6)


@pytest.mark.parametrize(("skeleton", "prefix", "size"), [case for case in CASES if case[2] == 128])
def test_tag_cells_equal_the_golden_visible_indices(
    golden: Path, skeleton: Skeleton, prefix: str, size: int
) -> None:
    expected = read(golden, skeleton, prefix, size)
    tags = rounded_targets(skeleton, expected["joints"], size)[0].tags
    joints = torch.arange(skeleton.num_keypoints + 1)
    for person in range(len(expected["joints"])):
        valid = tags.valid[0, person]
        ours = (joints * size**2 + tags.cells[0, person])[valid].tolist()
        visible = expected["visible"][person]
        assert ours == visible[visible[:, 1] > 0, 0].tolist()


@pytest.mark.parametrize(("skeleton", "prefix", "size"), CASES)
def test_offsets_equal_the_golden_ones_where_those_are_right(
    golden: Path, skeleton: Skeleton, prefix: str, size: int
) -> None:
    expected = read(golden, skeleton, prefix, size)
    targets, level = rounded_targets(skeleton, expected["joints"], size)
    layout = skeleton.offset_layout()
    diagonal = 512 * np.sqrt(2)
    ours = (
        dense_offsets(targets.offsets[level], torch.Size([1, layout.num_channels, size, size]))[
            0
        ].numpy()
        / diagonal
    )
    people, unlabelled = windows_of_the_public_code(
        expected["joints"], layout.source, layout.target, size
    )
    right = (people <= 1) & ~unlabelled
    compared = np.repeat(right, 2, axis=0)
    assert compared.mean() > 0.9
    assert np.abs(np.where(compared, ours - expected["offsets"], 0)).max() < 1e-6
    assert (expected["offsets"][compared] != 0).any()


def windows_of_the_public_code(
    joints: np.ndarray, source: np.ndarray, target: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """(E, size, size) number of windows over a cell; whether one has an unlabelled target."""
    people = np.zeros((len(source), size, size), dtype=int)
    unlabelled = np.zeros(people.shape, dtype=bool)
    for edge, (start, end) in enumerate(zip(source, target)):
        for person in joints:
            x, y = person[start, :2].astype(int)
            if person[start, 2] > 0 and 0 <= x < size and 0 <= y < size:
                window = (edge, slice(max(0, y - 7), y + 8), slice(max(0, x - 7), x + 8))
                people[window] += 1
                unlabelled[window] |= person[end, 2] == 0
    return people, unlabelled
