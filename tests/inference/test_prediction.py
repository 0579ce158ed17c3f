"""Images to inputs to results: batches of one size, order, and back to the image's pixels."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from duopose.config import load_config
from duopose.errors import UserError
from duopose.inference.evaluation import in_dataset_order
from duopose.inference.predict_dataset import InputImages, load_batches, plan_batches
from duopose.inference.predictor import InputTransform, Predictor, group_by_key, prepare_image
from duopose.inference.protocol import git_commit, protocol, scales_and_flip
from duopose.network import build_network
from duopose.skeletons import COCO
from duopose.types import ImageResult, Poses

NOBODY = Poses(np.zeros((0, 17, 3)), np.zeros(0), np.zeros((0, 17), dtype=bool))


@dataclass
class Source:
    """A stand-in for a data set: images of given sizes (width, height)."""

    sizes: list[tuple[int, int]]
    broken: int = -1
    image_ids: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.image_ids = [100 + number for number in range(len(self.sizes))]
        self.people = SimpleNamespace(sizes=np.array(self.sizes))

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, index: int) -> np.ndarray:
        if index == self.broken:
            raise UserError(f"image {self.image_ids[index]} cannot be read")
        width, height = self.sizes[index]
        return np.full((height, width, 3), index, dtype=np.uint8)


def test_batches_have_one_input_size_and_hold_every_image_once() -> None:
    source: Any = Source([(640, 480), (480, 640), (640, 480), (641, 480), (100, 100), (640, 480)])
    transform = InputTransform(256)
    batches = plan_batches(source, transform, range(6), 2)
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    for batch in batches:
        assert (
            len({prepare_image(source.read(i), i, transform).inputs[0].shape for i in batch}) == 1
        )
    assert max(map(len, batches)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named(workers: int) -> None:
    source: Any = Source([(64, 64)] * 3, broken=1)
    images = InputImages(source, InputTransform(64))
    with pytest.raises(UserError, match=r"\b101\b"):
        list(load_batches(images, [[0], [1], [2]], workers))


def test_a_file_of_another_size_than_annotated_splits_its_batch() -> None:
    source: Any = Source([(64, 64), (64, 64)])
    source.sizes[1] = (64, 200)
    batches = list(load_batches(InputImages(source, InputTransform(64)), [[0, 1]], 0))
    assert [len(batch) for batch in batches] == [1, 1]


def test_results_come_in_the_data_sets_order_and_exactly_once() -> None:
    source: Any = Source([(64, 64)] * 3)
    results = [ImageResult(image_id, NOBODY) for image_id in (102, 100, 101)]
    in_order = in_dataset_order(source, results)
    assert [result.image_id for result in in_order] == [100, 101, 102]
    for wrong in (results[:2], [*results, results[0]]):
        with pytest.raises(ValueError, match=str(len(wrong))):
            in_dataset_order(source, wrong)


@pytest.mark.parametrize(
    ("name", "scales", "flip"),
    [("single", (1.0,), False), ("flip", (1.0,), True), ("multiscale", (0.5, 1.0, 2.0), True)],
)
def test_protocol_presets(name: str, scales: tuple[float, ...], flip: bool) -> None:
    cfg = load_config(None, ["TEST.PROTOCOL", name, "TEST.SCALE_FACTOR", "[3.0]"])
    assert scales_and_flip(cfg) == (scales, flip)
    assert protocol(cfg)["scales"] == list(scales) and protocol(cfg)["flip"] is flip


def test_without_a_preset_the_keys_are_used() -> None:
    cfg = load_config(None, ["TEST.SCALE_FACTOR", [0.7, 1.3], "TEST.FLIP_TEST", False])
    assert scales_and_flip(cfg) == ((0.7, 1.3), False)


def test_the_protocol_names_the_commit() -> None:
    """40 hexadecimal digits in a checkout."""
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", git_commit())
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=Path(__file__).parent
    )
    if done.returncode == 0:
        assert git_commit().startswith(done.stdout.strip())


def test_groups_are_of_equal_keys_and_bounded() -> None:
    words = ["a", "bb", "c", "d", "ee", "f"]
    batches = list(group_by_key(words, len, 2))
    assert batches == [["a", "c"], ["bb", "ee"], ["d", "f"]]


@pytest.mark.parametrize(
    "settings",
    [
        ("TEST.PROTOCOL", "single"),
        ("TEST.PROTOCOL", "flip"),
        ("TEST.SCALE_FACTOR", [0.7, 1.3]),
    ],
)
@pytest.mark.parametrize("name", ["pose_higher_hrnet_de", "pose_higher_hrnet"])
def test_any_protocol_runs_on_odd_images(
    settings: tuple[object, ...], name: str, tiny_settings: tuple[object, ...]
) -> None:
    cfg = load_config(None, [*tiny_settings, "MODEL.NAME", name, *settings])
    torch.manual_seed(0)
    predictor = Predictor.from_config(cfg, build_network(cfg, COCO), COCO, torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (101, 67, 3), dtype=np.uint8)
    poses = predictor(image)
    assert poses.keypoints.shape[1:] == (17, 3) and np.isfinite(poses.keypoints).all()
    found = poses.keypoints[..., 2] > 0
    assert (poses.keypoints[~found] == 0).all()


def test_mixed_precision_predicts_on_the_cpu(tiny_settings: tuple[object, ...]) -> None:
    cfg = load_config(None, [*tiny_settings, "FP16.ENABLED", True, "FP16.DTYPE", "bf16"])
    predictor = Predictor.from_config(cfg, build_network(cfg, COCO), COCO, torch.device("cpu"))
    outputs = []
    predictor.network.register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output.tags.dtype)
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.isfinite(predictor(image).keypoints).all()
    assert set(outputs) == {torch.bfloat16}
