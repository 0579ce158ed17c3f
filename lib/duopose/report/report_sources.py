"""What a report is about: results, their ground truth, protocol, images and training log.

A source is given as a run folder, as the folder of an evaluation (results.json, metrics.json), or
as a results file. What is not given is looked for in the settings of the run (config.yaml), then in
the protocol of metrics.json. Paths in settings are relative to the folder where the run was
started: the present one is tried first, then those that hold the run's folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from duopose.benchmarks import (
    BENCHMARKS,
    Benchmark,
    Evaluator,
    build_benchmark,
    build_evaluator,
)
from duopose.coco_annotations import AnnotationFile
from duopose.config import build_skeleton, load_config
from duopose.config.build import json_memory
from duopose.datasets.split_files import (
    FolderImages,
    ImageSource,
    ZipImages,
    find_annotations,
    find_images,
)
from duopose.errors import UserError
from duopose.evaluate.ground_truth import open_annotations
from duopose.evaluate.metrics import Metrics, MetricsRecord, read_metrics
from duopose.json_files import MAX_MEMORY
from duopose.skeletons import SKELETONS, Skeleton, get_skeleton

RESULTS = "results.json"
METRICS = "metrics.json"
CONFIG = "config.yaml"
# Below a given folder: itself; of a run, the evaluation of the best weights, else the last one
# during training.
RESULT_FOLDERS = ("", "results", "training", "results/training")
SCORING_SETTINGS = ("PCK", "MPII_REGION")  # of TEST
SPLIT = re.compile(r"(?:person_keypoints|crowdpose|mpii)_(.+)")


@dataclass(frozen=True)
class SourceOptions:
    """What the command line gives; empty: to be found."""

    annotations: str = ""
    images: str = ""
    skeleton: str = ""
    benchmark: str = ""
    max_memory: int | None = None  # bytes that a json file may need


@dataclass(frozen=True)
class Source:
    """One column of the report."""

    label: str
    results: Path
    annotations: AnnotationFile
    image_ids: list[int | str] | None  # None: all of the file
    skeleton: Skeleton
    benchmark: Benchmark
    evaluate: Evaluator  # of the benchmark, under the settings of the evaluation
    max_memory: int  # bytes that the results file may need
    images: ImageSource | None  # None where they were not found
    protocol: dict[str, Any]  # empty where nothing is known
    stated: Metrics | None  # those of metrics.json
    training_log: Path | None  # metrics.csv


def open_source(path: Path, options: SourceOptions) -> Source:
    """Find everything that belongs to a source; UserError with what is missing."""
    results, run = _find_results(path)
    cfg = load_config(run / CONFIG) if run else None
    record = _record_beside(results)
    benchmark = _find_benchmark(cfg, record, options, results)

    max_memory = options.max_memory or (json_memory(cfg) if cfg else MAX_MEMORY)
    file = _find_annotations(cfg, record, benchmark, options, results)
    annotations = open_annotations(file, max_memory)
    if benchmark is None:
        benchmark = _benchmark_of_annotations(annotations)
    skeleton = _find_skeleton(cfg, record, benchmark, options)
    log = run / "metrics.csv" if run else None
    return Source(
        label=_label(path),
        results=results,
        annotations=annotations,
        image_ids=_scored_ids(cfg, record, annotations),
        skeleton=skeleton,
        benchmark=benchmark,
        evaluate=build_evaluator(cfg or _scoring_settings(benchmark, record), skeleton),
        max_memory=max_memory,
        images=_find_images(cfg, record, benchmark, options, results, annotations.path),
        protocol=_protocol(record, results, annotations),
        stated=record.metrics if record else None,
        training_log=log if log and log.is_file() else None,
    )


def distinct_labels(paths: list[Path]) -> list[str]:
    """The shortest ends of the paths that differ from one another."""
    resolved = [Path(os.path.realpath(path)) for path in paths]  # also where links form a loop
    longest = max(len(path.parts) for path in resolved)
    for length in range(1, longest + 1):
        labels = ["/".join(path.parts[-length:]) for path in resolved]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{path.name} ({number})" for number, path in enumerate(resolved, start=1)]


def _label(path: Path) -> str:
    return Path(os.path.realpath(path)).name


def _find_results(path: Path) -> tuple[Path, Path | None]:
    """The results file, and the run folder that it belongs to."""
    if path.is_file():
        return path, _run_above(path.parent)
    if not path.is_dir():
        raise UserError(
            f"'{path}' does not exist; give a run folder, a folder with {RESULTS}, or a results "
            "file"
        )

    for folder in RESULT_FOLDERS:
        results = path / folder / RESULTS
        if results.is_file():
            return results, _run_above(results.parent)
    if (path / CONFIG).is_file():
        raise UserError(
            f"the run '{path}' has no {RESULTS} yet; it comes with the first validation, or run "
            "tools/valid.py with the run's --cfg"
        )
    raise UserError(f"'{path}' is neither a run folder nor the folder of a {RESULTS}")


def _run_above(folder: Path) -> Path | None:
    """The run folder that holds this folder of results, if there is one."""
    absolute = folder.absolute()
    candidates = [absolute]
    if absolute.name == "results":
        candidates.append(absolute.parent)
    if absolute.parent.name == "results":  # results/training
        candidates.append(absolute.parent.parent)
    for candidate in candidates:
        if (candidate / CONFIG).is_file():
            return candidate
    return None


def _record_beside(results: Path) -> MetricsRecord | None:
    """metrics.json beside a file that has the name results.json."""
    path = results.parent / METRICS
    return read_metrics(path) if results.name == RESULTS and path.is_file() else None


def _find_benchmark(
    cfg: CfgNode | None, record: MetricsRecord | None, options: SourceOptions, results: Path
) -> Benchmark | None:
    name = options.benchmark
    if not name and cfg is not None:
        return build_benchmark(cfg)
    if not name and record:
        name = str(record.protocol.get("benchmark", ""))
    if not name:
        return None
    if name not in BENCHMARKS:
        raise UserError(
            f"the benchmark '{name}' of '{results}' is unknown; give --benchmark "
            f"{' | '.join(BENCHMARKS)}"
        )
    return BENCHMARKS[name]


def _benchmark_of_annotations(file: AnnotationFile) -> Benchmark:
    """By the number of keypoints of the first annotated person; COCO where it is of none."""
    lengths = (len(a["keypoints"]) // 3 for a in file.annotations if a.get("keypoints"))
    number = next(lengths, 0)
    for benchmark in BENCHMARKS.values():
        if benchmark.skeleton.num_keypoints == number:
            return benchmark
    return BENCHMARKS["coco"]


def _scoring_settings(benchmark: Benchmark, record: MetricsRecord | None) -> CfgNode:
    """Defaults, with the settings of metrics.json that change the metrics."""
    words = ["DATASET.DATASET", benchmark.name]
    stated = record.protocol.get("test_settings") if record else None
    if isinstance(stated, dict):
        for name in SCORING_SETTINGS:
            if name in stated:
                words += [f"TEST.{name}", str(stated[name])]
    return load_config(None, words)


def _find_annotations(
    cfg: CfgNode | None,
    record: MetricsRecord | None,
    benchmark: Benchmark | None,
    options: SourceOptions,
    results: Path,
) -> Path:
    if options.annotations:
        return Path(options.annotations)
    stated = _stated_path(record, "annotations", results)
    if stated:
        return stated
    if cfg is None or benchmark is None:
        raise UserError(
            f"the ground truth of '{results}' is not known; give it with --annotations FILE"
        )

    data = cfg.DATASET
    for root in _roots(data.ROOT, results):
        try:
            return find_annotations(root, benchmark.layout, data.TEST, data.TEST_ANNOTATIONS)
        except UserError:
            continue
    raise UserError(
        f"the annotation file of split '{data.TEST}' of '{results}' was not found below "
        f"'{data.ROOT}' (DATASET.ROOT of the run); give it with --annotations FILE"
    )


def _find_skeleton(
    cfg: CfgNode | None,
    record: MetricsRecord | None,
    benchmark: Benchmark,
    options: SourceOptions,
) -> Skeleton:
    if options.skeleton:
        return get_skeleton(options.skeleton)
    if cfg is not None:
        return build_skeleton(cfg)
    name = str(record.protocol.get("skeleton", "")) if record else ""
    if name in SKELETONS or Path(name).is_file():
        return get_skeleton(name)
    return benchmark.skeleton


def _scored_ids(
    cfg: CfgNode | None, record: MetricsRecord | None, annotations: AnnotationFile
) -> list[int | str] | None:
    """The first images of the file where only those were evaluated (DATASET.LIMIT)."""
    limit = int(cfg.DATASET.LIMIT) if cfg is not None else 0
    if not limit and record:
        stated = record.protocol.get("images") or record.metrics.facts.get("images")
        limit = stated if isinstance(stated, int) else 0
    if not 0 < limit < len(annotations.images):
        return None
    return [image["id"] for image in annotations.images[:limit]]


def _find_images(
    cfg: CfgNode | None,
    record: MetricsRecord | None,
    benchmark: Benchmark,
    options: SourceOptions,
    results: Path,
    annotations: Path,
) -> ImageSource | None:
    if options.images:
        return _given_images(Path(options.images))
    stated = _stated_path(record, "images", results)
    if stated:
        return _given_images(stated)

    candidates: list[tuple[Path, str, str, str]] = []
    if cfg is not None:
        data = cfg.DATASET
        candidates += [
            (root, data.TEST, data.DATA_FORMAT, data.TEST_IMAGES)
            for root in _roots(data.ROOT, results)
        ]
    named = SPLIT.fullmatch(annotations.stem)
    if named:
        candidates += [(annotations.parent.parent, named[1], kind, "") for kind in ("jpg", "zip")]

    for root, split, kind, given in candidates:
        try:
            return find_images(root, benchmark.layout, split, kind, given)
        except UserError:
            continue
    return None


def _given_images(path: Path) -> ImageSource:
    if path.is_dir():
        return FolderImages(path)
    if path.is_file():
        return ZipImages(path)
    raise UserError(f"--images '{path}' is neither a folder nor a zip of images")


def _stated_path(record: MetricsRecord | None, key: str, results: Path) -> Path | None:
    """A path that the protocol states, if it exists; itself or in the record of the test data."""
    if record is None:
        return None
    data = record.protocol.get("test_data")
    stated = record.protocol.get(key) or (data.get(key) if isinstance(data, dict) else None)
    if not isinstance(stated, str):
        return None
    return next((path for path in _roots(stated, results) if path.exists()), None)


def _roots(root: str, results: Path) -> Iterator[Path]:
    """A path (DATASET.ROOT) from here, then from each folder above the results."""
    yield Path(root)
    for folder in results.absolute().parents:
        yield folder / root


def _protocol(
    record: MetricsRecord | None, results: Path, annotations: AnnotationFile
) -> dict[str, Any]:
    """The protocol of metrics.json with what was scored; else the files alone."""
    if record:
        return record.protocol | {"scored": record.metrics.facts}
    return {"results_file": str(results), "annotations": str(annotations.path)}
