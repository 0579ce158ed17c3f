"""Metrics as tables for people: aligned, and valid markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duopose.evaluate.metrics import Metrics
from duopose.evaluate.metrics_file import MetricsRecord

NOT_AVAILABLE = "n/a"
Rows = Sequence[Sequence[str]]


def format_table(header: Sequence[str], rows: Rows) -> str:
    """Markdown with columns of equal width: the first to the left, the others to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    lines = [
        _line(header, widths),
        "|"
        + "|".join(
            f"{':' if n == 0 else '-'}{'-' * w}{'-' if n == 0 else ':'}"
            for n, w in enumerate(widths)
        )
        + "|",
    ]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return (
        "| "
        + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])
        + " |"
    )


def format_number(value: float | None, headline: str = "AP") -> str:
    """Three decimals as the COCO family prints, a percentage with one decimal as MPII papers do, n/a for None."""
    if value is None:
        return NOT_AVAILABLE
    return f"{100 * value:.1f}" if headline == "Total" else f"{value:.3f}"


def metrics_table(metrics: Metrics, label: str) -> str:
    """One row of numbers, called `label` (the model's name), and the notes below."""
    numbers = [format_number(value, metrics.headline) for value in metrics.values.values()]
    table = format_table(["", *metrics.values], [[label, *numbers]]) if numbers else ""
    return "\n".join(part for part in (table, *metrics.notes) if part)


def times_table(milliseconds: Mapping[str, float]) -> str:
    """Milliseconds per image by stage."""
    return format_table(
        ["stage", "ms per image"],
        [[stage, f"{value:.1f}"] for stage, value in milliseconds.items()],
    )


def comparison_table(first: MetricsRecord, second: MetricsRecord, labels: tuple[str, str]) -> str:
    """Two evaluations side by side, then everything in which their protocols differ."""
    tables = [_numbers_side_by_side(first.metrics, second.metrics, labels)]
    for label, record in zip(labels, (first, second), strict=True):
        tables += [f"{label}: {note}" for note in record.metrics.notes]
    differences = protocol_differences(_whole_protocol(first), _whole_protocol(second))
    if differences:
        tables.append(
            "The protocols differ in\n\n"
            + format_table(["", *labels], [[key, str(a), str(b)] for key, a, b in differences])
        )
    else:
        tables.append("The protocols are the same.")
    return "\n\n".join(tables)


def _whole_protocol(record: MetricsRecord) -> dict[str, Any]:
    return record.protocol | {"scored": record.metrics.facts}


def _numbers_side_by_side(first: Metrics, second: Metrics, labels: tuple[str, str]) -> str:
    rows = []
    for name in dict.fromkeys([*first.values, *second.values]):
        a, b = first.values.get(name), second.values.get(name)
        cells = [format_number(a, first.headline), format_number(b, second.headline)]
        difference = NOT_AVAILABLE if a is None or b is None else _signed(b - a, first.headline)
        rows.append([name, *cells, difference])
    return format_table(["", *labels, "difference"], rows)


def _signed(difference: float, headline: str) -> str:
    return ("+" if difference >= 0 else "-") + format_number(abs(difference), headline)


def protocol_differences(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """(key, first's value, second's value) of each dotted key that differs; '(not stated)' where one lacks it."""
    a, b = _flat(first), _flat(second)
    keys = dict.fromkeys([*a, *b])
    missing = "(not stated)"
    return [
        (key, a.get(key, missing), b.get(key, missing))
        for key in keys
        if a.get(key, missing) != b.get(key, missing)
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat
