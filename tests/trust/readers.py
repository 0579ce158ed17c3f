"""Everything that is done with a file of each kind, in one call; a UserError is the only error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from tests.datasets.conftest import tiny_content

from duopose.coco_annotations import RequiredField, read_annotation_file
from duopose.datasets.annotations import collect_people
from duopose.datasets.check.splits import Rules, check_split
from duopose.datasets.ignore_mask import decode_mask, encode_regions
from duopose.datasets.split_files import FolderImages
from duopose.evaluate.coco import evaluate_coco
from duopose.evaluate.crowdpose import evaluate_crowdpose
from duopose.evaluate.metrics import comparison_table, read_metrics
from duopose.evaluate.mpii import evaluate_mpii
from duopose.evaluate.pck import pck
from duopose.evaluate.results import from_entries, read_entries
from duopose.oracle.annotated_images import annotated_images
from duopose.skeletons import COCO, CROWDPOSE, MPII, Skeleton

AREA = RequiredField("area", "OKS divides by it")


def packed_counts() -> str:
    """The packed run lengths of a mask of 60 rows and 80 columns, its 20 left columns ignored."""
    mask = np.zeros((60, 80), dtype=np.uint8, order="F")
    mask[5:50, :20] = 1
    return str(coco_mask.encode(mask)["counts"].decode())


def coco_content() -> dict[str, Any]:
    """A small file of COCO with crowds as run lengths of both kinds."""
    content = tiny_content()
    for annotation in content["annotations"]:
        annotation.setdefault("bbox", [1.0, 1.0, 9.0, 9.0])
        annotation.setdefault("area", 81.0)
    content["annotations"][4]["segmentation"] = {"size": [60, 80], "counts": packed_counts()}
    content["info"] = {"annotations": [], "year": 2017}
    return content


def people_content(skeleton: Skeleton, **image_fields: Any) -> dict[str, Any]:
    """A small file of another benchmark."""
    images: list[dict[str, Any]] = [
        {"id": number, "file_name": f"{number}.jpg", "width": 80, "height": 60, **image_fields}
        for number in (1, 2)
    ]
    annotations = []
    for number in range(1, 5):
        keypoints = [v for k in range(skeleton.num_keypoints) for v in (k + number, 2 * k, 2)]
        annotation = {
            "id": number, "image_id": 1 + number // 3, "category_id": 1, "iscrowd": 0,
            "keypoints": keypoints, "num_keypoints": skeleton.num_keypoints,
            "bbox": [1.0, 2.0, 30.0, 40.0], "area": 900.0,
            "head_box": [1.0, 1.0, 9.0, 9.0], "objpos": [20.0, 20.0], "scale": 0.3,
        }  # fmt: skip
        annotations.append(annotation)
    categories = [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}]
    return {"images": images, "annotations": annotations, "categories": categories}


def result_entries(content: dict[str, Any]) -> list[dict[str, Any]]:
    """People found: those annotated."""
    return [
        {
            "image_id": annotation["image_id"], "category_id": 1, "score": 0.5,
            "keypoints": [float(v) for v in annotation["keypoints"]], "filled": [0], "sigma": [1.0],
        }
        for annotation in content["annotations"]
    ]  # fmt: skip


def use_for_training(path: Path) -> None:
    """As a training: people, ignored regions as masks."""
    people = collect_people(read_annotation_file(path), COCO)
    for index, region in enumerate(people.ignored_regions):
        width, height = people.sizes[index].tolist()
        code = encode_regions(region, width, height)
        if width * height < 10_000_000:
            mask = decode_mask(code, width, height)
            assert mask.shape == (height, width) and set(mask.ravel()) <= {0, 1}


def use_for_scoring(path: Path, found: list[dict[str, Any]] | Path = []) -> None:  # noqa: B006
    """As tools/valid.py and tools/oracle.py: the numbers of COCO, by both libraries, and PCK."""
    evaluate_coco(path, found, COCO)
    evaluate_coco(path, found, COCO, evaluator="pycocotools")
    pck(path, found, COCO, 0.2)
    annotated_images(read_annotation_file(path), COCO)


def use_for_checking(path: Path, skeleton: Skeleton = COCO) -> list[str]:
    """As tools/check_data.py, which names what is wrong and never raises."""
    rules = Rules(skeleton, AREA, max_people=30)
    report = check_split("split", path, FolderImages(path.parent), rules, decode=False)
    return [problem.line() for problem in report.findings.problems]


def use_for_crowdpose(path: Path) -> None:
    evaluate_crowdpose(path, [], CROWDPOSE)


def use_for_mpii(path: Path) -> None:
    evaluate_mpii(path, [], MPII)
    evaluate_mpii(path, [], MPII, region="images")


def use_results(truth: Path) -> Callable[[Path], None]:
    """As tools/valid.py --results and tools/report.py."""

    def use(path: Path) -> None:
        evaluate_coco(truth, path, COCO)
        from_entries(read_entries(path))

    return use


def use_metrics(path: Path) -> None:
    """As tools/valid.py --compare."""
    record = read_metrics(path)
    comparison_table([record, record], ["A", "B"])
