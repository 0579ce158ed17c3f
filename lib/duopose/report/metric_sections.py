"""Sections of the report: metrics, precision and recall, groups, protocol."""

from __future__ import annotations

from duopose.evaluate.metrics import NOT_STATED, format_number, protocol_differences
from duopose.inference.comparison import is_complete, shown_differences
from duopose.report import score_charts
from duopose.report.analysis import RESAMPLES, Analysis, same_images
from duopose.report.elements import (
    Html,
    details,
    figure,
    heading,
    joined,
    note,
    paragraph,
    section,
    table,
)
from duopose.study.resampling import difference

LONG_VALUE = 200  # characters of a protocol's value that are shown
# Of a protocol, what readers look for first.
MAIN_KEYS = (
    "benchmark",
    "split",
    "model",
    "weights",
    "input_size",
    "scales",
    "flip",
    "duopose",
    "git_commit",
)


def overview(analyses: list[Analysis]) -> Html:
    """The table of metrics, the interval of AP, differences to the first source."""
    headline = analyses[0].metrics.headline
    names = list(dict.fromkeys(name for one in analyses for name in one.metrics.values))
    rows = []
    for one in analyses:
        values = [format_number(one.metrics.values.get(name), headline) for name in names]
        rows.append([one.label, *values])
    main_column = names.index(headline) + 1 if headline in names else 0

    notes = [note(f"{one.label}: {sentence}") for one in analyses for sentence in one.notes]
    return section(
        "metrics",
        "Metrics",
        [
            table(["", *names], rows, main_column=main_column),
            _interval_table(analyses),
            joined(notes),
        ],
    )


def _interval_table(analyses: list[Analysis]) -> Html:
    """AP by OKS with its interval, and the paired difference to the first source."""
    comparable = same_images(analyses)
    header = ["", "images", "people", "detections", "AP", "95 % interval"]
    if len(analyses) > 1:
        header += [f"difference to {analyses[0].label}", "95 % interval"]
    rows = []
    for one in analyses:
        counts = [len(one.scoring.image_ids), int(one.matches.num_people.sum())]
        counts.append(len(one.matching.detections.score))
        interval = "n/a" if one.interval is None else _range(*one.interval, sign="")
        row = [one.label, *counts, format_number(one.ap), interval]
        if len(analyses) > 1:
            row += _difference_cells(one, analyses[0], comparable)
        rows.append(row)

    remark = (
        "The interval is of 200 bootstrap samples of the images: how much the AP would vary with "
        "other images of the same kind. It does not cover other seeds of the training."
    )
    if len(analyses) > 1:
        remark += (
            " Differences are paired, image by image."
            if comparable
            else " The sources were scored on different images, so differences have no interval."
        )
    return joined([table(header, rows), paragraph(remark, "faint")])


def _difference_cells(one: Analysis, first: Analysis, comparable: bool) -> list[str]:
    if one is first:
        return ["", ""]
    if one.ap is None or first.ap is None:
        return ["n/a", "n/a"]
    found = None
    if comparable:
        found = difference({0: one.matches}, {0: first.matches}, RESAMPLES)
    interval = "n/a" if found is None else _range(found.low, found.high, sign="+")
    return [f"{one.ap - first.ap:+.3f}", interval]


def _range(low: float, high: float, sign: str) -> str:
    return f"{low:{sign}.3f} to {high:{sign}.3f}"


def precision_recall(analyses: list[Analysis]) -> Html:
    """Curves at ten OKS thresholds."""
    caption = (
        "Precision at each recall, one curve for each OKS threshold. COCO's AP is the mean of "
        "their areas. A curve ends at the recall that the results reach."
    )
    drawing = score_charts.precision_recall(analyses)
    return section("curves", "Precision and recall", [figure(drawing, caption)])


def groups(analyses: list[Analysis]) -> Html:
    """AP by properties of people and images."""
    caption = (
        "n: people of the group. People outside a group are ignored. A detection that matches "
        "nobody counts in each group by the group's part of all people; by size, in the group of "
        "its own size; by people in the image, in its image."
    )
    tables = [_group_table(analyses, index) for index in range(len(analyses[0].groupings))]
    return section(
        "groups",
        "AP by kind of person and image",
        [
            figure(score_charts.groups(analyses), caption),
            details("Numbers", joined(tables)),
        ],
    )


def _group_table(analyses: list[Analysis], index: int) -> Html:
    used = [one for one in analyses if index < len(one.groupings)]
    names = score_charts.group_names([one.groupings[index] for one in used])
    header = [used[0].groupings[index].axis]
    for one in used:
        header += [f"{one.label}: people", "images", "AP", "AR"]
    rows = []
    for name in names:
        row = [name]
        for one in used:
            group = next(group for group in one.groupings[index].groups if group.name == name)
            row += [str(group.people), str(group.images)]
            row += [format_number(group.ap), format_number(group.recall)]
        rows.append(row)
    return joined([heading(3, used[0].groupings[index].title), table(header, rows)])


def protocols(analyses: list[Analysis]) -> Html:
    """What differs between the protocols; the whole protocol of each source to open."""
    flat = [_flat(one.source.protocol) for one in analyses]
    parts = []
    if len(analyses) > 1:
        parts.append(_differences(analyses))
    for one, values in zip(analyses, flat, strict=True):
        rows = [[key, _short(value)] for key, value in values.items()]
        files = [["results", one.source.results], ["ground truth", one.scoring.file.path]]
        content = table(["setting", "value"], [*files, *rows], "text")
        parts.append(details(f"Whole protocol of {one.label}", content))
    return section("protocol", "Protocol", [_protocol_summary(analyses, flat), *parts])


def _protocol_summary(analyses: list[Analysis], flat: list[dict[str, object]]) -> Html:
    """Files, skeleton and MAIN_KEYS."""
    known = [key for key in MAIN_KEYS if any(key in values for values in flat)]
    rows: list[list[object]] = [
        ["results", *(one.source.results for one in analyses)],
        ["ground truth", *(one.scoring.file.path for one in analyses)],
        ["skeleton", *(one.source.skeleton.name for one in analyses)],
    ]
    rows += [[key, *(_short(values.get(key, NOT_STATED)) for values in flat)] for key in known]
    return table(["", *(one.label for one in analyses)], rows, "text")


def _differences(analyses: list[Analysis]) -> Html:
    """A table of the differing values; one sentence about sources that do not state all."""
    stated = [one.source.protocol for one in analyses]
    incomplete = [number for number, one in enumerate(stated) if not is_complete(one)]
    found = shown_differences(protocol_differences(*stated), incomplete)
    rows = [[key, *(_short(value) for value in values)] for key, *values in found]
    parts = [heading(3, "What differs")]
    if rows:
        parts.append(table(["", *(one.label for one in analyses)], rows, "text"))
    elif incomplete:
        parts.append(paragraph("The protocols agree in what all of them state."))
    else:
        parts.append(paragraph("The protocols are the same."))

    if incomplete:
        labels = ", ".join(analyses[number].label for number in incomplete)
        sentence = "not all settings and checksums are stated; the others may differ, too."
        parts.append(paragraph(f"{labels}: {sentence}"))
    return joined(parts)


def _flat(protocol: dict[str, object]) -> dict[str, object]:
    """The values of a protocol by their dotted keys."""
    return {key: value for key, _, value in protocol_differences({}, protocol)}


def _short(value: object) -> str:
    shown = str(value)
    return shown if len(shown) <= LONG_VALUE else shown[:LONG_VALUE] + " ..."
