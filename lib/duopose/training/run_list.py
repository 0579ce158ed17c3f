"""The runs below a folder: state, progress, best score and the settings in which they differ."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duopose.benchmarks import BENCHMARKS
from duopose.config import read_saved_settings, saved_settings
from duopose.config.differences import acts_on_learning, differences
from duopose.errors import UserError
from duopose.evaluate.metrics import format_number, format_table
from duopose.locks import FINISHED, owner_state
from duopose.run_folder import EARLIER, RunFolder, is_run_config
from duopose.visualize.curves import Curve, read_curves

UNFINISHED = "unfinished"  # of earlier versions, which did not write how a run has ended
# Settings without an own effect on what is learned, in which runs often differ.
SHOWN_KEYS = {"GPUS", "MODEL.PRETRAINED", "DATASET.ROOT"}
MAX_SETTINGS = 6  # differing settings in a row of the table
HEADER = ("run", "state", "epoch", "best", "at epoch", "last written", "differing settings")
LEFT_COLUMNS = (0, 1, 6)


@dataclass(frozen=True)
class RunSummary:
    """One run."""

    folder: Path
    state: str  # running, finished, stopped, failed, dead, unfinished
    reason: str  # of a failure
    epoch: float  # epochs done at the last value of metrics.csv
    end_epoch: int  # 0 where the run counts steps
    best: float | None  # best value of the headline metric in validation
    best_epoch: float
    headline: str  # name of that metric
    written: float  # time of the last value, seconds since 1970
    settings: dict[str, Any]

    @property
    def group(self) -> Path:
        """Folder of the runs with the same data set and model."""
        is_earlier = self.folder.name.startswith(EARLIER)
        return self.folder.parent.parent if is_earlier else self.folder.parent

    @property
    def name(self) -> str:
        """The folder below that of the group."""
        return str(self.folder.relative_to(self.group))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the settings."""
        return {
            "folder": str(self.folder),
            "state": self.state,
            "reason": self.reason,
            "epoch": self.epoch,
            "end_epoch": self.end_epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "headline": self.headline,
            "written": _format_time(self.written),
        }


def find_runs(root: Path) -> list[RunSummary]:
    """All runs below a folder, or the folder itself; the one written last comes first."""
    configs = [path for path in root.rglob("config.yaml") if is_run_config(path)]
    runs = [read_run(path.parent) for path in configs]
    return sorted(runs, key=lambda run: run.written, reverse=True)


def read_run(root: Path) -> RunSummary:
    """The summary of a run folder, from its small files."""
    folder = RunFolder(root, root)
    try:
        settings = read_saved_settings(folder.config)
    except UserError:  # half written, or not of a run
        settings = saved_settings("{}")
    benchmark = BENCHMARKS.get(str(settings["DATASET.DATASET"]))
    headline = benchmark.headline if benchmark else "AP"
    epoch, best, best_epoch = read_progress(folder.metrics_csv, headline)
    end_epoch = 0 if settings["TRAIN.END_STEP"] else settings["TRAIN.END_EPOCH"]
    if not isinstance(end_epoch, int):  # saved settings are not checked
        end_epoch = 0

    found = owner_state(folder.lock)
    state = FINISHED if folder.model_final.is_file() else UNFINISHED
    reason = ""
    if found is not None:
        state = found[0]
        reason = found[1].reason
    newest = folder.metrics_csv if folder.metrics_csv.is_file() else folder.config
    return RunSummary(
        folder=root,
        state=state,
        reason=reason,
        epoch=epoch,
        end_epoch=end_epoch,
        best=best,
        best_epoch=best_epoch,
        headline=headline,
        written=newest.stat().st_mtime,
        settings=settings,
    )


def read_progress(metrics_csv: Path, headline: str) -> tuple[float, float | None, float]:
    """Epochs done, best value of the headline metric and its epoch (of equal ones the later)."""
    try:
        curves = read_curves(metrics_csv)
    except UserError:  # none yet, or not of a run
        return 0.0, None, 0.0
    epoch = max((max(curve.epochs) for curve in curves.values()), default=0.0)

    scores = curves.get(("val", headline), Curve())
    pairs = zip(scores.values, scores.epochs, strict=True)
    best = max((pair for pair in pairs if math.isfinite(pair[0])), default=None)
    return (epoch, None, 0.0) if best is None else (epoch, *best)


def runs_text(runs: Sequence[RunSummary], all_settings: bool = False) -> str:
    """A table for each data set and model; below it why runs have failed."""
    groups: dict[Path, list[RunSummary]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)

    parts = []
    for group, members in groups.items():
        differing = differing_settings(members)
        limit = len(differing) if all_settings else MAX_SETTINGS
        rows = [_row(run, index, differing, limit) for index, run in enumerate(members)]
        parts.append(f"{group}\n\n{format_table(HEADER, rows, LEFT_COLUMNS)}")
        reasons = [f"{run.name}: {run.reason}" for run in members if run.reason]
        if reasons:
            parts.append("\n".join(reasons))
    return "\n\n".join(parts)


def differing_settings(runs: Sequence[RunSummary]) -> dict[str, list[Any]]:
    """Settings in which the runs differ -> the value of each run."""
    found = differences([run.settings for run in runs])
    return {
        key: values for key, values in found.items() if acts_on_learning(key) or key in SHOWN_KEYS
    }


def _row(
    run: RunSummary, index: int, differing: dict[str, list[Any]], max_settings: int
) -> list[str]:
    shown = [f"{key} {values[index]}" for key, values in differing.items()]
    more = len(shown) - max_settings
    if more > 0:
        shown = [*shown[:max_settings], f"{more} more"]
    progress = f"{run.epoch:.4g}" + (f"/{run.end_epoch}" if run.end_epoch else "")
    return [
        run.name,
        run.state,
        progress,
        f"{run.headline} {format_number(run.best, run.headline)}",
        f"{run.best_epoch:.4g}" if run.best is not None else "",
        _format_time(run.written),
        ", ".join(shown),
    ]


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
