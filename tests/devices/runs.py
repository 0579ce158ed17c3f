"""Training steps and images of a tiny network on the pretended device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tests.devices.pretended_cuda import DEVICE
from torch.utils.data._utils.pin_memory import pin_memory
from yacs.config import CfgNode

from duopose.config import load_config
from duopose.distributed.context import DistributedContext
from duopose.inference.predictor import Predictor, PreparedImage, prepare_image
from duopose.network import build_network
from duopose.profiling.gpu_stage import build_training
from duopose.skeletons import COCO
from duopose.training.loop import train_step
from duopose.training.setup import TrainingRun
from duopose.training.train_loader import move_to_device
from duopose.types import Batch, Sample

SIZE = 64
TINY = (
    "MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 8,
    "MODEL.DECONV_BLOCKS", 1, "MODEL.HEAD_BLOCKS", 1, "MODEL.INIT_WEIGHTS", False,
    "DATASET.INPUT_SIZE", SIZE, "TRAIN.IMAGES_PER_GPU", 2, "WORKERS", 0, "VERBOSE", False,
    "TEST.DETECTION_THRESHOLD", 0.2,
)  # fmt: skip


def tiny_config(*settings: object) -> CfgNode:
    return load_config(None, [*TINY, *settings])


class NoisyPeople:
    """Images of noise; some of the people have joints outside the image or unlabelled ones."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        rng = np.random.default_rng(key)
        people = int(rng.integers(0, 5))
        keypoints = rng.uniform(-4, SIZE + 4, (people, COCO.num_keypoints, 3))
        keypoints[..., 2] = rng.integers(0, 3, keypoints.shape[:2])
        masks = tuple(np.ones((SIZE // stride, SIZE // stride), np.uint8) for stride in (4, 2))
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        whole = np.ones((SIZE, SIZE), np.uint8)
        return Sample(image, keypoints.astype(np.float32), whole, key[1], masks)


def build_tiny_run(folder: Path, *settings: object, device: torch.device = DEVICE) -> TrainingRun:
    """A training run as the tools build it, without data on the disk."""
    cfg = tiny_config(*settings)
    torch.manual_seed(0)
    context = DistributedContext(device)
    return build_training(cfg, NoisyPeople(), context, cfg.TRAIN.IMAGES_PER_GPU, folder)


def make_step(run: TrainingRun, number: int) -> None:
    """Step `number` of the training loop, from batches in pinned memory."""
    batches = []
    for part in range(run.cfg.TRAIN.ACCUMULATE):
        keys = [(number, 10 * part + image) for image in range(run.cfg.TRAIN.IMAGES_PER_GPU)]
        batches.append(next_batch(run, keys))
    train_step(run, batches)


def next_batch(run: TrainingRun, keys: Sequence[tuple[int, int]]) -> Batch:
    dataset = run.components.dataset
    batch: Batch = run.components.collate([dataset[key] for key in keys])
    if run.context.device.type == "cuda":
        batch = pin_memory(batch)  # as the loader does
    return move_to_device(batch, run.context.device)


def tiny_predictor(device: torch.device, *settings: object) -> Predictor:
    """A network of random weights, whose maps are full of peaks."""
    cfg = tiny_config(*settings)
    torch.manual_seed(5)
    return Predictor.from_config(cfg, build_network(cfg, COCO), COCO, device)


def noisy_images(predictor: Predictor, number: int) -> list[PreparedImage]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (number, 80, 100, 3), dtype=np.uint8)
    return [prepare_image(image, index, predictor.transform) for index, image in enumerate(pixels)]
