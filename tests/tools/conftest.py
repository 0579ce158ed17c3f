"""Drawn images and a tiny recipe, small enough to train in seconds by the real commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TINY = (
    "DATASET.INPUT_SIZE", "64", "MODEL.WIDTH", "4", "MODEL.STEM_CHANNELS", "8",
    "MODEL.BLOCKS", "1", "MODEL.MODULES", "[1, 1, 1]", "MODEL.DECONV_BLOCKS", "1",
    "MODEL.HEAD_BLOCKS", "1", "TRAIN.IMAGES_PER_GPU", "4", "TRAIN.END_EPOCH", "2",
    "TRAIN.VAL_EVERY", "2", "TRAIN.OPTIMIZER", "adam",
    "WORKERS", "0", "THREADS", "1", "GPUS", "1", "DEVICE", "cpu",
)  # fmt: skip

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def tiny_settings() -> tuple[str, ...]:
    """KEY VALUE words that make any recipe tiny."""
    return TINY


@pytest.fixture(scope="session")
def run_tool() -> Run:
    """Calls a tool with words; asserts its exit code (0 unless `code` says otherwise)."""

    def run(tool: str, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, f"tools/{tool}.py", *map(str, words)]
        ended = subprocess.run(
            command, check=False, cwd=PROJECT, capture_output=True, text=True, timeout=600
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended

    return run


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory, run_tool: Run) -> Path:
    """Twelve training and six validation images."""
    folder = tmp_path_factory.mktemp("drawn")
    run_tool("make_sample_data", folder, "--train", 12, "--val", 6, "--seed", 3, "--size", 96)
    return folder


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory, drawn: Path, run_tool: Run
) -> tuple[Path, list[str]]:
    """A finished tiny training: its run folder, and the arguments that name it."""
    out = tmp_path_factory.mktemp("run")
    words = [
        "--cfg",
        "experiments/sample/demo.yaml",
        *TINY,
        "DATASET.ROOT",
        drawn,
        "OUTPUT_DIR",
        out / "output",
        "LOG_DIR",
        out / "log",
    ]
    run_tool("dist_train", *words)
    return out / "output" / "coco" / "pose_higher_hrnet_de" / "demo", [str(word) for word in words]
