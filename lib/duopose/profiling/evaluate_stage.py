"""Time of scoring relative to pycocotools, and of writing results relative to `json.dump`."""

from __future__ import annotations

import contextlib
import io
import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pycocotools.coco import COCO as ReferenceCOCO
from pycocotools.cocoeval import COCOeval as ReferenceEvaluation

from duopose.evaluate.coco import evaluate_coco
from duopose.evaluate.results import to_entries, write_entries, write_results
from duopose.profiling.measure import Row, measure, print_row
from duopose.skeletons import COCO
from duopose.types import ImageResult, Poses

MAX_REPEATS = 3  # pycocotools takes 10 seconds


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this stage."""
    parser.add_argument(
        "--images", type=int, default=5000, help="images (default 5000, COCO val2017)"
    )
    parser.add_argument(
        "--detections", type=int, default=20, help="people found in each image (default 20)"
    )


def run(args: Namespace) -> dict[str, list[Row]]:
    """Both libraries from files to metrics; ours also from memory."""
    repeats = min(args.repeats, MAX_REPEATS)
    truth, results = generate(args.images, args.detections)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "truth.json").write_text(json.dumps(truth))
        rows = [_writing(folder, results, repeats), _scoring(folder, results, repeats)]
    for row in rows:
        print_row(row)
    return {"rows": rows}


def _scoring(folder: Path, results: list[ImageResult], repeats: int) -> Row:
    truth, rounded, exact = folder / "truth.json", folder / "rounded.json", folder / "exact.json"
    write_results(rounded, results)
    write_entries(exact, _exact_entries(results))
    metrics = evaluate_coco(truth, exact, COCO).values
    times = measure(
        {
            "pycocotools": lambda: _pycocotools(truth, exact),
            "ours": lambda: evaluate_coco(truth, exact, COCO),
            "ours, file of ours": lambda: evaluate_coco(truth, rounded, COCO),
            "ours, from memory": lambda: evaluate_coco(truth, results, COCO),
        },
        repeats,
        warm_up=0,
    )
    same = list(metrics.values()) == _pycocotools(truth, exact)
    ratios = {
        name: times["pycocotools"] / value for name, value in times.items() if name != "pycocotools"
    }
    return {
        "name": "scoring",
        "people": sum(len(r.poses.scores) for r in results),
        "ms": times,
        "times_faster": ratios,
        "same_numbers": same,
    }


def _writing(folder: Path, results: list[ImageResult], repeats: int) -> Row:
    as_lists = to_entries(results)
    times = measure(
        {
            "json.dump": lambda: _dump(folder / "dumped.json", as_lists),
            "ours": lambda: write_results(folder / "ours.json", results),
        },
        repeats,
        warm_up=0,
    )
    return {"name": "results file", "ms": times, "times_faster": times["json.dump"] / times["ours"]}


def _dump(path: Path, entries: list[dict[str, Any]]) -> None:
    with path.open("w") as file:
        json.dump(entries, file)


def _exact_entries(results: list[ImageResult]) -> list[dict[str, Any]]:
    """Without rounding, as other programs write them: more than twice the bytes."""
    return [
        {
            "image_id": result.image_id,
            "category_id": 1,
            "keypoints": keypoints.reshape(-1),
            "score": score,
        }
        for result in results
        for keypoints, score in zip(
            result.poses.keypoints, result.poses.scores.tolist(), strict=True
        )
    ]


def _pycocotools(truth: Path, results: Path) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        reference = ReferenceCOCO(str(truth))
        evaluation = ReferenceEvaluation(reference, reference.loadRes(str(results)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def generate(
    num_images: int, detections: int, seed: int = 0
) -> tuple[dict[str, Any], list[ImageResult]]:
    """COCO-format ground truth and detections.

    An image has 0 to 4 people. The 17 keypoints of a detection are a few pixels off those of an
    annotated person, or anywhere.
    """
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[ImageResult] = []
    for image_id in range(1, num_images + 1):
        boxes = _boxes(rng)
        people = boxes[:, None, :2] + rng.uniform(0, 1, (len(boxes), 17, 2)) * boxes[:, None, 2:]
        for box, person in zip(boxes, people, strict=True):
            annotations.append(_annotation(len(annotations) + 1, image_id, box, person, rng))
        results.append(ImageResult(image_id, _found(people, detections, rng)))
    images = [
        {"id": image_id, "width": 640, "height": 640} for image_id in range(1, num_images + 1)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }, results


def _boxes(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(0, 5))
    return np.column_stack([rng.uniform(0, 300, (count, 2)), rng.uniform(20, 300, (count, 2))])


def _annotation(
    number: int, image_id: int, box: np.ndarray, person: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    visibility = rng.choice(3, 17, p=[0.2, 0.3, 0.5])
    keypoints = np.column_stack([person, visibility]) * (visibility > 0)[:, None]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": box.tolist(),
        "area": float(box[2] * box[3] / 2),
        "num_keypoints": int((visibility > 0).sum()),
        "keypoints": keypoints.reshape(-1).tolist(),
    }


def _found(people: np.ndarray, count: int, rng: np.random.Generator) -> Poses:
    anywhere = rng.uniform(0, 600, (count, 17, 2))
    near = (
        people[rng.integers(0, len(people), count)] + rng.normal(0, 10, (count, 17, 2))
        if len(people)
        else anywhere
    )
    positions = np.where(rng.random((count, 1, 1)) < 0.7, near, anywhere)
    keypoints = np.concatenate([positions, rng.uniform(0, 1, (count, 17, 1))], axis=2)
    return Poses(keypoints, rng.uniform(0, 1, count), np.zeros((count, 17), dtype=bool))
