"""The harness of `tools/gpu_check.py`: limits, crashes, the table, exit codes, wheels.

The checks themselves run with `tools/gpu_check.py --device cpu`.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from duopose.errors import UserError
from duopose.gpu_check import check_runner, evaluated_people, synchronising_lines, wheels
from duopose.gpu_check.check_list import CHECKS, select
from duopose.gpu_check.check_runner import Check, Finding, Job, Result
from duopose.gpu_check.cpu_agreement import targets
from duopose.gpu_check.synchronising_lines import PACKAGE, WARNING, WaitLines
from duopose.types import ImageResult, Poses

# Of a process that is its own check: one finding, and then ...
FINDING = '{"name": "first", "passed": true, "figure": "1", "seconds": 0.5}\\n'
ENDINGS = {
    "good": "",
    "fails": 'f.write(\'{"name": "b", "passed": false, "figure": "2", "seconds": 0}\\n\')',
    "crashes": "f.close(); import os; os.abort()",
    "raises": "f.close(); raise ValueError('the reason')",
    "hangs": "f.close(); import time; time.sleep(1000)",
    "is cut off": "f.write('{\"name\"'); f.close(); import os; os._exit(3)",
}


def run(folder: Path, **limits: float) -> tuple[dict[str, list[Result]], list[str]]:
    """Results of a job for each of ENDINGS with a limit, by name; what was reported."""
    jobs = []
    for name, limit in limits.items():
        ending = ENDINGS[name.replace("_", " ")]
        file = folder / f"{name}.jsonl"
        code = f"f = open({str(file)!r}, 'w'); f.write('{FINDING}'); {ending}"
        jobs.append(Job(name, [sys.executable, "-S", "-c", code], file, limit))
    lines: list[str] = []
    results = check_runner.run_jobs(jobs, 1000, 2, lines.append)
    by_job: dict[str, list[Result]] = {}
    for job in jobs:
        count = len(check_runner.read_results(job.file))
        extra = job.name not in ("good", "fails")
        by_job[job.name] = results[: count + extra]
        results = results[count + extra :]
    assert not results
    return by_job, lines


def test_a_check_that_crashes_or_hangs_is_a_failed_row_and_the_others_go_on(tmp_path: Path) -> None:
    start = time.monotonic()
    results, lines = run(
        tmp_path, crashes=500, raises=500, hangs=5, is_cut_off=500, fails=500, good=500
    )
    assert time.monotonic() - start < 900
    for name, rows in results.items():
        assert rows[0] == Result("first", "ok", "1", 0.5)
        assert len(rows) == (1 if name == "good" else 2)
        assert rows[-1].result == ("ok" if name == "good" else "FAILED")
        assert name in ("good", "fails") or rows[-1].check == name

    assert "limit of 5 s" in results["hangs"][-1].figure
    assert results["hangs"][-1].seconds >= 5
    assert "the reason" in results["raises"][-1].figure
    assert "exit code 3" in results["is_cut_off"][-1].figure
    assert any("Traceback" in line for line in lines)  # the output of a check that failed


def test_what_does_not_fit_into_the_whole_time_is_a_failed_row(tmp_path: Path) -> None:
    job = Job("late", [sys.executable, "-c", "raise SystemExit(9)"], tmp_path / "file", 100)
    (result,) = check_runner.run_jobs([job], 0, 1)
    assert (result.check, result.result) == ("late", "FAILED") and "time" in result.figure


def test_a_check_without_findings_has_failed(tmp_path: Path) -> None:
    job = Job("empty", [sys.executable, "-S", "-c", "pass"], tmp_path / "file", 500)
    (result,) = check_runner.run_jobs([job], 1000, 1, lambda _: None)
    assert result.result == "FAILED"


def test_findings_are_written_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    seen = []

    def findings() -> object:
        yield Finding("a", True, "x")
        seen.append(len(check_runner.read_results(file)))
        yield Finding("b", None, "why not")

    check_runner.write_findings(findings(), file)  # type: ignore[arg-type]
    assert seen == [1]
    assert [row.result for row in check_runner.read_results(file)] == ["ok", "left out"]


def test_the_table_and_the_exit_code() -> None:
    good = Result("a", "ok", "x | y\nz", 1.25)
    left_out = Result("b", "left out", "no GPU")
    failed = Result("c", "FAILED", "2", 3.0)
    lines = check_runner.table([good, left_out, failed]).splitlines()
    assert lines[0] == "| check | result | figure | s |"
    assert lines[2:] == [
        "| a | ok | x / y z | 1.2 |",
        "| b | left out | no GPU |  |",
        "| c | FAILED | 2 | 3.0 |",
    ]
    assert check_runner.exit_code([good, left_out]) == 0
    assert check_runner.exit_code([good, failed]) == 1
    assert check_runner.exit_code([left_out]) == 1  # nothing was checked


# ---- the checks ----


def test_on_a_cpu_the_checks_that_need_cuda_are_listed() -> None:
    left_out = {row.check for row in check_runner.without_cuda(CHECKS)}
    names = {"step waits", "image waits", "synchronised norm", "compiled"}
    assert left_out == names | {"benchmark fp16 compiled"}
    assert len({check.name for check in CHECKS}) == len(CHECKS)

    (check,) = select("benchmark fp16 compiled")
    assert check.alone and check.limit == select(check.name, 2.0)[0].limit / 2
    assert [one.name for one in select("")] == [one.name for one in CHECKS]
    with pytest.raises(UserError, match="batch search"):
        select("waits")


def test_a_check_on_the_cpu() -> None:
    findings = list(targets("cpu"))
    assert len(findings) == 4 and all(finding.passed for finding in findings)


def test_people_of_an_evaluation_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluated_people, "NUM_IMAGES", {"cpu": 3})
    as_single, as_cpu = evaluated_people.evaluated_people("cpu")
    assert as_single.passed
    assert as_cpu.passed is None

    poses = Poses(np.zeros((1, 17, 3)), np.ones(1), np.zeros((1, 17), dtype=bool))
    moved = replace(poses, keypoints=np.ones((1, 17, 3)))
    found = [ImageResult(1, moved)]
    assert not evaluated_people._compared("moved", found, [ImageResult(1, poses)]).passed
    assert evaluated_people._compared("same", found, found).passed


def test_waits_are_counted_by_the_line_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    text = f"called a {WARNING} (function warn)"
    module = compile("\n\nwarn(text)", str(PACKAGE / "decode" / "peaks.py"), "exec")

    with synchronising_lines.counted_waits() as waits:
        for _ in range(3):
            exec(module, {"warn": warnings.warn, "text": text})
        warnings.warn(text, stacklevel=1)
        warnings.warn("another warning", stacklevel=1)
    assert waits.lines == {"decode/peaks.py:3": 3, synchronising_lines.OTHER_CODE: 1}
    assert modes == ["warn", "default"]
    assert waits.finding("waits", 4).passed and not waits.finding("waits", 3).passed
    assert WaitLines().finding("waits", 0).passed


def test_a_check_gets_at_most_what_is_left(tmp_path: Path) -> None:
    check = Check("one", targets, 60)
    (job,) = check_runner.make_jobs([check], lambda one, file: [one.name, str(file)], tmp_path)
    assert job.limit == 60 and list(job.command) == ["one", str(job.file)]


# ---- wheels ----


def test_missing_packages_are_unpacked_from_their_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "MODULES", {"Strange-Package": "strange_module", "numpy": "numpy"})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    folder = tmp_path / "wheels"
    with pytest.raises(UserError, match="Strange-Package"):
        wheels.add_missing(folder, tmp_path / "target")

    folder.mkdir()
    with zipfile.ZipFile(folder / "strange_package-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("strange_module/__init__.py", "ANSWER = 42\n")
    assert wheels.add_missing(folder, tmp_path / "target") == ["Strange-Package"]
    assert importlib.import_module("strange_module").ANSWER == 42
    assert os.environ["PYTHONPATH"] == f"{tmp_path / 'target'}:/elsewhere"
    assert wheels.add_missing(folder, tmp_path / "other") == []


def test_a_wheel_for_another_python_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "MODULES", {"odd": "odd_module"})
    with zipfile.ZipFile(tmp_path / "odd-1.0-cp27-cp27m-linux_x86_64.whl", "w"):
        pass
    with pytest.raises(UserError, match="odd-1"):
        wheels.add_missing(tmp_path, tmp_path / "target")


def test_the_lock_has_a_version_of_each_package() -> None:
    lock = Path(__file__).resolve().parents[2] / "requirements.lock"
    versions = wheels.locked_versions(lock)
    assert set(versions) == set(wheels.MODULES) and all(versions.values())
