"""The records of the benchmarks, and the evaluator that the settings select."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from yacs.config import CfgNode

from duopose.benchmarks import BENCHMARKS, build_benchmark, build_evaluator
from duopose.config import default_config
from duopose.errors import UserError
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


def test_the_evaluator_is_selected_by_the_setting(tmp_path: Path) -> None:
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
    assert path.name in metrics.notes[0]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"DATASET.DATASET.*'posetrack'.*coco, crowdpose, mpii"):
        build_evaluator(config(DATASET__DATASET="posetrack"), COCO)
    with pytest.raises(UserError, match=r"absent\.json"):
        build_evaluator(config(), COCO)([], tmp_path / "absent.json")


@pytest.mark.parametrize("text", ['{"images": [{"id": 3}]}', '{"images": [], "annotations": [\n]}'])
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_files_without_annotations_have_no_metrics(
    tmp_path: Path, text: str, benchmark: str
) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    record = BENCHMARKS[benchmark]
    metrics = build_evaluator(config(DATASET__DATASET=benchmark), record.skeleton)([], path)
    assert metrics.values == {} and metrics.headline == record.headline


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_record_fits_its_evaluator(tmp_path: Path, benchmark: str) -> None:
    """The headline is a metric, and the evaluator needs the required field."""
    record = BENCHMARKS[benchmark]
    truth, found = people(record.skeleton)
    path = tmp_path / "truth.json"
    cfg = config(DATASET__DATASET=benchmark, TEST__MPII_REGION="images")
    evaluate = build_evaluator(cfg, record.skeleton)
    path.write_text(json.dumps(truth))
    assert record.name == benchmark
    assert evaluate(found, path).values[record.headline] == pytest.approx(1)

    del truth["annotations"][0][record.required.name]
    truth["annotations"][0]["keypoints"][3 * record.skeleton.num_keypoints - 1] = 0
    if benchmark == "mpii":  # else the head is the box of upper neck and head top
        joint = record.skeleton.index("head_top")
        truth["annotations"][0]["keypoints"][3 * joint + 2] = 0
    path.write_text(json.dumps(truth))
    if record.required.is_sometimes_missing:
        assert evaluate(found, path).facts["people_without_head"] == 1
    else:
        with pytest.raises(UserError, match=record.required.name):
            evaluate(found, path)


def test_a_skeleton_of_another_benchmark() -> None:
    """OKS scores any skeleton; CrowdPose's and MPII's metrics do not."""
    assert build_benchmark(config(DATASET__SKELETON="crowdpose")).name == "coco"
    assert build_benchmark(config(DATASET__DATASET="mpii", DATASET__SKELETON="mpii")).name == "mpii"
    with pytest.raises(UserError, match=r"DATASET\.SKELETON.*'coco'.*'mpii'"):
        build_benchmark(config(DATASET__DATASET="mpii", DATASET__SKELETON="coco"))
