"""Metrics of an evaluation, and metrics.json: the file that keeps them with the test protocol.

{"AP": 0.671, "APM": null, ..., "headline": "AP", "notes": ["..."],
 "protocol": {..., "scored": {"evaluator": "hotcoco", "images": 5000, ...}}}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from duopose.errors import UserError
from duopose.files import read_json, write_atomically

NOT_METRICS = {"headline": str, "notes": list, "protocol": dict}  # the other keys of the file
# Files written before images were called images everywhere.
OLD_WORDS = {"pictures": "images"}


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

    missing = [key for key, kind in NOT_METRICS.items() if not isinstance(content.get(key), kind)]
    if missing:
        raise UserError(
            f"'{path}' is not the metrics file of an evaluation: {', '.join(missing)} missing or "
            "of the wrong type; give the metrics.json beside the results"
        )

    protocol = _with_new_words(content["protocol"])
    facts = protocol.pop("scored", {})
    values = {name: value for name, value in content.items() if name not in NOT_METRICS}
    metrics = Metrics(values, tuple(content["notes"]), facts, content["headline"])
    return MetricsRecord(metrics, protocol)


def _with_new_words(protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol with "pictures" replaced by "images", in keys and values (TEST.MPII_REGION)."""
    renamed: dict[str, Any] = {}
    for key, value in protocol.items():
        if isinstance(value, dict):
            new_value: Any = _with_new_words(value)
        elif isinstance(value, str):
            new_value = OLD_WORDS.get(value, value)
        else:
            new_value = value
        renamed[OLD_WORDS.get(key, key)] = new_value
    return renamed
