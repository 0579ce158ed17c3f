"""A run's folder is removed, read-only or full while the training runs; odd clocks and paths."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.training.test_checkpoint import small_disk
from tests.training.test_train import largest_difference, weights
from tests.training.tiny_train import NO_TRICK, folder_of, tiny_config, train_here, work

from duopose.distributed.launch import ExitCode, explain_error, launch
from duopose.errors import UserError
from duopose.locks import FINISHED, RUNNING, FolderLock, Owner, owner_state
from duopose.training import checkpoint, loop
from duopose.training.checkpoint import read_checkpoint
from duopose.training.run import Options
from duopose.training.setup import TrainingRun

EVERY_STEP = ["PRINT_FREQ", 1, "TRAIN.CHECKPOINT_EVERY", 1]


def after_step(
    monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]
) -> list[object]:
    """Do something after a step; what was done."""
    train_step = loop.train_step
    done: list[object] = []

    def step_and_act(run: TrainingRun, batches: Any) -> None:
        train_step(run, batches)
        if run.state.position.step == step and not done:
            done.append(act())

    monkeypatch.setattr(loop, "train_step", step_and_act)
    return done


def test_a_removed_folder_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is learned is lost; only the log of the steps before is."""
    folder = folder_of(tmp_path)
    assert after_step(monkeypatch, 3, lambda: shutil.rmtree(folder.root)) == []
    assert train_here(tmp_path, *EVERY_STEP) == 0
    train_here(tmp_path / "whole")
    assert largest_difference(weights(tmp_path), weights(tmp_path / "whole")) == 0
    for file in (folder.config, folder.protocol, folder.train_log, folder.metrics_csv):
        assert file.is_file(), file
    assert folder.metrics_csv.read_text().startswith("step,epoch,kind,name,value\n3,")
    found = owner_state(folder.lock)
    assert found is not None and found[0] == FINISHED


def test_a_removed_folder_that_another_run_has_taken_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path)
    other = FolderLock(folder.lock)

    def replace() -> None:
        shutil.rmtree(folder.root)
        other.take()

    after_step(monkeypatch, 3, replace)
    monkeypatch.setattr(Owner, "is_same_process", lambda own, _: own is None)
    with pytest.raises(UserError, match=r"taken over"):
        train_here(tmp_path, *EVERY_STEP)
    assert not folder.checkpoint.exists()
    found = owner_state(folder.lock)
    assert found is not None and found[0] == RUNNING
    other.end(FINISHED)


@pytest.mark.parametrize("state", ["ro", "full"])
def test_a_disk_that_cannot_be_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence; the last checkpoint is whole. Needs root for a disk of its own."""
    with small_disk(tmp_path / "disk") as disk:

        def spoil() -> None:
            if state == "full":
                (disk / "others").write_bytes(bytes(shutil.disk_usage(disk).free))
            else:
                monkeypatch.setattr(checkpoint, "write_atomically", refuse)

        def refuse(path: Path, *_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        after_step(monkeypatch, 3, spoil)
        settings = [*EVERY_STEP, "LOG_DIR", str(tmp_path / "log"), "TRAIN.VAL_EVERY", 0]
        arguments = (tiny_config(disk, *settings), Options("tiny.yaml"), NO_TRICK)
        assert launch(work, 1, "cpu", arguments) == ExitCode.USER_ERROR
        error = capsys.readouterr().err
        assert str(disk) in error and "Traceback" not in error
        assert read_checkpoint(folder_of(disk).checkpoint).content["position"]["step"] == 2


def test_jumps_of_the_clock_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day goes back to 1970 and then far ahead; nothing waits for it."""
    days = iter([0.0, 4e9])
    monkeypatch.setattr(time, "time", lambda: next(days, 4e9))
    assert train_here(tmp_path, *EVERY_STEP) == 0
    monkeypatch.undo()
    train_here(tmp_path / "whole")
    assert largest_difference(weights(tmp_path), weights(tmp_path / "whole")) == 0


def test_long_and_unicode_paths(tmp_path: Path) -> None:
    out = tmp_path / "Läufe 人体 ü" / ("long" * 50) / ("path" * 50)
    assert train_here(out, "TRAIN.END_EPOCH", 1) == 0
    assert folder_of(out).model_final.is_file()


def test_a_path_that_the_system_refuses_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = tiny_config(tmp_path / ("x" * 300))
    trick = NO_TRICK
    assert launch(work, 1, "cpu", (cfg, Options("tiny.yaml"), trick)) == ExitCode.USER_ERROR
    error = capsys.readouterr().err
    assert "xxx" in error and "Traceback" not in error


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_errors_of_a_disk_are_sentences(number: int) -> None:
    explanation = explain_error(OSError(number, os.strerror(number), "metrics.csv"))
    assert explanation is not None and "metrics.csv" in explanation


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="an environment of Linux")
def test_without_home_and_locale(tmp_path: Path) -> None:
    """As in a container: no HOME, no user name, the C locale, 8 GB of addresses at most."""
    project = Path(__file__).resolve().parents[2]
    script = project / "tests" / "training" / "tiny_train.py"
    out = tmp_path / "Läufe"
    command = (
        f"ulimit -v 8388608; exec env -i PATH=/usr/bin:/bin LC_ALL=C "
        f"PYTHONIOENCODING=ascii PYTHONPATH={project}/lib:{project} OMP_NUM_THREADS=1 "
        f'{sys.executable} {script} --out "$1" WORKERS 1'
    )
    done = subprocess.run(
        ["bash", "-c", command, "bash", out],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"Traceback" not in done.stdout + done.stderr
