"""Missing files, unusable truth and other keypoint orders show before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.datasets.conftest import tiny_content, write_tiny

from duopose.benchmarks import BENCHMARKS
from duopose.config import load_config
from duopose.datasets import build_dataset
from duopose.distributed.context import DistributedContext
from duopose.errors import UserError
from duopose.inference.evaluation import check_test_split
from duopose.run_folder import RunFolder
from duopose.skeletons import COCO
from duopose.training.setup import build_components

CONFIG = (
    Path(__file__).resolve().parents[2]
    / "experiments/coco/double_embedding/w32_512_adam_lr1e-3.yaml"
)
TINY = (
    "MODEL.WIDTH", "4", "MODEL.MODULES", "[1, 1, 1]", "MODEL.BLOCKS", "1",
    "MODEL.STEM_CHANNELS", "8", "MODEL.DECONV_BLOCKS", "1", "MODEL.HEAD_BLOCKS", "1",
)  # fmt: skip
Content = dict[str, Any]
TRAIN_IMAGE = "images/train2017/p20.png"
VAL_IMAGE = "images/val2017/v110.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A training and a validation split of four images each, the first with boxes everywhere."""
    content = tiny_content()
    for annotation in content["annotations"]:
        annotation.setdefault("bbox", [1, 1, 9, 9])
        annotation.setdefault("area", 81)
    write_tiny(tmp_path, content)
    for image in content["images"]:
        image["id"] += 100
        image["file_name"] = f"v{image['id']}.png"
    for annotation in content["annotations"]:
        annotation["image_id"] += 100
    return write_tiny(tmp_path, content, "val2017")


def start_training(root: Path, *settings: str) -> tuple[str, ...]:
    """Build what a training needs; its notices."""
    cfg = load_config(
        CONFIG, ["DATASET.ROOT", str(root), "OUTPUT_DIR", str(root), *settings, *TINY]
    )
    context = DistributedContext(device=torch.device("cpu"))
    folder = RunFolder.from_config(cfg, str(CONFIG), "")
    return build_components(cfg, context, folder).notices


def change(root: Path, split: str, edit: Callable[[Content], object]) -> None:
    path = root / "annotations" / f"person_keypoints_{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def rename_keypoints(names: list[str]) -> Callable[[Content], object]:
    return lambda content: content["categories"][0].update(keypoints=names)


def test_good_data_give_no_notice(root: Path) -> None:
    assert start_training(root) == ()
    change(
        root, "train2017", rename_keypoints([n.replace("_", " ").title() for n in COCO.keypoints])
    )
    assert start_training(root) == (), "case and spaces do not count"


@pytest.mark.parametrize(("file", "image_id"), [(TRAIN_IMAGE, 20), (VAL_IMAGE, 110)])
def test_a_missing_image_shows_before_training(root: Path, file: str, image_id: int) -> None:
    (root / file).unlink()
    with pytest.raises(UserError) as error:
        start_training(root)
    message = str(error.value)
    assert f"{Path(file).name} (id {image_id})" in message and message.startswith("1 of the ")
    assert "tools/check_data.py" in message
    if file == VAL_IMAGE:
        assert start_training(root, "TRAIN.VAL_EVERY", "0") == ()


def test_images_reached_through_links_are_there(root: Path) -> None:
    """A listing does not follow links to folders; reading does."""
    elsewhere = root / "elsewhere"
    (root / "images" / "train2017").rename(elsewhere)
    (root / "images" / "train2017").mkdir()
    (root / "images" / "train2017" / "part").symlink_to(elsewhere)

    def add_folder(content: Content) -> None:
        for image in content["images"]:
            image["file_name"] = f"part/{image['file_name']}"

    change(root, "train2017", add_folder)
    assert start_training(root) == ()


def test_truth_that_cannot_be_scored_shows_before_training(root: Path) -> None:
    change(root, "val2017", lambda content: content["annotations"][1].pop("area"))
    with pytest.raises(UserError) as error:
        start_training(root)
    assert "annotation 2 " in str(error.value) and "area" in str(error.value)

    cfg = load_config(CONFIG, ["DATASET.ROOT", str(root)])
    with pytest.raises(UserError, match=r"annotation 2 .* area"):
        check_test_split(cfg, COCO)


def test_keypoints_in_another_order_are_refused(root: Path) -> None:
    names = list(COCO.keypoints)
    names[5], names[6] = "right_shoulder", "left_shoulder"
    change(root, "train2017", rename_keypoints(names))
    with pytest.raises(UserError) as error:
        start_training(root)
    assert "right_shoulder instead of left_shoulder" in str(error.value)
    assert "person_keypoints_train2017.json" in str(error.value)


def test_other_names_of_keypoints_are_a_notice(root: Path) -> None:
    names = ["nose_tip", *COCO.keypoints[1:]]
    change(root, "val2017", rename_keypoints(names))
    (notice,) = start_training(root)
    assert "nose_tip instead of nose" in notice and "person_keypoints_val2017.json" in notice


@pytest.mark.parametrize("name", ["crowdpose", "mpii"])
def test_other_benchmarks_check_their_own_fields(root: Path, name: str) -> None:
    """CrowdPose needs crowdIndex, MPII groups: neither is in a file of COCO's."""
    benchmark = BENCHMARKS[name]
    settings = ["DATASET.ROOT", str(root), "DATASET.DATASET", name, "DATASET.SKELETON", name]
    settings += [
        "DATASET.TEST_ANNOTATIONS",
        str(root / "annotations/person_keypoints_val2017.json"),
    ]
    settings += ["DATASET.TEST", "val2017"]
    keypoints = benchmark.skeleton.num_keypoints

    def cut(content: Content) -> None:
        for annotation in content["annotations"]:
            annotation["keypoints"] = annotation["keypoints"][: 3 * keypoints]

    change(root, "val2017", cut)
    cfg = load_config(CONFIG, settings)
    assert (
        len(build_dataset(cfg, benchmark.skeleton, benchmark.layout, "val2017", train=False)) == 4
    )
    with pytest.raises(UserError, match={"crowdpose": "crowdIndex", "mpii": "groups"}[name]):
        check_test_split(cfg, benchmark.skeleton)
