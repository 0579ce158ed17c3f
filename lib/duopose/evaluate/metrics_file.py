"""metrics.json: the numbers by their plain names at the top, then what belongs to them.

{"AP": 0.671, "APM": null, ..., "headline": "AP", "notes": ["..."], "protocol": {..., "scored": {"evaluator": "hotcoco", ...}}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from duopose.errors import UserError
from duopose.evaluate.metrics import Metrics
from duopose.files import read_json, write_atomically

NOT_NUMBERS = {"headline": str, "notes": list, "protocol": dict}


class MetricsRecord(NamedTuple):
    """What a metrics file holds."""

    metrics: Metrics
    protocol: dict[str, Any]


def write_metrics(path: str | Path, metrics: Metrics, protocol: dict[str, Any]) -> None:
    """Writes the file whole or not at all; `protocol`: how the results were made, as plain json values."""
    content = {
        **metrics.values,
        "headline": metrics.headline,
        "notes": list(metrics.notes),
        "protocol": protocol | {"scored": metrics.facts},
    }
    write_atomically(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_metrics(path: str | Path) -> MetricsRecord:
    """The inverse of `write_metrics`; UserError where the file is none."""
    content = read_json(path, "metrics file")
    missing = [
        key
        for key, kind in NOT_NUMBERS.items()
        if not isinstance(content, dict) or not isinstance(content.get(key), kind)
    ]
    if missing:
        raise UserError(
            f"'{path}' is no metrics file of an evaluation: {', '.join(missing)} missing or of another kind; "
            "give the metrics.json beside the results"
        )
    protocol = dict(content["protocol"])
    facts = protocol.pop("scored", {})
    values = {name: value for name, value in content.items() if name not in NOT_NUMBERS}
    return MetricsRecord(
        Metrics(values, tuple(content["notes"]), facts, content["headline"]), protocol
    )
