"""`--dry-run`: memory, speed and the largest batch that fits, measured in a few steps.

Nothing is written. The steps use the largest shapes that can occur: every image has
DATASET.MAX_NUM_PEOPLE people, all of whose keypoints are labelled.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from yacs.config import CfgNode

from duopose.distributed.context import DistributedContext
from duopose.errors import counted
from duopose.run_folder import RunFolder
from duopose.training.log import RunLog, data_wait_notice
from duopose.training.setup import (
    Components,
    TrainingRun,
    build_run,
    setting_notices,
)
from duopose.training.step import TrainingStep
from duopose.training.train_loader import TrainLoader, move_to_device
from duopose.types import Batch

TIMED_STEPS = 3  # the fastest counts; the first ones choose kernels and allocate memory
TIMED_BATCHES = 6  # of the loader
MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}  # tensors that an optimizer keeps for each parameter
GIB = 2**30

# Of the memory, what a batch may fill; the rest is for fragmentation and larger cuDNN workspaces.
USABLE_MEMORY = 0.92
# On a CPU: gradients of activations come on top of the tensors saved for the backward pass.
ACTIVATION_GRADIENTS = 1.25
MAX_TRIES = 6  # batch sizes that are tried on a GPU, each 10 % smaller than the one before


class LargestBatch(NamedTuple):
    """The largest batch of one process that fits into memory."""

    batch_size: int
    bytes_per_image: float
    total_bytes: float  # that a batch could use
    was_run: bool  # a step with it was made, not only estimated


def dry_run(
    cfg: CfgNode, components: Components, context: DistributedContext, folder: RunFolder
) -> list[str]:
    """Lines to print: what the run will need and how fast it will be. All ranks must call it."""
    log = RunLog(folder, context, cfg.VERBOSE, dry_run=True)
    run = build_run(cfg, components, context, folder, log)
    run.state.network.train()
    wanted = cfg.TRAIN.IMAGES_PER_GPU
    largest = find_largest_batch(run)

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


def largest_shapes(run: TrainingRun, num_images: int) -> Batch:
    """A batch on the device as large as any, with keypoints at random positions."""
    sample = run.components.dataset[(0, 0)]
    batch = run.components.collate([sample] * num_images)
    num_people = run.cfg.DATASET.MAX_NUM_PEOPLE
    num_joints = batch.keypoints.shape[2]

    height, width = batch.images.shape[2:]
    shape = (num_images, num_people, num_joints)
    positions = torch.rand(*shape, 2) * torch.tensor([width - 1.0, height - 1.0])
    visibility = torch.full((*shape, 1), 2.0)
    keypoints = torch.cat((positions, visibility), dim=-1)
    return move_to_device(batch._replace(keypoints=keypoints), run.context.device)


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


def find_largest_batch(run: TrainingRun) -> LargestBatch:
    """The largest batch of a process: each rank finds its own, the smallest counts.

    Gradients are not exchanged between the ranks meanwhile.
    """
    step = replace(run.step, model=run.state.network)
    if run.context.device.type == "cuda":
        largest = largest_on_cuda(
            lambda size: _run_step(step, largest_shapes(run, size)), run.context.device
        )
    else:
        largest = _estimate_on_cpu(run, step)

    run.state.optimizer.zero_grad(set_to_none=True)
    return min(run.context.all_gather_object(largest), key=lambda other: other.batch_size)


def _run_step(step: TrainingStep, batch: Batch) -> None:
    step([batch], [1.0], "the dry run")


def _estimate_on_cpu(run: TrainingRun, step: TrainingStep) -> LargestBatch:
    def bytes_for(num_images: int) -> int:
        batch = largest_shapes(run, num_images)
        return saved_bytes(lambda: step.compute_losses(batch).total)

    bytes_per_image = bytes_for(2) - bytes_for(1)
    copies = MOMENTS[run.cfg.TRAIN.OPTIMIZER] + (1 if run.state.averaged else 0)
    fixed = state_bytes(run.state.network.parameters(), copies)
    largest = largest_on_cpu(bytes_per_image, fixed)

    batch_size = largest.batch_size // run.context.world_size  # the processes share the memory
    return largest._replace(batch_size=batch_size)


def largest_on_cpu(bytes_per_image: int, fixed_bytes: int) -> LargestBatch:
    """Estimated from the bytes saved for the backward pass, and those of weights and optimizer."""
    total = free_bytes()
    usable = total * USABLE_MEMORY - fixed_bytes
    batch_size = int(usable // (bytes_per_image * ACTIVATION_GRADIENTS))
    return LargestBatch(max(batch_size, 0), bytes_per_image, total, was_run=False)


def largest_on_cuda(run_step: Callable[[int], None], device: torch.device) -> LargestBatch:
    """Estimated from the peaks of one and four images, then made smaller until a step runs.

    run_step(batch_size): makes one training step.
    """
    free, _ = torch.cuda.mem_get_info(device)
    total = free + torch.cuda.memory_reserved(device)
    peak_of_one = _peak_bytes(run_step, 1, device)
    peak_of_four = _peak_bytes(run_step, 4, device)
    per_image = max((peak_of_four - peak_of_one) / 3, 1.0)

    batch_size = int((total * USABLE_MEMORY - peak_of_one) // per_image) + 1
    for _ in range(MAX_TRIES):
        if batch_size <= 0:
            break
        try:
            _peak_bytes(run_step, batch_size, device)
            return LargestBatch(batch_size, per_image, total, was_run=True)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        batch_size = int(batch_size * 0.9)
    return LargestBatch(0, per_image, total, was_run=True)


def _peak_bytes(run_step: Callable[[int], None], batch_size: int, device: torch.device) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run_step(batch_size)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def state_bytes(parameters: Iterable[torch.Tensor], extra_copies: int) -> int:
    """Bytes of weights, gradients, and `extra_copies` tensors for each parameter."""
    bytes_of_weights = sum(p.numel() * p.element_size() for p in parameters)
    return bytes_of_weights * (2 + extra_copies)


def saved_bytes(forward: Callable[[], torch.Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass; each storage counts once.

    forward: returns the loss.
    """
    bytes_of_storage: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        bytes_of_storage[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = forward()  # keeps the graph, and so the storages, alive while they are counted
    del loss
    return sum(bytes_of_storage.values())


def free_bytes() -> int:
    """Main memory that this process may still use, within the limit of its container."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")

    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable"):
                free = int(line.split()[1]) * 1024

    limit_file = Path("/sys/fs/cgroup/memory.max")
    used_file = Path("/sys/fs/cgroup/memory.current")
    if limit_file.is_file() and used_file.is_file():
        limit = limit_file.read_text().strip()
        if limit.isdigit():  # else "max", no limit
            free = min(free, int(limit) - int(used_file.read_text()))
    return free


def power_of_two(batch_size: int) -> int:
    """The largest power of two that is not larger; 0 for 0."""
    return 1 << (batch_size.bit_length() - 1) if batch_size > 0 else 0


def memory_lines(cfg: CfgNode, largest: LargestBatch) -> list[str]:
    """What fits, and what to change where TRAIN.IMAGES_PER_GPU does not."""
    wanted = cfg.TRAIN.IMAGES_PER_GPU
    fits = largest.batch_size
    basis = "tried" if largest.was_run else "an estimate"
    lines = [
        f"memory: about {largest.bytes_per_image / GIB:.3g} GiB an image; "
        f"of {largest.total_bytes / GIB:.4g} GiB the largest batch that fits is {fits} a process "
        f"({basis}), as a power of two {power_of_two(fits)}; IMAGES_PER_GPU is {wanted}"
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
