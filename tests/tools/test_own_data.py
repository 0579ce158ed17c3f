"""The worked example of docs/own_data.md: six keypoints from data to numbers, by the tools."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tools.conftest import PROJECT

Run = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = "experiments/sample/six_keypoints.yaml"
SKELETON = PROJECT / "docs" / "examples" / "six_keypoints.yaml"


@pytest.mark.slow
def test_six_keypoints_from_data_to_numbers(tmp_path: Path, run_tool: Run) -> None:
    skeleton = tmp_path / "skeleton.yaml"
    skeleton.write_text(SKELETON.read_text())
    data = tmp_path / "six"
    sizes = ["--train", 12, "--val", 4, "--size", 96]
    run_tool("make_sample_data", data, *sizes, "--skeleton", skeleton)

    # As torch initialises it, the network has maps full of peaks, so that there are people.
    settings = ["DATASET.ROOT", data, "DATASET.SKELETON", skeleton, "DEVICE", "cpu"]
    settings += ["OUTPUT_DIR", tmp_path / "output", "LOG_DIR", tmp_path / "log"]
    settings += ["THREADS", 1, "WORKERS", 0, "GPUS", 1, "TRAIN.END_EPOCH", 1]
    settings += ["MODEL.INIT_WEIGHTS", False, "TEST.DETECTION_THRESHOLD", 0.02]
    run_tool("check_data", "--cfg", CONFIG, *settings)
    run_tool("dist_train", "--cfg", CONFIG, *settings)

    # The model file is enough, also when the skeleton's yaml is gone.
    skeleton.unlink()
    (model,) = (tmp_path / "output").rglob("model_final.pth")
    run_tool("valid", "--model", model)
    results = model.parent / "results"
    people = json.loads((results / "results.json").read_text())
    assert people and {len(person["keypoints"]) for person in people} == {18}
    metrics = json.loads((results / "metrics.json").read_text())
    assert 0 <= metrics["AP"] <= 1 and metrics["protocol"]["images"] == 4
