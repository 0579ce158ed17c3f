"""Made people and detections, so that every number of the report is known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from duopose.evaluate.coco import OksScoring
from duopose.evaluate.ground_truth import open_annotations
from duopose.skeletons import COCO

AREA = 3600.0  # pixels: s is 60
SIZE = 60.0
SPACING = 60.0  # pixels between the joints of a person, beyond the reach of any similarity of .5
SIGMAS = np.array(COCO.sigmas)


def joints(x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """(17, 3) keypoints of a person, all visible, on a grid from (x, y) on."""
    index = np.arange(17)
    positions = np.stack([x + 20 + SPACING * (index % 5), y + 20 + SPACING * (index // 5)], axis=1)
    return np.concatenate([positions, np.full((17, 1), 2.0)], axis=1)


def distance_of(similarity: float, joint: int) -> float:
    """Pixels at which a joint has that similarity to the truth."""
    return float(np.sqrt(-2 * np.log(similarity)) * 2 * SIGMAS[joint] * SIZE)


def moved(keypoints: np.ndarray, chosen: list[int], similarity: float) -> np.ndarray:
    """A copy with some joints moved to the right, to this similarity."""
    keypoints = keypoints.copy()
    for joint in chosen:
        keypoints[joint, 0] += distance_of(similarity, joint)
    return keypoints


@dataclass
class Case:
    """Ground truth and detections that tests add to."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add_image(self, **extra: Any) -> int:
        """Id of a new image."""
        number = len(self.images) + 1
        self.images.append(
            {"id": number, "width": 640, "height": 480, "file_name": f"{number}.png"} | extra
        )
        return number

    def add_person(self, image: int, keypoints: np.ndarray, area: float = AREA) -> None:
        """Annotate a person."""
        labelled = keypoints[keypoints[:, 2] > 0, :2]
        low = labelled.min(axis=0)
        width, height = (labelled.max(axis=0) - low).tolist()
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image,
                "category_id": 1,
                "keypoints": keypoints.reshape(-1).tolist(),
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                "area": area,
                "bbox": [*low.tolist(), width, height],
                "iscrowd": 0,
            }
        )

    def add_detection(
        self, image: int, keypoints: np.ndarray, score: float = 0.9, **extra: Any
    ) -> None:
        """Predict a person; the joints get the score of the person."""
        keypoints = keypoints.copy()
        keypoints[:, 2] = score * (keypoints[:, :2] != 0).any(axis=1)
        entry = {"image_id": image, "category_id": 1, "score": score}
        self.entries.append(entry | {"keypoints": keypoints.reshape(-1).tolist()} | extra)

    def content(self) -> dict[str, Any]:
        """The ground truth as a COCO file holds it."""
        category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
        return {
            "images": self.images,
            "annotations": self.annotations,
            "categories": [category],
        }

    def scoring(self) -> OksScoring:
        """Ready to be scored."""
        return OksScoring.prepare(
            open_annotations(self.content()), self.entries, COCO, None, "hotcoco"
        )

    def write(self, folder: Path, results: str = "results.json") -> tuple[Path, Path]:
        """The files of annotations and of results."""
        folder.mkdir(parents=True, exist_ok=True)
        annotations = folder / "person_keypoints_val2017.json"
        annotations.write_text(json.dumps(self.content()))
        (folder / results).write_text(json.dumps(self.entries))
        return annotations, folder / results


def random_case(images: int = 30, seed: int = 0) -> Case:
    """People of several sizes with noisy detections, missed and false ones."""
    rng = np.random.default_rng(seed)
    case = Case()
    for _ in range(images):
        image = case.add_image()
        for number in range(rng.integers(0, 4)):
            person = joints(150 * number, 40)
            person[rng.random(17) < 0.2, 2] = 0
            area = float(rng.choice([900.0, 3600.0, 12000.0]))
            case.add_person(image, person, area)
            if rng.random() < 0.85:
                sigma = rng.uniform(1, 9, 17)
                found = person.copy()
                found[:, :2] += rng.normal(0, 1, (17, 2)) * sigma[:, None]
                case.add_detection(image, found, float(rng.uniform(0.3, 1)), sigma=sigma.tolist())
        if rng.random() < 0.4:
            case.add_detection(
                image, joints(300, 200), float(rng.uniform(0, 0.5)), sigma=[3.0] * 17
            )
    return case
