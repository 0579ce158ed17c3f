"""Training on one GPU by the training code itself.

Three questions: where the time of a step goes, how much of the time the GPU works when it is fed
from JPEGs, and how near the step is to the GPU's rate of matrix multiplication.
"""

from __future__ import annotations

import os
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

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
from duopose.profiling.measure import Row, Stage, add_settings_arguments, measure
from duopose.profiling.synthetic_data import drawn_dataset
from duopose.run_folder import RunFolder
from duopose.runtime import AUTOCAST_DTYPES, configure_torch, pick_device
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.training.batch_search import find_largest_batch, largest_shapes, power_of_two
from duopose.training.dry_run import synchronise
from duopose.training.log import RunLog
from duopose.training.loop import train_step
from duopose.training.setup import Components, TrainingRun, build_run
from duopose.types import Batch, LossTerms, NetworkOutput, Sample, Targets

EPOCH_LENGTH = 10**6  # images; the benchmark never reaches the end of an epoch
WARM_UP_STEPS = 2  # they choose kernels and allocate memory
GIB = 2**30
PARTS = ("forward", "targets", "loss", "backward", "optimizer")


def add_arguments(parser: ArgumentParser) -> None:
    """The settings, the batch, the number of steps and images."""
    add_settings_arguments(parser)
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
        help="side of the matrices of the matrix rate (default 8192)",
    )


def run(args: Namespace) -> Iterator[Row]:
    """The device, its matrix rate, the step on a ready batch, the step fed from JPEGs.

    Mixed precision by default.
    """
    mixed_precision = ["FP16.ENABLED", True]
    overrides = [*mixed_precision, *args.opts, "TRAIN.ACCUMULATE", 1]
    cfg = load_config(args.cfg or None, overrides)
    device = pick_device(args.device)
    configure_torch(cfg)

    with TemporaryDirectory() as name:
        folder = Path(name)
        images = drawn_dataset(folder, args.images, cfg.DATASET.INPUT_SIZE)
        dataset = RepeatedDataset(images)
        batch_size = args.batch or _largest_power_of_two(cfg, dataset, device, folder)
        training = build_training(cfg, dataset, DistributedContext(device), batch_size, folder)

        yield _device_row(device)
        matrix_row = _time_matrix_product(cfg, device, args)
        yield matrix_row
        yield _time_parts(training, args.repeats, matrix_row["tflops"])
        yield _time_fed_steps(training, args.steps)


# ---- the training run ----


class RepeatedDataset:
    """A data set of a few images that are repeated, with new augmentation each time."""

    def __init__(self, dataset: KeyedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return EPOCH_LENGTH

    def __getitem__(self, key: SampleKey) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        repetition, image = divmod(index, len(self.dataset))
        return self.dataset[(epoch + repetition, image)]


def training_components(cfg: CfgNode, dataset: KeyedDataset) -> Components:
    """Network, targets and losses of the settings, on a data set with COCO's keypoints."""
    return Components(
        network=build_network(cfg, COCO),
        dataset=dataset,
        collate=collate,
        normalise=normalise,
        make_targets=build_targets(cfg, COCO),
        criterion=build_criterion(cfg, COCO),
    )


def build_training(
    cfg: CfgNode,
    dataset: KeyedDataset,
    context: DistributedContext,
    batch_size: int,
    folder: Path,
) -> TrainingRun:
    """A training run of `batch_size` images per step; nothing is written to `folder`."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TRAIN.IMAGES_PER_GPU = batch_size
    cfg.freeze()

    run_folder = RunFolder(folder, folder)
    log = RunLog(run_folder, context, verbose=False, dry_run=True)
    training = build_run(cfg, training_components(cfg, dataset), context, run_folder, log)
    training.state.network.train()
    return training


def _largest_power_of_two(
    cfg: CfgNode, dataset: KeyedDataset, device: torch.device, folder: Path
) -> int:
    training = build_training(cfg, dataset, DistributedContext(device), 1, folder)
    largest = find_largest_batch(training)
    if not largest.batch_size:
        memory = largest.total_bytes / GIB
        raise UserError(f"not even one image fits into {memory:.3g} GiB on {device}")
    return power_of_two(largest.batch_size)


# ---- the device ----


def _device_row(device: torch.device) -> Row:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "name": "device",
        "device": name,
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }


def _time_matrix_product(cfg: CfgNode, device: torch.device, args: Namespace) -> Row:
    """One large matrix product in the precision of the network: what the device can reach."""
    side = args.matrix
    dtype = AUTOCAST_DTYPES[cfg.FP16.DTYPE] if cfg.FP16.ENABLED else torch.float32
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    product = torch.empty_like(left)

    functions = {"product": lambda: torch.mm(left, right, out=product)}
    ms = measure(functions, args.repeats, warm_up=3)["product"]
    return {
        "name": "matrix rate",
        "side": side,
        "dtype": str(dtype),
        "ms": ms,
        "tflops": 2 * side**3 / ms / 1e9,
    }


# ---- the parts of a step ----


class Timeline:
    """Moments of the device's time. On CUDA these are events, which do not wait for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        self.moments: list[torch.cuda.Event | float] = []

    def mark(self, name: str) -> None:
        """Record the moment at which all work so far is done, as the end of the part `name`."""
        self.names.append(name)
        if self.device.type != "cuda":
            self.moments.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.moments.append(event)

    def milliseconds(self) -> dict[str, float]:
        """From the mark before to each mark but the first, by name. Waits for the device."""
        synchronise(self.device)
        pairs = zip(self.moments, self.moments[1:], strict=False)
        durations = [_milliseconds(start, end) for start, end in pairs]
        return dict(zip(self.names[1:], durations, strict=True))


def _milliseconds(start: torch.cuda.Event | float, end: torch.cuda.Event | float) -> float:
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float) and isinstance(end, float)
        return (end - start) * 1000
    return float(start.elapsed_time(end))


def timed_step(run: TrainingRun, batch: Batch) -> dict[str, float]:
    """One update by the training step; milliseconds of each of PARTS.

    The check for a finite loss counts as part of the backward pass.
    """
    timeline = Timeline(run.context.device)

    def make_targets(batch: Batch) -> Targets:
        timeline.mark("forward")
        targets = run.step.make_targets(batch)
        timeline.mark("targets")
        return targets

    def criterion(output: NetworkOutput, targets: Targets) -> LossTerms:
        terms = run.step.criterion(output, targets)
        timeline.mark("loss")
        return terms

    step = replace(run.step, make_targets=make_targets, criterion=criterion)
    timeline.mark("start")
    step.forward_backward(batch, 1.0, "the benchmark")
    timeline.mark("backward")
    step.update()
    timeline.mark("optimizer")
    return timeline.milliseconds()


def _time_parts(run: TrainingRun, repeats: int, max_tflops: float) -> Row:
    """The step at the largest shapes; `fractions` are of the device's time.

    `of_matrix_rate` is the rate of the step's convolutions relative to `max_tflops`.
    """
    device = run.context.device
    num_images = run.cfg.TRAIN.IMAGES_PER_GPU
    flops_per_image = _count_flops(run)
    batch = largest_shapes(run, num_images)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    steps = [timed_step(run, batch) for _ in range(WARM_UP_STEPS + repeats)]
    timed = steps[WARM_UP_STEPS:]
    times = {part: statistics.median(step[part] for step in timed) for part in PARTS}
    total = sum(times.values())

    peak_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    tflops = flops_per_image * num_images / total / 1e9
    return {
        "name": "step",
        "batch": num_images,
        "ms": total,
        "samples_per_second": 1000 * num_images / total,
        "fractions": {part: ms / total for part, ms in times.items()},
        "peak_GiB": None if peak_bytes is None else peak_bytes / GIB,
        "tflops": tflops,
        "of_matrix_rate": tflops / max_tflops,
    }


def _count_flops(run: TrainingRun) -> float:
    """Multiplications and additions per image, forward and backward, as torch counts them."""
    batch = largest_shapes(run, 1)
    step = replace(run.step, model=run.state.network)  # a compiled model cannot be counted
    with FlopCounterMode(display=False) as counter:
        step.compute_losses(batch).total.backward()
    run.state.optimizer.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


# ---- steps that are fed by the loader ----


def _time_fed_steps(run: TrainingRun, num_steps: int) -> Row:
    """Training steps fed by WORKERS processes, and as many steps on one batch on the device.

    `busy` is the time of the latter divided by the time of the former: the fraction of the time in
    which the GPU works.
    """
    batches = run.train_loader.steps(epoch=0, seen=0)
    ready = next(batches)
    _time_steps(run, repeat(ready, WARM_UP_STEPS))
    ready_seconds = _time_steps(run, repeat(ready, num_steps))

    # Batches that the workers prepared during the steps before do not count.
    num_prepared = 2 * int(run.cfg.WORKERS) + 2
    _time_steps(run, islice(batches, num_prepared))
    waited_before = run.train_loader.seconds_waited
    fed_seconds = _time_steps(run, islice(batches, num_steps))
    waited = run.train_loader.seconds_waited - waited_before

    return {
        "name": "fed from JPEGs",
        "workers": run.cfg.WORKERS,
        "steps": num_steps,
        "samples_per_second": num_steps * run.cfg.TRAIN.IMAGES_PER_GPU / fed_seconds,
        "busy": ready_seconds / fed_seconds,
        "waiting_for_data": waited / fed_seconds,
    }


def _time_steps(run: TrainingRun, steps: Iterable[list[Batch]]) -> float:
    """Seconds that these training steps take."""
    synchronise(run.context.device)
    start = time.perf_counter()
    for batches in steps:
        train_step(run, batches)
    synchronise(run.context.device)
    return time.perf_counter() - start


GPU = Stage("gpu", "Training on one GPU: parts of a step, utilisation.", add_arguments, run)
