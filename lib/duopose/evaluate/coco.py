"""The ten COCO keypoint metrics, for any skeleton."""

from __future__ import annotations

from duopose.evaluate.ground_truth import AnnotationSource, ImageIds, open_annotations
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.oks import OksScoring
from duopose.evaluate.results import Results
from duopose.skeletons import Skeleton


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
