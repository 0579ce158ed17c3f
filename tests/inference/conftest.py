"""A tiny model file with random weights, whose maps are full of peaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from duopose.config import config_text, load_config
from duopose.network import build_network, save_model
from duopose.skeletons import COCO, Skeleton, skeleton_to_dict

TINY = (
    "MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 8,
    "MODEL.DECONV_BLOCKS", 1, "MODEL.HEAD_BLOCKS", 1, "MODEL.INIT_WEIGHTS", False,
    "DATASET.INPUT_SIZE", 64,
)  # fmt: skip


@pytest.fixture
def tiny_settings() -> tuple[object, ...]:
    """KEY, VALUE, ... of a tiny network."""
    return TINY


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """write_model(settings, skeleton, config) writes a model file and returns its path."""

    def write(
        settings: tuple[object, ...] = (), skeleton: Skeleton = COCO, config: str | None = None
    ) -> Path:
        cfg = load_config(None, [*TINY, "TEST.DETECTION_THRESHOLD", 0.05, *settings])
        torch.manual_seed(5)
        state = build_network(cfg, skeleton).state_dict()
        path = tmp_path / "tiny.pth"
        text = config_text(cfg) if config is None else config
        save_model(path, state, text, skeleton_to_dict(skeleton))
        return path

    return write


@pytest.fixture
def images() -> list[np.ndarray]:
    """Five images of noise, of two sizes."""
    rng = np.random.default_rng(0)
    sizes = [(80, 100), (80, 100), (100, 80), (80, 100), (100, 80)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
