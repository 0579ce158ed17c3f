"""Calibrate a model file: collect on part of the training split, fit, measure, write.

The images are spread evenly over the split. Some of them, spread evenly too, are held out for the
comparison of the decoder with and without the calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark, build_evaluator
from duopose.calibration.calibrate import (
    DecodedPeople,
    calibrate,
    decode_image,
    decode_people,
    with_calibration,
)
from duopose.calibration.collect import ImagePeaks, collect_peaks, to_image_frame
from duopose.calibration.fit import limb_pairs, relative_limb_lengths
from duopose.datasets import build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.decode.calibration import Calibration, person_sizes
from duopose.decode.decoder import Decoder
from duopose.decode.people import NONE
from duopose.errors import UserError
from duopose.evaluate.metrics import format_table
from duopose.evaluate.results import to_entries
from duopose.inference.model import Model
from duopose.network import read_model_file, save_model
from duopose.network.exported_file import is_exported
from duopose.skeletons import Skeleton

MIN_PEAKS = 200  # matched peaks; with fewer, the fits would follow single peaks
SCORE_BINS = 10  # of the expected calibration error
METRICS = ("AP", "AP50", "AP75", "AR")


@dataclass(frozen=True)
class Comparison:
    """One decoder on the held-out images."""

    name: str
    values: dict[str, float | None]  # metrics of the benchmark
    score_error: float  # expected calibration error of the scores of people
    long_limbs: float  # fraction of limbs longer than the truth's 99.9th percentile
    people: DecodedPeople


@dataclass(frozen=True)
class CalibrationRun:
    """Result of `run_calibration`."""

    calibration: Calibration
    images: list[ImagePeaks]  # that it was fitted on
    decoder: Decoder  # without it
    before: Comparison
    after: Comparison
    num_held_out: int  # images of the comparison

    def table(self) -> str:
        """Before and after, on the held-out images."""
        return comparison_table([self.before, self.after])


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """A row per decoder."""
    rows = []
    for one in comparisons:
        metrics = [_three_digits(one.values.get(name)) for name in METRICS]
        errors = [_three_digits(one.score_error), f"{100 * one.long_limbs:.2f} %"]
        rows.append([one.name, *metrics, *errors])
    return format_table(["decoder", *METRICS, "score error", "long limbs"], rows)


def calibrate_file(
    path: Path,
    cfg: CfgNode,
    skeleton: Skeleton,
    device: torch.device,
    num_images: int,
    num_held_out: int,
) -> CalibrationRun:
    """Calibrate a model file of Duopose and write the values into it, atomically.

    num_images: to fit. num_held_out: to compare. Fewer in proportion where the split is small.
    UserError where the training split is missing or has too few people that the network finds.
    """
    if is_exported(path):
        raise UserError(
            f"{path} is an exported file; calibrate its .pth file and export that again"
        )
    file = read_model_file(path)
    dataset = training_images(cfg, skeleton)
    without = cfg.clone()
    without.defrost()
    without.TEST.CALIBRATION = "off"
    model = Model.from_config(without, skeleton, path, device)

    run = run_calibration(model, dataset, num_images, num_held_out)
    extra = {**file.extra, "calibration": run.calibration.to_dict()}
    save_model(path, file.state_dict, file.config, file.skeleton, extra)
    return run


def training_images(cfg: CfgNode, skeleton: Skeleton) -> CocoFormatDataset:
    """DATASET.TRAIN without augmentation."""
    layout = build_benchmark(cfg).layout
    dataset = build_dataset(cfg, skeleton, layout, cfg.DATASET.TRAIN, train=True)
    return replace(dataset, augmentation=None)


def run_calibration(
    model: Model,
    dataset: CocoFormatDataset,
    num_images: int,
    num_held_out: int,
    on_image: Callable[[], None] = lambda: None,
) -> CalibrationRun:
    """Fit on num_images images, compare on num_held_out others."""
    indices = _spread(len(dataset), num_images + num_held_out)
    images = collect_peaks(model.predictor, dataset, indices, on_image)
    held_out_fraction = num_held_out / (num_images + num_held_out)
    held_out_rows = set(_spread(len(images), int(held_out_fraction * len(images))))
    fitted = [image for row, image in enumerate(images) if row not in held_out_rows]
    held_out = [image for row, image in enumerate(images) if row in held_out_rows]

    matched = sum(int((image.owner != NONE).sum()) for image in fitted)
    if matched < MIN_PEAKS:
        raise UserError(
            f"{len(fitted)} images of {dataset.annotation_path} have {matched} peaks at annotated "
            f"joints; calibration needs {MIN_PEAKS}: use more images or train longer"
        )
    decoder = model.predictor.decoder
    calibration = calibrate(decoder, fitted)
    before, after = compare_decoders(decoder, calibration, held_out, dataset, model.cfg)
    return CalibrationRun(calibration, fitted, decoder, before, after, len(held_out))


def compare_decoders(
    decoder: Decoder,
    calibration: Calibration,
    images: Sequence[ImagePeaks],
    dataset: CocoFormatDataset,
    cfg: CfgNode,
) -> tuple[Comparison, Comparison]:
    """The decoder, built without calibration, before and with it, on the same images."""
    before = compare("default", decoder, calibration, images, dataset, cfg)
    calibrated = with_calibration(decoder, calibration)
    after = compare("calibrated", calibrated, calibration, images, dataset, cfg)
    return before, after


def compare(
    name: str,
    decoder: Decoder,
    calibration: Calibration,
    images: Sequence[ImagePeaks],
    dataset: CocoFormatDataset,
    cfg: CfgNode,
) -> Comparison:
    """Measure one decoder; calibration: for the sizes of people, by which limbs are measured."""
    people = decode_people(decoder, images)
    values: dict[str, float | None] = {}
    if images:
        results = [to_image_frame(decode_image(decoder, image), image) for image in images]
        ids = [image.image_id for image in images]
        evaluate = build_evaluator(cfg, decoder.skeleton)
        values = evaluate(to_entries(results), dataset.annotation_path, ids).values

    error = expected_calibration_error(people.score, people.oks)
    limbs = long_limbs(decoder, calibration, images, cfg.TEST.PERSON_THRESHOLD)
    return Comparison(name, values, error, limbs, people)


def expected_calibration_error(score: np.ndarray, oks: np.ndarray) -> float:
    """Mean over SCORE_BINS of |mean score - mean OKS|, weighted by people; both (P,)."""
    bins = np.clip((SCORE_BINS * score).astype(int), 0, SCORE_BINS - 1)
    total = 0.0
    for index in np.unique(bins):
        chosen = bins == index
        total += abs(score[chosen].mean() - oks[chosen].mean()) * chosen.mean()
    return float(total)


def long_limbs(
    decoder: Decoder, calibration: Calibration, images: Sequence[ImagePeaks], min_score: float
) -> float:
    """Fraction of limbs longer than the truth's 99.9th percentile, among people of that score.

    Lengths are in person sizes of `decode.calibration.person_sizes`; the percentiles are of the
    annotated people of the same images.
    """
    distance = np.array(calibration.joint_distance)
    pairs = limb_pairs(decoder.skeleton)
    if not pairs or not images:
        return 0.0
    true_lengths = relative_limb_lengths([image.truth for image in images], pairs, distance)
    known = ~np.isnan(true_lengths).all(axis=0)
    limit = np.full(len(pairs), np.inf)
    limit[known] = np.nanquantile(true_lengths[:, known], 0.999, axis=0)

    first, second = np.array(pairs).T
    num_limbs = 0
    num_long = 0
    for image in images:
        poses = decode_image(decoder, image)
        keypoints = poses.keypoints[poses.scores >= min_score]
        position = keypoints[..., :2]
        found = keypoints[..., 2] > 0
        weight = found / np.maximum(found.sum(axis=1, keepdims=True), 1)
        centre = (weight[..., None] * position).sum(axis=1)
        size = person_sizes(position, found, centre, distance)

        both = found[:, first] & found[:, second] & ~np.isnan(size)[:, None]
        length = np.linalg.norm(position[:, first] - position[:, second], axis=2)
        num_limbs += int(both.sum())
        num_long += int((both & (length > limit * size[:, None])).sum())
    return num_long / max(num_limbs, 1)


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(int)).tolist()


def _three_digits(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
