"""Drawings of AP: precision and recall, groups of people, costs of errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from duopose.evaluate.coco import RECALL_THRESHOLDS
from duopose.report.analysis import Analysis
from duopose.report.groups import Group, Grouping
from duopose.report.matching import AP_THRESHOLDS
from duopose.report.svg import draw_grid
from duopose.report.theme import FAINT, PAPER, RAMP, SERIES

BAR_SPACE = 0.8  # of the distance between two groups
SMALL = 8  # points
MIN_BAR_FOR_TEXT = 0.12  # AP; the text of lower bars stands above them
# With more sources, values written on the bars would overlap.
MAX_SOURCES_WITH_VALUES = 2


def series_colour(index: int) -> str:
    """The colour of the source with that index."""
    return SERIES[index % len(SERIES)]


def precision_recall(analyses: list[Analysis]) -> str:
    """A panel for each source, with a curve for each OKS threshold."""
    panels: list[Callable[[Axes], None]] = [partial(_curves_of, one) for one in analyses]
    size = (7.0, 4.2) if len(panels) == 1 else (5.6, 3.8)
    return draw_grid(panels, "Precision against recall at ten OKS thresholds", size, columns=2)


def groups(analyses: list[Analysis]) -> str:
    """A panel for each property; bars of AP, and the recall as a mark."""
    panels: list[Callable[[Axes], None]] = []
    labels = [one.label for one in analyses]
    for index in range(len(analyses[0].groupings)):
        of_sources = [one.groupings[index] for one in analyses if index < len(one.groupings)]
        # One legend for all panels.
        panels.append(partial(_group_bars, of_sources, labels if index == 0 else []))
    return draw_grid(panels, "AP and recall of groups of people", size=(5.6, 3.1), columns=2)


def costs(analyses: list[Analysis]) -> str:
    """Gain in AP after the correction of each kind of error."""
    height = 0.9 + 0.24 * len(analyses[0].corrections) * max(1.0, 0.6 * len(analyses))
    return draw_grid(
        [partial(_cost_bars, analyses)], "AP that each kind of error costs", size=(8.0, height)
    )


def group_names(groupings: list[Grouping]) -> list[str]:
    """Names of the groups that hold people in any of the sources, in order."""
    names = [group.name for group in groupings[0].groups]
    by_source = [{group.name: group for group in grouping.groups} for grouping in groupings]
    return [
        name for name in names if any(name in found and found[name].people for found in by_source)
    ]


def _curves_of(analysis: Analysis, axes: Axes) -> None:
    axes.set_title(analysis.label)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    if analysis.precision is None:
        axes.text(0.5, 0.5, "no people to find", ha="center", color=FAINT)
        return

    for threshold, row, colour in zip(AP_THRESHOLDS, analysis.precision, RAMP, strict=True):
        # Beyond the last recall there is no precision; COCO counts it as 0.
        reached = np.flatnonzero(row > 0)
        end = reached[-1] + 1 if len(reached) else 0
        label = f".{round(100 * threshold)}: AP {row.mean():.3f}"
        axes.plot(RECALL_THRESHOLDS[:end], row[:end], color=colour, linewidth=1.6, label=label)
    axes.legend(
        title="OKS", loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=SMALL, handlelength=1.2
    )


def _group_bars(groupings: list[Grouping], labels: list[str], axes: Axes) -> None:
    names = group_names(groupings)
    width = BAR_SPACE / len(groupings)
    for index, grouping in enumerate(groupings):
        by_name = {group.name: group for group in grouping.groups}
        found = [by_name.get(name, Group(name, 0, 0, None, None)) for name in names]
        ap = np.array([group.ap or 0.0 for group in found])
        recall = np.array([np.nan if g.recall is None else g.recall for g in found])
        position = np.arange(len(names)) + (index - (len(groupings) - 1) / 2) * width
        axes.bar(position, ap, 0.9 * width, color=series_colour(index))
        axes.plot(position, recall, "_", color=FAINT, markersize=min(26.0, 110 * width / 3))
        if len(groupings) <= MAX_SOURCES_WITH_VALUES:
            _write_values(axes, position, found)

    first = {group.name: group for group in groupings[0].groups}
    axes.set_xticks(range(len(names)), [f"{name}\nn = {first[name].people}" for name in names])
    if len(labels) > 1:
        bars = axes.containers[: len(labels)]
        anchor = (0.0, 1.1)
        axes.legend(bars, labels, fontsize=SMALL, loc="lower left", bbox_to_anchor=anchor, ncols=3)
    axes.set_title(groupings[0].title)
    axes.set_xlabel(groupings[0].axis)
    axes.set_ylabel("AP (bar), AR (mark)")
    axes.set_ylim(0, 1)
    axes.grid(False, axis="x")


def _write_values(axes: Axes, position: np.ndarray, found: list[Group]) -> None:
    """The AP in each bar; above it and the mark of the recall where the bar is low."""
    for x, group in zip(position, found, strict=True):
        if group.ap is None:
            continue
        shown = f"{group.ap:.3f}".removeprefix("0")
        if group.ap >= MIN_BAR_FOR_TEXT:
            y = group.ap - 0.02
            axes.text(x, y, shown, ha="center", va="top", color=PAPER, fontsize=SMALL)
        else:
            top = max(group.ap, group.recall or 0.0)
            axes.text(x, top + 0.02, shown, ha="center", va="bottom", fontsize=SMALL)


def _cost_bars(analyses: list[Analysis], axes: Axes) -> None:
    names = [correction.name for correction in analyses[0].corrections]
    width = BAR_SPACE / len(analyses)
    for index, analysis in enumerate(analyses):
        gains = np.array([correction.gain or 0.0 for correction in analysis.corrections])
        position = np.arange(len(names)) + (index - (len(analyses) - 1) / 2) * width
        axes.barh(position, gains, 0.9 * width, color=series_colour(index), label=analysis.label)
        for y, gain in zip(position, gains, strict=True):
            axes.annotate(
                f"{gain:+.3f}",
                (max(gain, 0), y),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=SMALL,
            )

    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("AP gained by correcting it")
    axes.margins(x=0.12)
    if len(analyses) > 1:
        axes.legend(fontsize=SMALL, loc="upper left", bbox_to_anchor=(1.0, 1.0))
