"""Score a network on a split: predict (over all processes), gather, write the results file, evaluate, stamp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from torch import nn
from tqdm import tqdm
from yacs.config import CfgNode

from duopose.datasets import build_dataset
from duopose.datasets.coco_format import CocoFormatDataset
from duopose.engine.distributed import Place
from duopose.engine.inputs import PreparedPicture
from duopose.engine.pictures import TestPictures
from duopose.engine.predict import Predictor
from duopose.engine.predict_set import predict_set
from duopose.engine.protocol import protocol
from duopose.engine.timing import StageTimes
from duopose.evaluate import build_evaluator
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.metrics_file import write_metrics
from duopose.evaluate.results import write_results
from duopose.geometry import Affine
from duopose.skeletons import Skeleton
from duopose.types import ImageResult, Poses
from duopose.visualize.draw import draw_people

DRAWN_SIDE = 640  # pixels; pictures whose long side fits into it several times are enlarged for drawing


@dataclass(frozen=True)
class Validation:
    """What a validation gave; `metrics` is None on ranks other than the first."""

    metrics: Metrics | None
    milliseconds: dict[str, float]  # per picture and stage, of this rank
    num_pictures: int
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


def validate(network: nn.Module, cfg: CfgNode, skeleton: Skeleton, place: Place, folder: Path, weights: str = "") -> Validation:
    """Predict DATASET.TEST with `network`, every picture exactly once over all ranks, and score it on rank 0.

    folder: where rank 0 writes results.json, metrics.json and drawn pictures. The network is left in evaluation mode.
    """
    source = build_dataset(cfg, cfg.DATASET.TEST, train=False)
    predictor = Predictor.from_config(cfg, network, skeleton, place.device)
    indices = range(place.rank, len(source), place.world)
    times, drawn = (
        StageTimes(),
        _Drawing(skeleton, folder / "pictures", frozenset(list(indices)[: cfg.DEBUG.SAVE_PREDICTIONS]), cfg.TEST.PERSON_THRESHOLD),
    )
    pictures = TestPictures(source, predictor.rule, drawn.indices if place.first else frozenset())
    show = cfg.TEST.LOG_PROGRESS and cfg.VERBOSE and place.first
    with tqdm(total=len(indices), desc=f"{cfg.DATASET.TEST}", unit="picture", disable=None if show else True) as bar:

        def on_picture(picture: PreparedPicture, result: ImageResult) -> None:
            bar.update()
            drawn.draw(picture, result)

        found = predict_set(predictor, pictures, indices, cfg.TEST.IMAGES_PER_GPU, cfg.WORKERS, times, on_picture)
    everything = in_order(source, [result for share in place.gather(found) for result in share])
    metrics = None
    if place.first:
        metrics = score(cfg, skeleton, source, everything, folder, weights)
    return Validation(metrics, times.milliseconds(len(indices)), len(source), folder, source.annotation_path, tuple(drawn.written))


def in_order(source: CocoFormatDataset, results: Sequence[ImageResult]) -> list[ImageResult]:
    """The results in the data set's order, whoever made them; ValueError where a picture is missing or there twice."""
    by_id = {result.image_id: result for result in results}
    if len(by_id) != len(results) or len(by_id) != len(source):
        raise ValueError(f"{len(results)} results for {len(by_id)} different pictures of {len(source)}; each must be there once")
    return [by_id[image_id] for image_id in source.image_ids]


def score(
    cfg: CfgNode, skeleton: Skeleton, source: CocoFormatDataset, results: Sequence[ImageResult], folder: Path, weights: str
) -> Metrics:
    """Write results.json, evaluate it and write metrics.json with the protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", results)
    metrics = build_evaluator(cfg, skeleton)(folder / "results.json", source.annotation_path, source.image_ids)
    write_metrics(folder / "metrics.json", metrics, protocol(cfg, weights, len(source)))
    return metrics


class _Drawing:
    """The first few pictures with the people of a score worth drawing, as PNG files; small pictures are enlarged first."""

    def __init__(self, skeleton: Skeleton, folder: Path, indices: frozenset[int], threshold: float) -> None:
        self.skeleton, self.folder, self.indices, self.threshold = skeleton, folder, indices, threshold
        self.written: list[Path] = []

    def draw(self, picture: PreparedPicture, result: ImageResult) -> None:
        if picture.image is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{picture.image_id}.png"
        factor = max(1, DRAWN_SIDE // max(picture.width, picture.height))
        larger = cv2.resize(picture.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        drawn = draw_people(larger, _enlarged(result.poses, factor, self.threshold), self.skeleton)
        cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        self.written.append(path)


def _enlarged(poses: Poses, factor: int, threshold: float) -> Poses:
    """The people with a score from `threshold` on, in the frame of a picture enlarged by `factor`."""
    worth = poses.scores >= threshold
    keypoints = Affine.resize(factor, factor).apply(poses.keypoints[worth])
    return Poses(keypoints, poses.scores[worth], poses.filled[worth])
