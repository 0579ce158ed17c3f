"""Hostile and broken results and metrics files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.trust.readers import coco_content, result_entries, use_metrics, use_results

from duopose.errors import UserError
from duopose.evaluate.results import from_entries, read_entries

METRICS = {
    "AP": 0.5, "APM": None, "headline": "AP", "notes": ["a note"],
    "protocol": {"benchmark": "coco", "scored": {"images": 2}},
}  # fmt: skip


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(coco_content()))
    return path


@pytest.mark.parametrize("field", ["image_id", "category_id", "keypoints", "score"])
def test_wrong_values_name_the_person_and_the_key(truth: Path, field: str) -> None:
    values: list[Any] = [None, "a", True, [], [1], {}, 1e308, -(10**30), ["a"] * 51, [1e308] * 51]
    found = truth.with_name("results.json")
    for value in values:
        if field == "score" and value in (1e308, -(10**30)):
            continue  # a number
        entries = result_entries(coco_content())
        entries[1][field] = value
        found.write_text(json.dumps(entries))
        with pytest.raises(UserError, match=re.escape(str(found))) as error:
            use_results(truth)(found)
        assert "1" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{}", b"5", b"[5]", b"[[]]", b"[NaN]", b'[{"score": 1e400}]', b"[" * 100_000,
        b'[{"image_id": 10}]', b'[{"image_id": 10, "category_id": 1, "keypoints": [], "score": 1}]',
        b"[{}]", b'{"results": []}', b"\xff\xfe[]", b'[{"image_id": ' + b"1" * 100_000 + b"}]",
    ],
)  # fmt: skip
def test_files_that_are_no_results(truth: Path, text: bytes) -> None:
    found = truth.with_name("results.json")
    found.write_bytes(text)
    with pytest.raises(UserError, match=re.escape(str(found))):
        use_results(truth)(found)


def test_other_keys_of_other_programs_are_left_out(truth: Path) -> None:
    entries = result_entries(coco_content())
    for entry in entries:
        entry |= {"bbox": "any", "center": [1, 2], "filled": [0, 900], "sigma": [1.0]}
    found = truth.with_name("results.json")
    found.write_text(json.dumps(entries))
    use_results(truth)(found)
    poses = from_entries(read_entries(found))[0].poses
    assert poses.filled.sum(axis=1).tolist() == [1, 1, 1] and poses.sigma is None


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda c: c.update(AP="0.9"), "AP"),
        (lambda c: c.update(AP=[0.9]), "AP"),
        (lambda c: c.update(AP=True), "AP"),
        (lambda c: c.update(AP={"a": 1}), "AP"),
        (lambda c: c.update(headline=5), "headline"),
        (lambda c: c.pop("headline"), "headline"),
        (lambda c: c.update(notes="a"), "notes"),
        (lambda c: c.update(notes=[5]), "notes"),
        (lambda c: c.update(protocol=[]), "protocol"),
        (lambda c: c["protocol"].update(scored=5), "protocol"),
        (lambda c: c.pop("protocol"), "protocol"),
    ],
)
def test_metrics_files(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], named: str
) -> None:
    path = tmp_path / "metrics.json"
    content = json.loads(json.dumps(METRICS))
    path.write_text(json.dumps(content))
    use_metrics(path)
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{re.escape(str(path))}.*{named}"):
        use_metrics(path)


@pytest.mark.parametrize("text", [b"", b"[]", b"5", b"{}", b"null", b'{"AP": NaN}', b"[" * 5000])
def test_files_that_are_no_metrics(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=re.escape(str(path))):
        use_metrics(path)
