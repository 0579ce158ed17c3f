"""Faults of a training's surroundings: images that do not come, processes that hang."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from tests.training.test_distributed import children_of, is_running, wait_for
from tests.training.test_resume import identical
from tests.training.tiny_train import (
    NO_TRICK,
    Trick,
    folder_of,
    tiny_config,
    train_here,
    work,
)

from duopose.datasets.workers import prepare_worker
from duopose.distributed.launch import ExitCode, _local_store, launch
from duopose.training import wait_limit
from duopose.training.checkpoint import read_checkpoint
from duopose.training.run import Options

FORK = multiprocessing.get_context("fork")


def start(function: Callable[[], object]) -> BaseProcess:
    """A process of its own: only at its end the workers can block it."""
    process = FORK.Process(target=function)
    process.start()
    return process


def start_training(out: Path, *overrides: object, trick: Trick = NO_TRICK) -> BaseProcess:
    arguments = (tiny_config(out, *overrides), Options("tiny.yaml"), trick)
    return start(lambda: sys.exit(launch(work, 1, "cpu", arguments)))


def exit_code(process: BaseProcess) -> int | None:
    """Of a process that must end by itself, and its children with it."""
    children = children_of(process.pid or 0)
    wait_for(lambda: not process.is_alive())
    wait_for(lambda: not any(is_running(child) for child in children))
    return process.exitcode


def has_logged(out: Path, pattern: str) -> Callable[[], bool]:
    log = folder_of(out).train_log
    return lambda: log.exists() and re.search(pattern, log.read_text()) is not None


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_unreadable_image_ends_the_training(
    tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    image = str(tmp_path / "gone.jpg")
    process = start_training(tmp_path, "WORKERS", workers, trick=Trick(gone=image))
    assert exit_code(process) == ExitCode.USER_ERROR
    error = capfd.readouterr().err
    assert error.count(image) == 1 and "Traceback" not in error


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_never_come_end_the_training_at_the_limit(
    tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ["WORKERS", workers, "DATA_TIMEOUT", 0.5]
    process = start_training(tmp_path, *settings, trick=Trick(stuck_at=4))
    assert exit_code(process) == ExitCode.USER_ERROR
    error = capfd.readouterr().err
    assert error.count("DATA_TIMEOUT)") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("workers", [0, 1])
def test_sigterm_saves_also_while_no_images_come(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resumed run then ends as an uninterrupted one."""
    monkeypatch.setattr(wait_limit, "STOP_PATIENCE", 0.2)
    settings = ["WORKERS", workers, "PRINT_FREQ", 1, "TRAIN.SHUFFLE", False]
    process = start_training(tmp_path / "cut", *settings, trick=Trick(stuck_at=4))
    wait_for(has_logged(tmp_path / "cut", "step 2 "))
    os.kill(process.pid or 0, signal.SIGTERM)
    assert exit_code(process) == ExitCode.STOPPED
    position = read_checkpoint(folder_of(tmp_path / "cut").checkpoint).content["position"]
    assert position["step"] == 2 and position["seen"] == 4

    assert train_here(tmp_path / "cut", *settings, "AUTO_RESUME", True) == 0
    train_here(tmp_path / "whole", *settings)
    identical(tmp_path / "cut", tmp_path / "whole")


def test_the_main_thread_in_a_dead_system_call_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process in an uninterruptible read sees no signal; here they are blocked."""
    monkeypatch.setattr(wait_limit, "LAST_RESORT", 0.2)

    def train_deaf() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
        train_here(tmp_path, "DATA_TIMEOUT", 0.5, trick=Trick(stuck_at=4))

    assert exit_code(start(train_deaf)) == ExitCode.USER_ERROR
    assert capfd.readouterr().err.count("DATA_TIMEOUT)") == 1


def test_workers_obey_their_parent_alone(tmp_path: Path) -> None:
    """SIGTERM of others is for the parent, which finishes its step with the workers."""
    ready = tmp_path / "ready"

    def worker() -> None:
        prepare_worker(0)
        ready.touch()
        signal.pause()

    process = start(worker)
    wait_for(ready.exists)
    sender = start(lambda: os.kill(process.pid or 0, signal.SIGTERM))
    sender.join()
    process.join(0.3)
    assert process.is_alive()

    process.terminate()
    wait_for(lambda: not process.is_alive())
    assert process.exitcode == 0


def test_workers_end_with_a_killed_training(tmp_path: Path) -> None:
    """Also a worker that hangs while it reads."""
    process = start_training(tmp_path, "WORKERS", 1, trick=Trick(stuck_at=0))
    wait_for(lambda: len(children_of(process.pid or 0)) == 1)
    workers = children_of(process.pid or 0)
    process.kill()
    wait_for(lambda: not any(is_running(worker) for worker in workers))


def test_nohup_is_respected(tmp_path: Path) -> None:
    def train_under_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGHUP)
        train = launch(work, 1, "cpu", (tiny_config(tmp_path), Options("tiny.yaml"), NO_TRICK))
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        sys.exit(train)

    assert exit_code(start(train_under_nohup)) == ExitCode.DONE


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net")
def test_the_store_of_the_launcher_is_on_loopback_alone() -> None:
    store = _local_store()
    port = f":{store.port:04X}"
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()]
    listening = [fields[1] for fields in lines if fields[3] == "0A" and fields[1].endswith(port)]
    assert listening == [f"0100007F{port}"]
