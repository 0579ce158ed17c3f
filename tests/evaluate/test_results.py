"""The results file: the server's format, written and read back, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duopose.errors import UserError
from duopose.evaluate.results import (
    check_entries,
    from_entries,
    read_entries,
    to_entries,
    write_results,
)
from duopose.types import ImageResult, Poses


def some_results(num_keypoints: int = 3) -> list[ImageResult]:
    rng = np.random.default_rng(0)
    results = []
    for image_id, people in ((7, 2), (3, 0), ("a.jpg", 1)):
        keypoints = rng.uniform(0, 1, (people, num_keypoints, 3)) * [640, 480, 1]
        results.append(
            ImageResult(
                image_id,
                Poses(
                    keypoints, rng.uniform(0, 1, people), rng.random((people, num_keypoints)) < 0.5
                ),
            )
        )
    return results


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    results = some_results()
    write_results(path, results, with_filled=True)
    back = from_entries(read_entries(path))
    assert [result.image_id for result in back] == [7, "a.jpg"], (
        "an image without people has no entry"
    )
    for was, now in zip([results[0], results[2]], back, strict=True):
        np.testing.assert_allclose(now.poses.keypoints, was.poses.keypoints, atol=5.001e-4)
        np.testing.assert_allclose(
            now.poses.keypoints[..., 2], was.poses.keypoints[..., 2], atol=5.001e-7
        )
        assert (now.poses.scores == was.poses.scores).all(), "the ranking is exact"
        assert (now.poses.filled == was.poses.filled).all()
    assert list(path.parent.iterdir()) == [path], "no scratch file stays"


def test_the_servers_format_is_kept_clean(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, some_results())
    first = json.loads(path.read_text())[0]
    assert set(first) == {"image_id", "category_id", "keypoints", "score"}
    assert len(first["keypoints"]) == 9
    assert first["category_id"] == 1


@pytest.mark.parametrize("images_per_part", [1, 2, 100])
def test_written_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_per_part: int
) -> None:
    monkeypatch.setattr("duopose.evaluate.results.IMAGES_PER_PART", images_per_part)
    path = tmp_path / "results.json"
    for results in (some_results(), some_results()[1:], some_results()[1:2], []):
        write_results(path, results)
        assert read_entries(path) == to_entries(results)


def test_not_finite_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, some_results())
    before = path.read_bytes()
    broken = some_results()
    broken[0].poses.keypoints[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 7"):
        write_results(path, broken)
    assert path.read_bytes() == before


GOOD = {"image_id": 7, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 3, "score": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 8}, "person 1 .*image 8"),
        ({"category_id": 2}, r"person 1 \(image 7\) .*category_id 2"),
        (
            {"keypoints": [1.0] * 51},
            r"person 1 \(image 7\) .*51 .*3",
        ),
        (
            {"keypoints": [float("nan")] * 9},
            r"person 1 \(image 7\)",
        ),
        ({"keypoints": ["x"] * 9}, "person 1 .*keypoints"),
        ({"keypoints": None}, "person 1 .*keypoints"),
        ({"score": None}, "person 1 .*score"),
        ({"score": float("inf")}, r"person 1 \(image 7\)"),
    ],
)
def test_an_invalid_person_is_named(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_entries([GOOD, GOOD | change], 3, {7})


@pytest.mark.parametrize("field", GOOD)
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(UserError, match=rf"person 1 .*\['{field}'\]"):
        check_entries([GOOD, {key: value for key, value in GOOD.items() if key != field}], 3, {7})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "json"),
        ("[NaN]", "json"),
        ("{}", "list"),
        ("[1]", "list"),
        (None, r"results\.json"),
    ],
)
def test_a_file_that_is_no_results_file(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_entries(path)


def test_an_empty_list_is_fine() -> None:
    check_entries([], 17, {1})
    assert from_entries([]) == []


def test_sigma_is_written_where_all_people_have_one(tmp_path: Path) -> None:
    results = some_results()
    sigma = [np.full((*r.poses.scores.shape, 3), 1.23456) for r in results]
    calibrated = [
        ImageResult(r.image_id, Poses(r.poses.keypoints, r.poses.scores, r.poses.filled, one))
        for r, one in zip(results, sigma)
    ]
    path = tmp_path / "results.json"
    write_results(path, calibrated, with_sigma=True)
    entries = read_entries(path)
    assert all(entry["sigma"] == [1.235] * 3 for entry in entries)
    read_back = from_entries(entries)[0].poses.sigma
    assert read_back is not None and read_back.shape[1] == 3

    write_results(path, [calibrated[0], *results[1:]], with_sigma=True)
    assert all("sigma" not in entry for entry in read_entries(path))
