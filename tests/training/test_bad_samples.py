"""DATASET.ON_BAD_SAMPLE: stop names file and id, skip counts, and a resumed run stays exact."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.datasets.conftest import tiny_content, write_tiny
from tests.training.tiny_train import folder_of, tiny_components, tiny_config
from yacs.config import CfgNode

from duopose.benchmarks import BENCHMARKS
from duopose.datasets import build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.loader import make_data_loader
from duopose.distributed.context import DistributedContext
from duopose.errors import BadSample, UserError
from duopose.image_files import write_image
from duopose.inference.predict_dataset import InputImages, load_batches
from duopose.inference.predictor import InputTransform
from duopose.run_folder import RunFolder
from duopose.skeletons import COCO
from duopose.training import loop
from duopose.training.run import Options, run_training
from duopose.training.setup import Components, TrainingRun
from duopose.types import Batch

CPU = DistributedContext(torch.device("cpu"))
SKIP = ("DATASET.ON_BAD_SAMPLE", "skip")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images 10, 20 and 30 for training; the file of 20 is empty."""
    root = write_tiny(tmp_path / "data", tiny_content())
    (root / "images/train2017/p20.png").write_bytes(b"")
    return root


def config_of(root: Path, *settings: object) -> CfgNode:
    out = root.parent
    return tiny_config(out, "DATASET.ROOT", str(root), "TRAIN.VAL_EVERY", 0, *settings)


def dataset_of(root: Path, *settings: object, train: bool = True) -> CocoFormatDataset:
    cfg = config_of(root, *settings)
    return build_dataset(cfg, COCO, BENCHMARKS["coco"].layout, "train2017", train=train)


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a.image, b.image) and np.array_equal(a.keypoints, b.keypoints))


def test_stop_names_file_and_id(root: Path) -> None:
    dataset = dataset_of(root)
    assert dataset[(0, 0)].image_id == 10
    with pytest.raises(BadSample, match=r"p20\.png \(id 20\)"):
        dataset[(0, 1)]


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_skip_takes_the_next_image_whatever_loads_it(root: Path, mosaic: float) -> None:
    dataset = dataset_of(root, *SKIP, "DATASET.MOSAIC", mosaic)
    sample = dataset[(3, 1)]
    assert sample.image_id == 30 and sample.skipped[0].startswith("image p20.png (id 20)")
    again = dataset_of(root, *SKIP, "DATASET.MOSAIC", mosaic)[(3, 1)]
    assert same(sample, again) and sample.skipped == again.skipped

    keys = [[(3, 0), (3, 1)], [(3, 2)]]
    for workers in (0, 2):
        batches = list(make_data_loader(dataset, keys, workers))
        assert batches[0].image_ids == [10, 30] and batches[1].image_ids == [30]
        assert np.array_equal(batches[0].images[1].permute(1, 2, 0).numpy(), sample.image)
        assert len(batches[0].skipped) >= 1


def test_nothing_but_bad_images_is_an_error(root: Path) -> None:
    for path in (root / "images/train2017").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="3 images"):
        dataset_of(root, *SKIP)[(0, 0)]


def test_missing_files_are_a_notice(root: Path) -> None:
    (root / "images/train2017/p20.png").unlink()
    assert "p20.png (id 20)" in dataset_of(root, *SKIP).check_files()
    with pytest.raises(UserError, match=r"p20\.png"):
        dataset_of(root).check_files()


def train(root: Path, *settings: object) -> None:
    """Two epochs of three images, one of which is skipped."""
    cfg = config_of(root, *SKIP, "TRAIN.IMAGES_PER_GPU", 1, *settings)

    def build(cfg: CfgNode, context: DistributedContext, folder: RunFolder) -> Components:
        return replace(tiny_components(cfg, context, folder), dataset=dataset_of(root, *SKIP))

    run_training(cfg, Options("tiny.yaml"), CPU, build)


class Killed(Exception):
    """Ends a run in the middle of an epoch."""


def step_until(end: int) -> Callable[[TrainingRun, list[Batch]], None]:
    """A `train_step` that ends the run after `end` steps."""
    make_step = loop.train_step

    def step(run: TrainingRun, batches: list[Batch]) -> None:
        if run.state.position.step == end:
            raise Killed
        make_step(run, batches)

    return step


def test_training_counts_at_the_end_of_each_epoch_and_resumes_exactly(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING):
        train(root)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("p20.png (id 20)" in line for line in lines) == 1
    assert sum(line.startswith("1 sample of this epoch") for line in lines) == 2
    whole = folder_of(root.parent)
    rows = whole.metrics_csv.read_text().splitlines()
    assert [row.split(",")[-1] for row in rows if "skipped_samples" in row] == ["1", "1"]
    weights = torch.load(whole.model_final, weights_only=True)["state_dict"]

    other = root.parent / "other" / "data"
    write_tiny(other, tiny_content())
    (other / "images/train2017/p20.png").write_bytes(b"")
    monkeypatch.setattr(loop, "train_step", step_until(2))
    with pytest.raises(Killed):
        train(other, "TRAIN.CHECKPOINT_EVERY", 1)
    monkeypatch.undo()
    train(other, "AUTO_RESUME", True)
    resumed = folder_of(other.parent)
    again = torch.load(resumed.model_final, weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    rows = resumed.metrics_csv.read_text().splitlines()
    assert [row.split(",")[-1] for row in rows if "skipped_samples" in row] == ["1", "1"]


def test_evaluation_skips_or_stops(root: Path) -> None:
    """Also an image of another size than annotated, whose keypoints would be compared in vain."""
    path = root / "annotations/person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    content["images"][3]["width"] += 1
    path.write_text(json.dumps(content))

    batches = [[0], [1], [2, 3]]
    images = InputImages(dataset_of(root, *SKIP, train=False), InputTransform(64))
    loaded = [image.image_id for batch in load_batches(images, batches, 0) for image in batch]
    assert loaded == [10, 30] and [image.image_id for image in images.skipped] == [20, 40]

    images = InputImages(dataset_of(root, train=False), InputTransform(64))
    for index, word in ((1, "empty"), (3, "81 x 60")):
        with pytest.raises(BadSample, match=word):
            list(load_batches(images, [[index]], 0))


def test_a_strip_cannot_be_evaluated_but_trained_on(tmp_path: Path) -> None:
    content = tiny_content()
    content["annotations"] = content["annotations"][:2]
    root = write_tiny(tmp_path, content)
    content["images"][0] |= {"width": 20_000, "height": 20}
    (root / "annotations/person_keypoints_train2017.json").write_text(json.dumps(content))
    write_image(root / "images/train2017/p10.png", np.zeros((20, 20_000, 3), np.uint8))
    assert dataset_of(root)[(0, 0)].image.shape == (64, 64, 3)
    images = InputImages(dataset_of(root, train=False), InputTransform(64))
    with pytest.raises(BadSample, match=r"p10\.png \(id 10\)"):
        list(load_batches(images, [[0]], 0))


def test_odd_visibilities(tmp_path: Path) -> None:
    content = tiny_content()
    odd = [-1, 0, 0.5, 1, 2, 3, 999, -999]
    content["annotations"][1]["keypoints"][2 : 3 * len(odd) : 3] = odd
    dataset = dataset_of(write_tiny(tmp_path, content))
    visibility = dataset.load(0).keypoints[0, : len(odd), 2]
    assert (visibility > 0).tolist() == [value > 0 for value in odd]
    assert visibility.max() <= 2


def test_five_hundred_people(tmp_path: Path) -> None:
    content = tiny_content()
    people = content["annotations"][:1] * 500
    areas = [{"id": number, "area": 100 + number} for number in range(500)]
    content["annotations"] = [dict(one, **area) for one, area in zip(people, areas, strict=True)]
    dataset = dataset_of(write_tiny(tmp_path, content), "DATASET.MAX_NUM_PEOPLE", 30)
    assert len(dataset.load(0).keypoints) == 500
    assert len(dataset[(0, 0)].keypoints) <= 30


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "-1e39", "1e39"])
def test_keypoints_that_are_no_numbers(tmp_path: Path, text: str) -> None:
    root = write_tiny(tmp_path, tiny_content())
    path = root / "annotations/person_keypoints_train2017.json"
    path.write_text(path.read_text().replace('"keypoints": [30, 5', f'"keypoints": [{text}, 5'))
    with pytest.raises(UserError, match=r"person_keypoints_train2017\.json"):
        dataset_of(root)
