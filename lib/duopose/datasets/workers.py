"""Processes that read images: their signals, and their end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from threading import Thread
from types import FrameType
from typing import Any

import cv2
import torch

PARENT_CHECK = 5.0  # seconds between two looks whether the parent still lives


def prepare_worker(_worker_id: int) -> None:
    """One thread, and signals ignored until the parent process ends the worker.

    Ctrl-C, a closed terminal and a scheduler's SIGTERM reach every process of a job. A worker that
    stopped at the first one would break the training step that its parent still finishes.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_first_sigterm)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform == "linux":
        _end_with_parent()


def end_workers(batches: Iterator[Any]) -> None:
    """End the processes behind an iterator of torch's DataLoader, also those that hang.

    torch ends them when the iterator is collected. An error whose traceback holds a frame with the
    iterator would keep them until the interpreter's exit, which waits for them.
    """
    shut_down = getattr(batches, "_shutdown_workers", None)
    if shut_down is None:  # loaded in this process
        return
    processes = list(batches._workers)  # type: ignore[attr-defined]
    shut_down()
    for process in processes:
        if process.is_alive():
            process.kill()


def _ignore_first_sigterm(_number: int, _frame: FrameType | None) -> None:
    """The next SIGTERM ends the process, as by default."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_with_parent() -> None:
    """Obey the parent's SIGTERM, ignore those of others, and end where the parent is gone.

    A thread of its own, so that a worker that hangs while it reads ends, too.
    """
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def watch() -> None:
        while os.getppid() == parent:
            received = signal.sigtimedwait({signal.SIGTERM}, PARENT_CHECK)
            if received is not None and received.si_pid == parent:
                break
        os._exit(0)

    Thread(target=watch, daemon=True).start()
