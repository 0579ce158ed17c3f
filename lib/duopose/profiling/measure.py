"""Timing that survives a noisy machine: several works in turn in one process, so that their ratios are fair."""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

Row = dict[str, Any]  # one line of a stage's result; json-able
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def add_common_arguments(parser: ArgumentParser) -> None:
    """The options that every stage understands; the tool adds them, a stage adds its own."""
    parser.add_argument(
        "--threads", type=int, default=1, help="torch threads (default 1; 0: leave torch's choice)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=7,
        help="timed repeats, of which the median counts (default 7)",
    )
    parser.add_argument("--json", default="", metavar="FILE", help="write the rows to this file")


def add_clock_argument(parser: ArgumentParser, default: str = "wall") -> None:
    """For stages that compute in this process alone; milliseconds that others interrupt are better counted by `cpu`."""
    text = f"what is counted: wall, or cpu, this process's own time, for a machine that others use too (default {default})"
    parser.add_argument("--clock", choices=tuple(CLOCKS), default=default, help=text)


def measure(
    works: Mapping[str, Callable[[], object]],
    repeats: int = 7,
    warm_up: int = 1,
    clock: str = "wall",
    settle: int = 0,
) -> dict[str, float]:
    """Median milliseconds of each work by name; `clock` is a key of CLOCKS.

    The works take turns, one call each a round, so that a slow second of the machine hits all of them; only ratios of
    works timed in one call of this function should be quoted. `warm_up` rounds come first and are not counted. In each round a
    work is called `settle` times uncounted before it is timed, where what the others leave behind (the heap's free memory) matters.
    """
    now = CLOCKS[clock]
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warm_up + repeats):
        for name, work in works.items():
            for _ in range(settle):
                work()
            _wait_for_device()
            start = now()
            work()
            _wait_for_device()
            if turn >= warm_up:
                times[name].append((now() - start) * 1000)
    return {name: statistics.median(found) for name, found in times.items()}


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`count` threads for torch and OpenCV inside the block, as before after it; 0 leaves their own choice."""
    import cv2

    before = torch.get_num_threads(), cv2.getNumThreads()
    if count > 0:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def print_row(row: Mapping[str, Any]) -> None:
    """One line `name value  name value ...`; floats with four digits, nested mappings in brackets."""
    print(format_row(row), flush=True)


def format_row(row: Mapping[str, Any]) -> str:
    """The line that `print_row` prints."""
    return "  ".join(f"{name} {_format(value)}" for name, value in row.items())


def _format(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_format(inner)}" for name, inner in value.items()) + ")"
    return str(value)
