"""The perfect-network test: annotations -> ideal maps -> the project's merging and decoder -> the benchmark's metric."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import torch
from yacs.config import CfgNode

from duopose.benchmarks import build_evaluator
from duopose.config import build_skeleton
from duopose.decode import build_decoder, build_merger
from duopose.decode.build import build_layout
from duopose.evaluate.ground_truth import open_annotations
from duopose.evaluate.results import PERSON_CATEGORY, Entry
from duopose.inference.predictor import InputTransform
from duopose.inference.protocol import scales_and_flip
from duopose.oracle.annotated_images import Image, images_of
from duopose.oracle.ideal_maps import IdealNetwork
from duopose.oracle.noise import get_noise
from duopose.oracle.passes import ideal_passes
from duopose.oracle.scene import clean_scene
from duopose.types import ImageResult, Poses

IMAGES_AT_A_TIME = 8  # that a worker process takes
METRICS = ("AP", "AP50", "AP75", "AR")
Row = dict[str, Any]


@dataclass(frozen=True)
class OracleTest:
    """One configuration's perfect-network test."""

    cfg: CfgNode
    annotations: str
    limit: int = 0  # first images of the file; 0: all
    seed: int = 0  # of the noise
    workers: int = 1  # processes; the result does not depend on their number

    def rows(self, noises: Sequence[str]) -> Iterator[Row]:
        """A row of metrics a noise model; AP and the like as shares."""
        for noise in noises:
            get_noise(noise)  # a wrong name is told before the work
        skeleton = build_skeleton(self.cfg)
        images = images_of(open_annotations(self.annotations), skeleton, self.limit)
        evaluate = build_evaluator(self.cfg, skeleton)
        for noise in noises:
            results, seconds = self._decode(images, noise)
            metrics = evaluate(
                exact_entries(results), self.annotations, [image.image_id for image in images]
            )
            yield {
                "noise": noise,
                **{name: metrics.values.get(name) for name in METRICS},
                "people": sum(len(result.poses.scores) for result in results),
                "ms_per_image": 1000 * seconds / max(len(images), 1),
                "settings": self._settings(),
            }

    def _decode(self, images: Sequence[Image], noise: str) -> tuple[list[ImageResult], float]:
        bench = Bench(self.cfg, noise, self.seed)
        if self.workers < 2:
            found = [bench(image) for image in images]
        else:
            spawn = get_context(
                "spawn"
            )  # a fork of a process that has run torch's threads can hang
            with ProcessPoolExecutor(
                self.workers, mp_context=spawn, initializer=_one_thread
            ) as pool:
                found = list(pool.map(bench, images, chunksize=IMAGES_AT_A_TIME))
        return [result for result, _ in found], sum(seconds for _, seconds in found)

    def _settings(self) -> dict[str, Any]:
        scales, flip = scales_and_flip(self.cfg)
        return {
            "annotations": self.annotations,
            "limit": self.limit,
            "seed": self.seed,
            "model": self.cfg.MODEL.NAME,
            "reverse_offsets": self.cfg.MODEL.REVERSE_OFFSETS,
            "input_size": self.cfg.DATASET.INPUT_SIZE,
            "heatmap_centres": self.cfg.DATASET.HEATMAP_CENTRES,
            "scales": list(scales),
            "flip": flip,
            "TEST": {
                key: value
                for key, value in self.cfg.TEST.items()
                if key not in ("MODEL_FILE", "LOG_PROGRESS")
            },
        }


@dataclass(frozen=True)
class Bench:
    """Takes images through ideal maps, merging and decoding; picklable, so that worker processes can have it."""

    cfg: CfgNode
    noise: str
    seed: int

    def __call__(self, image: Image) -> tuple[ImageResult, float]:
        """The people found in one image, image frame, and the seconds that merging and decoding took.

        The noise depends on the seed and the image's id, not on which images came before.
        """
        cfg, skeleton = self.cfg, build_skeleton(self.cfg)
        scales, flip = scales_and_flip(cfg)
        rule = InputTransform(
            cfg.DATASET.INPUT_SIZE,
            scales,
            legacy_alignment=cfg.DATASET.HEATMAP_CENTRES == "rounded",
        )
        merged = rule.merged_frame(image.width, image.height)
        size = np.sqrt(image.area) * merged.affine.scale
        scene = clean_scene(merged.affine.apply(image.keypoints), size, build_layout(cfg, skeleton))
        generator = np.random.default_rng([self.seed, zlib.crc32(str(image.image_id).encode())])
        scene = get_noise(self.noise)(scene, (merged.width, merged.height), generator)
        passes = ideal_passes(
            scene,
            merged,
            rule.frames(image.width, image.height),
            ideal_network(cfg),
            skeleton,
            flip,
        )
        start = time.perf_counter()
        maps = build_merger(cfg, skeleton)(passes, merged)
        poses = build_decoder(cfg, skeleton).decode(maps)
        seconds = time.perf_counter() - start
        back = merged.affine.inverse().apply(poses.keypoints)
        keypoints = np.where(poses.keypoints[..., 2:] > 0, back, 0.0)
        return ImageResult(image.image_id, Poses(keypoints, poses.scores, poses.filled)), seconds


def ideal_network(cfg: CfgNode) -> IdealNetwork:
    """The perfect network of MODEL.NAME, as the targets of DATASET would teach it."""
    layout = build_layout(cfg, build_skeleton(cfg))
    embedding = layout.num_edges > 0
    return IdealNetwork(
        layout,
        sigma=cfg.DATASET.SIGMA,
        radius=cfg.DATASET.OFFSET_RADIUS,
        legacy_alignment=cfg.DATASET.HEATMAP_CENTRES == "rounded",
        offset_unit=cfg.MODEL.OFFSET_UNIT,
        with_centre=embedding,
        with_offsets=embedding,
    )


def exact_entries(results: Sequence[ImageResult]) -> list[Entry]:
    """Results for the evaluator with all their digits.

    On ideal maps people who share all their labelled joints (some are annotated twice) have equal OKS, and then thousandths of a pixel,
    to which a results file is rounded, decide who matches whom: 0.7 AP on the 581 COCO images, with the same people found.
    """
    return [
        {
            "image_id": result.image_id,
            "category_id": PERSON_CATEGORY,
            "keypoints": keypoints.reshape(-1).tolist(),
            "score": float(score),
        }
        for result in results
        for keypoints, score in zip(result.poses.keypoints, result.poses.scores)
    ]


def _one_thread() -> None:
    """Worker processes share the cores; more threads each would only get in each other's way."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
