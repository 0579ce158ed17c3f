"""A limit on the time that a training waits for images.

A read may never return: a network disk is gone, a worker hangs. The main thread is then blocked in
a system call, in which it sees neither time nor signals. A second thread watches it and interrupts
the call.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, get_ident
from typing import Any

from duopose.datasets.loader import NO_IMAGES
from duopose.errors import UserError

POLL = 0.5  # seconds between two looks at the main thread
STOP_PATIENCE = 10.0  # seconds that a batch may still take after a signal to stop
# Seconds until the process ends hard where the main thread does not even react to a signal, as in
# a read from a dead disk.
LAST_RESORT = 30.0


class StoppedWhileWaiting(BaseException):
    """A signal to stop came while no images came; everything up to the last step is there."""


class WaitLimit:
    """Ends a wait for images in the main thread that takes too long, as a context manager.

    seconds: the limit, 0 for none. stopped_at: when a signal to stop has come, or None; both are
    times of time.monotonic().
    """

    def __init__(self, seconds: float, stopped_at: Callable[[], float | None]) -> None:
        self.seconds = seconds
        self.stopped_at = stopped_at
        self._started: float | None = None  # the current wait
        self._error: BaseException | None = None
        self._ended = Event()
        self._previous_handler: Any = None
        self._main_thread = get_ident()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> WaitLimit:
        if sys.platform != "win32":  # SIGURG: without a handler it is ignored
            self._previous_handler = signal.signal(signal.SIGURG, self._interrupt)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if sys.platform != "win32":
            signal.signal(signal.SIGURG, self._previous_handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The main thread waits for images inside the context.

        Raises UserError where the limit is over, StoppedWhileWaiting where the run shall stop.
        """
        self._started = time.monotonic()
        try:
            yield
        finally:
            self._started = None

    def _watch(self) -> None:
        while not self._ended.wait(POLL):
            started = self._started
            if started is None:
                continue
            self._error = self._reason_to_end(started)
            if self._error is None:
                continue

            if sys.platform != "win32":
                signal.pthread_kill(self._main_thread, signal.SIGURG)
            self._ended.wait(LAST_RESORT)
            if self._started == started:
                self._end_hard()

    def _reason_to_end(self, started: float) -> BaseException | None:
        now = time.monotonic()
        stopped_at = self.stopped_at()
        if stopped_at is not None and now - max(started, stopped_at) > STOP_PATIENCE:
            return StoppedWhileWaiting(
                f"a signal to stop came, and no images for {STOP_PATIENCE:.0f} seconds; what was "
                "learned since the last checkpoint is lost. Go on with AUTO_RESUME True"
            )
        if self.seconds and now - started > self.seconds:
            return UserError(_sentence(self.seconds))
        return None

    def _interrupt(self, *_: object) -> None:
        """The signal handler, in the main thread."""
        if self._started is not None and self._error is not None:
            raise self._error

    def _end_hard(self) -> None:
        print(self._error, file=sys.stderr, flush=True)
        os._exit(2)  # as after a UserError


def _sentence(seconds: float) -> str:
    return (
        f"no images came for {seconds:.0f} seconds (DATA_TIMEOUT): {NO_IMAGES}; then go on with "
        "AUTO_RESUME True"
    )
