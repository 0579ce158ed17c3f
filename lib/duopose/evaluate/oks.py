"""Object keypoint similarity (OKS) evaluation by hotcoco or pycocotools, which agree to the last bit, for any skeleton.

Lin et al. 2014; https://cocodataset.org/#keypoints-eval. At most the 20 best people an image count.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import orjson
from pycocotools.coco import COCO as ReferenceCOCO
from pycocotools.cocoeval import COCOeval as ReferenceEvaluation

from duopose.errors import UserError
from duopose.evaluate.ground_truth import (
    GroundTruth,
    check_annotations,
    chosen_images,
    scoring_annotations,
)
from duopose.evaluate.results import (
    FIELDS,
    Entry,
    Results,
    checked_entries,
    read_entries,
    results_name,
)
from duopose.files import paused_garbage_collection
from duopose.skeletons import Skeleton

METRIC_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
NOTHING_TO_MEASURE = -1  # what both libraries say where the ground truth has no such people

BLOCK = (
    1 << 18
)  # bytes looked at at a time: they stay in the processor's cache, twice as fast as the whole file at once

Ids = list[int | str]
Detections = Path | list[Entry]


@dataclass(frozen=True)
class OksScoring:
    """Ground truth and detections, found to belong together and to the skeleton, ready to be scored over any of the images."""

    truth: GroundTruth
    detections: Detections
    image_ids: Ids
    skeleton: Skeleton
    evaluator: str
    original: GroundTruth  # the truth as its file has it
    where: str  # the file's name

    @staticmethod
    def of(
        content: GroundTruth,
        results: Results,
        skeleton: Skeleton,
        image_ids: Collection[int | str] | None,
        evaluator: str,
        where: str,
    ) -> OksScoring:
        """Checks everything (UserError); `where` names the annotation file, `image_ids` None means all its images."""
        if evaluator not in EVALUATORS:
            raise UserError(
                f"TEST.EVALUATOR '{evaluator}' is unknown; use one of {', '.join(EVALUATORS)}"
            )
        chosen = chosen_images(content, image_ids, where)
        with paused_garbage_collection():
            truth = scoring_annotations(content, skeleton.num_keypoints, where)
        plain = (
            evaluator == "hotcoco"
            and isinstance(results, (str, Path))
            and _is_plain_file(Path(results), skeleton.num_keypoints)
        )
        if plain and _has_integer_ids(truth):
            return OksScoring(
                truth, Path(str(results)), chosen, skeleton, evaluator, content, where
            )
        with paused_garbage_collection():
            entries = checked_entries(results, skeleton.num_keypoints, _ids(truth))
        return OksScoring(truth, entries, chosen, skeleton, evaluator, content, where)

    def numbers(self, image_ids: Ids | None = None) -> dict[str, float | None]:
        """The ten numbers by name over `image_ids` (None: all chosen images); None where there is nothing to measure."""
        chosen = self.image_ids if image_ids is None else image_ids
        try:
            stats = EVALUATORS[self.evaluator](
                self.truth, self.detections, list(self.skeleton.sigmas), chosen
            )
        except (TypeError, ValueError, LookupError):
            # Looking at each number of the truth beforehand would take longer than scoring.
            check_annotations(self.original["annotations"], self.where)
            raise
        values = [None if value == NOTHING_TO_MEASURE else float(value) for value in stats]
        return dict(zip(METRIC_NAMES, values, strict=True))

    def facts(self) -> dict[str, Any]:
        """What was counted, for the protocol."""
        chosen = set(self.image_ids)
        people = sum(
            a["image_id"] in chosen and a["num_keypoints"] > 0 and not a["iscrowd"]
            for a in self.truth["annotations"]
        )
        return {
            "evaluator": self.evaluator,
            "images": len(self.image_ids),
            "people": people,
            "oks_sigmas": "default"
            if self.skeleton.sigmas_are_default
            else list(self.skeleton.sigmas),
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences that belong beside the numbers."""
        notes = []
        if not self.facts()["people"]:
            notes.append(
                "the images scored have no person with labelled keypoints, so there is nothing to measure"
            )
        elif not self.detections:
            notes.append("the results hold no detections at all, so AP and AR are 0")
        if self.skeleton.sigmas_are_default:
            notes.append(
                f"skeleton '{self.skeleton.name}' gives no sigmas, so OKS takes {self.skeleton.sigmas[0]} for every keypoint: "
                "compare these numbers only with others made so"
            )
        return tuple(notes)


def _ids(truth: GroundTruth) -> set[int | str]:
    return {image["id"] for image in truth["images"]}


def _in_memory(detections: Detections) -> list[Entry]:
    return read_entries(detections) if isinstance(detections, Path) else detections


def _is_plain_file(path: Path, num_keypoints: int) -> bool:
    """Whether bytes counted show the server's four fields, all filled, and K keypoints for each person, so that hotcoco may read the file.

    That is several times faster than through Python, and hotcoco complains of values that are no numbers. Of missing scores
    and joints it says nothing, therefore: one brace and 3K + 3 commas a person, no null (the fields' names have no u in
    them), and the first whole person of each block is looked at.
    """
    people, commas = 0, 0
    for block in _blocks(path):
        codes = np.frombuffer(block, np.uint8)
        people += int(np.count_nonzero(codes == ord("{")))
        commas += int(np.count_nonzero(codes == ord(",")))
        if b"u" in block or not _first_person_is_plain(block, num_keypoints):
            return False
    return people > 0 and commas == people * (3 * num_keypoints + 3) - 1


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in pieces; nothing of one that is not there, of which its reader has a sentence."""
    if path.is_file():
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                yield block


def _first_person_is_plain(block: bytes, num_keypoints: int) -> bool:
    """True also where the block holds no whole person."""
    start = block.find(b"{")
    end = block.find(b"}", start)
    if min(start, end) < 0:
        return True
    try:
        person = orjson.loads(block[start : end + 1])
    except orjson.JSONDecodeError:
        return False
    return (
        set(person) == set(FIELDS)
        and isinstance(person["keypoints"], list)
        and len(person["keypoints"]) == 3 * num_keypoints
    )


def _has_integer_ids(truth: GroundTruth) -> bool:
    return all(type(image["id"]) is int and image["id"] >= 0 for image in truth["images"])


def _with_numbered_images(
    truth: GroundTruth, entries: list[Entry], image_ids: Ids
) -> tuple[GroundTruth, list[Entry], Ids]:
    """Images numbered from 1, for libraries that take integers only, or cannot compare words with integers."""
    number: dict[int | str, int] = {
        image["id"]: index for index, image in enumerate(truth["images"], start=1)
    }
    numbered = truth | {
        "images": [{"id": index} for index in number.values()],
        "annotations": [
            annotation | {"image_id": number[annotation["image_id"]]}
            for annotation in truth["annotations"]
        ],
    }
    ids: Ids = [number[image_id] for image_id in image_ids]
    return numbered, [entry | {"image_id": number[entry["image_id"]]} for entry in entries], ids


def _hotcoco_numbers(
    truth: GroundTruth, detections: Detections, sigmas: list[float], image_ids: Ids
) -> np.ndarray:
    if not _has_integer_ids(truth):
        truth, detections, image_ids = _with_numbered_images(
            truth, _in_memory(detections), image_ids
        )
    reference = hotcoco.COCO(truth)
    found = _load_detections(reference, detections, len(sigmas), _ids(truth))
    evaluation = hotcoco.COCOeval(reference, found, "keypoints")
    evaluation.params.kpt_oks_sigmas = sigmas
    evaluation.params.img_ids = [int(image_id) for image_id in image_ids]
    return _run(evaluation)


def _load_detections(
    reference: hotcoco.COCO, detections: Detections, num_keypoints: int, image_ids: set[int | str]
) -> hotcoco.COCO:
    """What hotcoco complains of in a file that it read by itself is read again and said in our words."""
    try:
        found = reference.load_res(str(detections) if isinstance(detections, Path) else detections)
    except ValueError as error:
        checked_entries(detections, num_keypoints, image_ids)
        raise UserError(f"{results_name(detections)}: {error}") from error
    if found.load_warnings:
        checked_entries(detections, num_keypoints, image_ids)
    return found


def _pycocotools_numbers(
    truth: GroundTruth, detections: Detections, sigmas: list[float], image_ids: Ids
) -> np.ndarray:
    entries = _in_memory(detections)
    if not _has_integer_ids(truth):
        truth, entries, image_ids = _with_numbered_images(truth, entries, image_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        # The library writes into the dictionaries it is given.
        reference = _indexed(
            truth | {"annotations": [dict(annotation) for annotation in truth["annotations"]]}
        )
        # `loadRes` of an empty list ends in an IndexError; what it would build is the ground truth without annotations.
        found = (
            reference.loadRes([dict(entry) for entry in entries])
            if entries
            else _indexed(truth | {"annotations": []})
        )
        evaluation = ReferenceEvaluation(reference, found, "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(sigmas)
    evaluation.params.imgIds = image_ids
    return _run(evaluation)


def _indexed(content: GroundTruth) -> ReferenceCOCO:
    coco = ReferenceCOCO()
    coco.dataset = content
    coco.createIndex()
    return coco


def _run(evaluation: Any) -> np.ndarray:
    # Both print as they go, and hotcoco warns of sigmas that are not COCO's; the facts say that.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


EVALUATORS: dict[str, Callable[[GroundTruth, Detections, list[float], Ids], np.ndarray]] = {
    "hotcoco": _hotcoco_numbers,
    "pycocotools": _pycocotools_numbers,
}
