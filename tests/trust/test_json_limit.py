"""LIMITS.JSON_GB, or --json-gb, reaches every reader of annotations and results."""

from __future__ import annotations

import json
import runpy
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duopose.coco_annotations import RequiredField
from duopose.config import load_config
from duopose.datasets.check.splits import Rules, check_split
from duopose.datasets.prepare.crowdpose_trainval import prepare_crowdpose
from duopose.datasets.prepare.mosaic_set import read_source
from duopose.datasets.split_files import COCO_ANNOTATIONS, COCO_IMAGES, FolderImages, Layout
from duopose.errors import UserError
from duopose.evaluate.submission import (
    write_coco_submission,
    write_crowdpose_submission,
    write_mpii_submission,
)
from duopose.inference.evaluation import score_file
from duopose.json_limit_option import GIGABYTE, add_json_limit, json_limit
from duopose.oracle.perfect_network import PerfectNetworkTest
from duopose.report.report_sources import SourceOptions, open_source
from duopose.skeletons import COCO, CROWDPOSE, MPII
from duopose.study.resampling import read_ground_truth

PROJECT = Path(__file__).resolve().parents[2]
SMALL = 100  # bytes
SMALL_SETTING = ("LIMITS.JSON_GB", SMALL / GIGABYTE)
LIMIT = "LIMITS.JSON_GB"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Annotations in COCO's layout and results, each of more than SMALL bytes."""
    image = {"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 50.0, "num_keypoints": 17,
        "bbox": [0, 0, 5, 5], "keypoints": [1.0, 2.0, 2] * 17,
    }  # fmt: skip
    found = {"image_id": 1, "category_id": 1, "score": 0.5, "keypoints": [1.0, 2.0, 0.5] * 17}
    content = {"images": [image], "annotations": [person], "categories": []}
    for name in ("annotations", "images/val2017", "json"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text(json.dumps(content))
    (tmp_path / "json" / "crowdpose_train.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps([found]))
    return tmp_path


def settings(root: Path) -> list[Any]:
    return ["DATASET.ROOT", str(root), "DATASET.TEST", "val2017", *SMALL_SETTING]


def annotations_of(root: Path) -> Path:
    return root / "annotations" / "person_keypoints_val2017.json"


def check(root: Path) -> None:
    rules = Rules(COCO, RequiredField("area", "OKS divides by it"), 30, SMALL)
    report = check_split("val2017", annotations_of(root), FolderImages(root), rules, decode=False)
    raise UserError("\n".join(report.findings.lines()))


def make_mosaic(root: Path) -> None:
    read_source(root, Layout(COCO_ANNOTATIONS, COCO_IMAGES), "val2017", "jpg", COCO, SMALL)


def run_oracle(root: Path) -> None:
    test = PerfectNetworkTest(load_config(None, settings(root)), str(annotations_of(root)))
    list(test.rows(["none"]))


def report_on(root: Path) -> None:
    options = SourceOptions(annotations=str(annotations_of(root)), max_memory=SMALL)
    open_source(root / "results.json", options)


def report_on_a_run(root: Path) -> None:
    lines = ["DATASET:", f"  ROOT: {root}", "LIMITS:", f"  JSON_GB: {SMALL / GIGABYTE:.12f}"]
    (root / "config.yaml").write_text("\n".join(lines))
    open_source(root, SourceOptions())


def score(root: Path) -> None:
    score_file(load_config(None, settings(root)), root / "results.json", root / "metrics.json")


READERS: dict[str, Callable[[Path], object]] = {
    "check_data": check,
    "mosaics": make_mosaic,
    "crowdpose": lambda root: prepare_crowdpose(root, SMALL),
    "oracle": run_oracle,
    "report": report_on,
    "report of a run": report_on_a_run,
    "scoring": score,
    "study": lambda root: read_ground_truth(load_config(None, settings(root))),
}


@pytest.mark.parametrize("name", READERS)
def test_files_beyond_the_limit_are_refused(root: Path, name: str) -> None:
    with pytest.raises(UserError, match=LIMIT):
        READERS[name](root)


def test_submissions(root: Path) -> None:
    images = root / "images.json"
    images.write_text('{"images": [{"id": 1, "file_name": "a"}]}')
    writers = [
        (write_coco_submission, COCO),
        (write_crowdpose_submission, CROWDPOSE),
        (write_mpii_submission, MPII),
    ]
    for write, skeleton in writers:
        for file in (annotations_of(root), images):
            words = (root, root / "results.json", file, skeleton, "test")
            with pytest.raises(UserError, match=LIMIT):
                write(*words, max_memory=SMALL)


def test_the_option_of_tools_without_settings() -> None:
    parser = ArgumentParser()
    add_json_limit(parser)
    assert json_limit(parser.parse_args(["--json-gb", "0.5"])) == GIGABYTE // 2
    assert json_limit(parser.parse_args([])) > GIGABYTE
    for text in ("0", "-1", "nan", "inf", "much"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--json-gb", text])


@pytest.mark.parametrize("tool", ["check_data", "prepare_crowdpose", "report"])
def test_tools(root: Path, tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = root / "recipe.yaml"
    recipe.write_text(f"DATASET:\n  ROOT: {root}\n  TRAIN: val2017\n")
    limit = ["--json-gb", str(SMALL / GIGABYTE)]
    words = {
        "check_data": ["--cfg", str(recipe), *map(str, SMALL_SETTING)],
        "prepare_crowdpose": [str(root), *limit],
        "report": [str(root / "results.json"), "--annotations", str(annotations_of(root)), *limit],
    }[tool]
    main = runpy.run_path(str(PROJECT / "tools" / f"{tool}.py"))["main"]
    assert main(words) in (1, 2)
    written = capsys.readouterr()
    assert LIMIT in written.out + written.err
