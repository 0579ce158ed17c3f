"""What a run says: train.log and the console, a progress bar on a terminal, TensorBoard, metrics.csv. Only rank 0 speaks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm
from yacs.config import CfgNode

from duopose.distributed.context import DistributedContext
from duopose.run_folder import RunFolder
from duopose.training.metrics_csv import MetricsFile

RATES = ("learning_rate", "loss_scale", "skipped_steps")
DATA_SHARE_TOO_LARGE = 0.2  # of the time; above it the log gives advice


class RunLog:
    """The voice of rank 0; on other ranks every method does nothing."""

    def __init__(
        self, run: RunFolder, context: DistributedContext, verbose: bool, silent: bool = False
    ) -> None:
        """silent: rank 0 does nothing either, for a dry run."""
        self.speaks, self.verbose, self.run = context.is_main_process and not silent, verbose, run
        self.metrics = MetricsFile(run.metrics_csv)
        self.bar: tqdm[Any] | None = None
        self.board: SummaryWriter | None = None
        self._advised: set[tuple[int, str]] = set()
        self._file = open(run.train_log, "a", buffering=1) if self.speaks else None

    def info(self, text: str) -> None:
        """A line to train.log, with the time, and to the console."""
        if self._file is None:
            return
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._file.write("".join(f"{stamp}  {line}\n" for line in text.splitlines()))
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def warn_once(self, epoch: int, about: str, text: str) -> None:
        """A notice, unless it is empty; one an epoch about the same thing is enough."""
        if text and (epoch, about) not in self._advised:
            self._advised.add((epoch, about))
            self.info(text)

    def log_scalars(self, step: int, epoch: float, kind: str, values: Mapping[str, float]) -> None:
        """Values to metrics.csv and TensorBoard; kind is train or val."""
        if not self.speaks:
            return
        self.metrics.append(step, epoch, kind, values)
        if self.board is None:
            # Event files of a resumed run: steps from here on replace what an interrupted one wrote.
            self.board = SummaryWriter(str(self.run.log), purge_step=step)
        for name, value in values.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)

    def begin_epoch(self, name: str, steps: int, done: int) -> None:
        """Show a progress bar where there is a terminal to show it on."""
        if self.speaks and self.verbose and sys.stderr.isatty():
            self.bar = tqdm(
                total=steps, initial=done, desc=name, unit="step", dynamic_ncols=True, leave=False
            )

    def advance(self) -> None:
        """One step done."""
        if self.bar is not None:
            self.bar.update()

    def end_epoch(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def close(self) -> None:
        """Write out what is buffered."""
        self.end_epoch()
        if self.board is not None:
            self.board.close()
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass
class SpeedMeter:
    """Speed since the last log line and since the start of this process."""

    images_per_step: int
    last: float = 0.0
    counted: float = 0.0  # seconds before the last pause that no reading has told yet
    waited: float = 0.0
    steps: int = 0
    first: float = 0.0
    all_steps: int = 0

    def start(self) -> None:
        """Count from now on."""
        self.last = time.perf_counter()

    def pause(self) -> None:
        """Stop counting until `start`: validation and saving are not training speed."""
        self.counted += time.perf_counter() - self.last

    def read(self, steps: int, waited: float) -> dict[str, float]:
        """Speed of the `steps` steps since the last reading; `waited` is the feed's running sum of seconds."""
        now = time.perf_counter()
        seconds = max(self.counted + now - self.last, 1e-9)
        self.counted = 0.0
        share = (waited - self.waited) / seconds
        self.last, self.waited = now, waited
        self.first, self.all_steps = self.first + seconds, self.all_steps + steps
        return {
            "images_per_second": steps * self.images_per_step / seconds,
            "data_share": min(max(share, 0.0), 1.0),
        }

    def seconds_left(self, steps: int) -> float:
        """Time that `steps` steps will take at the speed so far."""
        return steps * self.first / max(self.all_steps, 1)


def log_line(values: Mapping[str, float]) -> str:
    """'loss 1.2 (heatmap_4 0.3, push 0.1)  learning_rate 0.001  57.1 images/s  data 4 %' from a report's values."""
    plain = {
        name: value
        for name, value in values.items()
        if name not in (*RATES, "loss", "images_per_second", "data_share")
    }
    terms = ", ".join(f"{name} {value:.4g}" for name, value in plain.items())
    rates = "  ".join(f"{name} {values[name]:.4g}" for name in RATES if name in values)
    speed = f"{values['images_per_second']:.4g} images/s  data {values['data_share']:.0%}"
    return f"loss {values.get('loss', float('nan')):.4g} ({terms})  {rates}  {speed}"


def format_duration(seconds: float) -> str:
    """'2 d 03:14' or '03:14:15'."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days} d {hour:02}:{minute:02}" if days else f"{hour:02}:{minute:02}:{second:02}"


def data_wait_advice(cfg: CfgNode, share: float) -> str:
    """What to do about a large share of time spent waiting for data; empty where it is small."""
    if share < DATA_SHARE_TOO_LARGE:
        return ""
    cores = os.cpu_count() or 1
    if cores > cfg.WORKERS:
        what = f"raise WORKERS (now {cfg.WORKERS}; this machine has {cores} cores)"
    else:
        what = f"WORKERS {cfg.WORKERS} already fills {cores} cores: use a faster disk, smaller images, or more cores"
    return f"notice: {share:.0%} of the time went into waiting for data: {what}"
