"""The protocol of an evaluation: test settings, data, code and package versions.

It is written beside every result, so that a number can be repeated.
"""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from duopose import __version__
from duopose.config import skeleton_name

PACKAGES = ("torch", "numpy", "opencv-python-headless", "scipy", "pycocotools", "hotcoco")

# TEST.PROTOCOL -> test scales, flip test. The three protocols of the HigherHRNet paper's tables.
PROTOCOLS = {
    "single": ([1.0], False),
    "flip": ([1.0], True),
    "multiscale": ([0.5, 1.0, 2.0], True),
}


def scales_and_flip(cfg: CfgNode) -> tuple[tuple[float, ...], bool]:
    """The test scales, and whether each is run mirrored, too.

    From TEST.PROTOCOL; where it is empty, from TEST.SCALE_FACTOR and TEST.FLIP_TEST.
    """
    own = (cfg.TEST.SCALE_FACTOR, cfg.TEST.FLIP_TEST)
    scales, flip = PROTOCOLS.get(cfg.TEST.PROTOCOL, own)
    return tuple(scales), bool(flip)


def protocol(cfg: CfgNode, weights: str = "", num_images: int | None = None) -> dict[str, Any]:
    """Everything needed to repeat the evaluation, as plain json values."""
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
    """The commit of the code, with '+changes' if files differ from it; 'unknown' without git."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed_files = _git(folder, "status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed_files else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
