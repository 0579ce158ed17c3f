"""A study of tiny trainings by the real commands, killed and resumed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
PROJECT = Path(__file__).resolve().parents[2]


def write_study(path: Path, settings: tuple[str, ...], data: Path) -> None:
    pairs = dict(zip(settings[::2], settings[1::2], strict=True))
    pairs |= {"DATASET.ROOT": str(data), "TRAIN.VAL_EVERY": "0"}
    overrides = "\n".join(f"  {key}: {value}" for key, value in pairs.items())
    path.write_text(
        f"""
recipe: experiments/sample/demo.yaml
seeds: [0, 1, 2]
budget: cpu_seconds
overrides:
{overrides}
  TEST.DETECTION_THRESHOLD: 0.02
  TEST.START_THRESHOLD: 0.02
  MODEL.INIT_WEIGHTS: false
groups:
- variants:
    DE: {{}}
    MRM off: {{TEST.MRM: 'off'}}
    tags only: {{MODEL.NAME: pose_higher_hrnet}}
"""
    )


def test_killed_and_resumed_it_gives_the_same_results_and_table(
    drawn: Path, tiny_settings: tuple[str, ...], run_tool: Run, tmp_path: Path
) -> None:
    study = tmp_path / "tiny.yaml"
    write_study(study, tiny_settings, drawn)
    whole = tmp_path / "whole"
    run_tool("study", "plan", study, "--out", whole)
    run_tool("study", "work", whole, "--threads", 1)

    killed = tmp_path / "killed"
    run_tool("study", "plan", study, "--out", killed)
    run_tool("study", "work", killed, "--jobs", 1)
    for path in (whole / "speed").glob("*.json"):  # the number of steps, not measured anew
        shutil.copy(path, killed / "speed")
    command = [sys.executable, "tools/study.py", "work", str(killed), "--threads", "1"]
    worker = subprocess.Popen(command, cwd=PROJECT)
    while not list((killed / "runs").glob("*/output")):
        assert worker.poll() is None
        time.sleep(0.05)
    worker.kill()
    worker.wait()
    run_tool("study", "work", killed, "--threads", 1)

    results = sorted((whole / "results").glob("*/results.json"))
    assert len(results) == 9
    for path in results:
        resumed = killed / "results" / path.parent.name / "results.json"
        assert len(path.read_bytes()) > 1000 and path.read_bytes() == resumed.read_bytes()
    tables = [table_of(run_tool, folder) for folder in (whole, killed)]
    assert tables[0] == tables[1]
    assert any("TRAIN.END_STEP" in line for line in tables[0])


def table_of(run_tool: Run, folder: Path) -> list[str]:
    """The tables and commands of the report."""
    assert "failed 0" in run_tool("study", "status", folder).stdout
    page = folder / "study.md"
    run_tool("study", "report", folder, "--out", page, "--resamples", 20)
    return [line for line in page.read_text().splitlines() if line.startswith(("| ", "python"))]
