"""SIGTERM, SIGINT, SIGHUP: finish the step, save, and end, on all ranks after the same step."""

from __future__ import annotations

import logging
import signal
import sys
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from duopose.distributed.context import DistributedContext

logger = logging.getLogger(__name__)


def stop_signals() -> list[signal.Signals]:
    """The signals that stop a run; not SIGHUP where nohup has made the process ignore it."""
    signals = [signal.SIGTERM, signal.SIGINT]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


class StopRequest:
    """A stop flag that all ranks agree on; as a context manager it handles the signals.

    All ranks must stop after the same step, or one would wait for the gradients of the others for
    ever. At the beginning of a step each rank starts an asynchronous all_reduce of its flag, and
    reads the result at the end of the step, so that nobody waits for it. A rank that gets a signal
    during a step therefore stops after the next one.
    """

    def __init__(self, context: DistributedContext) -> None:
        self.context = context
        self.signal_name = ""  # of the signal that this rank has got
        self.signal_time: float | None = None  # of the first one, time.monotonic()
        self._previous_handlers: dict[int, Any] = {}
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def __enter__(self) -> StopRequest:
        for number in stop_signals():
            self._previous_handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if not self.signal_name and self.context.is_main_process:
            logger.info("%s: finishing the step and saving ...", name)
        self.signal_name = name
        self.signal_time = self.signal_time or time.monotonic()

        if number == signal.SIGINT and self.context.world_size == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends at once

    def start_all_reduce(self) -> None:
        """Start to exchange the flags of all ranks; call at the beginning of each step."""
        if self.context.world_size > 1:
            flag = torch.tensor(int(bool(self.signal_name)))
            work = dist.all_reduce(flag, group=self.context.control_group, async_op=True)
            self._pending = (work, flag)

    def should_stop(self) -> bool:
        """Whether all ranks stop now; call at the end of each step."""
        if self._pending is None:
            return bool(self.signal_name)
        work, flag = self._pending
        work.wait()
        return bool(flag)
