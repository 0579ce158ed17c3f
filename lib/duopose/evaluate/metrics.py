"""Metrics of an evaluation: the record, metrics.json and tables.

metrics.json keeps the metrics with the test protocol:

{"AP": 0.671, "APM": null, ..., "headline": "AP", "notes": ["..."],
 "protocol": {..., "scored": {"evaluator": "hotcoco", "images": 5000, ...}}}
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.json_files import read_json

OTHER_KEYS = {"headline": str, "notes": list, "protocol": dict}  # the other keys of the file
MAX_FILE_MEMORY = 100 * 2**20  # a metrics file has some kB
MAX_NAMED = 5  # wrong keys in a message
# Files written before images were called images everywhere.
RENAMED_WORDS = {"pictures": "images"}

NOT_AVAILABLE = "n/a"
NOT_STATED = "(not stated)"
PERCENT_HEADLINES = {"Total"}  # MPII papers print percentages with one decimal
MIN_COLUMN_WIDTH = 3  # of the line below the header in markdown
MAX_VALUE_LENGTH = 40  # characters of a setting in a comparison

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
    if not Path(path).exists():
        raise UserError(
            f"metrics file '{path}' does not exist; tools/valid.py writes metrics.json beside the "
            "results of an evaluation"
        )
    content = read_json(path, "metrics file", MAX_FILE_MEMORY)
    if not isinstance(content, dict):
        content = {}

    missing = [key for key, kind in OTHER_KEYS.items() if not isinstance(content.get(key), kind)]
    missing += [name for name, value in content.items() if not _is_valid(name, value)]
    if missing:
        raise UserError(
            f"'{path}' is not the metrics file of an evaluation: {', '.join(missing[:MAX_NAMED])} "
            "missing or of the wrong type; give the metrics.json beside the results"
        )

    protocol = _with_new_words(content["protocol"])
    facts = protocol.pop("scored", {})
    values = {name: value for name, value in content.items() if name not in OTHER_KEYS}
    metrics = Metrics(values, tuple(content["notes"]), facts, content["headline"])
    return MetricsRecord(metrics, protocol)


def _is_valid(name: str, value: Any) -> bool:
    """Whether a metric is a number or null, and the other keys hold what is in them."""
    if name == "notes":
        return isinstance(value, list) and all(isinstance(note, str) for note in value)
    if name == "protocol":
        return isinstance(value, dict) and isinstance(value.get("scored", {}), dict)
    if name in OTHER_KEYS or value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)


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


def format_table(header: Row, rows: Sequence[Row], left: Collection[int] = (0,)) -> str:
    """Markdown with columns of equal width; those of the indices `left` are aligned left."""
    columns = zip(header, *rows, strict=True)
    widths = [max(MIN_COLUMN_WIDTH, *map(len, column)) for column in columns]

    lines = [_format_row(header, widths, left), _separator(widths, left)]
    lines += [_format_row(row, widths, left) for row in rows]
    return "\n".join(lines)


def _format_row(cells: Row, widths: Sequence[int], left: Collection[int]) -> str:
    aligned = [
        cell.ljust(width) if index in left else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(aligned)} |"


def _separator(widths: Sequence[int], left: Collection[int]) -> str:
    """The line below the header; a colon marks the side to which a column is aligned."""
    dashes = ["-" * (width + 1) for width in widths]
    cells = [f":{dash}" if index in left else f"{dash}:" for index, dash in enumerate(dashes)]
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


Difference = tuple[Any, ...]  # dotted key, value of the first record, of the second ...


def comparison_table(
    records: Sequence[MetricsRecord],
    labels: Sequence[str],
    differences: Sequence[Difference] | None = None,
    same: str = "The protocols are the same.",
) -> str:
    """Evaluations side by side, then every setting in which their protocols differ.

    labels: one a record, the heads of the columns. differences: those to show, by default all.
    same: printed where there are none.
    """
    parts = [_metrics_side_by_side([record.metrics for record in records], labels)]
    for label, record in zip(labels, records, strict=True):
        parts += [f"{label}: {note}" for note in record.metrics.notes]

    if differences is None:
        differences = record_differences(records)
    if differences:
        rows = [[key, *_short_values(values)] for key, *values in differences]
        parts.append("The protocols differ in\n\n" + format_table(["", *labels], rows))
    else:
        parts.append(same)
    return "\n\n".join(parts)


def record_differences(records: Sequence[MetricsRecord]) -> list[Difference]:
    """`protocol_differences` of the protocols with what was counted."""
    return protocol_differences(
        *(record.protocol | {"scored": record.metrics.facts} for record in records)
    )


def _metrics_side_by_side(metrics: Sequence[Metrics], labels: Sequence[str]) -> str:
    """One column each; for two the difference, too."""
    headline = metrics[0].headline
    with_difference = len(metrics) == 2
    rows = []
    for name in dict.fromkeys(name for one in metrics for name in one.values):
        values = [one.values.get(name) for one in metrics]
        row = [name, *(format_number(value, headline) for value in values)]
        if with_difference:
            row.append(_format_difference(values, headline))
        rows.append(row)
    return format_table(["", *labels, *(["difference"] if with_difference else [])], rows)


def _format_difference(values: Sequence[float | None], headline: str) -> str:
    first, second = values
    if first is None or second is None:
        return NOT_AVAILABLE
    sign = "+" if second >= first else "-"
    return sign + format_number(abs(second - first), headline)


def protocol_differences(*protocols: Mapping[str, Any]) -> list[Difference]:
    """(dotted key, value of the first, value of the second ...) for each key that differs.

    A protocol that lacks the key has '(not stated)'.
    """
    flat = [_flat(protocol) for protocol in protocols]
    differences = []
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, NOT_STATED) for one in flat]
        if any(value != values[0] for value in values[1:]):
            differences.append((key, *values))
    return differences


def _short_values(values: Sequence[Any]) -> list[str]:
    """The values as text; of long ones the part from shortly before the first difference."""
    texts = [str(value) for value in values]
    if max(map(len, texts)) <= MAX_VALUE_LENGTH:
        return texts
    characters = zip(*texts, strict=False)
    common = itertools.takewhile(lambda column: len(set(column)) == 1, characters)
    start = max(sum(1 for _ in common) - MAX_VALUE_LENGTH // 3, 0)
    return [_excerpt(text, start) for text in texts]


def _excerpt(text: str, start: int) -> str:
    end = start + MAX_VALUE_LENGTH
    before = "..." if start else ""
    after = "..." if end < len(text) else ""
    return f"{before}{text[start:end]}{after}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
