"""The benchmarks: everything that differs between COCO, CrowdPose and MPII, in one record each.

To add a benchmark, write its evaluator (a function like `evaluate.coco.evaluate_coco`) and add a
record to `BENCHMARKS`. DATASET.DATASET is its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from yacs.config import CfgNode

from duopose.coco_annotations import RequiredField
from duopose.config.build import json_memory
from duopose.config.declaration import did_you_mean
from duopose.datasets.split_files import COCO_ANNOTATIONS, COCO_IMAGES, Layout
from duopose.errors import UserError
from duopose.evaluate.coco import evaluate_coco
from duopose.evaluate.crowdpose import evaluate_crowdpose
from duopose.evaluate.ground_truth import AnnotationSource, ImageIds, open_annotations
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.mpii import evaluate_mpii
from duopose.evaluate.pck import pck
from duopose.evaluate.results import Results, as_entries, read_entries
from duopose.evaluate.submission import (
    SubmissionWriter,
    write_coco_submission,
    write_crowdpose_submission,
    write_mpii_submission,
)
from duopose.evaluate.truth_checks import (
    check_crowdpose_truth,
    check_mpii_truth,
    check_oks_truth,
)
from duopose.skeletons import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's data, metrics and submission."""

    name: str  # value of DATASET.DATASET
    skeleton: Skeleton  # of its annotations
    layout: Layout  # of the files below DATASET.ROOT
    required: RequiredField
    # Called as evaluate(annotations, results, skeleton, image_ids, **options).
    evaluate: Callable[..., Metrics]
    write_submission: SubmissionWriter
    headline: str  # the metric by which models are compared
    # Called as check_truth(file, skeleton, image_ids), MPII's with `region`: see `truth_checks`.
    check_truth: Callable[..., None] = check_oks_truth
    # Argument of `evaluate` -> setting that gives its value.
    options: Mapping[str, str] = field(default_factory=dict)
    # Whether people with another skeleton can be scored, as with OKS.
    any_skeleton: bool = False


_OKS_OPTIONS = {"evaluator": "TEST.EVALUATOR"}

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="coco",
            skeleton=COCO,
            layout=Layout(
                COCO_ANNOTATIONS,
                COCO_IMAGES,
                "tools/make_sample_data.py FOLDER makes generated images for a trial",
            ),
            required=RequiredField("area", "OKS divides by it"),
            evaluate=evaluate_coco,
            write_submission=write_coco_submission,
            headline="AP",
            options=_OKS_OPTIONS,
            any_skeleton=True,
        ),
        Benchmark(
            name="crowdpose",
            skeleton=CROWDPOSE,
            layout=Layout(
                annotations=(
                    "json/crowdpose_{split}.json",
                    "annotations/crowdpose_{split}.json",
                    *COCO_ANNOTATIONS,
                ),
                images=(*COCO_IMAGES, "images"),
                made_by="tools/prepare_crowdpose.py makes trainval from train and val",
            ),
            required=RequiredField("bbox", "OKS divides by 0.53 of the box"),
            evaluate=evaluate_crowdpose,
            check_truth=check_crowdpose_truth,
            write_submission=write_crowdpose_submission,
            headline="AP",
            options=_OKS_OPTIONS,
        ),
        Benchmark(
            name="mpii",
            skeleton=MPII,
            layout=Layout(
                annotations=(
                    "annotations/mpii_{split}.json",
                    "annot/mpii_{split}.json",
                    *COCO_ANNOTATIONS,
                ),
                images=(*COCO_IMAGES, "images"),
                made_by="tools/prepare_mpii.py makes the annotations from MPII's .mat file",
            ),
            required=RequiredField(
                "head_box", "PCKh measures distances in head sizes", is_sometimes_missing=True
            ),
            evaluate=evaluate_mpii,
            check_truth=check_mpii_truth,
            write_submission=write_mpii_submission,
            headline="Total",
            options={"region": "TEST.MPII_REGION"},
        ),
    )
}


def build_benchmark(cfg: CfgNode) -> Benchmark:
    """The benchmark of DATASET.DATASET.

    UserError where there is none of that name, or DATASET.SKELETON is the skeleton of another
    benchmark, which this one cannot score.
    """
    name = cfg.DATASET.DATASET
    if name not in BENCHMARKS:
        raise UserError(
            f"DATASET.DATASET: '{name}' is not a benchmark; use one of {', '.join(BENCHMARKS)}"
            f"{did_you_mean(name, BENCHMARKS)}"
        )

    benchmark = BENCHMARKS[name]
    other_skeletons = set(SKELETONS).difference([benchmark.skeleton.name])
    if cfg.DATASET.SKELETON in other_skeletons and not benchmark.any_skeleton:
        raise UserError(
            f"DATASET.SKELETON: '{cfg.DATASET.SKELETON}' cannot be scored by the benchmark "
            f"DATASET.DATASET '{name}'"
        )
    return benchmark


class Evaluator(Protocol):
    """Scores results (the path of a file, `ImageResult`s or entries) against an annotation file.

    image_ids: the images to score, None: all of the file. A file without annotations, as of COCO
    test-dev, gives `Metrics` without values and with a note. UserError where results and
    annotations do not belong together, or something is missing.
    """

    def __call__(
        self, results: Results, annotations: AnnotationSource, image_ids: ImageIds | None = None
    ) -> Metrics:
        """The metrics of the benchmark."""
        ...


def build_evaluator(cfg: CfgNode, skeleton: Skeleton) -> Evaluator:
    """The evaluator of DATASET.DATASET, with the settings that its `options` name."""
    benchmark = build_benchmark(cfg)
    options = {argument: _setting(cfg, key) for argument, key in benchmark.options.items()}
    pck_threshold = float(cfg.TEST.PCK)
    max_memory = json_memory(cfg)

    def evaluate(
        results: Results, annotations: AnnotationSource, image_ids: ImageIds | None = None
    ) -> Metrics:
        file = open_annotations(annotations, max_memory)
        if not file.annotations:
            note = (
                f"'{file.path}' has no annotations, so there is nothing to measure; "
                "submit the results to the benchmark's server"
            )
            return Metrics({}, notes=(note,), headline=benchmark.headline)
        if isinstance(results, (str, Path)):
            results = read_entries(results, max_memory)
        elif pck_threshold:
            results = as_entries(results)  # read twice
        metrics = benchmark.evaluate(file, results, skeleton, image_ids, **options)
        if pck_threshold:
            value = pck(file, results, skeleton, pck_threshold, image_ids)
            metrics = metrics.with_value(f"PCK@{pck_threshold:g}", value)
        return metrics

    return evaluate


def check_truth(
    cfg: CfgNode, skeleton: Skeleton, annotations: str | Path, image_ids: ImageIds
) -> None:
    """UserError where the evaluator of DATASET.DATASET could not score these images.

    A file without annotations, as of COCO test-dev, is no mistake.
    """
    file = open_annotations(annotations, json_memory(cfg))
    if not file.annotations:
        return
    benchmark = build_benchmark(cfg)
    options = {argument: _setting(cfg, key) for argument, key in benchmark.options.items()}
    options.pop("evaluator", None)
    benchmark.check_truth(file, skeleton, image_ids, **options)


def _setting(cfg: CfgNode, key: str) -> str:
    """The text at a dotted key, e.g. "TEST.EVALUATOR"."""
    section, name = key.split(".")
    return str(cfg[section][name])
