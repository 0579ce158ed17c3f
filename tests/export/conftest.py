"""A tiny model file with random weights and a calibration, and its ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from duopose.config import config_text, load_config
from duopose.decode.calibration import NUM_FEATURES, SCORE_KNOTS, Calibration
from duopose.export.export_model import ExportResult, export_model
from duopose.network import build_network, save_model
from duopose.skeletons import COCO, skeleton_to_dict

TINY = (
    "MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 8,
    "MODEL.DECONV_BLOCKS", 1, "MODEL.HEAD_BLOCKS", 1, "MODEL.INIT_WEIGHTS", False,
    "MODEL.FINE_OFFSETS", True, "DATASET.INPUT_SIZE", 64, "TEST.DETECTION_THRESHOLD", 0.05,
    # The sub-pixel step divides by the curvature of the maps, which is nearly 0 in random ones.
    "TEST.SUBPIXEL", False,
)  # fmt: skip


class Exported(NamedTuple):
    """A model file and what `export_model` made of it."""

    source: Path
    path: Path
    result: ExportResult


def write_tiny_model(path: Path, *settings: Any, calibrated: bool = False) -> Path:
    """A model file with random weights, whose maps are full of peaks."""
    cfg = load_config(None, [*TINY, *settings])
    torch.manual_seed(5)
    state = build_network(cfg, COCO).state_dict()
    extra = {"calibration": tiny_calibration().to_dict()} if calibrated else {}
    save_model(path, state, config_text(cfg), skeleton_to_dict(COCO), extra)
    return path


def tiny_calibration() -> Calibration:
    """Plausible values for COCO's joints."""
    knots = tuple(np.linspace(-3.0, 3.0, len(SCORE_KNOTS)).tolist())
    return Calibration(
        tag_sigma=0.5,
        log_gain_tag=1.5,
        offset_sigma=3.0,
        offset_sigma_relative=0.1,
        overlap_sigma=0.5,
        log_gain_offset=3.0,
        outlier_probability=0.1,
        nms_suppressed_penalty=1.0,
        start_threshold=0.05,
        peak_log_odds=knots,
        joint_distance=(1.0,) * 17,
        limbs=((5, 7),),
        limb_limit=(0.8,),
        limb_scale=(0.2,),
        person_weights=(0.5,) * NUM_FEATURES,
        sigma_of_score=(0.1,) * len(SCORE_KNOTS),
        sigma_of_kind=(0.0, 0.2, 0.4),
        sigma_of_joint=(0.0,) * 17,
        num_tags=2,
        num_images=10,
    )


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """`write_tiny_model`."""
    return write_tiny_model


@pytest.fixture(scope="session")
def onnx_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The calibrated tiny model as ONNX; it is exported once, because that takes seconds."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("onnx")
    source = write_tiny_model(folder / "tiny.pth", calibrated=True)
    result = export_model(source, "onnx", settings=("TEST.MAX_PEOPLE", 7), repeats=2)
    return Exported(source, result.files[-1], result)


@pytest.fixture
def images() -> list[np.ndarray]:
    """Three images of noise, of two sizes."""
    rng = np.random.default_rng(0)
    sizes = [(80, 100), (80, 100), (100, 80)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
