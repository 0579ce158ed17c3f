"""The worked example of docs/own_data.md: six keypoints from data to numbers, by the commands themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = "experiments/sample/six_keypoints.yaml"
SKELETON = "docs/examples/six_keypoints.yaml"


def command(*words: object) -> str:
    """Output of one of the tools, run from the project's folder; its exit code must be 0."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_six_keypoints_from_data_to_numbers(tmp_path: Path) -> None:
    data = tmp_path / "six"
    command(
        "tools/make_sample_data.py",
        data,
        "--train",
        12,
        "--val",
        4,
        "--size",
        96,
        "--skeleton",
        SKELETON,
    )
    settings = [
        "DATASET.ROOT",
        data,
        "OUTPUT_DIR",
        tmp_path / "output",
        "LOG_DIR",
        tmp_path / "log",
        "THREADS",
        1,
        "WORKERS",
        0,
    ]
    assert "no problems found" in command("tools/check_data.py", "--cfg", CONFIG, *settings)
    command("tools/dist_train.py", "--cfg", CONFIG, *settings, "TRAIN.END_EPOCH", 1)
    command("tools/valid.py", "--cfg", CONFIG, *settings, "TRAIN.END_EPOCH", 1)
    results = next((tmp_path / "output").rglob("results.json"))
    assert all(len(person["keypoints"]) == 18 for person in json.loads(results.read_text()))
    metrics = json.loads((results.parent / "metrics.json").read_text())
    assert "AP" in json.dumps(metrics)
