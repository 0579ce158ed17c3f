"""Metrics of an evaluation: the record, metrics.json and tables.

metrics.json keeps the metrics with the test protocol:

{"AP": 0.671, "APM": null, ..., "headline": "AP", "notes": ["..."],
 "protocol": {..., "scored": {"evaluator": "hotcoco", "images": 5000, ...}}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from duopose.errors import UserError
from duopose.files import read_json, write_atomically

OTHER_KEYS = {"headline": str, "notes": list, "protocol": dict}  # the other keys of the file
# Files written before images were called images everywhere.
RENAMED_WORDS = {"pictures": "images"}

NOT_AVAILABLE = "n/a"
NOT_STATED = "(not stated)"
PERCENT_HEADLINES = {"Total"}  # MPII papers print percentages with one decimal
MIN_COLUMN_WIDTH = 3  # of the line below the header in markdown

Row = Sequence[str]


@dataclass(frozen=True)
class Metrics:
    """Metrics by their plain names, as fractions from 0 to 1.

    None ("n/a" in tables) where the ground truth has no such people; no values at all where it has
    no annotations.
    """

    values: dict[str, float | None]
    notes: tuple[str, ...] = ()  # printed below the table: why AP is 0, that sigmas are defaults
    facts: dict[str, Any] = field(default_factory=dict)  # what was counted, for the protocol
    headline: str = "AP"  # name of the metric by which models are compared; MPII: Total

    def with_value(self, name: str, value: float | None) -> Metrics:
        """The same metrics with one more."""
        return replace(self, values={**self.values, name: value})

    @property
    def main(self) -> float:
        """Value of the headline metric; 0 where there is none."""
        return self.values.get(self.headline) or 0.0


class MetricsRecord(NamedTuple):
    """Content of a metrics file."""

    metrics: Metrics
    protocol: dict[str, Any]


def write_metrics(path: str | Path, metrics: Metrics, protocol: dict[str, Any]) -> None:
    """Write the file completely or not at all.

    protocol: how the results were made, as plain json values.
    """
    content = {
        **metrics.values,
        "headline": metrics.headline,
        "notes": list(metrics.notes),
        "protocol": protocol | {"scored": metrics.facts},
    }
    write_atomically(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_metrics(path: str | Path) -> MetricsRecord:
    """The inverse of `write_metrics`, also for files of older versions.

    UserError where the file is not a metrics file.
    """
    content = read_json(path, "metrics file")
    if not isinstance(content, dict):
        content = {}

    missing = [key for key, kind in OTHER_KEYS.items() if not isinstance(content.get(key), kind)]
    if missing:
        raise UserError(
            f"'{path}' is not the metrics file of an evaluation: {', '.join(missing)} missing or "
            "of the wrong type; give the metrics.json beside the results"
        )

    protocol = _with_new_words(content["protocol"])
    facts = protocol.pop("scored", {})
    values = {name: value for name, value in content.items() if name not in OTHER_KEYS}
    metrics = Metrics(values, tuple(content["notes"]), facts, content["headline"])
    return MetricsRecord(metrics, protocol)


def _with_new_words(protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol with "pictures" replaced by "images", in keys and values (TEST.MPII_REGION)."""
    renamed: dict[str, Any] = {}
    for key, value in protocol.items():
        if isinstance(value, dict):
            new_value: Any = _with_new_words(value)
        elif isinstance(value, str):
            new_value = RENAMED_WORDS.get(value, value)
        else:
            new_value = value
        renamed[RENAMED_WORDS.get(key, key)] = new_value
    return renamed


# ---- tables, aligned as text and valid as markdown ----


def format_table(header: Row, rows: Sequence[Row]) -> str:
    """Markdown with columns of equal width: the first aligned left, the others right."""
    columns = zip(header, *rows, strict=True)
    widths = [max(MIN_COLUMN_WIDTH, *map(len, column)) for column in columns]

    lines = [_format_row(header, widths), _separator(widths)]
    lines += [_format_row(row, widths) for row in rows]
    return "\n".join(lines)


def _format_row(cells: Row, widths: Sequence[int]) -> str:
    aligned = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    aligned[0] = cells[0].ljust(widths[0])
    return f"| {' | '.join(aligned)} |"


def _separator(widths: Sequence[int]) -> str:
    """The line below the header; a colon marks the side to which a column is aligned."""
    cells = [f"{'-' * (width + 1)}:" for width in widths]
    cells[0] = f":{'-' * (widths[0] + 1)}"
    return f"|{'|'.join(cells)}|"


def format_number(value: float | None, headline: str = "AP") -> str:
    """Three decimals as COCO's tools print, a percentage for MPII, n/a for None."""
    if value is None:
        return NOT_AVAILABLE
    if headline in PERCENT_HEADLINES:
        return f"{100 * value:.1f}"
    return f"{value:.3f}"


def metrics_table(metrics: Metrics, label: str) -> str:
    """One row of metrics with `label` (the model's name) in front, and the notes below."""
    if not metrics.values:
        return "\n".join(metrics.notes)

    cells = [format_number(value, metrics.headline) for value in metrics.values.values()]
    table = format_table(["", *metrics.values], [[label, *cells]])
    return "\n".join([table, *metrics.notes])


def times_table(milliseconds: Mapping[str, float]) -> str:
    """Milliseconds per image by stage."""
    rows = [[stage, f"{value:.1f}"] for stage, value in milliseconds.items()]
    return format_table(["stage", "ms per image"], rows)


def comparison_table(first: MetricsRecord, second: MetricsRecord, labels: tuple[str, str]) -> str:
    """Two evaluations side by side, then every setting in which their protocols differ."""
    parts = [_metrics_side_by_side(first.metrics, second.metrics, labels)]
    for label, record in zip(labels, (first, second), strict=True):
        parts += [f"{label}: {note}" for note in record.metrics.notes]

    differences = protocol_differences(_complete_protocol(first), _complete_protocol(second))
    if differences:
        rows = [[key, str(a), str(b)] for key, a, b in differences]
        parts.append("The protocols differ in\n\n" + format_table(["", *labels], rows))
    else:
        parts.append("The protocols are the same.")
    return "\n\n".join(parts)


def _complete_protocol(record: MetricsRecord) -> dict[str, Any]:
    return record.protocol | {"scored": record.metrics.facts}


def _metrics_side_by_side(first: Metrics, second: Metrics, labels: tuple[str, str]) -> str:
    rows = []
    for name in dict.fromkeys([*first.values, *second.values]):
        a = first.values.get(name)
        b = second.values.get(name)
        difference = NOT_AVAILABLE
        if a is not None and b is not None:
            difference = _with_sign(b - a, first.headline)
        cells = [format_number(value, first.headline) for value in (a, b)]
        rows.append([name, *cells, difference])
    return format_table(["", *labels, "difference"], rows)


def _with_sign(difference: float, headline: str) -> str:
    sign = "+" if difference >= 0 else "-"
    return sign + format_number(abs(difference), headline)


def protocol_differences(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """(dotted key, value of the first, value of the second) for each key that differs.

    A protocol that lacks the key has '(not stated)'.
    """
    a = _flat(first)
    b = _flat(second)
    differences = []
    for key in dict.fromkeys([*a, *b]):
        values = (a.get(key, NOT_STATED), b.get(key, NOT_STATED))
        if values[0] != values[1]:
            differences.append((key, *values))
    return differences


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
