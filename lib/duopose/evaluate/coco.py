"""The ten COCO keypoint numbers, for any skeleton."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from duopose.evaluate.ground_truth import GroundTruth, open_annotations
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.oks import OksScoring
from duopose.evaluate.results import Results
from duopose.skeletons import Skeleton


def evaluate_coco(
    annotations: str | Path | GroundTruth,
    results: Results,
    skeleton: Skeleton,
    image_ids: Collection[int | str] | None = None,
    evaluator: str = "hotcoco",
) -> Metrics:
    """AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL of people found: a results file, `ImageResult`s or entries.

    image_ids: the images scored, e.g. the first few of a short run; None: all of the annotation file.
    evaluator: hotcoco | pycocotools (the same numbers, slower). UserError where the annotations lack something that OKS
    needs, or the results are not about these images and this skeleton.
    """
    content, where = open_annotations(annotations)
    scoring = OksScoring.of(content, results, skeleton, image_ids, evaluator, where)
    return Metrics(scoring.numbers(), scoring.notes(), scoring.facts())
