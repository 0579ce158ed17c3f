"""Score a network on a split of a data set, or score a results file.

Every rank predicts its part of the images; rank 0 gathers the people, writes results.json, runs the
benchmark's evaluator and writes metrics.json with the protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm
from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark, build_evaluator, check_truth
from duopose.config import build_skeleton
from duopose.config.build import json_memory
from duopose.datasets import build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.split_files import find_annotations
from duopose.distributed.context import DistributedContext
from duopose.errors import NotFiniteError, counted
from duopose.evaluate.ground_truth import open_annotations
from duopose.evaluate.metrics import Metrics, write_metrics
from duopose.evaluate.results import check_results_file, write_results
from duopose.files import sha256_of_file
from duopose.inference.drawing import DrawnImages
from duopose.inference.model import Model
from duopose.inference.predict_dataset import InputImages, SkippedImage, predict_dataset
from duopose.inference.predictor import Predictor, StageTimes
from duopose.inference.protocol import data_record, protocol, scoring_protocol
from duopose.inference.unfinished import UnfinishedFile, key_of, take_over
from duopose.inference.unfinished import remove as remove_unfinished
from duopose.runtime import configure_torch, seed_everything
from duopose.skeletons import Skeleton
from duopose.types import ImageResult

MAX_NAMED = 10  # skipped images in the log
SKIPPED_KEY = "skipped_images"  # of the protocol
logger = logging.getLogger("duopose")


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate_split`."""

    metrics: Metrics | None  # None on ranks other than 0
    milliseconds: dict[str, float]  # per image and stage, of this rank
    num_images: int
    folder: Path
    annotations: str  # path of the ground truth
    drawn: tuple[Path, ...] = ()  # images with the people found
    submission: Path | None = None  # the server's file, for a split without ground truth

    @property
    def results_file(self) -> Path:
        """The people found, in COCO's results format."""
        return self.folder / "results.json"

    @property
    def metrics_file(self) -> Path:
        """The numbers with their protocol."""
        return self.folder / "metrics.json"


def run_evaluation(
    context: DistributedContext, cfg: CfgNode, skeleton: Skeleton, weights: Path, folder: Path
) -> Evaluation:
    """Evaluate a weight file on DATASET.TEST; every rank calls it. Results go to `folder`.

    Raises UserError for mistakes in settings, data or weights.
    """
    configure_torch(cfg)
    seed_everything(cfg.SEED)
    model = Model.from_config(cfg, skeleton, weights, context.device)
    if context.is_main_process:
        logger.info("%s", model.load_report)
        notice = check_test_split(cfg, skeleton)
        if notice:
            logger.warning("notice: %s", notice)

    evaluation = evaluate_split(
        model.predictor, cfg, skeleton, context, folder, str(weights), goes_on=True
    )
    metrics = evaluation.metrics
    if metrics is None or metrics.values:
        return evaluation

    # A split without public ground truth: rank 0 writes what the benchmark's server takes.
    submission = build_benchmark(cfg).write_submission(
        folder,
        evaluation.results_file,
        evaluation.annotations,
        skeleton,
        cfg.DATASET.TEST,
        max_memory=json_memory(cfg),
    )
    return replace(evaluation, submission=submission)


def check_test_split(cfg: CfgNode, skeleton: Skeleton) -> str:
    """Everything that an evaluation of DATASET.TEST needs, apart from the content of the images.

    UserError where annotations cannot be used or scored, or images are missing. Returns a notice
    about the annotations, '' where there is none.
    """
    layout = build_benchmark(cfg).layout
    dataset = build_dataset(cfg, skeleton, layout, cfg.DATASET.TEST, train=False)
    missing = dataset.check_files()
    check_truth(cfg, skeleton, dataset.annotation_path, dataset.image_ids)
    return "; ".join(notice for notice in (dataset.notice, missing) if notice)


def evaluate_split(
    predictor: Predictor,
    cfg: CfgNode,
    skeleton: Skeleton,
    context: DistributedContext,
    folder: Path,
    weights: str = "",
    goes_on: bool = False,
) -> Evaluation:
    """Predict DATASET.TEST, every image once over all ranks, and score it on rank 0.

    folder: where rank 0 writes results.json, metrics.json and drawn images.
    weights: path of the weight file, for the protocol.
    goes_on: keep finished images in `folder` until the end, and begin with those of an evaluation
    that was interrupted.
    Raises NotFiniteError on all ranks where the outputs for an image are not finite.
    """
    layout = build_benchmark(cfg).layout
    dataset = build_dataset(cfg, skeleton, layout, cfg.DATASET.TEST, train=False)
    times = StageTimes()
    record: dict[str, Any] = {}
    if context.is_main_process:
        record = protocol(cfg, weights, len(dataset), skeleton, predictor.network)
        record |= {"test_data": data_record(cfg, train=False)}

    images = InputImages(dataset, predictor.transform)
    if goes_on:
        results = _go_on(predictor, images, cfg, context, times, record, folder)
    else:
        own_results = _predict_own_images(predictor, images, cfg, context, times)
        results = gather_results(own_results, context)
    results = in_dataset_order(dataset, results)
    skipped = [image for part in context.all_gather_object(images.skipped) for image in part]
    metrics: Metrics | None = None
    drawn: tuple[Path, ...] = ()
    if context.is_main_process:
        record |= _record_of_skipped(skipped)
        metrics = _write_and_score(cfg, skeleton, dataset, results, folder, record)
        drawn = _drawn_images(cfg).draw(dataset, results, folder / "images")
        remove_unfinished(folder)

    return Evaluation(
        metrics=metrics,
        milliseconds=times.milliseconds(times.num_images),
        num_images=len(dataset),
        folder=folder,
        annotations=dataset.annotation_path,
        drawn=drawn,
    )


def _go_on(
    predictor: Predictor,
    images: InputImages,
    cfg: CfgNode,
    context: DistributedContext,
    times: StageTimes,
    record: dict[str, Any],
    folder: Path,
) -> list[ImageResult]:
    """The results of all images: those that an interrupted evaluation has finished, and the rest.

    Each finished image is kept in a file at once, so that the next evaluation can go on from it.
    """
    key, finished = context.broadcast_object(_finished_images(record, folder, context))
    skipped = {result.image_id for result in finished}
    is_on_first_machine = context.rank < context.local_world_size  # where the folder is
    with (
        UnfinishedFile(folder, key, context.rank) if is_on_first_machine else nullcontext() as file
    ):
        keep = None if file is None else file.append
        own = _predict_own_images(predictor, images, cfg, context, times, skipped, keep)
        return [*finished, *gather_results(own, context)]


def _finished_images(
    record: dict[str, Any], folder: Path, context: DistributedContext
) -> tuple[str, list[ImageResult]] | None:
    """Rank 0: the key of this evaluation, and the images that an interrupted one has finished."""
    if not context.is_main_process:
        return None
    key = key_of(record)
    finished = take_over(folder, key)
    if finished:
        logger.info(
            "going on from the %d finished images of an interrupted evaluation in %s",
            len(finished),
            folder,
        )
    return key, finished


def gather_results(
    own: list[ImageResult] | NotFiniteError, context: DistributedContext
) -> list[ImageResult]:
    """The results of all ranks, on all ranks; raises the error of any of them on all."""
    results: list[ImageResult] = []
    for part in context.all_gather_object(own):
        if isinstance(part, NotFiniteError):
            raise part
        results += part
    return results


def _record_of_skipped(skipped: Sequence[SkippedImage]) -> dict[str, int]:
    """Warn of images that could not be used; their number for the protocol, where there are any."""
    for image in skipped[:MAX_NAMED]:
        logger.warning("skipped: %s", image.reason)
    if not skipped:
        return {}
    logger.warning(
        "%s could not be used and counted as without people found (DATASET.ON_BAD_SAMPLE skip)",
        counted(len(skipped), "image"),
    )
    return {SKIPPED_KEY: len(skipped)}


def _predict_own_images(
    predictor: Predictor,
    images: InputImages,
    cfg: CfgNode,
    context: DistributedContext,
    times: StageTimes,
    skipped: Collection[int | str] = (),
    keep: Callable[[ImageResult], None] | None = None,
) -> list[ImageResult] | NotFiniteError:
    """The people of this rank's images: every world_size-th one, from its rank on.

    skipped: ids of images that are not predicted. keep: called with each result.
    Rank 0 shows the progress. An error about one image is returned: the other ranks wait for the
    results of this one.
    """
    ids = images.source.image_ids
    left = [index for index, image_id in enumerate(ids) if image_id not in skipped]
    indices = left[context.rank :: context.world_size]

    show_progress = cfg.TEST.LOG_PROGRESS and cfg.VERBOSE and context.is_main_process
    with tqdm(
        total=len(indices),
        desc=cfg.DATASET.TEST,
        unit="image",
        disable=None if show_progress else True,  # None: only on a terminal
    ) as bar:

        def on_image(result: ImageResult) -> None:
            bar.update()
            times.num_images += 1
            if keep is not None:
                keep(result)

        batch_size = cfg.TEST.IMAGES_PER_GPU
        workers = cfg.WORKERS
        try:
            return predict_dataset(
                predictor,
                images,
                indices,
                batch_size,
                workers,
                times,
                on_image,
                cfg.DATA_TIMEOUT,
            )
        except NotFiniteError as error:
            return error


def _drawn_images(cfg: CfgNode) -> DrawnImages:
    return DrawnImages(
        number=cfg.DEBUG.SAVE_PREDICTIONS,
        choice=cfg.DEBUG.DRAW,
        threshold=cfg.TEST.PERSON_THRESHOLD,
        seed=cfg.SEED,
    )


def in_dataset_order(
    dataset: CocoFormatDataset, results: Sequence[ImageResult]
) -> list[ImageResult]:
    """The results of all ranks in the data set's order.

    Raises ValueError if an image is missing or appears twice.
    """
    by_id = {result.image_id: result for result in results}
    if len(by_id) != len(results) or len(by_id) != len(dataset):
        raise ValueError(
            f"{len(results)} results for {len(by_id)} different images of {len(dataset)}; "
            "each must appear once"
        )
    return [by_id[image_id] for image_id in dataset.image_ids]


def score_file(cfg: CfgNode, results: Path, metrics_file: Path) -> Metrics:
    """Score an existing results file against DATASET.TEST's annotations, without a network.

    For a split without ground truth the file is checked and the benchmark server's file is written
    beside `metrics_file`; a note of the metrics names it.
    """
    check_results_file(results)
    skeleton = build_skeleton(cfg)
    data = cfg.DATASET
    benchmark = build_benchmark(cfg)
    annotations = find_annotations(
        Path(data.ROOT), benchmark.layout, data.TEST, data.TEST_ANNOTATIONS
    )
    image_ids = None
    if data.LIMIT:
        records = open_annotations(annotations, json_memory(cfg)).images
        image_ids = [record["id"] for record in records[: data.LIMIT]]
    metrics = build_evaluator(cfg, skeleton)(results, annotations, image_ids)

    out = metrics_file.parent
    out.mkdir(parents=True, exist_ok=True)
    if not metrics.values:  # a split without public ground truth
        path = benchmark.write_submission(
            out, results, annotations, skeleton, data.TEST, max_memory=json_memory(cfg)
        )
        metrics = replace(metrics, notes=(*metrics.notes, f"to submit: {path}"))
    write_metrics(metrics_file, metrics, scoring_protocol(cfg, skeleton, results, annotations))
    return metrics


def _write_and_score(
    cfg: CfgNode,
    skeleton: Skeleton,
    dataset: CocoFormatDataset,
    results: Sequence[ImageResult],
    folder: Path,
    record: dict[str, Any],
) -> Metrics:
    """Write results.json, evaluate it and write metrics.json with the protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    results_file = folder / "results.json"
    write_results(results_file, results, with_sigma=True)

    evaluate = build_evaluator(cfg, skeleton)
    metrics = evaluate(results_file, dataset.annotation_path, dataset.image_ids)
    record |= {"results_sha256": sha256_of_file(results_file)}
    if SKIPPED_KEY in record:
        note = f"{counted(record[SKIPPED_KEY], 'image')} could not be used, see the warnings"
        metrics = replace(metrics, notes=(*metrics.notes, note))
    write_metrics(folder / "metrics.json", metrics, record)
    return metrics
