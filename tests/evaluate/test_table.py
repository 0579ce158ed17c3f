"""Tables and the metrics file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duopose.errors import UserError
from duopose.evaluate.metrics import (
    Metrics,
    comparison_table,
    metrics_table,
    read_metrics,
    times_table,
    write_metrics,
)

METRICS = Metrics({"AP": 0.67123, "APM": None}, ("a note.",), {"evaluator": "hotcoco", "images": 5})
PROTOCOL = {"flip": True, "scales": [1.0], "test_settings": {"MRM": "off"}}


def test_the_printed_table() -> None:
    assert metrics_table(METRICS, "pose_higher_hrnet_de").splitlines() == [
        "|                      |    AP | APM |",
        "|:---------------------|------:|----:|",
        "| pose_higher_hrnet_de | 0.671 | n/a |",
        "a note.",
    ]


def test_mpii_is_printed_in_percent_as_papers_do() -> None:
    assert "| 100.0 |  87.7 |" in metrics_table(
        Metrics({"Head": 1.0, "Total": 0.87654}, headline="Total"), "x"
    )


def test_without_numbers_only_the_note() -> None:
    assert metrics_table(Metrics({}, ("submit it.",)), "x") == "submit it."


def test_times() -> None:
    assert "| network  |         12.3 |" in times_table({"network": 12.345, "decoding": 1})


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "results" / "metrics.json"
    write_metrics(path, METRICS, PROTOCOL)
    assert read_metrics(path) == (METRICS, PROTOCOL)
    assert '"AP": 0.67123' in path.read_text() and '"APM": null' in path.read_text()


@pytest.mark.parametrize("content", ["[]", '{"AP": 0.5}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json.*headline"):
        read_metrics(path)


def test_files_of_older_versions(tmp_path: Path) -> None:
    """Their protocol counts "pictures"."""
    path = tmp_path / "metrics.json"
    scored = {"region": "pictures", "pictures": 5}
    protocol = {"pictures": 5, "test_settings": {"MPII_REGION": "pictures"}, "scored": scored}
    path.write_text(json.dumps({"AP": 0.5, "headline": "AP", "notes": [], "protocol": protocol}))
    record = read_metrics(path)
    assert record.protocol == {"images": 5, "test_settings": {"MPII_REGION": "images"}}
    assert record.metrics.facts == {"region": "images", "images": 5}


def test_comparison(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    write_metrics(first, METRICS, PROTOCOL)
    changed = {**PROTOCOL, "flip": False, "test_settings": {"MRM": "paper"}, "extra": 1}
    write_metrics(
        second, Metrics({"AP": 0.65, "APM": 0.5}, (), METRICS.facts | {"images": 4}), changed
    )
    text = comparison_table([read_metrics(first), read_metrics(second)], ("a.json", "b.json"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["AP", "0.671", "0.650", "-0.021"] in rows
    assert ["APM", "n/a", "0.500", "n/a"] in rows
    assert ["flip", "True", "False"] in rows
    assert ["test_settings.MRM", "off", "paper"] in rows
    assert ["extra", "(not stated)", "1"] in rows
    assert ["scored.images", "5", "4"] in rows
    assert not any(row[0] == "scales" for row in rows)
    assert "a.json: a note." in text
    same = comparison_table([read_metrics(first), read_metrics(first)], ("a", "a"))
    assert same.count("\n|:-") == 1  # one table: no differences
