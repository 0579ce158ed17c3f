"""tools/browse_data.py, called as a user does."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
CFG = ("--cfg", "experiments/sample/demo.yaml")


@pytest.mark.parametrize("model", ["pose_higher_hrnet_de", "pose_higher_hrnet"])
def test_three_drawings_of_an_image(tmp_path: Path, drawn: Path, run_tool: Run, model: str) -> None:
    run_tool(
        "browse_data",
        *CFG,
        "--number",
        2,
        "--out",
        tmp_path,
        "DATASET.ROOT",
        drawn,
        "MODEL.NAME",
        model,
    )
    written = sorted(path.name.rpartition("_")[2] for path in tmp_path.iterdir())
    assert written == ["heatmaps.png"] * 2 + ["offsets.png"] * 2 + ["people.png"] * 2
    for path in tmp_path.iterdir():
        sheet = cv2.imread(str(path))
        assert sheet is not None and sheet.std() > 10
        assert sheet.shape[1] > 850, "images of 96 pixels are enlarged, so that names can be read"


def test_unknown_image_is_named(tmp_path: Path, drawn: Path, run_tool: Run) -> None:
    ended = run_tool(
        "browse_data", *CFG, "--ids", "no-such-id", "--out", tmp_path, "DATASET.ROOT", drawn, code=2
    )
    assert "no-such-id" in ended.stderr and "Traceback" not in ended.stderr
