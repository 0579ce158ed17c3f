"""Drawings of the errors of joints, of calibration, and of the training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from duopose.report.analysis import Analysis
from duopose.report.joint_errors import KINDS
from duopose.report.reliability import Reliability
from duopose.report.score_charts import SMALL, series_colour
from duopose.report.svg import draw_grid
from duopose.report.theme import FAINT, GRID, KIND
from duopose.visualize.curves import Curves, curve_panels, draw_panel, read_curves

MIN_SHOWN_IN_BIN = 10  # detections; the mean of fewer says little
COUNT_WIDTH = 0.06  # of the range of the scores
BAR_HEIGHT = 0.22  # inches a joint


def joint_bars(analyses: list[Analysis]) -> str:
    """A panel for each source: the kinds of error of each joint as parts of a bar."""
    number = analyses[0].source.skeleton.num_keypoints
    panels: list[Callable[[Axes], None]] = [partial(_joint_panel, one) for one in analyses]
    height = 1.3 + BAR_HEIGHT * number
    columns = min(2, len(panels))
    width = 9.0 if columns == 1 else 5.6
    return draw_grid(panels, "Errors of each joint by kind", size=(width, height), columns=columns)


def score_reliability(analyses: list[Analysis]) -> str:
    """Scores of people, then scores of joints, against how often they are right."""
    panels: list[Callable[[Axes], None]] = []
    for name in analyses[0].person_scores:
        of_people = [(one.label, one.person_scores[name]) for one in analyses]
        panels.append(partial(_reliability_panel, f"people: {name}", of_people))
    of_joints = [(one.label, one.joint_scores) for one in analyses]
    if all(one.varies for _, one in of_joints):
        panels.append(partial(_reliability_panel, "joints: close to the truth", of_joints))
    return draw_grid(panels, "Reliability of scores", size=(3.8, 3.5))


def sigma_reliability(analyses: list[Analysis]) -> str:
    """Stated against observed errors; of the sources that state them."""
    return draw_grid(
        [partial(_sigma_panel, analyses)],
        "Observed error against stated standard deviation",
        size=(5.0, 4.0),
    )


def training_curves(analysis: Analysis) -> str:
    """Losses, validation and learning rate of metrics.csv; empty where it has no values."""
    if analysis.source.training_log is None:
        return ""
    panels = curve_panels(read_curves(analysis.source.training_log))
    if not panels:
        return ""
    draw: list[Callable[[Axes], None]] = [
        partial(_curve_panel, title, curves) for title, curves in panels.items()
    ]
    return draw_grid(draw, f"Training of {analysis.label}", size=(4.0, 4.4))


def _curve_panel(title: str, curves: Curves, axes: Axes) -> None:
    draw_panel(axes, title, curves)
    if axes.get_yscale() == "log":
        # matplotlib writes powers of ten as formulas, which are off (svg.RC).
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _joint_panel(analysis: Analysis, axes: Axes) -> None:
    shares = np.nan_to_num(100 * analysis.errors.shares())
    names = analysis.source.skeleton.keypoints
    left = np.zeros(len(names))
    for kind, (name, colour) in enumerate(zip(KINDS, KIND, strict=True)):
        axes.barh(range(len(names)), shares[:, kind], 0.78, left=left, color=colour, label=name)
        left += shares[:, kind]

    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the labelled joints")
    axes.set_title(analysis.label)
    axes.grid(False)
    axes.legend(
        fontsize=SMALL, ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.1), handlelength=1.0
    )


def _reliability_panel(title: str, of_sources: list[tuple[str, Reliability]], axes: Axes) -> None:
    are_probabilities = all(one.error is not None for _, one in of_sources)
    if are_probabilities:
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":")
        axes.set_xlim(0, 1)

    if len(of_sources) == 1:
        _draw_counts(axes, of_sources[0][1])
    most = max(one.count.max(initial=1) for _, one in of_sources)
    for index, (label, one) in enumerate(of_sources):
        shown = one.count >= min(MIN_SHOWN_IN_BIN, most)
        text = label if one.error is None else f"{label}: ECE {one.error:.3f}"
        axes.plot(
            one.stated[shown],
            one.observed[shown],
            marker="o",
            markersize=4,
            color=series_colour(index),
            label=text,
        )
    axes.set_title(title)
    axes.set_xlabel("score" if are_probabilities else "score (no probability)")
    axes.set_ylabel("observed")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=SMALL, loc="upper center", bbox_to_anchor=(0.5, -0.18))


def _draw_counts(axes: Axes, one: Reliability) -> None:
    """Grey bars: the part of the scores in each bin."""
    part = one.count / one.count.sum()
    score_range = 1.0 if one.error is not None else np.ptp(one.stated)
    bar_width = COUNT_WIDTH * max(score_range, COUNT_WIDTH)
    axes.bar(one.stated, part, bar_width, color=GRID)


def _sigma_panel(analyses: list[Analysis], axes: Axes) -> None:
    largest = 0.0
    for index, analysis in enumerate(analyses):
        one = analysis.sigma
        if one is None:
            continue
        largest = max(largest, one.stated.max(), one.observed.max())
        colour = series_colour(index)
        label = analysis.label
        axes.plot(one.stated, one.observed, marker="o", markersize=4, color=colour, label=label)
    axes.plot([0, largest], [0, largest], color=FAINT, linestyle=":", label="as stated")
    axes.set_xlabel("stated standard deviation, pixels")
    axes.set_ylabel("observed error, pixels")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=SMALL)
