"""`--dry-run`: memory, speed and the largest batch that fits, measured in a few steps.

Nothing is written. The steps use the largest shapes that can occur: every image has
DATASET.MAX_NUM_PEOPLE people, all of whose keypoints are labelled.
"""

from __future__ import annotations

import time
from itertools import islice

import torch
from yacs.config import CfgNode

from duopose.distributed.context import DistributedContext
from duopose.errors import counted
from duopose.run_folder import RunFolder
from duopose.training.batch_search import (
    LargestBatch,
    find_largest_batch,
    largest_shapes,
    power_of_two,
)
from duopose.training.log import RunLog, data_wait_notice
from duopose.training.setup import (
    Components,
    TrainingRun,
    build_run,
    setting_notices,
)
from duopose.training.train_loader import TrainLoader
from duopose.types import Batch

TIMED_STEPS = 3  # the fastest counts; the first ones choose kernels and allocate memory
TIMED_BATCHES = 6  # of the loader
GIB = 2**30


def dry_run(
    cfg: CfgNode, components: Components, context: DistributedContext, folder: RunFolder
) -> list[str]:
    """Lines to print: what the run will need and how fast it will be. All ranks must call it."""
    log = RunLog(folder, context, cfg.VERBOSE, dry_run=True)
    run = build_run(cfg, components, context, folder, log)
    run.state.network.train()
    wanted = cfg.TRAIN.IMAGES_PER_GPU
    largest = find_largest_batch(run, wanted)

    lines = []
    if wanted <= largest.batch_size:
        global_batch_size = run.partition.global_batch_size
        seconds = time_steps(run, largest_shapes(run, wanted))
        rate = global_batch_size / seconds
        peak = format_peak_memory(context)
        lines.append(
            f"step: {seconds:.3g} s for {counted(global_batch_size, 'image')}, "
            f"{rate:.4g} images/s{peak}"
        )
        lines += loader_lines(run, rate)

    lines += memory_lines(cfg, largest)
    lines += setting_notices(cfg, context, run.partition)
    return [*lines, "dry run: nothing was written"]


def time_steps(run: TrainingRun, batch: Batch) -> float:
    """Seconds of the fastest of a few steps, on the slowest rank."""
    times = []
    for _ in range(TIMED_STEPS):
        run.context.barrier()
        synchronise(run.context.device)
        start = time.perf_counter()
        run.step([batch], [1.0], "the dry run")
        synchronise(run.context.device)
        times.append(time.perf_counter() - start)
    return max(run.context.all_gather_object(min(times)))


def memory_lines(cfg: CfgNode, largest: LargestBatch) -> list[str]:
    """What fits, and what to change where TRAIN.IMAGES_PER_GPU does not."""
    wanted = cfg.TRAIN.IMAGES_PER_GPU
    fits = largest.batch_size
    basis = "tried" if largest.was_run else "an estimate"
    an_image = ""
    if largest.bytes_per_image:
        an_image = f"about {largest.bytes_per_image / GIB:.3g} GiB an image; "
    lines = [
        f"memory: {an_image}of {largest.total_bytes / GIB:.4g} GiB the largest batch that fits "
        f"is {fits} a process ({basis}), as a power of two {power_of_two(fits)}; IMAGES_PER_GPU "
        f"is {wanted}"
    ]
    if wanted > fits:
        accumulate = -(-wanted // max(fits, 1))
        lines.append(
            f"TRAIN.IMAGES_PER_GPU {wanted} does not fit: set it to {fits or 1} "
            f"(TRAIN.ACCUMULATE {accumulate} keeps the step as large), or set FP16.ENABLED True "
            "or MODEL.CHECKPOINT_ACTIVATIONS True"
        )
    return lines


def loader_lines(run: TrainingRun, step_rate: float) -> list[str]:
    """How fast images are loaded, and the fraction of the time that the step will wait for them.

    step_rate: images per second of the step alone.
    """
    workers = run.cfg.WORKERS
    rate = time_loader(run)
    wait_fraction = step_rate / (step_rate + rate)
    if workers:  # loading and computing overlap
        wait_fraction = max(0.0, 1 - rate / step_rate)

    line = (
        f"loader: {rate:.4g} images/s alone; "
        f"waiting for data will take about {wait_fraction:.0%} of the time"
    )
    notice = data_wait_notice(run.cfg, wait_fraction)
    return [line, notice] if notice else [line]


def time_loader(run: TrainingRun) -> float:
    """Images per second that the loaders of all ranks deliver."""
    endless = 10**9  # epochs
    loader = TrainLoader(
        run.components.dataset,
        run.components.collate,
        run.partition,
        run.context.device,
        run.cfg.WORKERS,
        end_epoch=endless,
    )
    batches = (
        batch for epoch in range(endless) for step in loader.steps(epoch, 0) for batch in step
    )
    read_ahead = 2 * run.cfg.WORKERS + 1  # batches that are ready before the clock starts
    for _ in islice(batches, read_ahead):
        pass

    start = time.perf_counter()
    num_images = sum(len(batch.image_ids) for batch in islice(batches, TIMED_BATCHES))
    rate = num_images / (time.perf_counter() - start)
    batches.close()
    loader.close()
    return sum(run.context.all_gather_object(rate))


def format_peak_memory(context: DistributedContext) -> str:
    """The GPU's peak memory, for the line of the step."""
    if context.device.type != "cuda":
        return ""
    return f", peak {torch.cuda.max_memory_allocated(context.device) / GIB:.3g} GiB"


def synchronise(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
