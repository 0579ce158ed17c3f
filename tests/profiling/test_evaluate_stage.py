"""The scoring stage runs, and both sides of its ratio give the same numbers."""

from __future__ import annotations

from argparse import Namespace

from duopose.profiling.evaluate_stage import generate, run


def test_rows() -> None:
    rows = run(Namespace(repeats=1, images=12, detections=5))["rows"]
    assert [row["name"] for row in rows] == ["results file", "scoring"]
    assert rows[1]["same_numbers"] and rows[1]["people"] == 60
    assert set(rows[1]["times_faster"]) == {"ours", "ours, file of ours", "ours, from memory"}


def test_what_is_scored_is_neither_perfect_nor_hopeless() -> None:
    from duopose.evaluate.coco import evaluate_coco
    from duopose.skeletons import COCO

    score = evaluate_coco(*generate(40, 20), COCO).values["AP50"]
    assert score is not None and 0.05 < score < 0.95
