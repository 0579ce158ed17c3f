"""A page of plots, data against fit, as one PNG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from duopose.calibration.calibrate_file import SCORE_BINS, CalibrationRun
from duopose.calibration.fit import limb_pairs, offset_pairs, relative_limb_lengths, tag_pairs
from duopose.decode.calibration import IMPOSSIBLE_SCALES, SCORE_KNOTS
from duopose.decode.people import NONE
from duopose.files import write_atomically

PAGE_SIZE = (15, 9)  # inches
DPI = 90
SIGMA_BINS = 5
MIN_IN_BIN = 10  # a bin with fewer observations is not drawn


def write_page(run: CalibrationRun, path: Path) -> None:
    """Write the page: six panels."""
    figure = Figure(figsize=PAGE_SIZE, layout="constrained")
    axes = figure.subplots(2, 3).reshape(-1)
    panels = (
        draw_peak_scores,
        draw_tags,
        draw_offsets,
        draw_person_scores,
        draw_position_errors,
        draw_limbs,
    )
    for panel, one in zip(panels, axes):
        panel(one, run)

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def draw_peak_scores(axes: Axes, run: CalibrationRun) -> None:
    """Fraction of true peaks against the score, and the fitted probability."""
    score = []
    is_true = []
    for image in run.images:
        joints = image.peaks.joint < run.decoder.skeleton.centre
        rows = image.usable & joints & ~image.peaks.nms_suppressed
        score.append(image.peaks.score[rows])
        is_true.append(image.owner[rows] != NONE)

    middle, observed = binned(np.concatenate(score), np.concatenate(is_true), SCORE_KNOTS)
    axes.plot(middle, observed, "o", label="observed")
    curve = np.linspace(0, 1, 101)
    axes.plot(curve, 1 / (1 + np.exp(-run.calibration.log_odds(curve))), label="fit")
    axes.axvline(run.calibration.start_threshold, color="grey", ls=":", label="starts a person")
    _label(axes, "peaks that are joints", "heatmap score", "fraction")


def draw_tags(axes: Axes, run: CalibrationRun) -> None:
    """Histogram of tag distances within and between people, and the fitted ratio."""
    squared, same = tag_pairs(run.images)
    _draw_ratio(
        axes,
        np.sqrt(squared),
        same,
        variance=2 * run.calibration.tag_sigma**2,
        gain=run.calibration.log_gain_tag,
        floor=run.calibration.outlier_probability,
    )
    _label(axes, "tags of two peaks (line: joint fit)", "difference", "log ratio same : different")


def draw_offsets(axes: Axes, run: CalibrationRun) -> None:
    """The same for the distance of a predicted target from a peak."""
    if not run.decoder.layout.num_edges:
        axes.set_axis_off()
        return
    squared, same, _, _ = offset_pairs(run.images, run.decoder.layout, run.decoder.skeleton)
    _draw_ratio(
        axes,
        np.sqrt(squared),
        same,
        variance=run.calibration.offset_sigma**2,
        gain=run.calibration.log_gain_offset,
        floor=run.calibration.outlier_probability,
    )
    _label(
        axes,
        "predicted targets (line: joint fit)",
        "distance from a peak, pixels",
        "log ratio same : different",
    )


def _draw_ratio(
    axes: Axes,
    residual: np.ndarray,
    same: np.ndarray,
    variance: float,
    gain: float,
    floor: float,
) -> None:
    """Log ratio of the two densities by bins, and the truncated quadratic."""
    edges = np.linspace(0, np.quantile(residual, 0.9), 30)
    of_same = np.histogram(residual[same], edges)[0]
    of_others = np.histogram(residual[~same], edges)[0]
    enough = (of_same >= MIN_IN_BIN) & (of_others >= MIN_IN_BIN)
    middle = (edges[1:] + edges[:-1])[enough] / 2
    ratio = of_same[enough] / same.sum() / (of_others[enough] / (~same).sum())
    axes.plot(middle, np.log(ratio), "o", label="observed")

    curve = np.linspace(0, edges[-1], 200)
    fit = np.maximum(gain - curve**2 / (2 * variance), np.log(floor))
    axes.plot(curve, fit, label="fit")


def draw_person_scores(axes: Axes, run: CalibrationRun) -> None:
    """Mean OKS against the score of people, on held-out images."""
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    for one in (run.before, run.after):
        middle, observed = binned(one.people.score, one.people.oks, edges)
        axes.plot(middle, observed, "o-", label=f"{one.name}, error {one.score_error:.3f}")
    axes.plot([0, 1], [0, 1], color="grey", ls=":")
    _label(axes, "scores of people (held out)", "score", "OKS")


def draw_position_errors(axes: Axes, run: CalibrationRun) -> None:
    """Observed against stated standard deviation, on held-out images, in bins of equal size."""
    people = run.after.people
    known = ~np.isnan(people.error) & (people.sigma > 0)
    stated = people.sigma[known]
    order = np.argsort(stated)
    for part in np.array_split(order, SIGMA_BINS):
        if len(part):
            observed = np.sqrt((people.error[known][part] ** 2).mean())
            axes.plot(np.sqrt((stated[part] ** 2).mean()), observed, "o", color="C0")
    limit = 1.1 * axes.get_ylim()[1]
    axes.plot([0, limit], [0, limit], color="grey", ls=":")
    _label(axes, "positions (held out)", "stated sigma, pixels", "observed, pixels")


def draw_limbs(axes: Axes, run: CalibrationRun) -> None:
    """Lengths of the limbs of annotated people, and where they become impossible."""
    calibration = run.calibration
    skeleton = run.decoder.skeleton
    distance = np.array(calibration.joint_distance)
    pairs = limb_pairs(skeleton)
    lengths = relative_limb_lengths([image.truth for image in run.images], pairs, distance)
    rows = [pairs.index((min(pair), max(pair))) for pair in calibration.limbs]
    for index, row in enumerate(rows):
        quantiles = np.nanquantile(lengths[:, row], [0.01, 0.5, 0.99])
        axes.plot(quantiles, [index] * 3, "|-", color="C0")
        limit = calibration.limb_limit[index]
        end = limit + IMPOSSIBLE_SCALES * calibration.limb_scale[index]
        axes.plot([limit, end], [index, index], "-", color="C3")
    names = ["-".join(skeleton.keypoints[joint] for joint in pair) for pair in calibration.limbs]
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set_title("limbs: 1, 50, 99 % of the truth; red: penalty")
    axes.set_xlabel("length, person sizes")


def binned(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of x and y (N,) in the bins that have at least MIN_IN_BIN values."""
    index = np.digitize(x, edges)
    kept = [one for one in np.unique(index) if (index == one).sum() >= MIN_IN_BIN]
    mean_x = np.array([x[index == one].mean() for one in kept])
    mean_y = np.array([y[index == one].mean() for one in kept])
    return mean_x, mean_y


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
