"""What a run writes for people: train.log, metrics.csv, TensorBoard, a progress bar.

Text goes through the standard logger "duopose"; `RunLog` adds a handler that writes train.log.
Loss terms keep the names that the criterion gives them.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

import torch
from tensorboardX import SummaryWriter
from tqdm import tqdm
from yacs.config import CfgNode

from duopose.distributed.context import DistributedContext
from duopose.regular_files import open_to_append
from duopose.run_folder import RunFolder
from duopose.types import LossTerms

BAR_INTERVAL = 2.0  # seconds between two readings of the losses for the progress bar
DATA_WAIT_LIMIT = 0.2  # fraction of the time spent waiting for data; above it a notice is logged
CSV_HEADER = "step,epoch,kind,name,value\n"
logger = logging.getLogger("duopose")


class RunLog:
    """Values and files of the log. On ranks other than 0 the methods do nothing."""

    def __init__(
        self, folder: RunFolder, context: DistributedContext, verbose: bool, dry_run: bool = False
    ) -> None:
        """verbose: show a progress bar on a terminal. dry_run: write no files."""
        self.is_active = context.is_main_process and not dry_run
        self.verbose = verbose
        self.folder = folder
        self.metrics = MetricsFile(folder.metrics_csv)
        self._progress_bar: tqdm[Any] | None = None
        self._bar_text = ""
        self._last_reading = float("-inf")  # of the losses, time.monotonic()
        self._tensorboard: SummaryWriter | None = None
        self._warned: set[tuple[int, str]] = set()
        self._handler = _add_file_handler(folder.train_log) if self.is_active else None

    def log_scalars(self, step: int, epoch: float, kind: str, values: Mapping[str, float]) -> None:
        """Write values to metrics.csv and TensorBoard; kind: "train" or "val"."""
        if not self.is_active:
            return
        self.metrics.append(step, epoch, kind, values)

        if self._tensorboard is None:
            # A resumed run replaces what an interrupted one wrote from this step on.
            self._tensorboard = SummaryWriter(str(self.folder.log), purge_step=step)
        for name, value in values.items():
            self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def warn_once(self, epoch: int, topic: str, text: str) -> None:
        """Log a notice at most once per epoch and topic; nothing where the text is empty."""
        if self.is_active and text and (epoch, topic) not in self._warned:
            self._warned.add((epoch, topic))
            logger.warning(text)

    def begin_epoch(self, name: str, steps: int, steps_done: int) -> None:
        """Show a progress bar, if standard error is a terminal."""
        if self.is_active and self.verbose and sys.stderr.isatty():
            self._progress_bar = tqdm(
                total=steps,
                initial=steps_done,
                desc=name,
                unit="step",
                dynamic_ncols=True,
                leave=False,
                postfix=self._bar_text or None,
                bar_format="{desc} |{bar:12}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            )

    def advance(self, meter: LossMeter | None = None) -> None:
        """Move the progress bar by one step, and show the losses now and then."""
        if self._progress_bar is None:
            return
        self._progress_bar.update()
        now = time.monotonic()
        if meter is not None and now - self._last_reading >= BAR_INTERVAL:
            self._last_reading = now
            self._bar_text = format_losses(meter.peek()) or self._bar_text
            self._progress_bar.set_postfix_str(self._bar_text)

    def end_epoch(self) -> None:
        """Remove the progress bar."""
        if self._progress_bar is not None:
            self._progress_bar.close()
            self._progress_bar = None

    def close(self) -> None:
        """Write out what is buffered, and close train.log."""
        self.end_epoch()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._handler is not None:
            logger.removeHandler(self._handler)
            self._handler.close()


class _LogFileHandler(WatchedFileHandler):
    """train.log, which is begun again where somebody has removed it or its folder."""

    def _open(self) -> TextIOWrapper:
        """Without following a link that somebody has put in the place of the file."""
        return os.fdopen(open_to_append(Path(self.baseFilename)), "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise, where logging would print a traceback and go on: a full disk ends the run."""
        error = sys.exc_info()[1]
        if error is not None:
            raise error


def _add_file_handler(path: Path) -> logging.Handler:
    handler = _LogFileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:  # nobody has chosen a level yet
        logger.setLevel(logging.INFO)
    return handler


class MetricsFile:
    """metrics.csv: one number a line, so that its columns never change within a run.

    Lines are appended in one write. A resumed run removes what was written after its checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, epoch: float, kind: str, values: Mapping[str, float]) -> None:
        """Add the values of one step; `epoch` has a fraction."""
        prefix = f"{step},{epoch:.6g},{kind}"
        lines = [f"{prefix},{name},{value:.9g}\n" for name, value in values.items()]
        if not self.size():  # a new file, also where somebody has removed it
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines.insert(0, CSV_HEADER)
        data = "".join(lines).encode()

        descriptor = open_to_append(self.path)
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, "only a part was written", str(self.path))
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, size: int) -> None:
        """Remove what lies beyond `size` bytes."""
        if self.size() > size:
            descriptor = open_to_append(self.path)
            try:
                os.truncate(descriptor, size)
            finally:
                os.close(descriptor)


class LossMeter:
    """Sums of the loss terms over images; nothing waits for the device before `read`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: torch.Tensor | None = None  # (terms + 1,); the last one counts images

    def add(self, terms: LossTerms, counts: bool = True) -> None:
        """Add a batch. One that does not count only makes `read` possible on this rank."""
        per_image = torch.stack(list(terms.per_image.values()))
        dtype = torch.float32 if per_image.device.type == "mps" else torch.float64
        count = torch.full((1,), per_image.shape[1], dtype=dtype, device=per_image.device)
        sums = torch.cat((per_image.to(dtype).sum(1), count)) * counts

        self.names = list(terms.per_image)
        self.sums = sums if self.sums is None else self.sums.to(sums.device) + sums

    def read(self, context: DistributedContext) -> dict[str, float]:
        """Means of the terms over the images of all ranks since the last call.

        Their sum is "loss". Empty where nothing was added. All ranks must call it.
        """
        if self.sums is None:
            return {}
        sums = context.all_reduce_sum(self.sums)
        self.sums = None
        return self._means(sums)

    def peek(self) -> dict[str, float]:
        """Means over the images of this rank since the last `read`, which are kept.

        Waits for the device.
        """
        return {} if self.sums is None else self._means(self.sums)

    def _means(self, sums_and_count: torch.Tensor) -> dict[str, float]:
        *sums, count = sums_and_count.tolist()
        means = {name: value / max(count, 1) for name, value in zip(self.names, sums, strict=True)}
        return {"loss": sum(means.values()), **means}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        sums = None if self.sums is None else self.sums.cpu()
        return {"names": self.names, "sums": sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.names = list(state["names"])
        self.sums = state["sums"]


@dataclass
class SpeedMeter:
    """Training speed since the last log line and since the start of this process."""

    images_per_step: int
    resumed_at: float = 0.0  # time of the last `resume` or `read`
    unread_seconds: float = 0.0  # before the last pause, not in a reading yet
    last_seconds_waited: float = 0.0
    total_seconds: float = 0.0
    total_steps: int = 0

    def resume(self) -> None:
        """Count from now on."""
        self.resumed_at = time.perf_counter()

    def pause(self) -> None:
        """Do not count until `resume`: validation and saving are not training."""
        self.unread_seconds += time.perf_counter() - self.resumed_at

    def read(self, steps: int, seconds_waited: float) -> dict[str, float]:
        """Speed over the `steps` steps since the last call.

        seconds_waited: for data, since the start of the process.
        """
        now = time.perf_counter()
        seconds = max(self.unread_seconds + now - self.resumed_at, 1e-9)
        wait_fraction = (seconds_waited - self.last_seconds_waited) / seconds

        self.unread_seconds = 0.0
        self.resumed_at = now
        self.last_seconds_waited = seconds_waited
        self.total_seconds += seconds
        self.total_steps += steps
        return {
            "images_per_second": steps * self.images_per_step / seconds,
            "data_share": min(max(wait_fraction, 0.0), 1.0),
        }

    def seconds_left(self, steps: int) -> float:
        """Time that `steps` steps will take at the mean speed so far."""
        return steps * self.total_seconds / max(self.total_steps, 1)


def format_values(terms: Mapping[str, float], other: Mapping[str, float]) -> str:
    """'loss 1.2 (heatmap_4 0.3, push 0.1)  learning_rate 0.001  57.1 images/s  data 4%'.

    terms: of `LossMeter.read`. other: the remaining values of a log line.
    """
    speed = {"images_per_second", "data_share"}
    rates = [f"{name} {value:.4g}" for name, value in other.items() if name not in speed]
    return (
        f"{format_losses(terms, digits=4)}  {'  '.join(rates)}  "
        f"{other['images_per_second']:.4g} images/s  data {other['data_share']:.0%}"
    )


def format_losses(terms: Mapping[str, float], digits: int = 3) -> str:
    """'loss 1.2 (heatmap_4 0.3, push 0.1)'; empty where there are none."""
    if not terms:
        return ""
    each = [f"{name} {value:.{digits}g}" for name, value in terms.items() if name != "loss"]
    return f"loss {terms['loss']:.{digits}g} ({', '.join(each)})"


def format_duration(seconds: float) -> str:
    """'2 d 03:14' or '03:14:15'."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days} d {hour:02}:{minute:02}" if days else f"{hour:02}:{minute:02}:{second:02}"


def data_wait_notice(cfg: CfgNode, fraction: float) -> str:
    """How to reduce the fraction of time spent waiting for data; empty where it is small."""
    if fraction < DATA_WAIT_LIMIT:
        return ""
    cores = os.cpu_count() or 1
    advice = (
        f"WORKERS {cfg.WORKERS} already fills {cores} cores: use a faster disk, smaller images, "
        "or more cores"
    )
    if cores > cfg.WORKERS:
        advice = f"raise WORKERS (now {cfg.WORKERS}; this machine has {cores} cores)"
    return f"notice: {fraction:.0%} of the time went into waiting for data: {advice}"
