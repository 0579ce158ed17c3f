"""A run's metrics.csv as curves."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from duopose.errors import UserError
from duopose.files import write_atomically

COLUMNS = ("step", "epoch", "kind", "name", "value")
# Values of a training step that are not loss terms; all other names of kind "train" are.
NOT_LOSSES = {
    "learning_rate",
    "loss_scale",
    "skipped_steps",
    "images_per_second",
    "data_share",
}
SMOOTHING = (
    50  # a loss curve with more points than this is drawn as running means over a 50th of them
)


@dataclass
class Curve:
    """The values of one name over the epochs."""

    epochs: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def read_metrics(path: str | Path) -> dict[tuple[str, str], Curve]:
    """metrics.csv (step, epoch, kind, name, value; one number a line) as curves by (kind, name).

    A last line that a killed run left unfinished is passed over. UserError where the file is missing or of another form.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"there is no metrics file '{path}'; a training run writes it into its folder below output/"
        )
    curves: dict[tuple[str, str], Curve] = defaultdict(Curve)
    with path.open(newline="") as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != COLUMNS:
            raise UserError(
                f"'{path}' is no metrics file of a run: its first line must be {','.join(COLUMNS)}"
            )
        for row in rows:
            try:
                _, epoch, kind, name, value = row
                point = float(epoch), float(value)
            except ValueError:
                continue
            curves[kind, name].epochs.append(point[0])
            curves[kind, name].values.append(point[1])
    return dict(curves)


def plot_curves(metrics: str | Path, image: str | Path, title: str = "") -> None:
    """Draw losses, validation scores and the learning rate of a run over its epochs into a PNG (written whole or not at all)."""
    curves = read_metrics(metrics)
    losses = {
        name: curve for (kind, name), curve in curves.items() if kind == "train" and name not in NOT_LOSSES
    }
    scores = {name: curve for (kind, name), curve in curves.items() if kind == "val"}
    rates = {name: curve for (_, name), curve in curves.items() if name == "learning_rate"}
    panels = [
        (name, group)
        for name, group in (
            ("loss (weighted terms)", losses),
            ("validation", scores),
            ("learning rate", rates),
        )
        if group
    ]
    if not panels:
        raise UserError(f"'{metrics}' holds no values yet; the first come after PRINT_FREQ steps")
    figure = Figure(figsize=(6.5 * len(panels), 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (name, group) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True
    ):
        _draw_panel(axes, name, group)
    _save(figure, Path(image))


def smooth(values: np.ndarray, parts: int = SMOOTHING) -> np.ndarray:
    """Running mean over a `parts`-th of the values (N,), centred, over fewer at the ends; NaN values count nothing."""
    half = len(values) // parts // 2
    if half == 0:
        return values
    known = np.isfinite(values)
    sums, counts = (
        np.concatenate([[0.0], np.cumsum(x)])
        for x in (np.where(known, values, 0.0), known.astype(float))
    )
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    with np.errstate(invalid="ignore"):
        return (sums[last] - sums[first]) / (counts[last] - counts[first])


def _draw_panel(axes: Axes, name: str, group: dict[str, Curve]) -> None:
    is_loss = name.startswith("loss")
    for label, curve in group.items():
        values = np.asarray(curve.values)
        shown = smooth(values) if is_loss else values
        axes.plot(
            curve.epochs,
            shown,
            label=label,
            linewidth=2.0 if label in ("loss", "AP") else 1.2,
            marker="" if len(values) > 30 else ".",
        )
    axes.set_title(name)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    if is_loss and all(value > 0 for curve in group.values() for value in curve.values):
        axes.set_yscale("log")
    axes.legend(fontsize="small")


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getbuffer())
