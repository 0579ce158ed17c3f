"""Every yaml of experiments/, made tiny, is trained for a few steps and evaluated by the tools.

CrowdPose, MPII and COCO on real images, too, from the benchmarks' own files on.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.datasets.mpii_mat import image, real_person, struct_array, write_groups, write_mat

from duopose.config import build_skeleton, load_config
from duopose.datasets.sample_data.write import make_sample_data

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
PROJECT = Path(__file__).resolve().parents[2]
RECIPES = sorted(
    str(path.relative_to(PROJECT))
    for path in (PROJECT / "experiments").rglob("*.yaml")
    if path.parent.name != "studies"
)
NUMBERS = {
    "coco": ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"],
    "crowdpose": ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard"],
    "mpii": ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Total"],
}
# A network as torch initialises it has maps full of low peaks, so that people are found and scored.
SHORT = (
    "TRAIN.IMAGES_PER_GPU", "2", "TRAIN.END_EPOCH", "1", "PRINT_FREQ", "1",
    "MODEL.INIT_WEIGHTS", "False",
    "TEST.DETECTION_THRESHOLD", "0.02", "TEST.START_THRESHOLD", "0.02",
)  # fmt: skip


def train_and_score(run_tool: Run, recipe: str, settings: list[Any], out: Path) -> dict[str, Any]:
    """Train and evaluate, and check what holds for any data; the content of metrics.json."""
    words = [
        "--cfg",
        recipe,
        *settings,
        *SHORT,
        "OUTPUT_DIR",
        out / "output",
        "LOG_DIR",
        out / "log",
    ]
    run_tool("dist_train", *words)
    output = run_tool("valid", *words).stdout
    cfg = load_config(PROJECT / recipe, [str(word) for word in words[2:]])
    folder = out / "output" / cfg.DATASET.DATASET / cfg.MODEL.NAME / Path(recipe).stem
    rows = [
        row
        for row in csv.DictReader((folder / "metrics.csv").open())
        if row["kind"] == "train" and row["name"] == "loss"
    ]
    assert len(rows) >= 1 and all(math.isfinite(float(row["value"])) for row in rows)
    people = json.loads((folder / "results" / "results.json").read_text())
    num_values = 3 * build_skeleton(cfg).num_keypoints
    assert people and {len(person["keypoints"]) for person in people} == {num_values}
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    names = NUMBERS[cfg.DATASET.DATASET]
    assert [name for name in metrics if name in names] == names
    assert all(name in output for name in names)
    assert metrics[metrics["headline"]] is not None and metrics["protocol"]["scored"]["people"] > 0
    return metrics


# ---- drawn images, for every yaml ----


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_on_drawn_images(
    recipe: str, tiny_settings: tuple[str, ...], run_tool: Run, tmp_path: Path
) -> None:
    cfg = load_config(PROJECT / recipe)
    benchmark = cfg.DATASET.DATASET
    make_sample_data(
        tmp_path / "data",
        {"train": 5, "val": 3},
        seed=1,
        size=96,
        skeleton=build_skeleton(cfg),
        workers=1,
    )
    LAYOUTS[benchmark](tmp_path / "data", cfg.DATASET.TRAIN, cfg.DATASET.TEST)
    if cfg.DATASET.DATA_FORMAT == "zip":
        for split in ("train2017", "val2017"):
            folder = tmp_path / "data" / "images" / split
            shutil.make_archive(str(folder), "zip", folder)
    metrics = train_and_score(
        run_tool, recipe, [*tiny_settings, "DATASET.ROOT", tmp_path / "data"], tmp_path
    )
    assert metrics["protocol"]["images"] == (5 if cfg.DATASET.TEST == cfg.DATASET.TRAIN else 3)


def leave_as_it_is(root: Path, train: str, test: str) -> None:
    """COCO's layout is what is drawn."""


def as_crowdpose(root: Path, train: str, test: str) -> None:
    """json/crowdpose_SPLIT.json without areas, with crowdIndex; all images in images/."""
    for split, name, crowding in (("train2017", train, 0.1), ("val2017", test, 0.9)):
        content = moved_up(root, split)
        content["images"] = [image | {"crowdIndex": crowding} for image in content["images"]]
        content["annotations"] = [
            {key: a[key] for key in a if key != "area"} for a in content["annotations"]
        ]
        write(root / "json" / f"crowdpose_{name}.json", content)


def as_mpii(root: Path, train: str, test: str) -> None:
    """annotations/mpii_SPLIT.json, all people of an image as one group; all images in images/."""
    for split, name in (("train2017", train), ("val2017", test)):
        content = moved_up(root, split)
        for record in content["images"]:
            record["groups"] = [
                [a["id"] for a in content["annotations"] if a["image_id"] == record["id"]]
            ]
        write(root / "annotations" / f"mpii_{name}.json", content)


LAYOUTS: dict[str, Callable[[Path, str, str], None]] = {
    "coco": leave_as_it_is,
    "crowdpose": as_crowdpose,
    "mpii": as_mpii,
}


def moved_up(root: Path, split: str) -> dict[str, Any]:
    """The content of a drawn split whose images are moved from images/SPLIT/ to images/."""
    for path in (root / "images" / split).iterdir():
        path.rename(root / "images" / path.name)
    (root / "images" / split).rmdir()
    content: dict[str, Any] = json.loads(
        (root / "annotations" / f"person_keypoints_{split}.json").read_text()
    )
    return content


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


# ---- real images, from the benchmark's own files on ----


def counts(path: Path) -> tuple[int, int]:
    """Images and annotations of an annotation file."""
    content = json.loads(path.read_text())
    return len(content["images"]), len(content["annotations"])


def test_crowdpose_from_its_own_files(
    real_data: Path, tiny_settings: tuple[str, ...], run_tool: Run, tmp_path: Path
) -> None:
    """One image as train, the other as val, merged by the tool, trained on and scored."""
    content = json.loads((real_data / "crowdpose" / "json" / "crowdpose_test.json").read_text())
    for split, record in zip(("train", "val"), content["images"], strict=True):
        people = [
            annotation
            for annotation in content["annotations"]
            if annotation["image_id"] == record["id"]
        ]
        write(
            tmp_path / "json" / f"crowdpose_{split}.json",
            content | {"images": [record], "annotations": people},
        )
    (tmp_path / "images").symlink_to(real_data / "crowdpose" / "images")
    run_tool("prepare_crowdpose", tmp_path)
    assert counts(tmp_path / "json" / "crowdpose_trainval.json") == (2, 5)
    recipe = "experiments/crowd_pose/double_embedding/w32_512_adam_lr1e-3.yaml"
    data = ["DATASET.ROOT", tmp_path, "DATASET.TEST", "trainval"]
    run_tool("check_data", "--cfg", recipe, *data)
    metrics = train_and_score(run_tool, recipe, [*tiny_settings, *data], tmp_path)
    assert metrics["AP_medium"] is not None and metrics["AP_easy"] is None, (
        "both images have a crowdIndex between 0.2 and 0.8"
    )


def test_mpii_from_its_own_files(
    real_data: Path, tiny_settings: tuple[str, ...], run_tool: Run, tmp_path: Path
) -> None:
    """Five images of one annotated person each, in a .mat as MPII writes it; two are held out."""
    raw = json.loads((real_data / "mpii" / "annot" / "five_images.json").read_text())
    people = [
        struct_array([real_person(person | {"joints_labelled": person["joints_vis"]})])
        for person in raw
    ]
    mat = write_mat(
        tmp_path / "mpii.mat",
        [image(one["image"], who) for one, who in zip(raw, people, strict=True)],
        [1] * len(raw),
    )
    (tmp_path / "held_out.txt").write_text("\n".join(person["image"] for person in raw[:2]))
    groups = write_groups(tmp_path / "groups.mat", [[[0]]] * len(raw))
    images = real_data / "mpii" / "images"
    words = ["--groups", groups, "--images", images, "--val-list", tmp_path / "held_out.txt"]
    run_tool("prepare_mpii", mat, *words, "--out", tmp_path)
    assert counts(tmp_path / "annotations" / "mpii_train.json") == (3, 3)
    assert counts(tmp_path / "annotations" / "mpii_val.json") == (2, 2)
    recipe = "experiments/mpii/double_embedding/w32_512_adam_lr1e-3.yaml"
    data = ["DATASET.ROOT", tmp_path, "DATASET.TRAIN_IMAGES", images, "DATASET.TEST_IMAGES", images]
    run_tool("check_data", "--cfg", recipe, *data)
    # Every person is alone, so that the protocol of groups has nothing to score.
    metrics = train_and_score(
        run_tool, recipe, [*tiny_settings, *data, "TEST.MPII_REGION", "images"], tmp_path
    )
    assert metrics["protocol"]["scored"]["people"] == 2


def test_coco_on_real_images(
    real_data: Path, tiny_settings: tuple[str, ...], run_tool: Run, tmp_path: Path
) -> None:
    recipe = "experiments/coco/double_embedding/w32_512_adam_lr1e-3.yaml"
    settings = [*tiny_settings, "DATASET.ROOT", real_data / "coco", "DATASET.LIMIT", 6]
    assert train_and_score(run_tool, recipe, settings, tmp_path)["protocol"]["images"] == 6
