"""How a number came about: settings of the test, data, code and packages, stamped into every result."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from duopose import __version__
from duopose.config import skeleton_name

PACKAGES = ("torch", "numpy", "opencv-python-headless", "scipy", "pycocotools", "hotcoco")
PRESETS = {"single": ([1.0], False), "flip": ([1.0], True), "multiscale": ([0.5, 1.0, 2.0], True)}


def scales_and_flip(cfg: CfgNode) -> tuple[tuple[float, ...], bool]:
    """The test scales, and whether each is run mirrored too: TEST.PROTOCOL, or SCALE_FACTOR and FLIP_TEST as they stand."""
    scales, flip = PRESETS.get(cfg.TEST.PROTOCOL, (cfg.TEST.SCALE_FACTOR, cfg.TEST.FLIP_TEST))
    return tuple(scales), bool(flip)


def protocol(cfg: CfgNode, weights: str = "", num_images: int | None = None) -> dict[str, Any]:
    """Everything a reader needs to repeat the evaluation, as plain json values."""
    scales, flip = scales_and_flip(cfg)
    return {
        "benchmark": cfg.DATASET.DATASET,
        "skeleton": skeleton_name(cfg),
        "split": cfg.DATASET.TEST,
        "images": num_images,
        "weights": weights,
        "model": cfg.MODEL.NAME,
        "input_size": cfg.DATASET.INPUT_SIZE,
        "scales": list(scales),
        "flip": flip,
        "evaluator": cfg.TEST.EVALUATOR,
        "test_settings": dict(cfg.TEST),
        "mixed_precision": cfg.FP16.DTYPE if cfg.FP16.ENABLED else "off",
        "duopose": __version__,
        "git_commit": git_commit(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def git_commit() -> str:
    """The commit of the code, with '+changes' where files differ from it; 'unknown' outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed.stdout.strip() else "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
