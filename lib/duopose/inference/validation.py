"""Score a network on a split: predict (over all processes), gather, write the results file, evaluate, stamp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from torch import nn
from tqdm import tqdm
from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark, build_evaluator
from duopose.datasets import build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.distributed.context import DistributedContext
from duopose.evaluate.metrics import Metrics, write_metrics
from duopose.evaluate.results import write_results
from duopose.geometry import Affine
from duopose.inference.image_batches import TestImages
from duopose.inference.predict_dataset import predict_set
from duopose.inference.predictor import Predictor
from duopose.inference.preprocess import PreparedImage
from duopose.inference.protocol import protocol
from duopose.inference.timing import StageTimes
from duopose.skeletons import Skeleton
from duopose.types import ImageResult, Poses
from duopose.visualize.draw import draw_people

DRAWN_SIDE = (
    640  # pixels; images whose long side fits into it several times are enlarged for drawing
)


@dataclass(frozen=True)
class Validation:
    """What a validation gave; `metrics` is None on ranks other than the first."""

    metrics: Metrics | None
    milliseconds: dict[str, float]  # per image and stage, of this rank
    num_images: int
    folder: Path
    annotations: str  # the truth's file
    drawn: tuple[Path, ...] = ()

    @property
    def results_file(self) -> Path:
        """The people found, as the benchmark's server wants them."""
        return self.folder / "results.json"

    @property
    def metrics_file(self) -> Path:
        """The numbers and how they came about."""
        return self.folder / "metrics.json"


def validate(
    network: nn.Module,
    cfg: CfgNode,
    skeleton: Skeleton,
    context: DistributedContext,
    folder: Path,
    weights: str = "",
) -> Validation:
    """Predict DATASET.TEST with `network`, every image exactly once over all ranks, and score it on rank 0.

    folder: where rank 0 writes results.json, metrics.json and drawn images. The network is left in evaluation mode.
    """
    source = build_dataset(
        cfg, skeleton, build_benchmark(cfg).layout, cfg.DATASET.TEST, train=False
    )
    predictor = Predictor.from_config(cfg, network, skeleton, context.device)
    indices = range(context.rank, len(source), context.world)
    times, drawn = (
        StageTimes(),
        _Drawing(
            skeleton,
            folder / "images",
            frozenset(list(indices)[: cfg.DEBUG.SAVE_PREDICTIONS]),
            cfg.TEST.PERSON_THRESHOLD,
        ),
    )
    images = TestImages(
        source, predictor.rule, drawn.indices if context.is_main_process else frozenset()
    )
    show = cfg.TEST.LOG_PROGRESS and cfg.VERBOSE and context.is_main_process
    with tqdm(
        total=len(indices), desc=f"{cfg.DATASET.TEST}", unit="image", disable=None if show else True
    ) as bar:

        def on_image(image: PreparedImage, result: ImageResult) -> None:
            bar.update()
            drawn.draw(image, result)

        found = predict_set(
            predictor, images, indices, cfg.TEST.IMAGES_PER_GPU, cfg.WORKERS, times, on_image
        )
    everything = in_order(
        source, [result for share in context.all_gather_object(found) for result in share]
    )
    metrics = None
    if context.is_main_process:
        metrics = score(cfg, skeleton, source, everything, folder, weights)
    return Validation(
        metrics,
        times.milliseconds(len(indices)),
        len(source),
        folder,
        source.annotation_path,
        tuple(drawn.written),
    )


def in_order(source: CocoFormatDataset, results: Sequence[ImageResult]) -> list[ImageResult]:
    """The results in the data set's order, whoever made them; ValueError where an image is missing or there twice."""
    by_id = {result.image_id: result for result in results}
    if len(by_id) != len(results) or len(by_id) != len(source):
        raise ValueError(
            f"{len(results)} results for {len(by_id)} different images of {len(source)}; each must be there once"
        )
    return [by_id[image_id] for image_id in source.image_ids]


def score(
    cfg: CfgNode,
    skeleton: Skeleton,
    source: CocoFormatDataset,
    results: Sequence[ImageResult],
    folder: Path,
    weights: str,
) -> Metrics:
    """Write results.json, evaluate it and write metrics.json with the protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", results)
    metrics = build_evaluator(cfg, skeleton)(
        folder / "results.json", source.annotation_path, source.image_ids
    )
    write_metrics(folder / "metrics.json", metrics, protocol(cfg, weights, len(source)))
    return metrics


class _Drawing:
    """The first few images with the people of a score worth drawing, as PNG files; small images are enlarged first."""

    def __init__(
        self, skeleton: Skeleton, folder: Path, indices: frozenset[int], threshold: float
    ) -> None:
        self.skeleton, self.folder, self.indices, self.threshold = (
            skeleton,
            folder,
            indices,
            threshold,
        )
        self.written: list[Path] = []

    def draw(self, image: PreparedImage, result: ImageResult) -> None:
        if image.image is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{image.image_id}.png"
        factor = max(1, DRAWN_SIDE // max(image.width, image.height))
        larger = cv2.resize(image.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        drawn = draw_people(larger, _enlarged(result.poses, factor, self.threshold), self.skeleton)
        cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        self.written.append(path)


def _enlarged(poses: Poses, factor: int, threshold: float) -> Poses:
    """The people with a score from `threshold` on, in the frame of an image enlarged by `factor`."""
    worth = poses.scores >= threshold
    keypoints = Affine.resize(factor, factor).apply(poses.keypoints[worth])
    return Poses(keypoints, poses.scores[worth], poses.filled[worth])
