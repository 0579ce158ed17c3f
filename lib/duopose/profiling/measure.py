"""Timing on a noisy machine: functions take turns in one process, so that their ratios are fair."""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import torch

from duopose.errors import UserError

Row = dict[str, Any]  # one line of a stage's result, plain json values
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Stage(NamedTuple):
    """A benchmark: `tools/benchmark.py NAME`."""

    name: str
    description: str
    add_arguments: Callable[[ArgumentParser], None]  # its own options
    run: Callable[[Namespace], Iterable[Row]]


# ---- options ----


def add_common_arguments(parser: ArgumentParser) -> None:
    """The options of every stage."""
    parser.add_argument(
        "--threads", type=int, default=1, help="torch threads (default 1; 0: torch's own choice)"
    )
    parser.add_argument(
        "--repeats", type=int, default=7, help="timed repeats; the median counts (default 7)"
    )
    parser.add_argument("--json", default="", metavar="FILE", help="write the rows to this file")


def add_clock_argument(parser: ArgumentParser, default: str = "wall") -> None:
    """The option --clock, for stages that compute in this process alone."""
    text = (
        "wall: elapsed time. cpu: time of this process, for a machine with other work "
        f"(default {default})"
    )
    parser.add_argument("--clock", choices=tuple(CLOCKS), default=default, help=text)


def add_settings_arguments(parser: ArgumentParser) -> None:
    """The settings: --cfg and KEY VALUE pairs."""
    parser.add_argument(
        "--cfg", default="", help="a yaml from experiments/ (default: the documented defaults)"
    )
    parser.add_argument("opts", nargs="*", help="KEY VALUE ..., settings over those of --cfg")


def parse_size(text: str) -> tuple[int, int]:
    """'HEIGHTxWIDTH' -> (height, width); UserError where it is not that."""
    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError as error:
        raise UserError(
            f"--size '{text}' must be HEIGHTxWIDTH in pixels, for example 512x768"
        ) from error
    return height, width


# ---- timing ----


def measure(
    functions: Mapping[str, Callable[[], object]],
    repeats: int = 7,
    warm_up: int = 1,
    clock: str = "wall",
    untimed_calls: int = 0,
) -> dict[str, float]:
    """Median milliseconds of each function by name; `clock` is a key of CLOCKS.

    The functions take turns, one timed call each per round, so that a slow second of the machine
    affects all of them. Only ratios within one call of `measure` should be quoted. `warm_up`
    rounds are not counted. `untimed_calls`: calls of a function right before each timed one, where
    the memory that the other functions leave behind matters.
    """
    now = CLOCKS[clock]
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warm_up + repeats):
        for name, function in functions.items():
            for _ in range(untimed_calls):
                function()

            _wait_for_device()
            start = now()
            function()
            _wait_for_device()
            if turn >= warm_up:
                times[name].append(1000 * (now() - start))
    return {name: statistics.median(found) for name, found in times.items()}


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """`count` threads for torch and OpenCV inside the block; 0 leaves their own choice."""
    torch_threads = torch.get_num_threads()
    cv2_threads = cv2.getNumThreads()
    if count > 0:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)


# ---- printing ----


def format_row(row: Mapping[str, Any]) -> str:
    """One line `name value  name value ...`: floats with four digits, mappings in brackets."""
    return "  ".join(f"{name} {_format_value(value)}" for name, value in row.items())


def _format_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, Mapping):
        entries = [f"{name} {_format_value(inner)}" for name, inner in value.items()]
        return f"({', '.join(entries)})"
    return str(value)
