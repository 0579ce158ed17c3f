"""A run's metrics.csv as a PNG with three panels: losses, validation scores, learning rate."""

from __future__ import annotations

import io
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.regular_files import open_regular, reason_of

COLUMNS = ("step", "epoch", "kind", "name", "value")

# Training values that are no losses. Every other name is drawn as a loss term, so that a new term
# appears without a change here. "pictures_per_second" is in files of earlier versions.
RATE = "learning_rate"
NOT_LOSSES = {
    RATE,
    "loss_scale",
    "skipped_steps",
    "data_share",
    "images_per_second",
    "pictures_per_second",
}
TOTALS = ("loss", "AP", "Total")  # drawn in black: the sum of the terms, and the headline metrics
STRIDE = re.compile(r"_(\d+)$")  # heatmap_4 and heatmap_2 are one term at two strides
LINE_STYLES = ("-", "--", ":", "-.")  # of a term's strides, in the order of the file

MAX_POINTS = 50  # a loss curve with more points is smoothed over a 50th of them
PANEL_SIZE = (6.5, 5.4)  # inches
DPI = 110
MAX_BYTES = 128 * 2**20  # of metrics.csv; 300 epochs of COCO have 1 MB
MAX_LINE = 1000  # bytes
MAX_NAMES = 20_000  # the norms of all gradients are a few hundred
MAX_CURVES = 40  # that are drawn in a panel
MAX_EPOCH = 1e9
MAX_VALUE = 1e30  # matplotlib cannot divide an axis of 1e308
NAME = re.compile(r"[\w./:@ -]{1,60}")  # of a value


@dataclass
class Curve:
    """The values of one name over the epochs."""

    epochs: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


Curves = dict[str, Curve]  # by name


def read_curves(path: str | Path) -> dict[tuple[str, str], Curve]:
    """metrics.csv (step, epoch, kind, name, value; one number per line) as curves by (kind, name).

    An incomplete last line, as a killed run leaves it, is skipped, as are lines of another form.
    Raises UserError if the file is missing, is too large, or has other columns.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"there is no metrics file '{path}'; a training run writes it into its folder below "
            "output/"
        )

    try:
        with open_regular(path, MAX_BYTES) as file:
            return _read_rows(file, path)
    except OSError as error:
        raise UserError(f"the metrics file '{path}' cannot be read ({reason_of(error)})") from error


def _read_rows(file: BinaryIO, path: Path) -> dict[tuple[str, str], Curve]:
    header = ",".join(COLUMNS)
    if file.readline(MAX_LINE).strip() != header.encode():
        raise UserError(f"'{path}' is not a metrics file of a run: its first line must be {header}")

    curves: dict[tuple[str, str], Curve] = defaultdict(Curve)
    for line in iter(partial(file.readline, MAX_LINE), b""):
        try:
            _, epoch, kind, name, value = line.decode().rstrip("\r\n").split(",")
            point = (float(epoch), float(value))
        except ValueError:
            continue
        if not (NAME.fullmatch(kind) and NAME.fullmatch(name) and 0 <= point[0] < MAX_EPOCH):
            continue
        if math.isfinite(point[1]) and abs(point[1]) > MAX_VALUE:
            continue
        curves[kind, name].epochs.append(point[0])
        curves[kind, name].values.append(point[1])
        if len(curves) > MAX_NAMES:
            raise UserError(f"'{path}' holds more than {MAX_NAMES} names of values")
    return dict(curves)


def plot_curves(metrics: str | Path, image: str | Path, title: str = "") -> None:
    """Draw losses, validation scores and learning rate over the epochs into a PNG file.

    The file is written completely or not at all. Raises UserError if `metrics` holds no values.
    """
    panels = curve_panels(read_curves(metrics))
    if not panels:
        raise UserError(f"'{metrics}' holds no values yet; the first come after PRINT_FREQ steps")

    width, height = PANEL_SIZE
    figure = Figure(figsize=(width * len(panels), height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title.replace("$", r"\$"))  # a path is no formula
    all_axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, (name, curves) in zip(all_axes, panels.items(), strict=True):
        draw_panel(axes, name, curves)

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(image, buffer.getbuffer())


def smooth(values: np.ndarray, max_points: int = MAX_POINTS) -> np.ndarray:
    """Centred running mean over a `max_points`-th of the values (N,); NaN values do not count.

    At the ends the mean is over fewer values. Fewer than 2 * max_points values are not smoothed.
    """
    half = len(values) // max_points // 2
    if half == 0:
        return values
    is_finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_finite, values, 0.0))])
    counts = np.concatenate([[0.0], np.cumsum(is_finite.astype(float))])

    index = np.arange(len(values))
    first = np.maximum(index - half, 0)
    last = np.minimum(index + half + 1, len(values))
    with np.errstate(invalid="ignore"):  # only NaN values: the mean is NaN
        return (sums[last] - sums[first]) / (counts[last] - counts[first])


def curve_panels(curves: dict[tuple[str, str], Curve]) -> dict[str, Curves]:
    """The curves of each panel by its title; empty panels are left out."""
    losses: Curves = {}
    scores: Curves = {}
    rates: Curves = {}
    for (kind, name), curve in curves.items():
        if kind.startswith("gradient"):
            continue  # DEBUG.GRADIENT_NORMS
        if kind == "val":
            scores[name] = curve
        elif name == RATE:
            rates[name] = curve
        elif name not in NOT_LOSSES:
            losses[name] = curve

    panels = {"loss (weighted terms)": losses, "validation": scores, "learning rate": rates}
    return {
        title: dict(islice(group.items(), MAX_CURVES)) for title, group in panels.items() if group
    }


def draw_panel(axes: Axes, title: str, curves: Curves) -> None:
    """Draw the curves of one of `curve_panels`, with a legend below."""
    is_loss = title.startswith("loss")
    styles = _line_styles(list(curves))
    for name, curve in curves.items():
        values = np.asarray(curve.values)
        if is_loss:
            values = smooth(values)
        colour, line_style = styles[name]
        axes.plot(
            curve.epochs,
            values,
            label=name,
            color=colour,
            linestyle=line_style,
            linewidth=2.2 if name in TOTALS else 1.4,
            marker="" if len(values) > 30 else ".",
        )

    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    if is_loss and all(min(curve.values) > 0 for curve in curves.values()):
        axes.set_yscale("log")
    # Below the panel, where it hides no curve.
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4)


def _line_styles(names: list[str]) -> dict[str, tuple[object, str]]:
    """Colour and line style by name: a colour per term, a line style per stride of the term."""
    palette = colormaps["tab10"].colors  # type: ignore[attr-defined]
    colours: dict[str, object] = {}
    strides: dict[str, int] = defaultdict(int)
    styles: dict[str, tuple[object, str]] = {}
    for name in names:
        if name in TOTALS:
            styles[name] = ("black", "-")
            continue
        term = STRIDE.sub("", name)
        colours.setdefault(term, palette[len(colours) % len(palette)])
        styles[name] = (colours[term], LINE_STYLES[strides[term] % len(LINE_STYLES)])
        strides[term] += 1
    return styles
