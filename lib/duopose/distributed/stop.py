"""SIGTERM and SIGINT: finish the step, save, and end, on all ranks at the same step."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from duopose.distributed.context import DistributedContext

STOPPED = 3  # exit code of a run that was asked to stop and has saved its state
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether any rank was asked to stop.

    Ranks must agree on the step at which they stop, or one would wait for the others' gradients for ever. The question goes
    round during a step and is answered at its end, so that nobody waits for it: a rank that is asked stops one step later.
    """

    def __init__(self, context: DistributedContext) -> None:
        self.context = context
        self.asked = ""  # the signal's name
        self._before: dict[int, Any] = {}
        self._question: tuple[Any, torch.Tensor] | None = None

    def __enter__(self) -> StopRequest:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self.asked and self.context.is_main_process:
            print(f"\n{signal.Signals(number).name}: finishing the step and saving ...", flush=True)
        self.asked = signal.Signals(number).name
        if number == signal.SIGINT and self.context.world == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends at once

    def ask(self) -> None:
        """Send the question round; call once a step."""
        if self.context.world > 1:
            flag = torch.tensor(int(bool(self.asked)))
            self._question = dist.all_reduce(flag, group=self.context.control, async_op=True), flag

    def answer(self) -> bool:
        """Whether all ranks stop now; call once a step, after `ask`."""
        if self._question is None:
            return bool(self.asked)
        work, flag = self._question
        work.wait()
        return bool(flag)
