"""Times scoring relative to pycocotools, and writing results relative to `json.dump`."""

from __future__ import annotations

import contextlib
import io
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pycocotools.coco import COCO as ReferenceCOCO
from pycocotools.cocoeval import COCOeval as ReferenceEvaluation

from duopose.coco_annotations import Record
from duopose.evaluate.coco import evaluate_coco
from duopose.evaluate.results import Entry, to_entries, write_entries, write_results
from duopose.oracle.perfect_network import exact_entries
from duopose.profiling.measure import Row, Stage, measure
from duopose.skeletons import COCO
from duopose.types import ImageResult, Poses

MAX_REPEATS = 3  # pycocotools takes more than ten seconds each time
NUM_KEYPOINTS = COCO.num_keypoints
IMAGE_SIZE = 640  # pixels, both sides
MAX_PEOPLE = 4  # annotated in an image


def add_arguments(parser: ArgumentParser) -> None:
    """Number of images and detections."""
    parser.add_argument(
        "--images", type=int, default=5000, help="images (default 5000, as COCO val2017)"
    )
    parser.add_argument(
        "--detections", type=int, default=20, help="detections in each image (default 20)"
    )


def run(args: Namespace) -> Iterator[Row]:
    """Writing a results file, then scoring, from files and from memory."""
    repeats = min(args.repeats, MAX_REPEATS)
    truth, results = synthetic_results(args.images, args.detections)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "truth.json").write_text(json.dumps(truth))
        yield time_writing(folder, results, repeats)
        yield time_scoring(folder, results, repeats)


def time_writing(folder: Path, results: list[ImageResult], repeats: int) -> Row:
    """Writing a results file, and `json.dump` of the same entries."""
    entries = to_entries(results)
    functions = {
        "json.dump": lambda: _dump(folder / "dumped.json", entries),
        "ours": lambda: write_results(folder / "ours.json", results),
    }
    times = measure(functions, repeats, warm_up=0)
    return {"name": "results file", "ms": times, "times_faster": times["json.dump"] / times["ours"]}


def _dump(path: Path, entries: list[Entry]) -> None:
    with path.open("w") as file:
        json.dump(entries, file)


def time_scoring(folder: Path, results: list[ImageResult], repeats: int) -> Row:
    """From files to metrics by both libraries; by ours also from our own file and from memory.

    The exact file has all digits, as other programs write it: more than twice the bytes.
    """
    truth = folder / "truth.json"
    rounded = folder / "rounded.json"
    exact = folder / "exact.json"
    write_results(rounded, results)
    write_entries(exact, exact_entries(results))

    functions = {
        "pycocotools": lambda: _score_with_pycocotools(truth, exact),
        "ours": lambda: evaluate_coco(truth, exact, COCO),
        "ours, file of ours": lambda: evaluate_coco(truth, rounded, COCO),
        "ours, from memory": lambda: evaluate_coco(truth, results, COCO),
    }
    times = measure(functions, repeats, warm_up=0)
    reference = times["pycocotools"]
    ratios = {name: reference / ms for name, ms in times.items() if name != "pycocotools"}

    metrics = evaluate_coco(truth, exact, COCO).values
    return {
        "name": "scoring",
        "people": sum(len(result.poses.scores) for result in results),
        "ms": times,
        "times_faster": ratios,
        "same_numbers": list(metrics.values()) == _score_with_pycocotools(truth, exact),
    }


def _score_with_pycocotools(truth: Path, results: Path) -> list[float]:
    """The ten numbers of COCO's keypoint evaluation."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = ReferenceCOCO(str(truth))
        detections = reference.loadRes(str(results))
        evaluation = ReferenceEvaluation(reference, detections, "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


# ---- synthetic ground truth and detections ----


def synthetic_results(
    num_images: int, num_detections: int, seed: int = 0
) -> tuple[dict[str, Any], list[ImageResult]]:
    """The content of a COCO annotation file, and detections for it.

    An image has 0 to 4 people. A detection is an annotated person with 10 px of noise, or random.
    """
    rng = np.random.default_rng(seed)
    annotations: list[Record] = []
    results = []
    for image_id in range(1, num_images + 1):
        boxes = _random_boxes(rng)
        in_box = rng.uniform(0, 1, (len(boxes), NUM_KEYPOINTS, 2))
        people = boxes[:, None, :2] + in_box * boxes[:, None, 2:]
        for box, positions in zip(boxes, people, strict=True):
            annotation = _annotation(box, positions, rng)
            annotations.append(annotation | {"id": len(annotations) + 1, "image_id": image_id})
        results.append(ImageResult(image_id, _random_detections(people, num_detections, rng)))

    size = {"width": IMAGE_SIZE, "height": IMAGE_SIZE}
    truth = {
        "images": [{"id": image_id, **size} for image_id in range(1, num_images + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    return truth, results


def _random_boxes(rng: np.random.Generator) -> np.ndarray:
    """(P, 4) x, y, width, height in pixels."""
    count = int(rng.integers(0, MAX_PEOPLE + 1))
    corner = rng.uniform(0, 300, (count, 2))
    size = rng.uniform(20, 300, (count, 2))
    return np.column_stack([corner, size])


def _annotation(box: np.ndarray, positions: np.ndarray, rng: np.random.Generator) -> Record:
    """An annotated person without ids. positions: (K, 2)."""
    visibility = rng.choice(3, NUM_KEYPOINTS, p=[0.2, 0.3, 0.5])
    is_labelled = visibility > 0
    keypoints = np.column_stack([positions, visibility]) * is_labelled[:, None]
    return {
        "category_id": 1,
        "iscrowd": 0,
        "bbox": box.tolist(),
        "area": float(box[2] * box[3] / 2),
        "num_keypoints": int(is_labelled.sum()),
        "keypoints": keypoints.reshape(-1).tolist(),
    }


def _random_detections(people: np.ndarray, count: int, rng: np.random.Generator) -> Poses:
    """70 % of them near one of the `people` (P, K, 2), if there are any."""
    shape = (count, NUM_KEYPOINTS, 2)
    positions = rng.uniform(0, 600, shape)
    if len(people):
        person = rng.integers(0, len(people), count)
        near_person = people[person] + rng.normal(0, 10, shape)
        is_near = rng.random((count, 1, 1)) < 0.7
        positions = np.where(is_near, near_person, positions)

    joint_scores = rng.uniform(0, 1, (count, NUM_KEYPOINTS, 1))
    keypoints = np.concatenate([positions, joint_scores], axis=2)
    not_filled = np.zeros((count, NUM_KEYPOINTS), dtype=bool)
    return Poses(keypoints, rng.uniform(0, 1, count), not_filled)


EVALUATE = Stage("evaluate", "Scoring and writing results.", add_arguments, run)
