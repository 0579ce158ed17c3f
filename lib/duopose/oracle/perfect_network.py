"""The perfect-network test: annotations -> ideal maps -> merging and decoder -> benchmark metric.

It bounds from above what the representation and the decoder can reach. With a noise model it
shows how the decoder handles one kind of error.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import torch
from yacs.config import CfgNode

from duopose.benchmarks import build_evaluator
from duopose.config import build_skeleton, offset_strides
from duopose.config.build import json_memory
from duopose.decode import Pass, build_decoder, build_merger
from duopose.decode.build import build_layout
from duopose.evaluate.ground_truth import open_annotations
from duopose.evaluate.results import PERSON_CATEGORY, Entry
from duopose.geometry import InputFrame
from duopose.inference.predictor import InputTransform
from duopose.inference.protocol import scales_and_flip
from duopose.oracle.annotated_images import AnnotatedImage, annotated_images
from duopose.oracle.ideal_maps import IdealNetwork, ideal_passes
from duopose.oracle.noise import get_noise_model
from duopose.oracle.simulated_people import ideal_people
from duopose.skeletons import Skeleton
from duopose.types import ImageResult, Poses

IMAGES_PER_TASK = 8  # that a worker process takes at once; fewer cost more messages
METRICS = ("AP", "AP50", "AP75", "AR")
SETTINGS_LEFT_OUT = ("MODEL_FILE", "LOG_PROGRESS")  # of TEST: they do not change the result
Row = dict[str, Any]  # METRICS, "noise", "people", "ms_per_image", "settings"


@dataclass(frozen=True)
class PerfectNetworkTest:
    """The test of one configuration."""

    cfg: CfgNode
    annotations: str  # path of a COCO-format file
    limit: int = 0  # first images of the file; 0: all
    seed: int = 0  # of the noise
    workers: int = 1  # processes; the result does not depend on their number

    def rows(self, noise_names: Sequence[str]) -> Iterator[Row]:
        """One row for each noise model; metrics from 0 to 1.

        UserError before the work starts, where a name is not in `NOISE_MODELS`.
        """
        for name in noise_names:
            get_noise_model(name)
        skeleton = build_skeleton(self.cfg)
        file = open_annotations(self.annotations, json_memory(self.cfg))
        images = annotated_images(file, skeleton, self.limit)
        image_ids = [image.image_id for image in images]
        evaluate = build_evaluator(self.cfg, skeleton)

        for name in noise_names:
            results, seconds = self._decode_images(images, name)
            metrics = evaluate(exact_entries(results), self.annotations, image_ids)
            row: Row = {"noise": name}
            row |= {metric: metrics.values.get(metric) for metric in METRICS}
            row["people"] = sum(len(result.poses.scores) for result in results)
            row["ms_per_image"] = 1000 * seconds / max(len(images), 1)
            row["settings"] = self._settings()
            yield row

    def _decode_images(
        self, images: Sequence[AnnotatedImage], noise_name: str
    ) -> tuple[list[ImageResult], float]:
        """The results, and the seconds of all merging and decoding."""
        decode = partial(
            decode_simulated_image, cfg=self.cfg, noise_name=noise_name, seed=self.seed
        )
        if self.workers < 2:
            decoded = [decode(image) for image in images]
        else:
            # A fork of a process that has used torch's threads can hang.
            spawn = get_context("spawn")
            with ProcessPoolExecutor(self.workers, spawn, _use_one_thread) as pool:
                decoded = list(pool.map(decode, images, chunksize=IMAGES_PER_TASK))

        results = [result for result, _ in decoded]
        return results, sum(seconds for _, seconds in decoded)

    def _settings(self) -> dict[str, Any]:
        """What the row depends on, for the json file."""
        cfg = self.cfg
        scales, flip = scales_and_flip(cfg)
        test = {key: value for key, value in cfg.TEST.items() if key not in SETTINGS_LEFT_OUT}
        return {
            "annotations": self.annotations,
            "limit": self.limit,
            "seed": self.seed,
            "model": cfg.MODEL.NAME,
            "offset_strides": list(offset_strides(cfg)),
            "reverse_offsets": cfg.MODEL.REVERSE_OFFSETS,
            "input_size": cfg.DATASET.INPUT_SIZE,
            "heatmap_centres": cfg.DATASET.HEATMAP_CENTRES,
            "scales": list(scales),
            "flip": flip,
            "TEST": test,
        }


def decode_simulated_image(
    image: AnnotatedImage, cfg: CfgNode, noise_name: str, seed: int
) -> tuple[ImageResult, float]:
    """The people found in one image, image frame, and the seconds of merging and decoding.

    The noise depends on the seed and on the image's id, not on the images before.
    """
    skeleton = build_skeleton(cfg)
    passes, merged = _simulate_passes(image, cfg, skeleton, noise_name, seed)
    merge = build_merger(cfg, skeleton)
    decoder = build_decoder(cfg, skeleton)

    start = time.perf_counter()
    poses = decoder.decode(merge(passes, merged))
    seconds = time.perf_counter() - start

    in_image = merged.affine.inverse().apply(poses.keypoints)
    is_found = poses.keypoints[..., 2:] > 0
    keypoints = np.where(is_found, in_image, 0.0)
    return ImageResult(image.image_id, Poses(keypoints, poses.scores, poses.filled)), seconds


def _simulate_passes(
    image: AnnotatedImage, cfg: CfgNode, skeleton: Skeleton, noise_name: str, seed: int
) -> tuple[list[Pass], InputFrame]:
    """The passes of a network with that noise, and the merged input frame."""
    scales, flip = scales_and_flip(cfg)
    network = build_ideal_network(cfg, skeleton)
    transform = InputTransform(cfg.DATASET.INPUT_SIZE, scales, network.legacy_alignment)
    frames = transform.frames(image.width, image.height)
    merged = transform.merged_frame(image.width, image.height)

    keypoints = merged.affine.apply(image.keypoints)
    person_size = np.sqrt(image.area) * merged.affine.scale
    people = ideal_people(keypoints, person_size, network.layout)

    id_number = zlib.crc32(str(image.image_id).encode())
    generator = np.random.default_rng([seed, id_number])
    add_noise = get_noise_model(noise_name)
    people = add_noise(people, (merged.width, merged.height), generator)
    return ideal_passes(people, merged, frames, network, skeleton, flip), merged


def build_ideal_network(cfg: CfgNode, skeleton: Skeleton) -> IdealNetwork:
    """The perfect network of MODEL.NAME, for the targets that DATASET describes."""
    layout = build_layout(cfg, skeleton)
    is_double_embedding = layout.num_edges > 0
    return IdealNetwork(
        layout,
        sigma=cfg.DATASET.SIGMA,
        radius=cfg.DATASET.OFFSET_RADIUS,
        legacy_alignment=cfg.DATASET.HEATMAP_CENTRES == "rounded",
        offset_unit=cfg.MODEL.OFFSET_UNIT,
        with_centre=is_double_embedding,
        offset_strides=offset_strides(cfg),
    )


def exact_entries(results: Sequence[ImageResult]) -> list[Entry]:
    """Entries for an evaluator with all digits; `to_entries` rounds.

    On ideal maps the digits matter. Some people are annotated twice, with the same keypoints, and
    have equal OKS; then thousandths of a pixel decide the matching. Rounding changed the AP of the
    581 COCO images by 0.7, with the same people found.
    """
    entries = []
    for result in results:
        poses = result.poses
        for keypoints, score in zip(poses.keypoints, poses.scores, strict=True):
            entry = {
                "image_id": result.image_id,
                "category_id": PERSON_CATEGORY,
                "keypoints": keypoints.reshape(-1).tolist(),
                "score": float(score),
            }
            entries.append(entry)
    return entries


def _use_one_thread() -> None:
    """Worker processes share the cores, so more threads each would only compete."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
