"""The ten COCO keypoint metrics by hotcoco or pycocotools, for any skeleton.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and
https://cocodataset.org/#keypoints-eval. For a detection and a person of area s^2 with N labelled
keypoints (v_i > 0), d_i pixels apart, the object keypoint similarity is

    OKS = 1/N * sum_i exp(-d_i^2 / (2 s^2 (2 sigma_i)^2)),

with sigma_i of the skeleton. At most the 20 detections of an image with the highest scores count.
Both libraries give the same numbers to the last bit; hotcoco is faster.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from pycocotools.coco import COCO as PycocoDataset
from pycocotools.cocoeval import COCOeval as PycocoEvaluation

from duopose.coco_annotations import AnnotationFile
from duopose.errors import UserError
from duopose.evaluate.ground_truth import (
    AnnotationSource,
    ImageIds,
    check_annotations,
    image_ids_to_score,
    oks_ground_truth,
    open_annotations,
)
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.results import Entry, Results, checked_entries, results_name
from duopose.files import paused_garbage_collection
from duopose.skeletons import Skeleton

METRIC_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
NOTHING_TO_MEASURE = -1  # value of both libraries where the ground truth has no such people

ALL_AREAS = (0.0, 1e10)  # COCOeval's range of areas for AP
NUM_OKS_THRESHOLDS = 10  # .50, .55 ... .95
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)  # COCOeval's recThrs

Content = dict[str, Any]  # of a COCO file
Ids = list[int | str]
MANY_WITHOUT_DETECTIONS = 0.2  # fraction of the images with people that gets a note


def evaluate_coco(
    annotations: AnnotationSource,
    results: Results,
    skeleton: Skeleton,
    image_ids: ImageIds | None = None,
    evaluator: str = "hotcoco",
) -> Metrics:
    """AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL of detected people.

    annotations: a COCO file or its content.
    results: a results file, `ImageResult`s or entries.
    image_ids: the images to score, e.g. the first few of a short run; None: all of the file.
    evaluator: hotcoco | pycocotools (the same numbers, slower).
    UserError where the annotations lack something that OKS needs, or the results are not about
    these images and this skeleton.
    """
    file = open_annotations(annotations)
    scoring = OksScoring.prepare(file, results, skeleton, image_ids, evaluator)
    return Metrics(scoring.metrics(), scoring.notes(), scoring.facts())


@dataclass(frozen=True)
class OksScoring:
    """Ground truth and detections, checked against each other, ready to be scored."""

    file: AnnotationFile
    ground_truth: Content  # `oks_ground_truth` of the file
    entries: list[Entry]
    image_ids: Ids
    skeleton: Skeleton
    evaluator: str  # a key of EVALUATORS

    @classmethod
    def prepare(
        cls,
        file: AnnotationFile,
        results: Results,
        skeleton: Skeleton,
        image_ids: ImageIds | None,
        evaluator: str,
    ) -> OksScoring:
        """Read and check everything (UserError); `image_ids` None means all images of the file."""
        if evaluator not in EVALUATORS:
            raise UserError(
                f"TEST.EVALUATOR '{evaluator}' is unknown; use one of {', '.join(EVALUATORS)}"
            )

        selected = image_ids_to_score(file, image_ids)
        with paused_garbage_collection():
            ground_truth = oks_ground_truth(file, skeleton.num_keypoints)
            listed = {image["id"] for image in file.images}
            entries = checked_entries(results, skeleton.num_keypoints, listed)
        return cls(file, ground_truth, entries, selected, skeleton, evaluator)

    def metrics(self, image_ids: Ids | None = None) -> dict[str, float | None]:
        """The ten metrics over `image_ids` (None: all selected images).

        None as value where there is nothing to measure.
        """
        selected = self.image_ids if image_ids is None else image_ids
        ground_truth, entries = self.ground_truth, self.entries
        if not _have_library_ids(ground_truth):
            ground_truth, entries, selected = _with_numbered_images(ground_truth, entries, selected)

        evaluate = EVALUATORS[self.evaluator]
        try:
            stats = evaluate(ground_truth, entries, list(self.skeleton.sigmas), selected)
        except (TypeError, ValueError, LookupError):
            # To check each number of the ground truth beforehand would take longer than scoring.
            check_annotations(self.file.annotations, self.file.path)
            raise

        values = [None if value == NOTHING_TO_MEASURE else float(value) for value in stats]
        return dict(zip(METRIC_NAMES, values, strict=True))

    def matches(self) -> OksMatches:
        """Which detections match a person, so that AP over resampled images is fast; hotcoco."""
        per_image = self.image_records()
        index_of = {image_id: index for index, image_id in enumerate(self.image_ids)}
        return OksMatches.from_images(per_image, index_of)

    def image_records(self, oks_thresholds: Sequence[float] = ()) -> list[dict[str, Any]]:
        """COCOeval's records of the images with people or detections, over all areas; hotcoco.

        oks_thresholds: default .50, .55 ... .95. `dtIds` are positions in `entries` from 1,
        `gtIds` are ids of `ground_truth`, `dtMatches` of each threshold are such ids or 0.
        """
        ground_truth, entries, ids = self.ground_truth, self.entries, self.image_ids
        if not _have_library_ids(ground_truth):
            ground_truth, entries, ids = _with_numbered_images(ground_truth, entries, ids)

        evaluation = _hotcoco_evaluation(ground_truth, entries, list(self.skeleton.sigmas), ids)
        if oks_thresholds:
            evaluation.params.iou_thrs = [float(threshold) for threshold in oks_thresholds]
        evaluation.params.area_rng = [list(ALL_AREAS)]
        evaluation.params.area_rng_lbl = ["all"]
        with _quiet():
            evaluation.evaluate()

        original = dict(zip(ids, self.image_ids, strict=True))
        return [
            record | {"image_id": original[record["image_id"]]}
            for record in evaluation.eval_imgs
            if record
        ]

    def facts(self) -> dict[str, Any]:
        """What was counted, for the protocol."""
        return {
            "evaluator": self.evaluator,
            "images": len(self.image_ids),
            "people": self._num_people(),
            "oks_sigmas": "default"
            if self.skeleton.sigmas_are_default
            else list(self.skeleton.sigmas),
        }

    def _num_people(self) -> int:
        return len(self._images_of_people())

    def _images_of_people(self) -> list[int | str]:
        """Image of each person that counts: selected, with labelled keypoints, no crowd region."""
        selected = set(self.image_ids)
        return [
            person["image_id"]
            for person in self.ground_truth["annotations"]
            if person["image_id"] in selected
            and person["num_keypoints"] > 0
            and not person["iscrowd"]
        ]

    def notes(self) -> tuple[str, ...]:
        """Sentences to print with the metrics."""
        notes = []
        with_people = set(self._images_of_people())
        with_detections = {entry["image_id"] for entry in self.entries}
        num_empty = len(with_people - with_detections)
        if not with_people:
            notes.append(
                "the images to score have no person with labelled keypoints, "
                "so there is nothing to measure"
            )
        elif not self.entries:
            notes.append("the results hold no detections at all, so AP and AR are 0")
        elif num_empty > MANY_WITHOUT_DETECTIONS * len(with_people):
            notes.append(
                f"{num_empty} of {len(with_people)} images with people have no detection in the "
                "results; their people count as missed. Results of fewer images (DATASET.LIMIT) "
                "are scored with the same DATASET.LIMIT"
            )

        if self.skeleton.sigmas_are_default:
            notes.append(
                f"skeleton '{self.skeleton.name}' gives no sigmas, so OKS takes "
                f"{self.skeleton.sigmas[0]} for every keypoint: "
                "compare these metrics only with others made this way"
            )
        return tuple(notes)


@dataclass(frozen=True)
class OksMatches:
    """The detections of N images and whether each matches a person, at T OKS thresholds.

    D detections by falling score; those that match an ignored person are in neither array.
    """

    image: np.ndarray  # (D,) int, 0 <= image < N
    is_true: np.ndarray  # (T, D) bool: matches a person
    is_false: np.ndarray  # (T, D) bool: matches nobody; or how much that counts, 0 .. 1
    num_people: np.ndarray  # (N,) people that count, per image

    @classmethod
    def from_images(
        cls, per_image: list[dict[str, Any]], index_of: dict[int | str, int]
    ) -> OksMatches:
        """From COCOeval's records of images; `index_of` gives the index of an image id."""
        num_people = np.zeros(len(index_of))
        scores = [np.zeros(0)]
        images = [np.zeros(0, int)]
        matched = [np.zeros((NUM_OKS_THRESHOLDS, 0), bool)]
        ignored = [np.zeros((NUM_OKS_THRESHOLDS, 0), bool)]
        for record in sorted(per_image, key=lambda record: index_of[record["image_id"]]):
            index = index_of[record["image_id"]]
            num_people[index] = np.sum(record["gtInDenominator"])
            count = len(record["dtScores"])
            scores.append(np.asarray(record["dtScores"], float))
            images.append(np.full(count, index))
            shape = (NUM_OKS_THRESHOLDS, count)
            matched.append(np.asarray(record["dtMatched"], bool).reshape(shape))
            ignored.append(np.asarray(record["dtIgnore"], bool).reshape(shape))

        # Stable, as in COCOeval: equal scores keep the order of the images.
        order = np.argsort(-np.concatenate(scores), kind="stable")
        is_matched = np.concatenate(matched, axis=1)[:, order]
        counts = ~np.concatenate(ignored, axis=1)[:, order]
        image = np.concatenate(images)[order]
        return cls(image, is_matched & counts, ~is_matched & counts, num_people)

    def average_precision(self, weights: np.ndarray | None = None) -> float | None:
        """COCO's AP where image i counts weights[i] times (None: each once).

        Equal to the AP of a data set with copies of the images. None where no person counts.
        """
        precision = self.precision_at_recalls(weights)
        return None if precision is None else float(precision.mean())

    def precision_at_recalls(self, weights: np.ndarray | None = None) -> np.ndarray | None:
        """(T, 101) precision at RECALL_THRESHOLDS, 0 where the recall is not reached.

        The precision at a recall is the largest one at this recall or a higher one, as in COCO.
        None where no person counts.
        """
        if weights is None:
            weights = np.ones(len(self.num_people))
        people = float(weights @ self.num_people)
        if people <= 0:
            return None

        weight_of = weights[self.image]
        true = np.cumsum(self.is_true * weight_of, axis=1)
        false = np.cumsum(self.is_false * weight_of, axis=1)
        recall = true / people
        precision = true / np.maximum(true + false, np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]

        sampled = np.zeros((len(recall), len(RECALL_THRESHOLDS)))
        for row, recall_of, envelope_of in zip(sampled, recall, envelope, strict=True):
            first = np.searchsorted(recall_of, RECALL_THRESHOLDS, side="left")
            reached = first < len(recall_of)
            row[reached] = envelope_of[first[reached]]
        return sampled


def _have_library_ids(ground_truth: Content) -> bool:
    """Whether all image ids are integers from 0 on, the only ids that both libraries accept."""
    return all(type(image["id"]) is int and image["id"] >= 0 for image in ground_truth["images"])


def _with_numbered_images(
    ground_truth: Content, entries: list[Entry], image_ids: Ids
) -> tuple[Content, list[Entry], Ids]:
    """The same content with images numbered from 1."""
    number_of: dict[int | str, int] = {
        image["id"]: number for number, image in enumerate(ground_truth["images"], start=1)
    }

    def renumbered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [record | {"image_id": number_of[record["image_id"]]} for record in records]

    numbered = ground_truth | {
        "images": [{"id": number} for number in number_of.values()],
        "annotations": renumbered(ground_truth["annotations"]),
    }
    ids: Ids = [number_of[image_id] for image_id in image_ids]
    return numbered, renumbered(entries), ids


def _evaluate_with_hotcoco(
    ground_truth: Content, entries: list[Entry], sigmas: list[float], image_ids: Ids
) -> np.ndarray:
    return _run(_hotcoco_evaluation(ground_truth, entries, sigmas, image_ids))


def _hotcoco_evaluation(
    ground_truth: Content, entries: list[Entry], sigmas: list[float], image_ids: Ids
) -> Any:
    reference = hotcoco.COCO(ground_truth)
    try:
        detections = reference.load_res(entries)
    except ValueError as error:
        raise UserError(f"{results_name(entries)}: {error}") from error

    evaluation = hotcoco.COCOeval(reference, detections, "keypoints")
    evaluation.params.kpt_oks_sigmas = sigmas
    evaluation.params.img_ids = [int(image_id) for image_id in image_ids]
    return evaluation


def _evaluate_with_pycocotools(
    ground_truth: Content, entries: list[Entry], sigmas: list[float], image_ids: Ids
) -> np.ndarray:
    # The library writes into the dictionaries that it is given.
    copied = [dict(annotation) for annotation in ground_truth["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = _pycoco_dataset(ground_truth | {"annotations": copied})
        if entries:
            detections = reference.loadRes([dict(entry) for entry in entries])
        else:
            # `loadRes([])` is an IndexError; this is what it would build.
            detections = _pycoco_dataset(ground_truth | {"annotations": []})
        evaluation = PycocoEvaluation(reference, detections, "keypoints")

    evaluation.params.kpt_oks_sigmas = np.array(sigmas)
    evaluation.params.imgIds = image_ids
    return _run(evaluation)


def _pycoco_dataset(content: Content) -> PycocoDataset:
    dataset = PycocoDataset()
    dataset.dataset = content
    dataset.createIndex()
    return dataset


def _run(evaluation: Any) -> np.ndarray:
    """The ten numbers of a COCOeval of either library."""
    with _quiet():
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without prints, and hotcoco's warning of sigmas that are not COCO's; the facts state them."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


EVALUATORS: dict[str, Callable[[Content, list[Entry], list[float], Ids], np.ndarray]] = {
    "hotcoco": _evaluate_with_hotcoco,
    "pycocotools": _evaluate_with_pycocotools,
}
