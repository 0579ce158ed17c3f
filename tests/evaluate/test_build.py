"""The configuration picks the metric; splits without truth have no numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from yacs.config import CfgNode

from duopose.config import default_config
from duopose.errors import UserError
from duopose.evaluate import build_evaluator
from duopose.evaluate.ground_truth import has_truth
from duopose.skeletons import COCO, CROWDPOSE, MPII, Skeleton


def config(**changes: str) -> CfgNode:
    cfg = default_config()
    for key, value in changes.items():
        section, name = key.split("__")
        cfg[section][name] = value
    return cfg


def people(skeleton: Skeleton) -> tuple[dict, list[dict]]:
    keypoints = [
        float(value) for k in range(skeleton.num_keypoints) for value in (10 * k, 7 * k, 2)
    ]
    size = 10.0 * skeleton.num_keypoints
    person = {
        "id": 1,
        "image_id": 3,
        "category_id": 1,
        "keypoints": keypoints,
        "bbox": [0, 0, size, size],
        "area": size**2,
    }
    person["head_box"] = [0, 0, 30, 40]
    truth = {
        "images": [{"id": 3, "crowdIndex": 0.5}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person"}],
    }
    return truth, [{"image_id": 3, "category_id": 1, "keypoints": keypoints, "score": 0.5}]


@pytest.mark.parametrize(
    ("benchmark", "skeleton", "names"),
    [
        ("coco", COCO, {"AP", "ARL"}),
        ("crowdpose", CROWDPOSE, {"AP", "AP_hard"}),
        ("mpii", MPII, {"Total", "Ankle"}),
    ],
)
def test_each_benchmark_has_its_numbers(
    tmp_path: Path, benchmark: str, skeleton: Skeleton, names: set[str]
) -> None:
    truth, found = people(skeleton)
    annotations, results = tmp_path / "truth.json", tmp_path / "results.json"
    annotations.write_text(json.dumps(truth))
    results.write_text(json.dumps(found))
    evaluate = build_evaluator(
        config(DATASET__DATASET=benchmark, TEST__MPII_REGION="images"), skeleton
    )
    metrics = evaluate(results, annotations)
    assert names <= set(metrics.values)
    assert metrics.main == pytest.approx(1)
    assert evaluate(found, annotations, [3]) == metrics


def test_the_evaluator_is_told(tmp_path: Path) -> None:
    truth, found = people(COCO)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name in ("hotcoco", "pycocotools"):
        assert (
            build_evaluator(config(TEST__EVALUATOR=name), COCO)(
                found, tmp_path / "truth.json"
            ).facts["evaluator"]
            == name
        )


def test_a_split_without_truth_has_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "image_info_test-dev2017.json"
    path.write_text(json.dumps({"images": [{"id": 3}], "categories": []}))
    metrics = build_evaluator(config(), COCO)(people(COCO)[1], path)
    assert metrics.values == {} and metrics.main == 0
    assert "no annotations" in metrics.notes[0]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="'posetrack' has no metric; use one of coco, crowdpose, mpii"
    ):
        build_evaluator(config(DATASET__DATASET="posetrack"), COCO)
    with pytest.raises(UserError, match=r"annotation file .* does not exist"):
        build_evaluator(config(), COCO)([], tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ('{"images": []}', False),
        ('{"annotations": [\n]}', False),
        ('{"annotations": [{"id": 1}]}', True),
        ('{"annotations":[ 5]}', True),
    ],
)
def test_files_without_annotations_have_no_truth(tmp_path: Path, text: str, truth: bool) -> None:
    (tmp_path / "split.json").write_text(text)
    assert has_truth(tmp_path / "split.json") is truth
