"""A study of tiny trainings by the real commands, killed and resumed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
PROJECT = Path(__file__).resolve().parents[2]


def write_study(path: Path, settings: tuple[str, ...], data: Path) -> None:
    pairs = zip(settings[::2], settings[1::2], strict=True)
    overrides = "\n".join(f"  {key}: {value}" for key, value in pairs)
    path.write_text(
        f"""
recipe: experiments/sample/demo.yaml
seeds: [0, 1, 2]
budget: cpu_seconds
overrides:
{overrides}
  DATASET.ROOT: {data}
  TRAIN.VAL_EVERY: 0
  TEST.DETECTION_THRESHOLD: 0.02
groups:
- variants:
    DE: {{}}
    MRM off: {{TEST.MRM: 'off'}}
    tags only: {{MODEL.NAME: pose_higher_hrnet}}
"""
    )


def test_plan_work_report(
    drawn: Path, tiny_settings: tuple[str, ...], run_tool: Run, tmp_path: Path
) -> None:
    study = tmp_path / "tiny.yaml"
    write_study(study, tiny_settings, drawn)
    tables = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        run_tool("study", "plan", study, "--out", folder)
        if name == "killed":
            (speed,) = (tmp_path / "whole" / "speed").glob("speed-*[0-9a-f].json")
            run_tool("study", "work", folder, "--jobs", 1)
            (folder / "speed" / speed.name).write_bytes(speed.read_bytes())  # not measured anew
            command = [sys.executable, "tools/study.py", "work", str(folder)]
            worker = subprocess.Popen(command, cwd=PROJECT)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(12)
            worker.kill()
            worker.wait()
        run_tool("study", "work", folder, "--threads", 1)
        assert "failed 0" in run_tool("study", "status", folder).stdout

        run_tool("study", "report", folder, "--out", tmp_path / f"{name}.md", "--resamples", 20)
        lines = (tmp_path / f"{name}.md").read_text().splitlines()
        tables.append([line for line in lines if line.startswith(("| ", "python"))])
    assert tables[0] == tables[1]
    assert any("TRAIN.END_STEP" in line for line in tables[0])
