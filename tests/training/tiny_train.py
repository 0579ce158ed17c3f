"""Training runs of a second: 64x64 noise images and a network of a few convolutions.

A module for tests, and a script for their subprocesses:
`tiny_train.py --out FOLDER [--gpus N] [--slow SECONDS] [KEY VALUE ...]`.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.config import load_config
from duopose.console import run_tool
from duopose.datasets.loader import collate
from duopose.datasets.transforms import normalise
from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import launch
from duopose.losses import build_criterion
from duopose.run_folder import RunFolder
from duopose.runtime import pick_device, setup_console_logging
from duopose.skeletons import COCO, skeleton_to_dict
from duopose.targets import build_targets
from duopose.training.run import Options, run_training
from duopose.training.setup import Components, Scores
from duopose.types import NetworkOutput, Sample

SIZE = 64
SETTINGS = [
    "DEVICE", "cpu", "WORKERS", 0, "THREADS", 1, "PRINT_FREQ", 2, "VERBOSE", False,
    "DATASET.INPUT_SIZE", SIZE, "TRAIN.IMAGES_PER_GPU", 2, "TRAIN.END_EPOCH", 2,
    "TRAIN.VAL_EVERY", 1, "TRAIN.LR", 1e-3, "TRAIN.LR_STEP", [1],
]  # fmt: skip


class Trick(NamedTuple):
    """Faults to inject: all off by default."""

    slow: float = 0.0  # seconds a sample takes
    kill_worker_at: int = -1  # index of the sample whose worker dies
    stuck_at: int = -1  # index of the sample that is never read
    gone: str = ""  # a file without which samples cannot be read
    nan_after: int = -1  # the forward pass, counted from 1, whose coarse maps are not finite
    length: int = 10  # images
    batch_norm: int = 1


NO_TRICK = Trick()


class TinyData:
    """Images that depend on (epoch, index) alone; three people with a few labelled joints."""

    def __init__(self, trick: Trick) -> None:
        self.trick = trick

    def __len__(self) -> int:
        return self.trick.length

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        time.sleep(self.trick.slow)
        if index == self.trick.kill_worker_at and torch.utils.data.get_worker_info():
            sys.exit(9)
        if index == self.trick.stuck_at:
            time.sleep(1e6)
        if self.trick.gone:
            open(self.trick.gone, "rb").close()
        rng = np.random.default_rng([epoch, index])
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        keypoints = np.zeros((3, 17, 3), np.float32)
        keypoints[:, ::2, :2] = rng.uniform(4, SIZE - 4, (3, 9, 2))
        keypoints[:, ::2, 2] = 2
        masks = tuple(np.ones((SIZE // stride, SIZE // stride), np.uint8) for stride in (4, 2))
        return Sample(image, keypoints, np.ones((SIZE, SIZE), np.uint8), index, masks)


class TinyNet(nn.Module):
    """Maps of the right shapes from few weights."""

    def __init__(self, trick: Trick) -> None:
        super().__init__()
        self.nan_after, self.calls = trick.nan_after, 0
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4),
            nn.BatchNorm2d(8) if trick.batch_norm else nn.Identity(),
            nn.ReLU(),
        )
        self.coarse = nn.Conv2d(8, 2 * 18 + 42, 1)
        self.fine = nn.ConvTranspose2d(8, 18 + 42, 2, stride=2)
        self.dropout = nn.Dropout(
            0.1 if trick.batch_norm else 0.0
        )  # uses the random state, which a resumed run must have too

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        features = self.dropout(self.stem(images))
        coarse, fine = self.coarse(features), self.fine(features)
        if self.nan_after > 0:
            self.calls += 1
            coarse = coarse * float("nan") if self.calls == self.nan_after else coarse
        return NetworkOutput(
            (coarse[:, :18], fine[:, :18]), coarse[:, 18:36], (coarse[:, 36:], fine[:, 18:])
        )


def tiny_components(
    cfg: CfgNode, _context: DistributedContext, _run: RunFolder, trick: Trick = NO_TRICK
) -> Components:
    """Small network, data and validation; targets and losses are the real ones."""

    def score(network: nn.Module) -> Scores:
        torch.rand(7)  # a validation that uses random numbers must not change the training
        weight = float(next(network.parameters()).detach().abs().mean())
        return Scores(weight, {"AP": weight})

    return Components(
        network=TinyNet(trick),
        dataset=TinyData(trick),
        collate=collate,
        normalise=normalise,
        make_targets=build_targets(cfg, COCO),
        criterion=build_criterion(cfg, COCO),
        validate=score if cfg.TRAIN.VAL_EVERY else None,
        skeleton=skeleton_to_dict(COCO),
    )


def tiny_config(out: Path, *overrides: object) -> CfgNode:
    """Settings of a run of a second or two that writes below `out`."""
    return load_config(
        None,
        [*SETTINGS, "OUTPUT_DIR", str(out / "output"), "LOG_DIR", str(out / "log"), *overrides],
    )


def folder_of(out: Path) -> RunFolder:
    """Where `train_here` and the script write."""
    return RunFolder.from_config(tiny_config(out), "tiny.yaml")


def work(context: DistributedContext, cfg: CfgNode, options: Options, trick: Trick) -> int:
    """One rank."""
    setup_console_logging(context.is_main_process)
    return run_training(cfg, options, context, partial(tiny_components, trick=trick))


def train_here(out: Path, *overrides: object, trick: Trick = NO_TRICK, **options: Any) -> int:
    """Train in this process, on the DEVICE of the settings (by default the CPU); the exit code."""
    cfg = tiny_config(out, *overrides)
    context = DistributedContext(pick_device(cfg.DEVICE))
    return work(context, cfg, Options("tiny.yaml", **options), trick)


def main() -> int:
    parser = ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpus", type=int, default=1)
    for name, default in Trick._field_defaults.items():
        parser.add_argument(
            f"--{name}",
            type=type(default) if not isinstance(default, bool) else lambda text: text == "True",
            default=default,
        )
    parser.add_argument("opts", nargs="*")
    args = parser.parse_intermixed_args()
    trick = Trick(**{name: getattr(args, name) for name in Trick._fields})
    cfg = tiny_config(args.out, *args.opts)
    return launch(work, args.gpus, cfg.DEVICE, (cfg, Options("tiny.yaml"), trick))


if __name__ == "__main__":
    sys.exit(run_tool(main))
