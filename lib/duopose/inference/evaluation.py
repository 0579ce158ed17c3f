"""An evaluation process from its start to its exit code: find weights, predict, score, tell. Every rank runs this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark, build_evaluator
from duopose.coco_annotations import read_annotation_file
from duopose.config import build_skeleton
from duopose.datasets.layout import find_annotations
from duopose.distributed.context import DistributedContext
from duopose.errors import UserError
from duopose.evaluate.metrics import Metrics, read_metrics, write_metrics
from duopose.evaluate.tables import comparison_table, metrics_table, times_table
from duopose.inference.protocol import git_commit, protocol
from duopose.inference.validation import Validation, validate
from duopose.network import build_network, load_weights
from duopose.run_folder import RunFolder
from duopose.runtime import configure_torch, seed_everything
from duopose.skeletons import Skeleton


@dataclass(frozen=True)
class EvaluationOptions:
    """What the command line says beside the settings."""

    config: str  # path of the yaml; names the run folder
    out: str = ""  # folder of the results; empty: the run folder's results/


def find_weights(cfg: CfgNode, run: RunFolder) -> Path:
    """TEST.MODEL_FILE, else the run's best weights, else its last. UserError naming the places looked at."""
    if cfg.TEST.MODEL_FILE:
        return Path(cfg.TEST.MODEL_FILE)
    for path in (run.model_best, run.model_final):
        if path.is_file():
            return path
    raise UserError(
        f"there are no weights to evaluate: neither {run.model_best} nor {run.model_final} exists; "
        "train first (tools/dist_train.py with the same --cfg), or name a file with TEST.MODEL_FILE PATH"
    )


def run_evaluation(context: DistributedContext, cfg: CfgNode, options: EvaluationOptions) -> int:
    """Predict and score DATASET.TEST; rank 0 prints the tables. UserError for what the user can mend."""
    configure_torch(cfg)
    seed_everything(cfg.SEED)
    run, skeleton = RunFolder.from_config(cfg, options.config), build_skeleton(cfg)
    folder = Path(options.out) if options.out else run.results
    weights = find_weights(cfg, run)
    network = build_network(cfg, skeleton)
    report = load_weights(network, weights, strict=True)
    if context.is_main_process:
        print(report)
    layout = torch.channels_last if cfg.MODEL.CHANNELS_LAST else torch.contiguous_format
    found = validate(network.to(memory_format=layout), cfg, skeleton, context, folder, str(weights))  # type: ignore[call-overload]
    if context.is_main_process:
        tell(cfg, skeleton, found)
    return 0


def tell(cfg: CfgNode, skeleton: Skeleton, found: Validation) -> None:
    """Print what was found and where it is."""
    assert found.metrics is not None
    print(metrics_table(found.metrics, f"{cfg.MODEL.NAME} {cfg.DATASET.TEST}"))
    if cfg.VERBOSE:
        print(
            f"\n{times_table(found.milliseconds)}\n(stages overlap: together they may take longer than the run)\n"
        )
    print(
        f"{found.num_images} images; results: {found.results_file}, numbers and protocol: {found.metrics_file}"
    )
    if not found.metrics.values:  # a split without public ground truth
        path = build_benchmark(cfg).write_submission(
            found.folder, found.results_file, found.annotations, skeleton, cfg.DATASET.TEST
        )
        print(f"to submit: {path}")
    if found.drawn:
        print(
            f"{len(found.drawn)} images with the people found: {found.drawn[0].parent} (e.g. {found.drawn[0]})"
        )


def score_file(cfg: CfgNode, results: Path, out: Path) -> Metrics:
    """Score an existing results file against DATASET.TEST's annotations, without network or images; numbers go to out/metrics.json.

    For a split without truth the file is checked and what the benchmark's server takes is written to `out`; a note says where.
    """
    skeleton = build_skeleton(cfg)
    data = cfg.DATASET
    benchmark = build_benchmark(cfg)
    annotations = find_annotations(
        Path(data.ROOT), benchmark.layout, data.TEST, data.TEST_ANNOTATIONS
    )
    image_ids = None
    if data.LIMIT:
        images = read_annotation_file(annotations).images
        image_ids = [image["id"] for image in images[: data.LIMIT]]
    metrics = build_evaluator(cfg, skeleton)(results, annotations, image_ids)
    out.mkdir(parents=True, exist_ok=True)
    if not metrics.values:  # a split without public ground truth
        path = benchmark.write_submission(out, results, annotations, skeleton, data.TEST)
        metrics = replace(metrics, notes=(*metrics.notes, f"to submit: {path}"))
    stamp = {
        key: protocol(cfg)[key]
        for key in ("benchmark", "skeleton", "evaluator", "duopose", "packages")
    }
    write_metrics(
        out / "metrics.json",
        metrics,
        stamp
        | {
            "results_file": str(results),
            "annotations": str(annotations),
            "git_commit": git_commit(),
        },
    )
    return metrics


def compare(first: Path, second: Path) -> str:
    """Two metrics files side by side, with what differs in how they came about."""
    return comparison_table(read_metrics(first), read_metrics(second), (str(first), str(second)))
