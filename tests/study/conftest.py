"""A project folder with small substitutes for the tools, so that many jobs take seconds.

The substitute of training waits while the file `slow` exists and fails while `broken` exists; that
of evaluation writes the annotated people with noise of TEST.TAG_SIGMA pixels.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DIST_TRAIN = """
import os, signal, sys, time
from pathlib import Path

signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
words = sys.argv[1:]
value = lambda key: words[words.index(key) + 1]
out = Path(value("OUTPUT_DIR"))
out.mkdir(parents=True, exist_ok=True)
with open("trainings.txt", "a") as file:
    file.write(f"{out} {os.getppid()} {' '.join(words)}\\n")
while Path("slow").exists():
    time.sleep(0.02)
if Path("broken").exists():
    sys.exit(2)
(out / "weights").write_text(value("SEED"))
"""
VALID = """
import json, random, sys
from pathlib import Path

words = sys.argv[1:]
value = lambda key: words[words.index(key) + 1]
seed = int((Path(value("OUTPUT_DIR")) / "weights").read_text())
noise = float(value("TEST.TAG_SIGMA"))
generator = random.Random(f"{seed} {noise}")
content = json.loads(Path("data/annotations/person_keypoints_val2017.json").read_text())
people = []
for person in content["annotations"]:
    keypoints = [x + generator.gauss(0, noise) for x in person["keypoints"]]
    keypoints[2::3] = [1.0] * 17
    score = generator.random()
    entry = {"image_id": person["image_id"], "category_id": 1, "score": score}
    people.append(entry | {"keypoints": keypoints})
out = Path(value("--out"))
out.mkdir(parents=True, exist_ok=True)
(out / "results.json").write_text(json.dumps(people))
metrics = {"AP": 0.9 - noise / 10 + seed / 100, "AR": 0.5, "headline": "AP", "notes": []}
metrics["protocol"] = {"git_commit": "abc"}
(out / "metrics.json").write_text(json.dumps(metrics))
"""
STUDY = """
title: Tags
notes: How tags matter.
recipe: recipe.yaml
seeds: [0, 1, 2]
groups:
- title: Sigma
  reference: small
  variants:
    small: {TEST.TAG_SIGMA: 0.5}
    large: {TEST.TAG_SIGMA: 3.0}
    other training: {base: large, TRAIN.LR: 0.01}
  columns: [AR, people 1, people 2-5]
"""


def write_annotations(path: Path, num_images: int = 12) -> None:
    """COCO annotations: images with one and two people in turn."""
    images = [
        {"id": n, "width": 100, "height": 100, "file_name": f"{n}.jpg"} for n in range(num_images)
    ]
    annotations: list[dict[str, object]] = []
    for image_id in range(num_images):
        for person in range(1 + image_id % 2):
            keypoints = [[20.0 + 50 * person + joint, 10.0 + 4 * joint, 2] for joint in range(17)]
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": 1,
                    "iscrowd": 0, "area": 1000.0, "bbox": [0, 0, 50, 50], "num_keypoints": 17,
                    "keypoints": [value for joint in keypoints for value in joint],
                }
            )  # fmt: skip
    categories = [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}]
    path.parent.mkdir(parents=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: tools, recipe, annotations and a study."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "dist_train.py").write_text(DIST_TRAIN)
    (tmp_path / "tools" / "valid.py").write_text(VALID)
    (tmp_path / "recipe.yaml").write_text("DATASET: {ROOT: data}\nTEST: {TAG_SIGMA: 0.3}\n")
    (tmp_path / "study.yaml").write_text(STUDY)
    write_annotations(tmp_path / "data" / "annotations" / "person_keypoints_val2017.json")
    return tmp_path
