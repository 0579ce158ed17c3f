"""People and ignored regions of annotation files, images from folders and zips, layouts."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO as CocoApi
from tests.datasets.conftest import HEIGHT, WIDTH, keypoints_at, tiny_content, write_tiny

from duopose.benchmarks import BENCHMARKS
from duopose.coco_annotations import read_annotation_file
from duopose.config import load_config
from duopose.datasets import build_dataset
from duopose.datasets.annotations import collect_people
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.ignore_mask import decode_mask, encode_regions
from duopose.datasets.sample_data.write import make_sample_data
from duopose.datasets.split_files import FolderImages, ZipImages, read_image
from duopose.errors import UserError
from duopose.skeletons import COCO, CROWDPOSE

CONFIG = "experiments/coco/double_embedding/w32_512_adam_lr1e-3.yaml"
PROJECT = Path(__file__).resolve().parents[2]


def dataset_of(root: Path, train: bool = False, *overrides: object) -> CocoFormatDataset:
    cfg = load_config(PROJECT / CONFIG, ["DATASET.ROOT", str(root), *overrides])
    return build_dataset(cfg, COCO, BENCHMARKS["coco"].layout, "train2017", train=train)


def test_people_regions_and_order(tiny_root: Path) -> None:
    dataset = dataset_of(tiny_root)
    assert dataset.image_ids == [10, 20, 30, 40]
    both = dataset.load(0)
    assert both.keypoints.shape == (2, 17, 3) and both.keypoints[0, 0].tolist() == [
        50,
        20,
        2,
    ]  # the larger one first
    assert (both.mask[:, :20] == 0).all() and (both.mask[:, 20:] == 1).all()
    unlabelled = dataset.load(1)
    assert (
        len(unlabelled.keypoints) == 0
        and unlabelled.mask[20, 60] == 0
        and (unlabelled.mask == 0).sum() == 400
    )
    assert dataset.load(3).mask.all()
    assert dataset[1].image.shape == (HEIGHT, WIDTH, 3)


def test_training_keeps_images_with_annotations_and_limit_counts_before(tiny_root: Path) -> None:
    assert dataset_of(tiny_root, True).image_ids == [10, 20, 30]
    assert dataset_of(tiny_root, True, "DATASET.LIMIT", "2").image_ids == [10, 20]
    assert dataset_of(tiny_root, False, "DATASET.LIMIT", "2").image_ids == [10, 20]


def test_nothing_to_train_on(tmp_path: Path) -> None:
    content = tiny_content()
    content["annotations"] = content["annotations"][2:]
    with pytest.raises(UserError, match=r"person_keypoints_train2017\.json"):
        dataset_of(write_tiny(tmp_path, content), True)


def test_num_keypoints_is_not_trusted_for_training(tmp_path: Path) -> None:
    content = tiny_content()
    content["annotations"][0]["num_keypoints"] = 0  # as for 12 % of CrowdPose's people
    assert len(dataset_of(write_tiny(tmp_path, content)).load(0).keypoints) == 2


def test_a_box_without_segmentation_is_left_out_except_where_labelled_people_are(
    tmp_path: Path,
) -> None:
    content = tiny_content()
    crowd = content["annotations"][2]
    del crowd["segmentation"]
    crowd["bbox"] = [0, 0, WIDTH, 30]
    mask = dataset_of(write_tiny(tmp_path, content)).load(0).mask
    assert (
        mask[2, 5] == 0 and mask[40, 5] == 1 and mask[10, 35] == 1
    )  # (35, 10) lies in a labelled person's box


def test_masks_agree_with_pycocotools(tmp_path: Path) -> None:
    make_sample_data(tmp_path, {"train": 60, "val": 0}, seed=9, size=64, skeleton=COCO, workers=1)
    path = tmp_path / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    crowds = [annotation for annotation in content["annotations"] if annotation["iscrowd"]]
    packed = coco_mask.frPyObjects(crowds[0]["segmentation"], 64, 64)
    crowds[0]["segmentation"]["counts"] = packed["counts"].decode()
    path.write_text(json.dumps(content))

    api = CocoApi(str(path))
    people = collect_people(read_annotation_file(path), COCO)
    with_regions = 0
    for index, image_id in enumerate(people.image_ids):
        mask = decode_mask(encode_regions(people.ignored_regions[index], 64, 64), 64, 64)
        expected = np.ones_like(mask)
        for annotation in api.loadAnns(api.getAnnIds(imgIds=[image_id])):
            if annotation["iscrowd"] or not annotation["num_keypoints"]:
                expected[api.annToMask(annotation) > 0] = 0
        assert np.array_equal(mask, expected)
        with_regions += int(not mask.all())
    assert len(crowds) > 1 and with_regions > len(crowds)


def test_drawn_people_are_all_loaded(tmp_path: Path) -> None:
    make_sample_data(tmp_path, {"train": 6, "val": 0}, seed=0, size=64, skeleton=COCO, workers=1)
    path = tmp_path / "annotations" / "person_keypoints_train2017.json"
    annotations = json.loads(path.read_text())["annotations"]
    dataset = dataset_of(tmp_path)
    total = sum(len(dataset.load(index).keypoints) for index in range(len(dataset)))
    assert len(dataset) == 6
    assert total == sum(annotation["num_keypoints"] > 0 for annotation in annotations)


def test_crowdposes_layout(tmp_path: Path) -> None:
    make_sample_data(
        tmp_path, {"train": 0, "val": 2}, seed=0, size=64, skeleton=CROWDPOSE, workers=1
    )
    (tmp_path / "json").mkdir()
    annotations = tmp_path / "annotations" / "person_keypoints_val2017.json"
    annotations.rename(tmp_path / "json" / "crowdpose_test.json")
    for path in (tmp_path / "images" / "val2017").iterdir():
        path.rename(tmp_path / "images" / path.name)
    cfg = load_config(
        PROJECT / "experiments/crowd_pose/double_embedding/w32_512_adam_lr1e-3.yaml",
        ["DATASET.ROOT", str(tmp_path)],
    )
    layout = BENCHMARKS["crowdpose"].layout
    dataset = build_dataset(cfg, CROWDPOSE, layout, "test", train=False)
    assert dataset.skeleton is CROWDPOSE and len(dataset) == 2
    assert all(len(dataset[index].keypoints) for index in range(2))


# ---- images ----


@pytest.mark.parametrize("inner", ["", "train2017/"])
def test_zip_gives_the_same_images(tiny_root: Path, inner: str) -> None:
    from_files = dataset_of(tiny_root).load(0)
    folder = tiny_root / "images" / "train2017"
    with zipfile.ZipFile(tiny_root / "images" / "train2017.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, inner + path.name)
    dataset = dataset_of(tiny_root, False, "DATASET.DATA_FORMAT", "zip")
    assert isinstance(dataset.images, ZipImages)
    copy = pickle.loads(pickle.dumps(dataset))
    for each in (dataset, copy):
        assert np.array_equal(each.load(0).image, from_files.image)
    assert (
        dataset.images.names()
        == FolderImages(folder).names()
        == {f"p{i}.png" for i in (10, 20, 30, 40)}
    )


def test_colours_are_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert read_image(FolderImages(tmp_path), "red.png", 1)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_unreadable_image_names_file_and_id(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.jpg \(id 77\)"):
        read_image(FolderImages(tmp_path), "bad.jpg", 77)
    with pytest.raises(UserError, match=r"gone\.jpg \(id 77\)"):
        read_image(FolderImages(tmp_path), "gone.jpg", 77)


def test_broken_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"x\.zip"):
        read_image(ZipImages(tmp_path / "x.zip"), "a.jpg", 1)


def test_an_image_of_another_size_is_an_error(tiny_root: Path) -> None:
    cv2.imwrite(
        str(tiny_root / "images" / "train2017" / "p10.png"), np.zeros((WIDTH, HEIGHT, 3), np.uint8)
    )
    with pytest.raises(UserError, match=r"p10\.png \(id 10\).*60 x 80.*80 x 60"):
        dataset_of(tiny_root).load(0)


# ---- layouts and files that are not COCO ----


def test_missing_folder_lists_the_paths_tried(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        dataset_of(tmp_path / "nowhere")
    assert f"{tmp_path}/nowhere/annotations/person_keypoints_train2017.json" in str(error.value)


def test_images_directly_below_root_and_own_paths(tiny_root: Path) -> None:
    (tiny_root / "images" / "train2017").rename(tiny_root / "train2017")
    assert dataset_of(tiny_root).load(0).image_id == 10
    (tiny_root / "train2017").rename(tiny_root / "elsewhere")
    with pytest.raises(UserError, match="images/train2017"):
        dataset_of(tiny_root)
    assert (
        dataset_of(tiny_root, False, "DATASET.TEST_IMAGES", str(tiny_root / "elsewhere"))
        .load(0)
        .image_id
        == 10
    )
    (tiny_root / "annotations" / "person_keypoints_train2017.json").rename(tiny_root / "mine.json")
    moved = dataset_of(
        tiny_root,
        False,
        "DATASET.TEST_IMAGES",
        "elsewhere",
        "DATASET.TEST_ANNOTATIONS",
        "mine.json",
    )
    assert moved.load(0).image_id == 10


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("[]", "COCO format"),
        ('{"photos": []}', "'images'"),
        ('{"images": {}}', "'images'"),
        ("{", "json"),
        (
            '{"images": [{"id": 1, "width": 3, "height": 4}], "annotations": []}',
            r"images\[0\] \(id 1\) has no file_name",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "width": "x", "height": 4}]}',
            r"\(id 1\), 'width'",
        ),
        ('{"images": [], "annotations": []}', "person_keypoints_train2017.json"),
    ],
)
def test_files_that_are_not_coco(tiny_root: Path, content: str, fragment: str) -> None:
    (tiny_root / "annotations" / "person_keypoints_train2017.json").write_text(content)
    with pytest.raises(UserError, match=fragment):
        dataset_of(tiny_root)


def test_wrong_number_of_keypoints_names_the_annotation(tmp_path: Path) -> None:
    content = tiny_content()
    content["annotations"][1]["keypoints"] = keypoints_at(3, 3)[: 14 * 3]
    with pytest.raises(UserError, match=r"annotation 2 .*42.*'coco'.*51"):
        dataset_of(write_tiny(tmp_path, content))


def test_ids_may_be_text_and_other_categories_are_not_people(tmp_path: Path) -> None:
    content = json.loads(json.dumps(tiny_content()).replace('"image_id": 10', '"image_id": "ten"'))
    content["images"][0]["id"] = "ten"
    content["categories"] = [
        {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)},
        {"id": 2, "name": "hand", "keypoints": ["a"]},
    ]
    hand = {
        "id": 9,
        "image_id": "ten",
        "category_id": 2,
        "iscrowd": 0,
        "keypoints": [1, 1, 2],
        "num_keypoints": 1,
    }
    content["annotations"].append(hand)
    root = tmp_path / "words"
    for image in content["images"]:
        image["id"] = 10 if image["id"] == "ten" else image["id"]
    write_tiny(root, content)
    content["images"][0]["id"] = "ten"
    (root / "annotations" / "person_keypoints_train2017.json").write_text(json.dumps(content))
    sample = dataset_of(root).load(0)
    assert sample.image_id == "ten" and len(sample.keypoints) == 2


def test_a_broken_segmentation_names_the_image(tmp_path: Path) -> None:
    content = tiny_content()
    content["annotations"][2]["segmentation"] = {"size": [HEIGHT, WIDTH]}
    with pytest.raises(UserError, match=r"'segmentation' of annotation 3 \(image 10\)"):
        dataset_of(write_tiny(tmp_path, content))
