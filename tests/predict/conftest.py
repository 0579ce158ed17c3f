"""A tiny calibration-free model, and a fake one that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from duopose.config import config_text, load_config
from duopose.inference.model import Model, load
from duopose.network import build_network, save_model
from duopose.skeletons import COCO, Skeleton, get_skeleton, skeleton_to_dict

PROJECT = Path(__file__).resolve().parents[2]
TINY = (
    "MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 8,
    "MODEL.DECONV_BLOCKS", 1, "MODEL.HEAD_BLOCKS", 1, "MODEL.INIT_WEIGHTS", False,
    "DATASET.INPUT_SIZE", 64, "TEST.DETECTION_THRESHOLD", 0.05, "TEST.PERSON_THRESHOLD", 0.0,
    "TEST.FLIP_TEST", False, "TEST.MAX_PEOPLE", 4,
)  # fmt: skip


def write_tiny_model(path: Path, skeleton: Skeleton = COCO, name: str = "") -> Path:
    """A model file with random weights, whose maps are full of peaks."""
    cfg = load_config(None, [*TINY, *(("DATASET.SKELETON", name) if name else ())])
    torch.manual_seed(5)
    state = build_network(cfg, skeleton).state_dict()
    save_model(path, state, config_text(cfg), skeleton_to_dict(skeleton))
    return path


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.pth")


@pytest.fixture(scope="session")
def six_keypoints_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = str(PROJECT / "docs" / "examples" / "six_keypoints.yaml")
    return write_tiny_model(tmp_path_factory.mktemp("model") / "six.pth", get_skeleton(name), name)


@pytest.fixture(scope="session")
def model(model_file: Path) -> Model:
    return load(model_file, "cpu", ("TEST.PRESET", "clean"))


WriteImage = Callable[..., Path]


@pytest.fixture
def write_image(tmp_path: Path) -> WriteImage:
    """write_image("a/b.jpg", width, height) writes an image of noise below the test's folder."""

    def write(name: str, width: int = 90, height: int = 70, seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        return path

    return write
