"""The user's folder of every case, made by the tools themselves, and the canary beside it."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from tests.tools.conftest import PROJECT, TINY
from tests.trust.outside.watching import TOKEN, Watcher

TRUTH = "data/annotations/person_keypoints_val2017.json"
TRAIN = "data/annotations/person_keypoints_train2017.json"
ONE_EPOCH = (*TINY, "TRAIN.END_EPOCH", 1, "TRAIN.VAL_EVERY", 0, "TRAIN.CALIBRATE", False,
             "TRAIN.WARMUP", 0, "DATASET.ROOT", "data")  # fmt: skip


def make_canary(folder: Path) -> None:
    """Files that a reader would take, with a token in their texts."""
    (folder / "folder").mkdir(parents=True)
    (folder / "secret.txt").write_text(f"{TOKEN}\n")
    (folder / "secret.json").write_text(json.dumps({"info": TOKEN, "images": [], TOKEN: []}))
    image = np.full((64, 64, 3), 77, np.uint8)
    for name in ("secret.jpg", "folder/secret.jpg"):
        assert cv2.imwrite(str(folder / name), image)
    write_clip(folder / "secret.mp4")


def write_clip(path: Path) -> None:
    """A video of four frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 64))
    for level in range(4):
        writer.write(np.full((64, 64, 3), 60 * level, np.uint8))
    writer.release()


def make_template(watcher: Watcher) -> None:
    """Data, a recipe, a run, a model, results and metrics in the box; all calls must succeed."""
    box = watcher.box
    shutil.copytree(PROJECT / "experiments", box.inside / "experiments")
    _call(watcher, "make_sample_data", "data", "--train", 4, "--val", 3, "--size", 64)
    _call(watcher, "dist_train", "--cfg", "experiments/sample/demo.yaml", *ONE_EPOCH)
    run = box.inside / "output" / "coco" / "pose_higher_hrnet_de" / "demo"
    run.rename(box.inside / "run")
    shutil.copy(box.inside / "run" / "model_final.pth", box.inside / "model.pth")
    settings = yaml.safe_load((box.inside / "run" / "config.yaml").read_text())
    (box.inside / "recipe.yaml").write_text(yaml.safe_dump(settings))

    truth = json.loads((box.inside / TRUTH).read_text())
    (box.inside / "results.json").write_text(json.dumps(results_of(truth)))
    scored = ("--results", "results.json", "--annotations", TRUTH, "--out", "evaluated")
    _call(watcher, "valid", *scored)
    shutil.copy(box.inside / "results.json", box.inside / "evaluated" / "results.json")

    images = box.inside / "data" / "images"
    shutil.copy(min((images / "val2017").iterdir()), box.inside / "photo.jpg")
    write_clip(box.inside / "clip.mp4")
    with zipfile.ZipFile(box.inside / "images.zip", "w") as archive:
        for path in sorted((images / "train2017").iterdir()):
            archive.write(path, path.name)


def results_of(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotated people as results."""
    people = [one for one in truth["annotations"] if any(one["keypoints"])]
    return [
        {"image_id": one["image_id"], "category_id": 1, "score": 0.9,
         "keypoints": [float(value) for value in one["keypoints"]]}
        for one in people
    ]  # fmt: skip


def _call(watcher: Watcher, tool: str, *words: object) -> None:
    ended = watcher.call(tool, *words)
    assert ended.code == 0 and not ended.problems(), (tool, ended)
