"""Training on one GPU by the engine itself: where a step's time goes, how full the GPU is when fed from JPEGs, and its ceiling."""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from yacs.config import CfgNode

from duopose.config import load_config
from duopose.datasets.dataset import SampleKey
from duopose.datasets.loader import KeyedDataset, collate
from duopose.datasets.transforms import normalise
from duopose.distributed.context import DistributedContext
from duopose.errors import UserError
from duopose.losses import build_criterion
from duopose.network import build_network
from duopose.profiling.loader_stage import make_dataset
from duopose.profiling.measure import Row, measure, print_row
from duopose.profiling.step_parts import part_times
from duopose.run_folder import RunFolder
from duopose.runtime import AUTOCAST_DTYPES, configure_torch, pick_device
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.training.dry_run import (
    find_largest_batch,
    largest_shapes,
    power_of_two,
    synchronise,
)
from duopose.training.log import RunLog
from duopose.training.loop import train_step
from duopose.training.setup import Components, TrainingRun, build_run
from duopose.types import Batch, Sample

EPOCH = 10**6  # images; the benchmark never comes to the end of one
GIB = 2**30


def add_arguments(parser: ArgumentParser) -> None:
    """Which network, batch and precision."""
    parser.add_argument(
        "--cfg", default="", help="a yaml from experiments/ (default: Double Embedding w32 at 512)"
    )
    parser.add_argument(
        "--device", default="cuda", help="where to train (default cuda); cpu is for trying out"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=0,
        help="images (default 0: the largest power of two that fits)",
    )
    parser.add_argument(
        "--steps", type=int, default=30, help="timed steps that are fed from JPEGs (default 30)"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=64,
        help="different JPEGs of 640x480 with ten people (default 64)",
    )
    parser.add_argument(
        "--matrix",
        type=int,
        default=8192,
        help="side of the square matrices of the ceiling (default 8192)",
    )
    parser.add_argument(
        "opts", nargs="*", help="KEY VALUE ..., settings over those of --cfg; WORKERS feeds the GPU"
    )


def run(args: Namespace) -> dict[str, Any]:
    """Rows: the matrix rate; the step and its parts, from a batch that is ready; the same engine fed from JPEGs."""
    cfg = load_config(
        args.cfg or None,
        ["FP16.ENABLED", True, "FP16.DYNAMIC_LOSS_SCALE", True, *args.opts, "TRAIN.ACCUMULATE", 1],
    )
    device = pick_device(args.device)
    configure_torch(cfg)
    with TemporaryDirectory() as folder:
        dataset = Repeated(make_dataset(Path(folder), args.images, cfg.DATASET.INPUT_SIZE))
        batch = args.batch or _largest_power_of_two(cfg, dataset, device, Path(folder))
        training = build_training(cfg, dataset, device, batch, Path(folder))
        ceiling = _matrix_rate(cfg, device, args)
        rows = [
            _device_row(device),
            ceiling,
            _step_row(training, args.repeats, ceiling["tflops"]),
            _fed_row(training, args.steps),
        ]
    for row in rows:
        print_row(row)
    return {"rows": rows}


class Repeated:
    """A data set whose few images come again and again, augmented anew each time."""

    def __init__(self, dataset: KeyedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, key: SampleKey) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return self.dataset[(epoch + index // len(self.dataset), index % len(self.dataset))]


def build_training(
    cfg: CfgNode, dataset: KeyedDataset, device: torch.device, batch: int, folder: Path
) -> TrainingRun:
    """A run of the engine that writes nothing, `batch` images a step; `folder` is never written to."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TRAIN.IMAGES_PER_GPU = batch
    cfg.freeze()
    components = Components(
        build_network(cfg, COCO),
        dataset,
        collate,
        normalise,
        build_targets(cfg, COCO),
        build_criterion(cfg, COCO),
    )
    context = DistributedContext(device)
    run_folder = RunFolder(folder, folder)
    log = RunLog(run_folder, context, verbose=False, dry_run=True)
    training = build_run(cfg, components, context, run_folder, log)
    training.state.network.train()
    return training


def _largest_power_of_two(
    cfg: CfgNode, dataset: KeyedDataset, device: torch.device, folder: Path
) -> int:
    largest = find_largest_batch(build_training(cfg, dataset, device, 1, folder))
    if not largest.batch_size:
        memory = largest.total_bytes / GIB
        raise UserError(f"not even one image fits into {memory:.3g} GiB on {device}")
    return power_of_two(largest.batch_size)


def _device_row(device: torch.device) -> Row:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"gpu": "device", "name": name, "torch": torch.__version__, "cores": os.cpu_count()}


def _matrix_rate(cfg: CfgNode, device: torch.device, args: Namespace) -> Row:
    """What the device reaches on one large product of matrices in the precision of the network: the ceiling."""
    dtype = AUTOCAST_DTYPES[cfg.FP16.DTYPE] if cfg.FP16.ENABLED else torch.float32
    left, right = (torch.randn(args.matrix, args.matrix, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    ms = measure({"product": lambda: torch.mm(left, right, out=product)}, args.repeats, warm_up=3)[
        "product"
    ]
    return {
        "gpu": "matrix rate",
        "side": args.matrix,
        "dtype": str(dtype),
        "ms": ms,
        "tflops": 2 * args.matrix**3 / ms / 1e9,
    }


def _step_row(run: TrainingRun, repeats: int, ceiling: float) -> Row:
    """The step at the largest shapes, from a batch that is on the device; `shares` are of the device's time."""
    images = run.cfg.TRAIN.IMAGES_PER_GPU
    flops = _flops_of_a_image(run)
    batch = largest_shapes(run, images)
    cuda = run.context.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(run.context.device)
    times = part_times(run, batch, repeats)
    total = sum(times.values())
    tflops = flops * images / total / 1e9
    return {
        "gpu": "step",
        "batch": images,
        "ms": total,
        "samples_per_second": 1000 * images / total,
        "shares": {name: ms / total for name, ms in times.items()},
        "peak_GiB": torch.cuda.max_memory_allocated(run.context.device) / GIB if cuda else None,
        "tflops": tflops,
        "of_matrix_rate": tflops / ceiling,
    }


def _flops_of_a_image(run: TrainingRun) -> float:
    """Multiplications and additions of convolutions and products, forward and backward, as torch counts them."""
    batch = largest_shapes(run, 1)
    step = replace(run.step, model=run.state.network)  # what is compiled cannot be counted
    with FlopCounterMode(display=False) as counter:
        step.compute_losses(batch).total.backward()
    run.state.optimizer.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def _fed_row(run: TrainingRun, steps: int) -> Row:
    """The engine's own steps, fed by WORKERS processes from JPEGs, beside as many steps on one batch that stays on the device.

    `busy` is the time of the latter over that of the former: the share of the time in which the GPU was not kept waiting.
    """
    batches = run.train_loader.steps(epoch=0, seen=0)
    (ready,) = islice(batches, 1)
    _seconds(run, repeat(ready, 3))
    alone = _seconds(run, repeat(ready, steps))
    _seconds(
        run, islice(batches, 2 * int(run.cfg.WORKERS) + 2)
    )  # what workers prepared before they were asked does not count
    waited = run.train_loader.seconds_waited
    fed = _seconds(run, islice(batches, steps))
    return {
        "gpu": "fed from JPEGs",
        "workers": run.cfg.WORKERS,
        "steps": steps,
        "samples_per_second": steps * run.cfg.TRAIN.IMAGES_PER_GPU / fed,
        "busy": alone / fed,
        "waiting_for_data": (run.train_loader.seconds_waited - waited) / fed,
    }


def _seconds(run: TrainingRun, steps: Iterable[list[Batch]]) -> float:
    """Wall time of these steps of the engine."""
    synchronise(run.context.device)
    start = time.perf_counter()
    for batches in steps:
        train_step(run, batches)
    synchronise(run.context.device)
    return time.perf_counter() - start
