"""Does a long training or evaluation grow? Memory, open files and threads of its processes.

The command runs as a user would start it. Its processes are read from /proc every few seconds, and
a line is fitted to each figure over the steps or images that were done, without the first quarter,
in which caches fill.
"""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duopose.errors import UserError
from duopose.profiling.measure import Row

PROC = Path("/proc")
WARM_UP = 0.25  # fraction of the work that is not fitted
MIN_SAMPLES = 8  # of a role, for a line
FIGURES = ("memory_mb", "open_files", "threads")


@dataclass(frozen=True)
class Figures:
    """Means over the processes of one role, at one moment."""

    progress: float  # steps or images that are done
    processes: int
    memory_mb: float  # resident set
    open_files: float
    threads: float


def watch(
    command: Sequence[str], progress: Callable[[], float], interval: float
) -> dict[str, list[Figures]]:
    """Run a command to its end; the figures of its processes by role, every `interval` seconds.

    progress: steps or images that are done. Roles: "main" is the command itself, "children" are
    the processes that it has started (ranks, or readers of images), "grandchildren" those of the
    ranks. UserError where the command fails, or the system has no /proc.
    """
    if not PROC.is_dir():
        raise UserError("the soak reads /proc, which only Linux has")
    by_role: dict[str, list[Figures]] = defaultdict(list)
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            done = progress()
            for role, members in _tree(process.pid):
                figures = _figures(members, done)
                if figures is not None:
                    by_role[role].append(figures)
            time.sleep(interval)

    if process.returncode:
        raise UserError(f"the command ended with exit code {process.returncode}")
    return dict(by_role)


def slopes(by_role: dict[str, list[Figures]], total: float) -> Iterator[Row]:
    """A row per role and figure: its median, and its growth per 1000 steps or images.

    total: steps or images of the whole run. The growth has the standard error of the fitted line.
    """
    for role, samples in by_role.items():
        fitted = [figures for figures in samples if figures.progress >= WARM_UP * total]
        if len(fitted) < MIN_SAMPLES:
            continue
        thousands = np.array([figures.progress for figures in fitted]) / 1000
        for name in FIGURES:
            values = np.array([getattr(figures, name) for figures in fitted])
            slope, error = fit_line(thousands, values)
            yield {
                "role": role,
                "processes": max(figures.processes for figures in fitted),
                "figure": name,
                "median": float(np.median(values)),
                "last_quarter": float(np.median(values[-len(values) // 4 :])),
                "per_1000": slope,
                "standard_error": error,
                "samples": len(fitted),
            }


def fit_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line and its standard error; 0 and 0 where x does not vary."""
    centred = x - x.mean()
    spread = float((centred**2).sum())
    if not spread:
        return 0.0, 0.0
    slope = float((centred * y).sum()) / spread
    residuals = y - y.mean() - slope * centred
    variance = float((residuals**2).sum()) / max(len(x) - 2, 1)
    return slope, (variance / spread) ** 0.5


# ---- /proc ----


def _tree(root: int) -> Iterator[tuple[str, list[int]]]:
    """Process ids by role, without multiprocessing's helper."""
    generation = [root]
    for role in ("main", "children", "grandchildren"):
        if generation:
            yield role, generation
        generation = [child for parent in generation for child in _children(parent)]


def _children(parent: int) -> list[int]:
    found = []
    for file in PROC.glob(f"{parent}/task/*/children"):
        try:
            found += [int(word) for word in file.read_text().split()]
        except OSError:  # the thread has ended meanwhile
            continue
    return [child for child in found if not _is_helper(child)]


def _is_helper(process: int) -> bool:
    try:
        return b"resource_tracker" in (PROC / str(process) / "cmdline").read_bytes()
    except OSError:
        return True  # has ended


def _figures(processes: Sequence[int], progress: float) -> Figures | None:
    """Means over the processes; None where one of them ends meanwhile."""
    rows = []
    try:
        for process in processes:
            folder = PROC / str(process)
            status = dict(
                line.split(":", 1) for line in (folder / "status").read_text().splitlines()
            )
            memory = int(status["VmRSS"].split()[0]) / 1024
            open_files = len(list((folder / "fd").iterdir()))
            rows.append((memory, open_files, int(status["Threads"])))
    except (OSError, KeyError):
        return None
    memory_mb, files, threads = (float(value) for value in np.mean(rows, axis=0))
    return Figures(progress, len(rows), memory_mb, files, threads)
