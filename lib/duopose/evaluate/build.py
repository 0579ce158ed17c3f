"""The evaluator that the configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from yacs.config import CfgNode

from duopose.errors import UserError
from duopose.evaluate.coco import evaluate_coco
from duopose.evaluate.crowdpose import evaluate_crowdpose
from duopose.evaluate.ground_truth import has_truth
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.mpii import evaluate_mpii
from duopose.evaluate.results import Results
from duopose.skeletons import Skeleton


class Evaluator(Protocol):
    """Scores results (a file's path, `ImageResult`s or entries) against an annotation file.

    image_ids: the images scored, None: all of the file. A file without annotations, as COCO gives for test-dev, has no
    numbers and says so. UserError where results and annotations do not belong together, or something is missing.
    """

    def __call__(
        self,
        results: Results,
        annotations: str | Path,
        image_ids: Collection[int | str] | None = None,
    ) -> Metrics:
        """The numbers of the benchmark."""
        ...


def build_evaluator(cfg: CfgNode, skeleton: Skeleton) -> Evaluator:
    """The evaluator of DATASET.DATASET, with TEST.EVALUATOR and TEST.MPII_REGION."""
    benchmarks: dict[str, Callable[[Path, Results, Collection[int | str] | None], Metrics]] = {
        "coco": lambda path, results, ids: evaluate_coco(
            path, results, skeleton, ids, cfg.TEST.EVALUATOR
        ),
        "crowdpose": lambda path, results, ids: evaluate_crowdpose(
            path, results, skeleton, ids, cfg.TEST.EVALUATOR
        ),
        "mpii": lambda path, results, ids: evaluate_mpii(
            path, results, skeleton, ids, cfg.TEST.MPII_REGION
        ),
    }
    if cfg.DATASET.DATASET not in benchmarks:
        raise UserError(
            f"DATASET.DATASET '{cfg.DATASET.DATASET}' has no metric; use one of {', '.join(benchmarks)}"
        )
    score = benchmarks[cfg.DATASET.DATASET]

    def evaluate(
        results: Results, annotations: str | Path, image_ids: Collection[int | str] | None = None
    ) -> Metrics:
        if not has_truth(annotations):
            return Metrics(
                {},
                notes=(
                    f"'{annotations}' has no annotations, so there is nothing to measure here; submit the results",
                ),
            )
        return score(Path(annotations), results, image_ids)

    return evaluate
