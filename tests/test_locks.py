"""Locks of run folders: one owner, taken over when it is dead, here and on another machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import orjson
import pytest

from duopose import locks
from duopose.errors import UserError
from duopose.locks import DEAD, FAILED, FINISHED, RUNNING, STALE, FolderLock, owner_state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "run.lock"


def start(work: Callable[[], object]) -> BaseProcess:
    """Run in a forked process."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def hold_for_ever(path: Path, with_child: bool = False) -> None:
    """Hold the lock; with_child: of a forked process, too, as a data loader has them."""
    with FolderLock(path).hold():
        if with_child:
            start(lambda: time.sleep(30))
        (path.parent / "held").touch()
        time.sleep(30)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def state(path: Path) -> str:
    found = owner_state(path)
    assert found is not None
    return found[0]


def rewrite(path: Path, **fields: object) -> None:
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | fields))


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.mark.parametrize("with_child", [False, True])
def test_refused_while_the_owner_lives_and_free_after_sigkill(path: Path, with_child: bool) -> None:
    owner = start(lambda: hold_for_ever(path, with_child))
    wait_for(path.parent / "held")
    with pytest.raises(UserError, match=rf"process {owner.pid} on {locks.host_name()}.*--name"):
        FolderLock(path).take()
    with pytest.raises(UserError, match=str(owner.pid)):
        FolderLock(path).check_free()
    assert state(path) == RUNNING

    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    assert state(path) == DEAD
    with FolderLock(path).hold() as lock:
        assert state(path) == RUNNING
        lock.end(FINISHED)
    assert state(path) == FINISHED


def test_an_error_is_kept_as_the_reason(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FolderLock(path).hold():
        raise ZeroDivisionError("by nothing")
    found = owner_state(path)
    assert found is not None
    assert found[0] == FAILED and "by nothing" in found[1].reason


def test_restoring_leaves_the_record_of_the_last_run(path: Path) -> None:
    with FolderLock(path).hold() as lock:
        lock.end(FINISHED)
    before = path.read_bytes()
    with pytest.raises(UserError), FolderLock(path).hold() as lock:
        lock.restore()
        raise UserError("settings differ")
    assert path.read_bytes() == before


def test_another_machine_by_its_heartbeat(path: Path) -> None:
    """Its flock may not show here, and its process number means nothing."""
    with FolderLock(path).hold() as lock:
        lock.end(FINISHED)
    rewrite(path, state=RUNNING, host="elsewhere", process=os.getpid())
    assert state(path) == RUNNING
    with pytest.raises(UserError, match="elsewhere"):
        FolderLock(path).take()

    age(path, STALE + 5)
    assert state(path) == DEAD
    with FolderLock(path).hold() as lock:
        lock.end(FINISHED)


def test_without_flock_the_process_and_its_start_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not locks.process_start(os.getpid()):
        pytest.skip("this system has no /proc")
    monkeypatch.setattr(locks, "try_flock", lambda _: True)
    with FolderLock(path).hold():
        with pytest.raises(UserError):
            FolderLock(path).take()
        rewrite(path, process_start="1")  # the number now belongs to a later process
        assert state(path) == DEAD


def test_a_process_that_was_taken_over_does_not_save(path: Path) -> None:
    with FolderLock(path).hold() as lock:
        lock.check_still_held()
        rewrite(path, host="elsewhere")
        with pytest.raises(UserError, match="elsewhere"):
            lock.check_still_held()
        lock.end(FINISHED)
    assert orjson.loads(path.read_bytes())["host"] == "elsewhere"


def test_a_restart_by_torchrun_does_not_wait_for_the_heartbeat(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FolderLock(path).hold() as lock:
        lock.end(FINISHED)
    rewrite(path, state=RUNNING, host="elsewhere", torchrun="job 7")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 8")
    with pytest.raises(UserError):
        FolderLock(path).take()
    with pytest.raises(UserError):
        FolderLock(path).check_free()
    # The restart count of a machine whose own processes have not failed stays 0.
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 7")
    FolderLock(path).check_free()
    with FolderLock(path).hold():
        assert state(path) == RUNNING


def test_heartbeats_touch_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    with FolderLock(path).hold():
        age(path, 100)
        deadline = time.monotonic() + 10
        while locks.seconds_since_touch(path) > 50:
            assert time.monotonic() < deadline
            time.sleep(0.02)
